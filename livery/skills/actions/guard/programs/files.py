"""Programs of files whose words need reading: tar, dd, chmod, ln, crontab, and openers."""

from __future__ import annotations

import re

from livery.skills.actions.guard.programs.words import program as run_program
from livery.skills.actions.guard.programs.words import url
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Args, Call, Scan
from livery.skills.actions.guard.tables import Act

_CODE = Act("code")


def rename(scan: Scan, call: Call, args: Args) -> bool:
    """rename: Perl's takes an expression that is code; files are renamed."""
    for number, word in enumerate(args.operands):
        if number == 0:
            if not re.fullmatch(r"(?:s|y|tr)/[^/]*/[^/]*/[gi]*", word) and re.search(
                r"[`$({;]", word
            ):
                scan.act("code", word, command=call.command)
        else:
            scan.use("modes", word, command=call.command)
    return True


def mv(scan: Scan, call: Call, args: Args) -> bool | None:
    """mv: what is moved to /dev/null is deleted."""
    if len(args.operands) > 1 and scan.place(args.operands[-1]).kind == "null":
        for word in args.operands[:-1]:
            scan.use("delete", word, command=call.command)
        return True
    return None


def mount(scan: Scan, call: Call, args: Args) -> bool:
    """mount: without operands it lists."""
    words = call.words[1:]
    if call.name == "mount" and (
        not words or words[0] in ("-l", "-V", "--version", "--show-labels")
    ):
        return True
    if call.name == "losetup" and words[:1] in ([], ["-a"], ["-l"], ["--list"], ["-j"]):
        return True
    scan.act("system", call.command, why="changes what is mounted", command=call.command)
    return True


def pager(scan: Scan, call: Call, args: Args) -> bool | None:
    """less: +command runs one of its own, among them the shell's."""
    for word in args.operands:
        if word.startswith("+") and re.search(r"[!|v]", word):
            scan.act("code", word, why="runs a command of the pager", command=call.command)
            if "!" in word:
                scan.script(word.partition("!")[2], "bash")
    args.operands = [word for word in args.operands if not word.startswith("+")]
    return None


def tee(scan: Scan, call: Call, args: Args) -> None:
    """tee: its files hold what it reads."""
    for word in args.operands:
        stdin = call.stdin
        scan.wrote(word, stdin.text if stdin else None, stdin.origin if stdin else "")


def ed(scan: Scan, call: Call, args: Args) -> bool | None:
    """ed: its commands come on standard input, and ! among them is the shell."""
    if call.stdin is not None:
        text = call.stdin.text
        if text is None or "!" in text:
            scan.act("code", call.command, why="runs commands of an editor", command=call.command)
            for code in re.findall(r"!(.*)", text or ""):
                scan.script(code, "bash")
    return None


def ln(scan: Scan, call: Call, args: Args) -> bool:
    """ln: the new name is written, and is from now on another name for its target."""
    if len(args.operands) >= 2:
        target, name = args.operands[0], args.operands[-1]
        scan.use("make", name, command=call.command)
        scan.state.links[name.removeprefix("./")] = target
        place = scan.place(target)
        if place.kind in ("secret", "auth", "device"):
            scan.use("read", target, command=call.command)
    elif args.operands:
        scan.state.links[args.operands[0].rpartition("/")[2]] = args.operands[0]
        scan.act("change", args.operands[0], command=call.command)
    return True


def chmod(scan: Scan, call: Call, args: Args) -> bool | None:
    """chmod: a mode such as -x looks like an option; and a set-user-ID bit is rights given."""
    words = call.words[1:]
    modes = [word for word in words if re.fullmatch(r"-[rwxXst]+(?:,.*)?", word)]
    if modes:
        for word in args.operands:
            scan.use(
                "open" if args.has("-R", "--recursive") else "modes", word, command=call.command
            )
        return True
    if (
        args.operands
        and re.fullmatch(r"0?[0-7]?777|[ao]*\+.*w.*|[ao]+=.*w.*|0?[0-7]?666", args.operands[0])
        and args.has("-R", "--recursive")
    ):
        scan.act(
            "admin",
            args.operands[0],
            level=Level.HIGH,
            why="lets everybody write",
            command=call.command,
        )
    return None


def chown(scan: Scan, call: Call, args: Args) -> bool | None:
    """chown: with --reference every operand is a path."""
    return None


_TAR_RUNS = (
    "--checkpoint-action",
    "--use-compress-program",
    "--to-command",
    "--rsh-command",
    "--rmt-command",
    "--info-script",
    "--new-volume-script",
)
_TAR_VALUES = (
    "--directory",
    "--file",
    "--exclude",
    "--exclude-from",
    "--files-from",
    "--transform",
    "--strip-components",
    "--owner",
    "--group",
    "--mode",
    "--checkpoint",
    "--listed-incremental",
    "--xform",
    "--format",
)
_TAR_LETTERS = "fCTXbgNVHKLFIF"


