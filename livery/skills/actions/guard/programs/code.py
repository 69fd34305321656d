"""Code on the line and scripts, of all languages but Python and shells; builders' targets."""

from __future__ import annotations

import re
from collections.abc import Callable

from livery.skills.actions.guard.places import HOME, OUTPUT, PIPE, UNKNOWN
from livery.skills.actions.guard.programs.shells import runs_input
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Args, Call, Scan

_NODE_SAFE = re.compile(
    r"(?:console\.(?:log|error|table)|process\.(?:version|versions|platform|arch|argv"
    r"|exit|memoryUsage|hrtime|uptime|cwd)\b|JSON\.(?:parse|stringify)|Math\.\w+|Date"
    r"|Number|parseInt|parseFloat|require\(['\"]\.{0,2}/?[\w@/-]*package\.json['\"]\))"
)
_SAFE_WORDS = frozenset(
    "console log error table process version versions platform arch argv exit "
    "memoryUsage cwd uptime JSON parse stringify Math Date Number parseInt parseFloat "
    "new const let var for of in if else return true false null undefined typeof "
    "length map filter reduce join split slice push forEach toString toFixed "
    "toISOString now max min floor ceil round random abs pow sqrt PI String Object "
    "keys values entries Array from sort reverse includes indexOf "
    "print puts say echo p printf uc lc reverse foreach my local use strict warnings "
    "tr y RUBY_VERSION PHP_VERSION phpversion PHP_EOL times each inspect to_s to_i "
    "chomp next last unless and or not eq ne lt gt sprintf substr index keys values "
    "shift defined BEGIN END sum".split()
)


def node(scan: Scan, call: Call, args: Args) -> bool:
    """node: -e code, -r module, a script."""
    words = call.words[1:]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        head, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            break
        if head in ("-e", "-p", "-pe", "--eval", "--print"):
            code = (
                value
                if equals and head.startswith("--")
                else (words[position] if position < len(words) else "")
            )
            code_on_line(scan, call, code)
            return True
        if head in ("-r", "--require", "--import", "--loader", "--experimental-loader"):
            file = value if equals else (words[position] if position < len(words) else "")
            position += 0 if equals else 1
            if file.startswith(("http:", "https:", "data:")):
                scan.act("foreign", file, command=call.command)
            elif file.startswith((".", "/")):
                scan.use("script", file, command=call.command)
        elif head.startswith(("--inspect", "--debug")):
            scan.act("code", head, level=Level.MEDIUM, why="opens a debugger", command=call.command)
        elif head in ("-v", "--version", "-h", "--help"):
            return True
        elif head in ("-c", "--check", "--test", "--watch", "--run"):
            scan.act("run", word, command=call.command)
    else:
        if not any(f.command == call.command for f in scan.findings):
            input_code(scan, call, code_on_line)
        return True
    if word == "-":
        input_code(scan, call, code_on_line)
    else:
        scan.use("script", word, command=call.command)
    return True


def input_code(scan: Scan, call: Call, judge: Callable[[Scan, Call, str], None]) -> None:
    """Code on standard input: judged as on the line, where it is known."""
    if call.stdin is not None and call.stdin.text is not None:
        judge(scan, call, call.stdin.text)
    else:
        runs_input(scan, call)


