"""Shells and the programs that start other programs."""

from __future__ import annotations

import re
from dataclasses import replace

from livery.skills.actions.guard.arguments import split
from livery.skills.actions.guard.places import INPUT, OUTPUT, PIPE, UNKNOWN
from livery.skills.actions.guard.programs.variables import assigned
from livery.skills.actions.guard.risk import Finding, Level
from livery.skills.actions.guard.scan import Args, Call, Scan, Stream

_TAKES_VALUE = ("--rcfile", "--init-file", "-o", "+o", "-O", "+O")


def shell(scan: Scan, call: Call, args: Args) -> bool:
    """sh, bash and the like: code behind -c, a script, or what comes on standard input."""
    words = call.words[1:]
    code = standard = checks = False
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--" or word == "-":
            position += 1
            break
        if word[:1] not in ("-", "+") or len(word) < 2:
            break
        position += 1
        if word in _TAKES_VALUE:
            if word.startswith("--") and position < len(words):
                scan.use("script", words[position], command=call.command)
            position += 1
        elif word.startswith(("--rcfile=", "--init-file=")):
            scan.use("script", word.partition("=")[2], command=call.command)
        elif word in ("--version", "--help"):
            return True
        elif word.startswith("--command") or word == "--init-command":
            code = True
        elif not word.startswith("--"):
            code = code or "c" in word[1:]
            standard = standard or "s" in word[1:]
            checks = checks or "n" in word[1:]
            if word.endswith(("o", "O")):
                position += 1
    rest = words[position:]
    if checks and not code and rest:
        scan.use("read", rest[0], command=call.command)
        return True
    if code:
        if not rest:
            return True
        kept = scan.state.arguments
        scan.state.arguments = rest[2:]
        with scan.apart():
            scan.state.variables["0"] = rest[1] if len(rest) > 1 else "bash"
            scan.script(rest[0], "bash", call.stdin)
        scan.state.arguments = kept
    elif rest and not standard:
        file = rest[0]
        if file in INPUT:
            runs_input(scan, call)
        elif file.startswith(PIPE):
            scan.act("foreign", file, why="runs what another command prints", command=call.command)
        else:
            scan.use("script", file, command=call.command)
    else:
        runs_input(scan, call)
    return True


def runs_input(scan: Scan, call: Call) -> None:
    """A program that runs what it reads."""
    if call.stdin is None:
        scan.act(
            "ask",
            call.command,
            why="opens a shell: what it will run is not known",
            command=call.command,
        )
    elif call.stdin.text is not None:
        scan.act(
            "code",
            call.command,
            level=Level.HIGH,
            why="runs what it is given on standard input",
            command=call.command,
        )
        if call.name.lower() in _SHELLS:
            with scan.apart():
                scan.script(call.stdin.text, "bash")
    else:
        act = "foreign" if call.stdin.origin == "network" else "code"
        scan.act(
            act, call.command, why="runs what it is given on standard input", command=call.command
        )


_SHELLS = (
    "bash", "sh", "zsh", "dash", "ksh", "fish", "ash", "mksh", "csh", "tcsh", "rbash", "yash",
)  # fmt: skip


def eval_(scan: Scan, call: Call, args: Args) -> bool:
    """eval: its words are code. Output of a program as code is high, also of a known one."""
    scan.script(" ".join(word for word in call.words[1:] if word != "--"), "bash")
    return True


def source(scan: Scan, call: Call, args: Args) -> bool:
    """source and `.`: a file's code in this shell."""
    words = [word for word in call.words[1:] if word != "--"]
    if not words:
        return True
    if words[0].startswith(PIPE):
        scan.act("foreign", words[0], why="runs what another command prints", command=call.command)
    elif words[0] in INPUT:
        runs_input(scan, replace_name(call, "bash"))
    elif re.search(r"(?:^|/)(?:activate(?:\.\w+)?|\.env(?:rc)?)$", words[0]):
        scan.act("run", words[0], why="sets variables of this shell", command=call.command)
    else:
        scan.use("script", words[0], command=call.command)
    return True


def replace_name(call: Call, name: str) -> Call:
    """The same call under another program's name."""
    return replace(call, name=name)


def lookup(scan: Scan, call: Call, args: Args) -> bool:
    """command: with -v or -V it says what a name stands for, else it runs it."""
    return args.has("-v", "-V")


def trap(scan: Scan, call: Call, args: Args) -> bool:
    """trap: code that runs at a signal or at the end."""
    words = [word for word in call.words[1:] if word not in ("--", "-p", "-l", "-")]
    if len(words) > 1 and not words[0].isdigit():
        with scan.perhaps():
            scan.script(words[0], "bash")
    return True