def tar(scan: Scan, call: Call, args: Args) -> bool:
    """tar: lists, packs or unpacks; some options run programs."""
    words = list(call.words[1:])
    letters, archive, folder = "", "", ""
    operands: list[str] = []
    position = 0
    first = True
    while position < len(words):
        word = words[position]
        position += 1
        if word.startswith("--"):
            head, equals, value = word.partition("=")
            named = [name for name in _TAR_RUNS if name.startswith(head) and len(head) > 5]
            takes = named or [name for name in _TAR_VALUES if name == head]
            if takes and not equals:
                value = words[position] if position < len(words) else ""
                position += 1
            if named:
                code = re.sub(r"^exec=", "", value)
                if named[0] != "--checkpoint-action" or value.startswith("exec"):
                    run_program(scan, call, code, _CODE)
            elif head == "--file":
                archive = value
            elif head == "--directory":
                folder = value
            elif head == "--remove-files":
                scan.act(
                    "lose", call.command, why="deletes the files it packs", command=call.command
                )
            elif head in ("--extract", "--get"):
                letters += "x"
            elif head in ("--create", "--append", "--update"):
                letters += "c"
            elif head == "--list":
                letters += "t"
            elif head in ("--absolute-names",):
                scan.act(
                    "system", call.command, why="unpacks to absolute paths", command=call.command
                )
            first = False
        elif word.startswith("-") or (first and re.fullmatch(r"[A-Za-z]+", word)):
            dashed = word.startswith("-")
            text = word.lstrip("-")
            for number, letter in enumerate(text):
                letters += letter
                if letter in _TAR_LETTERS:
                    value = text[number + 1 :] if dashed else ""
                    if not value:
                        value = words[position] if position < len(words) else ""
                        position += 1
                    if letter == "f":
                        archive = value
                    elif letter == "C":
                        folder = value
                    elif letter in "IF":
                        run_program(scan, call, value, _CODE)
                    if dashed:
                        break
                elif letter == "P":
                    scan.act(
                        "system",
                        call.command,
                        why="unpacks to absolute paths",
                        command=call.command,
                    )
            first = False
        else:
            operands.append(word)
            first = False
    if re.match(r"[\w.@-]+:", archive) and not re.match(r"[A-Za-z]:[\\/]", archive):
        scan.act("send", archive, command=call.command)
    elif "c" in letters or "r" in letters or "u" in letters:
        scan.use("write", archive or "-", command=call.command)
    elif archive:
        scan.use("read", archive, command=call.command)
    if "x" in letters:
        scan.use("write" if folder else "make", folder or ".", command=call.command)
    else:
        for word in operands:
            scan.use("read", f"{folder}/{word}" if folder else word, command=call.command)
    return True


def archive(scan: Scan, call: Call, args: Args) -> bool:
    """7z and rar: a command letter, the archive, files."""
    words = [word for word in call.words[1:] if not word.startswith("-")]
    verb, rest = (words[0], words[1:]) if words else ("", [])
    if verb in ("a", "u", "d", "rn", "m"):
        for number, word in enumerate(rest):
            scan.use("write" if number == 0 else "read", word, command=call.command)
    elif verb in ("x", "e"):
        scan.act("change", call.command, command=call.command)
        for word in call.words:
            if word.startswith("-o") and len(word) > 2:
                scan.use("write", word[2:], command=call.command)
    for word in call.words[1:]:
        if word == "-sdel":
            scan.act("lose", word, why="deletes the files it packs", command=call.command)
    return True


def dd(scan: Scan, call: Call, args: Args) -> bool:
    """dd: if= is read, of= is written."""
    for word in call.words[1:]:
        name, _, value = word.partition("=")
        if name == "if":
            scan.use("read", value, command=call.command)
        elif name == "of":
            scan.use("write", value, command=call.command)
    return call.name == "dd"


def truncate(scan: Scan, call: Call, args: Args) -> None:
    """truncate: what it makes a file longer by is added, anything else may cut the end off."""
    sizes = args.values("-s", "--size")
    if args.operands and not any(size.startswith(("+", ">", "%")) for size in sizes):
        scan.act("lose", args.operands[0], why="cuts files off", command=call.command)


def crontab(scan: Scan, call: Call, args: Args) -> bool:
    """crontab: -l shows; anything else changes what runs later."""
    words = call.words[1:]
    if "-r" in words or any(re.fullmatch(r"-\w*r\w*", word) for word in words):
        scan.act(
            "lose",
            call.command,
            why="deletes all of the user's scheduled commands",
            command=call.command,
        )
    elif "-l" not in words:
        scan.act(
            "code", call.command, why="changes what runs later by itself", command=call.command
        )
    return True


def date(scan: Scan, call: Call, args: Args) -> bool:
    """date: shows; with -s or a bare number it sets the clock."""
    words = call.words[1:]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word in ("-d", "--date", "-r", "--reference", "-f", "--file", "-v", "-j", "-z", "-I"):
            if word in ("-f", "--file") and "-j" not in words:
                scan.use(
                    "read", words[position] if position < len(words) else "", command=call.command
                )
            position += 0 if word in ("-j", "-I") else 1
            if word == "-f" and "-j" in words:
                position += 1
        elif re.match(r"-[uRIj]*s|--set|--se?$", word) or (
            re.fullmatch(r"\d{8,14}(?:\.\d\d)?", word) and "-j" not in words
        ):
            scan.act("system", call.command, why="sets the clock", command=call.command)
            return True
    return True


def opener(scan: Scan, call: Call, args: Args) -> bool:
    """open, xdg-open: a file, folder or address in the program that belongs to it."""
    for word in args.operands:
        if re.match(r"[a-z][a-z0-9+.-]{2,}:", word, re.I):
            url(scan, call, word)
        elif re.search(
            r"\.(?:sh|command|app|exe|bat|cmd|ps1|vbs|js|jar|py|desktop|scpt|workflow"
            r"|pkg|dmg|msi|lnk|hta|reg)$",
            word,
            re.I,
        ):
            scan.use("script", word, command=call.command)
        else:
            scan.act("change", word, level=Level.LOW, command=call.command)
    return True


HANDLERS = {
    "rename": rename, "mv": mv, "mount": mount, "pager": pager, "ed": ed, "ln": ln, "chmod": chmod,
    "chown": chown, "tar": tar, "archive": archive, "dd": dd, "crontab": crontab, "date": date,
    "opener": opener, "tee": tee, "truncate": truncate,
}  # fmt: skip