def script(scan: Scan, call: Call, args: Args) -> bool:
    """Perl, Ruby, PHP and others: -e code, or a script."""
    words = call.words[1:]
    position = 0
    seen = False
    inplace = False
    while position < len(words):
        word = words[position]
        position += 1
        if word in ("--version", "-v", "-V", "--help", "-h", "-version"):
            return True
        if not word.startswith("-") or word == "-":
            break
        if (
            word.startswith("-")
            and not word.startswith("--")
            and call.name in ("perl", "ruby")
            and "i" in word[1:].partition("e")[0]
        ):
            inplace = True
        if re.fullmatch(
            r"-(?:[a-zA-Z0]*[eErR]|\w*pe|\w*ne)|--eval|--execute|--run|--expr", word
        ) and not word.startswith("-I"):
            if call.name in ("php",) and word not in ("-r", "-B", "-R", "-E", "--run"):
                continue
            code = words[position] if position < len(words) else ""
            position += 1
            code_on_line(scan, call, code)
            seen = True
        elif word.startswith(("-S", "-t")) and call.name == "php":
            scan.act("run", call.command, command=call.command)
            seen = True
        elif (
            re.match(r"-[MmrI]\w", word)
            or (word.startswith(("-d", "--require", "-l")) and len(word) > 2)
        ) and (
            re.match(
                r"-[Mm](?:strict|warnings|Data|List|POSIX|JSON|Time|utf8)|-[Il]|-r(?:json|set|time|date|pp|csv|yaml|rubygems|bundler)",
                word,
            )
            is None
        ):
            scan.act("code", word, why="loads code", command=call.command)
    else:
        if not seen:
            input_code(scan, call, code_on_line)
        return True
    rest = words[position - 1 :]
    if seen:
        for file in rest:
            scan.use("write" if inplace else "read", file, command=call.command)
    elif rest[0] == "-":
        runs_input(scan, call)
    elif rest[0].startswith(PIPE):
        scan.act("foreign", rest[0], command=call.command)
    elif rest[0] in ("eval", "exec", "-e") and call.name in ("bb", "io", "janet"):
        scan.act("code", rest[0], command=call.command)
    else:
        scan.use("script", rest[0], command=call.command)
        if rest[0] in ("artisan", "bin/console", "bin/rails", "bin/rake"):
            targets(scan, call, rest[1:2])
    return True


# A deletion with the path that it is given, and the home folder by the names it has in code.
_DELETES = re.compile(
    r"\b(?:rm(?:dir)?(?:Sync)?|unlink(?:Sync)?|remove_tree|rmtree|rm_rf?|rimraf(?:\.sync)?"
    r"|(?:fs|fse|os)\.remove(?:Sync)?|(?:File|Dir|FileUtils)\.\w+)\s*\(?\s*"
    r"(?:(['\"])(?P<path>[^'\"]*)\1|(?P<home>(?:os|require\(['\"](?:node:)?os['\"]\))\.homedir\(\)"
    r"|process\.env\.HOME|Dir\.home|\$?ENV[\[{]['\"]?HOME['\"]?[\]}]|getenv\(['\"]HOME['\"]\)))"
)


def code_on_line(scan: Scan, call: Call, code: str) -> None:
    """Code that is only let through where each word of it is known to compute or print."""
    if UNKNOWN in code or OUTPUT in code:
        scan.unclear(f"{call.command}: code that is only known at run time")
        return
    bare = re.sub(
        r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"",
        lambda found: "" if "#{" not in found[0] and "@{" not in found[0] else found[0],
        code,
    )
    bare = _NODE_SAFE.sub(" ", bare)
    substitution = re.fullmatch(
        r"\s*(?:s|tr|y)(.)(?:(?!\1).)*\1(?:(?!\1).)*\1[gimsx]*\s*(?:;\s*)?", code
    )
    if substitution and "(?{" not in code:
        scan.act(
            "run",
            call.command,
            why="runs code from the line that only computes",
            command=call.command,
        )
        return
    words = re.findall(r"[A-Za-z_]\w*", re.sub(r"\$\w+|@\w+|:\w+", " ", bare))
    unsafe = [word for word in words if word not in _SAFE_WORDS and len(word) > 1]
    strange = re.search(
        r"`|\$\(|\[\s*['\"]|<[A-Z]*>|\$\{|[|]\s*[\w\"']|^\s*%x|\\x|\(\?\{|\bqx\b", bare
    )
    for text in re.findall(
        r"(?:system|exec|execSync|shell_exec|passthru|popen|spawn|`)\s*\(?\s*(['\"])(.*?)\1", code
    ):
        scan.script(text[1], "bash")
    for text in re.findall(r"`([^`]*)`", code):
        scan.script(text, "bash")
    if unsafe or strange:
        for found in _DELETES.finditer(code):
            scan.use("tree", HOME if found["home"] else found["path"], command=call.command)
        what = unsafe[0] if unsafe else "what cannot be read here"
        scan.act(
            "code",
            call.command,
            why=f"runs code from the line that uses {what}",
            command=call.command,
        )
    else:
        scan.act(
            "run",
            call.command,
            why="runs code from the line that only computes",
            command=call.command,
        )


