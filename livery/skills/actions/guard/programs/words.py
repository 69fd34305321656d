"""Roles of single words that need more than a path's cost: addresses, packages, settings, SQL."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import OUTPUT, PIPE, SECRET, UNKNOWN
from livery.skills.actions.guard.programs import sql as statements
from livery.skills.actions.guard.programs.variables import assigned
from livery.skills.actions.guard.risk import Effect, Level
from livery.skills.actions.guard.scan import Call, Scan
from livery.skills.actions.guard.tables import Act, patterns

_HOST = re.compile(r"(?:[a-z][a-z0-9+.-]*:/+)?(?:[^@/?#\s]*@)?(\[[^\]]*\]|[^/:?#\s]*)", re.I)
_REMOTE = re.compile(r"(?:[\w.-]+@)?[\w.-]+:(?!\\)|rsync://|s3://|gs://|scp://|sftp://", re.I)
_LOCAL = ("localhost", "127.0.0.1", "[::1]", "0.0.0.0", "host.docker.internal")


def host_of(text: str) -> str:
    """The host of an address, with or without its scheme."""
    found = _HOST.match(text)
    return found[1].lower() if found else ""


def url(scan: Scan, call: Call, word: str, act: Act | None = None) -> None:
    """An address that is read. What a command printed, put into it, leaves the machine."""
    lowered = word.lower()
    if lowered.startswith(("file:", "/", "./")):
        path = re.sub(r"^file:/*(?=/)", "", word, flags=re.I)
        scan.use("read", path, command=call.command)
        return
    host = host_of(word)
    level = Level.MEDIUM
    why = f"{call.command}: reads from {host or word}"
    if OUTPUT in word or PIPE in word:
        level, why = Level.HIGH, f"{call.command}: sends what a command printed, in the address"
    elif SECRET in word:
        level, why = Level.HIGH, f"{call.command}: sends a variable that holds a secret by its name"
    elif lowered.startswith(
        ("javascript:", "data:", "vbscript:", "ms-", "shell:", "dict:", "gopher:", "ldap:")
    ):
        level, why = Level.HIGH, f"{call.command}: {word[:40]} runs code or reaches other services"
    elif re.match(r"169\.254\.|metadata\.|100\.100\.100\.200|fd00:ec2|\[fd00:ec2", host):
        level, why = Level.HIGH, f"{call.command}: {host} hands out a cloud machine's credentials"
    level = scan.policy.level_of_host(host, level, scan.overrides)
    scan.add(
        Effect("network", "system", host or word), level, why, command=call.command, source=word,
        secret="send",
    )  # fmt: skip


def host(scan: Scan, call: Call, word: str, act: Act) -> None:
    """A host that is looked up or asked. Its name can carry data out too."""
    if OUTPUT in word:
        scan.act("send", word, why="sends what a command printed, in a name", command=call.command)


def giturl(scan: Scan, call: Call, word: str, act: Act) -> None:
    """A repository's address: `ext::` and `fd::` run programs."""
    if re.match(r"(?:ext|fd)::", word) or word.startswith("-"):
        scan.act("code", word, why="the address runs a program", command=call.command, source=word)
        scan.script(word.partition("::")[2], "bash")
    elif OUTPUT in word:
        scan.act("send", word, command=call.command)


def gitpush(scan: Scan, call: Call, word: str, act: Act) -> None:
    """An operand of git push: `+main` overwrites, `:main` deletes, an address leads elsewhere."""
    if word.startswith("+"):
        scan.act(
            "destroy", word, why="overwrites what is published", command=call.command, source=word
        )
    elif word.startswith(":") and len(word) > 1:
        scan.act(
            "destroy", word, why="deletes a published branch", command=call.command, source=word
        )
    elif "://" in word or re.match(r"[\w.-]+@", word):
        scan.act(
            "send",
            word,
            why="publishes to an address given here",
            command=call.command,
            source=word,
        )
    giturl(scan, call, word, act)


