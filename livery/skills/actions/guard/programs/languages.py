"""Small languages within arguments: sed, awk, find's expressions, and what grep and jq read."""

from __future__ import annotations

import itertools
import re

from livery.skills.actions.guard.arguments import split
from livery.skills.actions.guard.places import OUTPUT, PIPE, UNKNOWN
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Args, Call, Scan, Stream
from livery.skills.actions.guard.tables import program as rule_of

# -- sed


def sed(scan: Scan, call: Call, args: Args) -> bool:
    """sed: its script can write files (w) and run commands (e); -i writes its files."""
    words = call.words[1:]
    scripts: list[str] = []
    operands: list[str] = []
    inplace = sandbox = False
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            operands += words[position:]
            break
        if word.startswith("--"):
            head, _, value = word.partition("=")
            if "--in-place".startswith(head) and len(head) > 4:
                inplace = True
            elif "--expression".startswith(head) or "--file".startswith(head):
                if "=" not in word and position < len(words):
                    value = words[position]
                    position += 1
                if "--expression".startswith(head):
                    scripts.append(value)
                else:
                    scan.use("script", value, command=call.command)
                    scripts.append("")
            elif head == "--sandbox":
                sandbox = True
        elif word.startswith("-") and len(word) > 1:
            for number, letter in enumerate(word[1:], start=1):
                rest = word[number + 1 :]
                if letter in "iI":
                    inplace = True
                    break
                if letter in "efl":
                    value = rest
                    if not rest and position < len(words):
                        value = words[position]
                        position += 1
                    if letter == "e":
                        scripts.append(value)
                    elif letter == "f":
                        scan.use("script", value, command=call.command)
                        scripts.append("")
                    break
        else:
            operands.append(word)
    if not scripts and operands:
        scripts.append(operands.pop(0))
    for script in scripts:
        if not sandbox:
            sed_script(scan, call, script)
    for word in operands:
        scan.use("write" if inplace else "read", word, command=call.command)
    return True


_SED_ADDRESS = re.compile(r"(?:\d+(?:~\d+)?|\$|\+\d+|~\d+)")


def sed_script(scan: Scan, call: Call, script: str) -> None:
    """Read a sed script command by command."""
    if UNKNOWN in script or OUTPUT in script:
        # A variable within a pattern can end it and add a command of its own.
        scan.add(None, Level.MEDIUM, "sed: part of the script is only known at run time")
    position, end = 0, len(script)
    while position < end:
        sign = script[position]
        if sign in " \t\n;{}!,":
            position += 1
        elif sign == "#":
            position = _line_end(script, position)
        elif sign == "/" or (sign == "\\" and position + 1 < end):
            limit = sign if sign == "/" else script[position + 1]
            position = _past(script, position + (1 if sign == "/" else 2), limit)
            while position < end and script[position] in "IM":
                position += 1
        elif found := _SED_ADDRESS.match(script, position):
            position = found.end()
        elif sign in "wW":
            stop = _line_end(script, position)
            scan.use("write", script[position + 1 : stop].strip(), command=call.command)
            position = stop
        elif sign in "rR":
            stop = _line_end(script, position)
            scan.use("read", script[position + 1 : stop].strip(), command=call.command)
            position = stop
        elif sign == "e":
            stop = _line_end(script, position)
            code = script[position + 1 : stop].strip()
            scan.act("code", code, why="its script runs a command", command=call.command)
            if code:
                scan.script(code, "bash")
            position = stop
        elif sign in "sy" and position + 1 < end:
            limit = script[position + 1]
            position = _past(script, _past(script, position + 2, limit), limit)
            if sign == "s":
                flags = re.compile(r"[gpimIMe\d]*").match(script, position)
                assert flags is not None
                position = flags.end()
                if "e" in flags[0]:
                    scan.act("code", script, why="its script runs a command", command=call.command)
                if position < end and script[position] == "w":
                    stop = _line_end(script, position)
                    scan.use("write", script[position + 1 : stop].strip(), command=call.command)
                    position = stop
        elif sign in "aic":
            position = _line_end(script, position)
        elif sign in ":bBtT":
            found = re.compile(r"[^;\n}]*").match(script, position + 1)
            position = found.end() if found else position + 1
        elif sign in "dDgGhHlnNpPqQxzF=":
            position += 1
        else:
            if sign not in (UNKNOWN, OUTPUT, PIPE):
                scan.unclear(f"{call.command}: a script that cannot be read", command=call.command)
            else:
                scan.unclear(
                    f"{call.command}: a script that is only known at run time", command=call.command
                )
            return