def vim(scan: Scan, call: Call, args: Args) -> bool | None:
    """vim: + and -c run its commands, -s and -S scripts."""
    words = call.words[1:]
    for number, word in enumerate(words):
        if word.startswith("+") and not re.fullmatch(r"\+\d*|\+/.*", word):
            _vim_code(scan, call, word[1:])
        elif found := re.fullmatch(r"(?:--cmd=?|-[A-Za-z]*?c)(.*)", word, re.S):
            following = words[number + 1] if number + 1 < len(words) else ""
            _vim_code(scan, call, found[1] or following)
        elif (
            word in ("-s", "-S", "-u", "-U", "-W", "-w")
            and number + 1 < len(words)
            and words[number + 1] not in ("NONE", "NORC", "DEFAULTS")
        ):
            scan.use("script", words[number + 1], command=call.command)
    args.operands = [word for word in args.operands if not word.startswith("+")]
    args.flags, args.options = [], []
    return None


def _vim_code(scan: Scan, call: Call, code: str) -> None:
    if not re.fullmatch(
        r":?(?:q!?|qa!?|wq!?|wqa!?|x|set\s+\w+|syntax\s+\w+|\d+|noh)", code.strip()
    ):
        scan.act("code", code, why="runs a command of the editor", command=call.command)
        for text in re.findall(r"!\s*(.+)|system\(['\"](.*?)['\"]", code):
            scan.script(text[0] or text[1], "bash")


def targets(scan: Scan, call: Call, words: list[str]) -> None:
    """Names of scripts and targets that say that they delete or publish: `db:reset`, `deploy`."""
    for word in words:
        if re.fullmatch(_LOSING, word, re.I):
            scan.act("lose", word, why=f"{word} says that it deletes", command=call.command)
        elif re.fullmatch(_PUBLISHING, word, re.I):
            scan.act("send", word, why=f"{word} says that it publishes", command=call.command)


_LOSING = (
    r"(?:[\w-]+[:._-])*(?:destroy|drop|purge|nuke|wipe|teardown|reset|flush|sqlflush|reset_db|fresh"
    r"|truncate|rollback|uninstall)(?:[:._-][\w:.-]+)*"
)
_PUBLISHING = r"(?:[\w-]+[:._-])*(?:publish|deploy|upload)(?:[:._-][\w:.-]+)*"


def build(scan: Scan, call: Call, args: Args) -> bool | None:
    """Builders and testers: targets whose names say that they delete or publish."""
    for word in args.operands:
        name, equals, value = word.partition("=")
        if (
            equals
            and re.fullmatch(r"SHELL|\.SHELLFLAGS|CC|CXX|MAKE\w*|\w+FLAGS", name)
            and not re.fullmatch(
                r"[\w+./-]*(?:gcc|clang|cc|bash|sh|\+\+)[\w.-]*|-[\w\s=/.-]*", value
            )
        ):
            scan.act("code", word, why="decides what the builder runs", command=call.command)
        elif equals and (UNKNOWN in value or re.search(r"[`$(;|]", value)):
            scan.act("code", word, why="gives the builder code", command=call.command)
    targets(scan, call, args.operands)
    return None


def uvrun(scan: Scan, call: Call, args: Args) -> bool:
    """uv run: a command in the project's environment; --with fetches packages."""
    words = call.words[call.words.index("run") + 1 :] if "run" in call.words else []
    position = 0
    scan.act("run", call.command, command=call.command)
    while position < len(words) and words[position].startswith("-"):
        if words[position] in (
            "--with",
            "--with-requirements",
            "--index-url",
            "--from",
            "--script",
            "--python",
            "-p",
            "--extra",
            "--group",
            "--env-file",
            "--directory",
            "--project",
            "--package",
            "--with-editable",
            "-m",
            "--module",
        ):
            if words[position] in ("--with", "--from", "--index-url"):
                scan.act("install", words[position], command=call.command)
            if words[position] in ("-m", "--module"):
                scan.judge(["python", "-m", *words[position + 1 :]])
                return True
            position += 1
        position += 1
    if words[position:]:
        first = words[position]
        scan.judge(
            ["python", *words[position:]] if first.endswith(".py") else words[position:], call.stdin
        )
    return True


def osascript(scan: Scan, call: Call, args: Args) -> bool | None:
    """osascript: `do shell script "…"` is shell code."""
    for word in call.words[1:]:
        for code in re.findall(r'do shell script "((?:\\.|[^"\\])*)"', word):
            scan.script(code.replace('\\"', '"'), "bash")
    return None


HANDLERS = {
    "node": node, "script": script, "vim": vim, "build": build, "uvrun": uvrun,
    "osascript": osascript,
}  # fmt: skip