def package(scan: Scan, call: Call, word: str, act: Act) -> None:
    """A package to install: an address or an archive is code from elsewhere."""
    if re.match(
        r"(?:git\+|https?:|git:|ssh:|github:|gitlab:|bitbucket:|gist:|file:/|ftp:|svn\+"
        r"|hg\+|bzr\+)",
        word,
        re.I,
    ) or re.search(r"@(?:git\+)?https?:|@git\+|\.git(?:#|@|$)", word):
        scan.act("foreign", word, why=f"installs from {word}", command=call.command, source=word)
    elif call.name == "go" and re.match(r"[\w-]+\.[\w.-]+/.*@", word):
        scan.act("foreign", word, why=f"fetches {word}", command=call.command, source=word)
    elif UNKNOWN in word or OUTPUT in word:
        scan.act(
            "foreign",
            word,
            why="installs something that is only known at run time",
            command=call.command,
        )
    elif re.match(r"/|~|\.\./", word):
        scan.use("script", word, command=call.command)


def copyhost(scan: Scan, call: Call, word: str, act: Act) -> None:
    """An operand of scp or rsync: the last one is written. What goes to another machine leaves."""
    last = bool(call.words) and word == call.words[-1]
    remote = _REMOTE.match(word) is not None and not re.match(r"[A-Za-z]:[\\/]", word)
    if remote:
        scan.act("send" if last else "look", word, command=call.command, source=word)
    else:
        scan.use("write" if last else "read", word, command=call.command)


def sshoption(scan: Scan, call: Call, word: str, act: Act) -> None:
    """`-o Key=value` of ssh and scp: some keys run programs."""
    key, _, value = re.sub(r"^\s*(\w+)[\s=]+", r"\1=", word).partition("=")
    if re.fullmatch(
         r"proxycommand|localcommand|permitlocalcommand|knownhostscommand|pkcs11provider"
 r"|securitykeyprovider"
         r"|proxyusefdpass|match|include|xauthlocation|remotecommand"
 r"|canonicalizepermittedcnames|tunnel|sendenv|setenv|.*forward|proxyjump" ,
        key.strip(), re.I,
    ) and value.strip().lower() not in ("none", "no"):  # fmt: skip
        scan.act(
            "code",
            word,
            why=f"{key} runs a program or opens a way in",
            command=call.command,
            source=word,
        )
        if re.fullmatch(
            r"proxycommand|localcommand|knownhostscommand|remotecommand", key.strip(), re.I
        ):
            scan.script(value, "bash")


def gitconfig(scan: Scan, call: Call, word: str, act: Act) -> None:
    """A setting of git, `name=value`: many run a program."""
    name, _, value = word.partition("=")
    git_setting(scan, call, name, value)


def git_setting(scan: Scan, call: Call, name: str, value: str | None) -> None:
    """One setting of git and its value; None where only the name is known."""
    lowered = name.strip().lower()
    if UNKNOWN in name or OUTPUT in name:
        scan.unclear(f"{call.command}: a setting whose name is only known at run time")
        return
    if patterns("gitconfig").fullmatch(lowered) is None:
        return
    text = (value or "").strip()
    if lowered.endswith("sslverify"):
        text = "" if text not in ("false", "no", "off", "0") else "off"
    tame = text in ("false", "no", "store", "cache", "/dev/null", "") or (
        re.search(r"pager|editor|helper|browser|program|askpass", lowered) is not None
        and patterns("tame").fullmatch(text) is not None
    )
    if lowered.startswith("alias."):
        if text.startswith("!"):
            scan.script(text[1:], "bash")
        elif text:
            scan.script(f"git {text}", "bash")
        if not text.startswith("!"):
            return
    if tame and value is not None and not lowered.startswith(("core.hookspath", "core.fsmonitor")):
        return
    scan.act(
        "code", name, why=f"the setting {lowered} decides what git runs or reaches",
        command=call.command, source=name,
    )  # fmt: skip
    if re.search(
        r"command|cmd|pager|editor|textconv|driver|clean|smudge|process|external|helper", lowered
    ):
        code = text.removeprefix("!")
        if code:
            scan.script(code, "bash")


def mode(scan: Scan, call: Call, word: str, act: Act) -> None:
    """Rights: a set-user-ID bit, or everybody may write."""
    if (re.fullmatch(r"0?[4267]\d{3}", word) and word.lstrip("0")[0] in "4267") or re.search(
        r"[+=][rwx]*s", word
    ):
        scan.act(
            "admin",
            word,
            level=Level.HIGH,
            why="gives a program its owner's rights",
            command=call.command,
        )