def _past(text: str, position: int, limit: str) -> int:
    """The position after the next `limit` that is neither escaped nor within brackets."""
    bracket = False
    while position < len(text):
        sign = text[position]
        if sign == "\\":
            position += 2
            continue
        if sign == "[" and not bracket and limit != "[" and "]" in text[position + 2 :]:
            bracket = True
            position += 2 if text[position + 1 : position + 2] == "]" else 1
            continue
        if sign == "]":
            bracket = False
        elif sign == limit and not bracket:
            return position + 1
        position += 1
    return position


def _line_end(text: str, position: int) -> int:
    found = text.find("\n", position)
    return len(text) if found < 0 else found


# -- awk

_AWK_STRING = re.compile(r'"(?:\\.|[^"\\])*"', re.S)


def awk(scan: Scan, call: Call, args: Args) -> bool:
    """awk: its program can run commands (system, pipes) and write files (print > "file")."""
    words = call.words[1:]
    program: str | None = None
    position = 0
    inplace = False
    while position < len(words):
        word = words[position]
        if not word.startswith("-") or len(word) < 2:
            break
        position += 1
        if word == "--":
            break
        head, equals, value = word.partition("=")
        short = word[:2]
        if short in ("-f", "-i", "-l", "-E") or head in ("--file", "--include", "--load", "--exec"):
            if (not equals and len(word) == 2) or (head.startswith("--") and not equals):
                value = words[position] if position < len(words) else ""
                position += 1
            elif not head.startswith("--"):
                value = word[2:]
            if value == "inplace":
                inplace = True
            elif short == "-l" or head == "--load":
                scan.act("code", value, why="loads a library", command=call.command)
            else:
                scan.use("script", value, command=call.command)
            if short != "-i" and head != "--include":
                program = program or ""
        elif (short in ("-F", "-v") and len(word) == 2) or (
            head in ("--field-separator", "--assign") and not equals
        ):
            position += 1
        elif short == "-e" or head == "--source":
            if (not equals and len(word) == 2) or (head.startswith("--") and not equals):
                value = words[position] if position < len(words) else ""
                position += 1
            awk_program(scan, call, value)
            program = program or ""
    operands = words[position:]
    if program is None and operands:
        awk_program(scan, call, operands.pop(0))
    for word in operands:
        if not re.match(r"[A-Za-z_]\w*=", word):
            scan.use("write" if inplace else "read", word, command=call.command)
    return True