def alias(scan: Scan, call: Call, args: Args) -> bool:
    """alias: what it stands for is judged now, and used where it is called."""
    for word in call.words[1:]:
        name, equals, value = word.partition("=")
        if equals and name:
            if name not in scan.loops:
                scan.loops.append(name)
                with scan.apart():
                    start = len(scan.findings)
                    scan.script(value, "bash")
                    scan.over(start, _not_alone)
                scan.loops.remove(name)
            scan.state.aliases[name] = value
    return True


def export(scan: Scan, call: Call, args: Args) -> bool:
    """export and declare as plain commands (`! export A=b`): later words see the value."""
    for word in call.words[1:]:
        name, equals, value = word.partition("=")
        if equals and re.fullmatch(r"\w+", name):
            scan.state.variables[name] = value
            assigned(scan, name, value)
    return True


def set_(scan: Scan, call: Call, args: Args) -> bool:
    """set -- a b: the arguments that "$@" then has."""
    if "--" in call.words:
        scan.state.arguments = call.words[call.words.index("--") + 1 :]
    return True


def read(scan: Scan, call: Call, args: Args) -> bool:
    """read x: the first line of standard input, where it is known."""
    names = [word for word in call.words[1:] if re.fullmatch(r"[A-Za-z_]\w*", word)]
    text = call.stdin.text if call.stdin is not None else None
    for name in names:
        scan.state.variables[name] = UNKNOWN
    if names and text is not None:
        scan.state.variables[names[0]] = text.partition("\n")[0]
    return True


def printf(scan: Scan, call: Call, args: Args) -> bool:
    """printf -v x: a variable that holds what would be printed."""
    if call.words[1:2] == ["-v"] and len(call.words) > 3:
        form, *values = call.words[3:]
        known = "%" not in form or (form in ("%s", "%b") and len(values) == 1)
        text = (values[0] if values and "%" in form else form) if known else UNKNOWN
        scan.state.variables[call.words[2]] = text
    return True


def _not_alone(finding: Finding) -> Finding:
    """`alias ll='ls -l'` defines only; a name that is not known yet may be one of the user's."""
    return replace(finding, level=Level.MEDIUM) if finding.unknown else finding


def env(scan: Scan, call: Call, args: Args) -> bool:
    """env: settings, then a command. -S splits a text into one."""
    words = call.words[1:]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            break
        if word in ("-C", "--chdir") and position < len(words):
            with scan.apart():
                scan.state.cwd = words[position]
                scan.judge([call.words[0], *words[position + 1 :]], call.stdin)
            return True
        if word in ("-u", "--unset", "-P", "-L", "-U"):
            position += 1
        elif (
            word in ("-S", "--split-string")
            or word.startswith(("-S", "--split-string="))
            or re.fullmatch(r"-[iv0]+S.*", word)
        ):
            text = word.partition("=")[2] if word.startswith("--") else word.partition("S")[2]
            if not text and position < len(words):
                text = words[position]
                position += 1
            scan.judge([call.words[0], *split(text), *words[position:]], call.stdin)
            return True
        elif word.startswith("-"):
            continue
        elif re.match(r"\w+=", word):
            name, _, value = word.partition("=")
            assigned(scan, name, value)
        else:
            scan.judge(words[position - 1 :], call.stdin)
            return True
    rest = words[position:]
    while rest and re.match(r"\w+=", rest[0]):
        assigned(scan, *rest.pop(0).partition("=")[::2])
    if rest:
        scan.judge(rest, call.stdin)
    else:
        scan.add(None, Level.LOW, "")
    return True


def sudo(scan: Scan, call: Call, args: Args) -> bool | None:
    """sudo: what it runs gets everybody's rights. `sudo -l` and `sudo -v` show only."""
    words = call.words[1:]
    if words and all(
        word in ("-l", "-v", "-k", "-K", "-V", "--version", "--list", "-n") for word in words
    ):
        scan.act("admin", call.command, level=Level.MEDIUM, command=call.command)
        return True
    if call.name == "sudoedit" or "-e" in words[:2]:
        for word in args.operands:
            scan.use("write", word, command=call.command)
        scan.act("admin", call.command, command=call.command)
        return True
    operands = list(args.operands)
    while operands and re.match(r"\w+=", operands[0]):
        name, _, value = operands.pop(0).partition("=")
        assigned(scan, name, value)
    args.operands = operands
    start = len(scan.findings)
    if operands:
        scan.judge(operands, call.stdin)
        args.operands = []
    # Code from elsewhere with the rights of the whole machine.
    foreign = any(
        finding.effect is not None
        and finding.effect.kind == "execute"
        and "standard input" in finding.why
        for finding in scan.findings[start:]
    )
    if foreign:
        scan.add(None, Level.CRITICAL, "runs code from elsewhere with the machine's highest rights")
    return None