def program(scan: Scan, call: Call, word: str, act: Act) -> None:
    """A program that an option names: it runs, whatever it is."""
    if word.strip() in (
        "",
        "cat",
        "less",
        "more",
        "true",
        "never",
        "auto",
        "always",
        "less -R",
        "gzip",
        "xz",
        "zstd",
        "bzip2",
        "pigz",
        "lz4",
        "ssh",
        "none",
    ):
        return
    why = act.why or f"an option runs {word}"
    scan.act("code", word, level=act.level, why=why, command=call.command, source=word)
    scan.script(word, "bash")


def sql(scan: Scan, call: Call, word: str, act: Act) -> None:
    """SQL given on the line."""
    statements.judge(scan, call, word)


def mongo(scan: Scan, call: Call, word: str, act: Act) -> None:
    """A line of MongoDB's shell: allowed are reading calls."""
    calls = set(re.findall(r"\.(\w+)\s*\(", word))
    reading = {
        "find", "findOne", "count", "countDocuments", "estimatedDocumentCount", "distinct",
        "limit", "sort", "skip", "toArray", "pretty",
        "stats", "serverStatus", "getCollection", "getCollectionNames", "getIndexes", "explain",
        "getSiblingDB", "status", "version", "hello", "adminCommandx",
    }  # fmt: skip
    if not calls <= reading or re.search(
        r"\$(?:out|merge|where|function)\b|\b(?:load|run|eval|Function)\b|passthrough", word
    ):
        scan.act(
            "destroy" if re.search(r"drop|delete|remove", word) else "remote",
            word,
            command=call.command,
        )


def move(scan: Scan, call: Call, word: str, act: Act) -> None:
    """A path that is moved away: changed as by writing."""
    place = scan.place(word)
    if place.kind in ("root", "trunk", "auth", "device"):
        scan.use("tree", word, command=call.command)
    elif place.kind in ("project", "temp") and word.strip("/") not in (".", "*"):
        scan.use("modes", word, command=call.command)
    else:
        scan.use("write", word, command=call.command)


def rmdir(scan: Scan, call: Call, word: str, act: Act) -> None:
    """An empty folder that goes: nothing is lost with it."""
    place = scan.place(word)
    if place.kind in ("project", "temp", "home", "outside"):
        scan.add(
            Effect("delete", place.scope, place.shown),
            Level.MEDIUM,
            f"deletes the empty folder {place.shown}",
            command=call.command,
            source=word,
        )
    else:
        scan.use("delete", word, command=call.command)


def aptoption(scan: Scan, call: Call, word: str, act: Act) -> None:
    """`-o Name=value` of apt and yum: some name commands."""
    if re.search(r"invoke|command|pre-install|post|proxy|dir|allow", word, re.I):
        scan.act("code", word, why="a setting can run a command", command=call.command, source=word)


def fetched(scan: Scan, call: Call, word: str, act: Act) -> None:
    """A file that says what to install: one of another machine is code from elsewhere."""
    if re.match(r"(?:https?|ftp):", word, re.I):
        scan.act("foreign", word, why=f"installs what {word} says", command=call.command)


def goenv(scan: Scan, call: Call, word: str, act: Act) -> None:
    """NAME=value, which go env -w keeps for all later commands."""
    name, equals, value = word.partition("=")
    if equals:
        scan.act("change", name, why="changes Go's settings for all projects", command=call.command)
        assigned(scan, name, value)


def code_file(scan: Scan, call: Call, word: str, act: Act) -> None:
    """A file of code, or its address."""
    if re.match(r"https?:|npm:|jsr:|data:", word, re.I):
        scan.act("foreign", word, command=call.command, source=word)
    elif re.search(r"[./]", word):
        scan.use("script", word, command=call.command)


ROLES = {
    "url": url, "host": host, "giturl": giturl, "gitpush": gitpush, "package": package,
    "copyhost": copyhost, "sshoption": sshoption, "gitconfig": gitconfig, "mode": mode,
    "program": program, "sql": sql, "mongo": mongo, "move": move, "rmdir": rmdir,
    "aptoption": aptoption, "code-file": code_file, "goenv": goenv, "fetched": fetched,
}  # fmt: skip