def awk_program(scan: Scan, call: Call, program: str) -> None:
    """Read an awk program: strings and patterns out of the way, then its calls and redirections."""
    if OUTPUT in program or UNKNOWN in program:
        scan.unclear(
            f"{call.command}: a program that is only known at run time", command=call.command
        )
    strings: list[str] = []

    def keep(found: re.Match[str]) -> str:
        strings.append(found[0][1:-1])
        return f" \x01{len(strings) - 1}\x01 "

    bare = re.sub(
        r"(?<=[~(,!&|;{\n])\s*/(?:\\.|\[[^\]]*\]|[^/\\\n])+/|^\s*/(?:\\.|\[[^\]]*\]|[^/\\\n])+/",
        " ",
        _AWK_STRING.sub(keep, program),
    )
    bare = re.sub(r"#[^\n]*", "", bare)
    # A pipe to a text that stands there is judged by that text; everything else can be anything.
    piped = re.sub(r"\|&?\s*\x01\d+\x01\s*(?=[;}\n]|$)", " ", bare)
    if re.search(r"\bsystem\s*\(|(?<!\|)\|(?!\|)|@(?:load|include)|@\w+\s*\(", piped):
        scan.act("code", "awk", why="its program runs commands", command=call.command)
    if piped != bare or "system" in bare or "|" in bare:
        for code in re.findall(
            r"system\s*\(\s*\x01(\d+)\x01|\|&?\s*\x01(\d+)\x01|\x01(\d+)\x01\s*\|", bare
        ):
            number = next(part for part in code if part)
            scan.script(strings[int(number)].replace('\\"', '"'), "bash", Stream(None))
    if re.search(r"\bgetline\b", bare):
        for number in re.findall(r"getline[^;}\n]*<\s*\x01(\d+)\x01", bare):
            scan.use("read", strings[int(number)], command=call.command)
    for statement in re.split(r"[;{}\n]", bare):
        found = re.match(r"\s*(?:else\s+)?(?:if\s*\([^)]*\)\s*)?printf?\b(.*)", statement, re.S)
        if found and (target := _after_redirect(found[1])) is not None:
            literal = re.fullmatch(r"\s*\x01(\d+)\x01\s*", target)
            scan.use(
                "write", strings[int(literal[1])] if literal else UNKNOWN, command=call.command
            )


def _after_redirect(text: str) -> str | None:
    """What stands behind a `>` outside of parentheses; None where there is none."""
    depth = 0
    for number, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == ">" and depth == 0 and text[number + 1 : number + 2] != "=":
            return text[number + 1 :].lstrip(">")
    return None


# -- find

_FIND_FILES = ("-fprint", "-fprint0", "-fls")
_FIND_RUNS = ("-exec", "-execdir", "-ok", "-okdir")


def find(scan: Scan, call: Call, args: Args) -> bool:
    """find: looks, unless it is told to delete (-delete), write (-fprint) or run (-exec)."""
    words = call.words[1:]
    starts: list[str] = []
    position = 0
    while position < len(words) and re.match(r"-[HLPXEdsx]+$|-O\d|-D", words[position]):
        position += 2 if words[position] == "-D" else 1
    while position < len(words) and not (
        words[position].startswith("-") or words[position] in "(!,"
    ):
        starts.append(words[position])
        position += 1
    starts = starts or ["."]
    for path in starts:
        scan.use("read", path, command=call.command)
    named = any(word in ("-name", "-iname", "-path", "-regex", "-type", "-empty") for word in words)
    while position < len(words):
        word = words[position]
        position += 1
        if word == "-delete":
            for path in starts:
                place = scan.place(path)
                use = "tree" if place.kind != "root" or not named else "delete"
                scan.use(use, path, command=call.command, source="-delete")
        elif word in _FIND_FILES or word == "-fprintf":
            if position < len(words):
                scan.use("write", words[position], command=call.command, source=word)
            position += 2 if word == "-fprintf" else 1
        elif word == "-files0-from" and position < len(words):
            scan.use("read", words[position], command=call.command)
        elif word in _FIND_RUNS:
            stop = next(
                (
                    n
                    for n in range(position, len(words))
                    if words[n] in (";", "+") and (words[n] == ";" or words[n - 1] == "{}")
                ),
                len(words),
            )
            found_command(
                scan, call, words[position:stop], starts, _name_of(words), every=finds_all(words)
            )
            position = stop + 1
    return True


# Words of an expression that leave in everything there is below a start, or all of its files.
_ALL_OF_IT = re.compile(
    r"-(?:mindepth|maxdepth|type|depth|d|xdev|mount|x|print0?|ls|true|a|and|follow|noleaf|[HLP]|prune)"
)