_XARGS_VALUES = ("-I", "-i", "-n", "-P", "-L", "-l", "-d", "-E", "-e", "-s", "-a", "-J", "-R",
    "-S", "--max-args", "--max-procs",
                 "--replace", "--delimiter", "--arg-file", "--max-lines", "--max-chars", "--eof",
                 "-j", "--jobs", "--colsep", "--joblog",
                 "-N", "--results", "--tmpdir", "--sshlogin", "--halt")  # fmt: skip


def xargs(scan: Scan, call: Call, args: Args) -> bool:
    """xargs and parallel: a command whose last operands come from standard input."""
    words = call.words[1:]
    position = 0
    token = ""
    while position < len(words) and words[position].startswith("-") and len(words[position]) > 1:
        word = words[position]
        position += 1
        if word == "--":
            break
        head, equals, glued = word.partition("=")
        short = word[:2] if not word.startswith("--") else head
        if short in _XARGS_VALUES:
            value = glued if equals else (word[2:] if not word.startswith("--") else "")
            optional = short in ("-i", "-l", "-e", "--replace", "--eof", "--max-lines")
            if not value and not optional and position < len(words):
                value = words[position]
                position += 1
            if short in ("-I", "-i", "--replace", "-J"):
                token = value or "{}"
    rest = words[position:]
    if call.name == "parallel" and not token:
        token = "{}"
    if ":::" in rest:
        rest, given = rest[: rest.index(":::")], rest[rest.index(":::") + 1 :]
    else:
        given = None
    if not rest:
        rest = ["echo"] if call.name != "parallel" else []
    items = given if given is not None else _items(call.stdin)
    if call.name == "parallel" and len(rest) == 1:
        rest = split(rest[0])
    if call.name == "parallel" and not rest:
        for item in items:
            scan.script(item, "bash")
        return True
    used = bool(token) and any(token in word for word in rest)
    if used:
        if given is None and call.stdin is not None and call.stdin.text is not None:
            items = call.stdin.text.splitlines()
        for item in items[:16]:
            with scan.apart():
                scan.judge([word.replace(token, item) for word in rest])
    else:
        scan.judge([*rest, *items])
    return True


def _items(stdin: Stream | None) -> list[str]:
    if stdin is not None and stdin.text is not None:
        found = split(stdin.text)
        if len(found) <= 64:
            return found
    if stdin is not None and stdin.found:
        return [
            folder if folder.endswith("/*") else f"{folder.rstrip('/')}/{UNKNOWN}"
            for folder in stdin.found[:8]
        ]
    return [UNKNOWN]


def tmux(scan: Scan, call: Call, args: Args) -> bool:
    """tmux and screen: look at sessions, or run something in one."""
    words = call.words[1:]
    verb = next((word for word in words if not word.startswith("-")), "")
    reading = (
        "ls",
        "list-sessions",
        "list-windows",
        "list-panes",
        "capture-pane",
        "display-message",
        "has-session",
        "has",
        "info",
        "lsw",
        "lsp",
        "show-options",
        "show",
    )
    if words in (["-ls"], ["-list"], ["-V"]) or verb in reading:
        return True
    if verb in (
        "attach",
        "attach-session",
        "a",
        "select-window",
        "select-pane",
        "rename-window",
        "detach",
    ):
        scan.act("change", call.command, command=call.command)
        return True
    if verb in ("kill-server", "kill-session", "kill-window", "kill-pane"):
        scan.act("kill", call.command, why="ends what runs in it", command=call.command)
        return True
    scan.act("code", call.command, why="runs a command in another terminal", command=call.command)
    for word in words[1:]:
        if " " in word or word in ("-X",):
            scan.script(word, "bash")
    if "-dm" in words or "-dmS" in words:
        at = words.index("-dmS") + 2 if "-dmS" in words else words.index("-dm") + 1
        scan.judge(words[at:])
    return True


def cd(scan: Scan, call: Call, args: Args) -> bool:
    """cd: later paths start from there."""
    words = [word for word in call.words[1:] if not (word.startswith("-") and len(word) > 1)]
    if call.name.lower() in ("popd", "pop-location"):
        scan.state.cwd = ""
        return True
    target = words[0] if words else "\ue001"
    if target == "-":
        scan.state.cwd = UNKNOWN
    elif target.startswith(("/", "\ue001", "~", UNKNOWN, OUTPUT)) or re.match(
        r"[A-Za-z]:[\\/]?", target
    ):
        scan.state.cwd = target
    else:
        cwd = scan.state.cwd
        scan.state.cwd = f"{cwd}/{target}" if cwd else target
    return True


HANDLERS = {
    "shell": shell, "eval": eval_, "source": source, "trap": trap, "alias": alias,
    "export": export, "set": set_, "read": read, "printf": printf, "env": env, "sudo": sudo,
    "lookup": lookup, "xargs": xargs, "tmux": tmux, "cd": cd,
}  # fmt: skip