def finds_all(words: list[str]) -> bool:
    """Whether nothing in find's words narrows down what it finds; their places are not told."""
    tests = itertools.takewhile(lambda word: word not in _FIND_RUNS, words)
    return not any(
        word in ("!", "(") or (word[:1] == "-" and not _ALL_OF_IT.fullmatch(word)) for word in tests
    )


def _name_of(words: list[str]) -> str:
    """The name that find looks for (`-name id_rsa`), with the slash before it."""
    pairs = itertools.pairwise(words)
    return next((f"/{name}" for word, name in pairs if word in ("-name", "-iname")), "")


# What leaves nothing of a file that it is given.
_OVERWRITES = ("truncate", "dd", "tee", "cp")


def found_command(
    scan: Scan,
    call: Call,
    words: list[str],
    starts: list[str],
    name: str = "",
    *,
    every: bool = False,
) -> None:
    """The command that find or fd runs for what it finds in `starts`: one, or `every` thing."""
    for path in starts[:4]:
        folder = (path.rstrip("/") or "") if path not in (".", "./") else "."
        item = f"{folder}/*" if every else f"{folder}/{UNKNOWN}{name}"
        target = [word.replace("{}", item) for word in words]
        if target and target[0] == item:
            scan.act("code", item, why="runs the files it finds", command=call.command)
            continue
        before = len(scan.findings)
        scan.judge(target)
        known = rule_of(target[0].rpartition("/")[2]) if target else None
        if known is not None and known.name in _OVERWRITES and any(item in w for w in target[1:]):
            scan.act("lose", item, why="overwrites the files it finds", command=call.command)
        if known is not None and known.handler == "shell":
            scan.act("code", target[0], why="runs a shell for what it finds", command=call.command)
        elif len(scan.findings) == before:
            scan.add(None, Level.LOW, "")


def fd(scan: Scan, call: Call, args: Args) -> bool:
    """fd: looks; -x and -X run a command to the end of the line."""
    words = call.words[1:]
    for number, word in enumerate(words):
        found = re.fullmatch(r"(?:-[HIuisgFa0lpL1q]*[xX]|--exec(?:-batch)?=?)(.*)", word, re.S)
        if found:
            rest = [*split(found[1]), *words[number + 1 :]]
            if not any("{" in item for item in rest):
                rest = [*rest, "{}"]
            found_command(scan, call, rest, ["."])
            break
    return True


# -- grep and jq


def grep(scan: Scan, call: Call, args: Args) -> bool:
    """grep: a pattern, then files; with -e or -f every operand is a file."""
    patterns = args.has("-e", "--regexp", "-f", "--file") or args.has("--files")
    operands = args.operands if patterns else args.operands[1:]
    for path in operands:
        scan.use("read", path, command=call.command)
    for (flag, value), option in zip(args.flags, args.options, strict=True):
        act = option.act
        if value is not None and act.name == "program":
            scan.act("code", value, why=f"{flag} runs {value}", command=call.command, source=flag)
            scan.script(value, "bash")
        elif value is not None and act.name in ("read", "code"):
            scan.use("read", value, command=call.command, source=flag)
            if act.name == "code":
                scan.act("code", value, command=call.command, source=flag)
    return True


def jq(scan: Scan, call: Call, args: Args) -> bool | None:
    """jq: a program, then files; yq's can load and write files."""
    for path in args.operands[1:]:
        scan.use(
            "write" if args.has("-i", "--inplace", "--in-place") else "read",
            path,
            command=call.command,
        )
    if args.operands and re.search(r"\$ENV|\benv\b", args.operands[0]):
        scan.add(None, Level.MEDIUM, "jq: prints variables")
    return None


def xxd(scan: Scan, call: Call, args: Args) -> bool | None:
    """xxd: a second operand is written."""
    if len(args.operands) > 1:
        scan.use("write", args.operands[1], command=call.command)
        args.operands = args.operands[:1]
    return None


HANDLERS = {"sed": sed, "awk": awk, "find": find, "fd": fd, "grep": grep, "jq": jq, "xxd": xxd}
