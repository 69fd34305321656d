"""PowerShell: the program itself, and its cmdlets that a line of a table cannot describe."""

from __future__ import annotations

import base64
import binascii
import re

from livery.skills.actions.guard.places import OUTPUT, UNKNOWN
from livery.skills.actions.guard.programs.words import url
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Args, Call, Scan
from livery.skills.actions.guard.tables import cmdlet, program


def powershell(scan: Scan, call: Call, args: Args) -> bool:
    """powershell and pwsh: -Command, -EncodedCommand, -File, or what comes on standard input."""
    words = call.words[1:]
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        name = word.lower().lstrip("-/")
        if not word.startswith(("-", "/")) or word == "-":
            if call.name.startswith("pwsh") and word.endswith(".ps1"):
                scan.use("script", word, command=call.command)
            else:
                _code(scan, " ".join(words[position - 1 :]))
            return True
        if name in ("e", "en", "enc", "ec") or (
            len(name) > 1 and "encodedcommand".startswith(name)
        ):
            _decoded(scan, words[position] if position < len(words) else "")
            return True
        if name and ("command".startswith(name) or name == "cwa" or name == "commandwithargs"):
            _code(scan, " ".join(words[position:]))
            return True
        if name and "file".startswith(name):
            file = words[position] if position < len(words) else ""
            if file == "-":
                break
            scan.use("script", file, command=call.command)
            return True
        if name in ("v", "version", "h", "help", "?"):
            return True
        if (
            name.startswith(("ex", "ep"))
            or "executionpolicy".startswith(name)
            or (
                name.startswith(("w", "ps", "in", "ou", "co", "cu", "se", "wo"))
                and not name.startswith("nop")
            )
        ):
            position += 1
    if call.stdin is not None:
        if call.stdin.text is not None:
            scan.script(call.stdin.text, "powershell")
        scan.act(
            "code",
            call.command,
            why="runs what it is given on standard input",
            command=call.command,
        )
    else:
        scan.act(
            "ask",
            call.command,
            why="opens a shell: what it will run is not known",
            command=call.command,
        )
    return True


def _code(scan: Scan, text: str) -> None:
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1]
    scan.script(text, "powershell")


def _decoded(scan: Scan, text: str) -> None:
    """-EncodedCommand: base64 of UTF-16. That it is hidden is high by itself."""
    scan.act("code", "-EncodedCommand", why="hides its code")
    try:
        code = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("utf-16-le")
    except (binascii.Error, ValueError, UnicodeDecodeError):
        return
    scan.script(code, "powershell")


def new_item(scan: Scan, call: Call, args: Args) -> bool | None:
    """New-Item: a symbolic link is another name for its target."""
    kinds = [value.lower() for value in args.values("-itemtype", "-type")]
    targets = args.values("-target", "-value")
    if any("link" in kind or "junction" in kind for kind in kinds) and targets:
        names = [*args.values("-path", "-name"), *args.operands]
        if names:
            scan.state.links[names[0]] = targets[0]
    return None


def invoke_expression(scan: Scan, call: Call, args: Args) -> bool:
    """iex: its words, or what comes through the pipe, is code."""
    words = [word for word in call.words[1:] if not re.fullmatch(r"-c\w*", word, re.I)]
    if not words:
        act = "foreign" if call.stdin is not None and call.stdin.origin == "network" else "code"
        scan.act(act, call.command, why="runs text as code", command=call.command)
        if call.stdin is not None and call.stdin.text is not None:
            scan.script(call.stdin.text, "powershell")
        return True
    text = " ".join(words)
    if OUTPUT in text or UNKNOWN in text:
        scan.act(
            "foreign" if OUTPUT in text else "code",
            call.command,
            why="runs text as code",
            command=call.command,
        )
    else:
        scan.act("code", call.command, why="runs text as code", command=call.command)
        scan.script(text, "powershell")
    return True


def script_blocks(scan: Scan, call: Call, args: Args) -> bool | None:
    """ForEach-Object and the like: their blocks are walked where they stand; a method's name can be
    given as a word."""
    if call.name.lower() in ("foreach-object", "foreach", "%"):
        for word in call.words[1:]:
            if re.fullmatch(
                r"delete|kill|remove|moveto|invoke\w*|stop|terminate|start", word, re.I
            ):
                scan.act("lose", word, why=f"calls {word} on each", command=call.command)
    return None


def webrequest(scan: Scan, call: Call, args: Args) -> bool:
    """Invoke-WebRequest and Invoke-RestMethod."""
    words = call.words[1:]
    position = 0
    sends = False
    addresses: list[str] = []
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("-") or len(word) < 2:
            addresses.append(word)
            continue
        head, glued, value = word.lower().partition(":")
        name = head[1:]
        if name.startswith(
            ("useb", "pass", "disab", "skip", "followrel", "allow", "nop", "preserve", "usedef")
        ) or name in ("s", "l", "sl", "ssl", "fssl", "i", "k", "fsl"):
            continue
        if not glued:
            value = words[position] if position < len(words) else ""
            position += 1
        if name == "o" or (len(name) > 1 and "outfile".startswith(name)):
            scan.use("write", value, command=call.command)
            scan.wrote(value, None, "network")
        elif "infile".startswith(name):
            scan.use("read", value, command=call.command)
            sends = True
        elif "body".startswith(name) or name in ("form", "d", "data"):
            sends = True
        elif "method".startswith(name) or name == "x":
            sends = sends or value.lower() not in ("get", "head", "options", "default")
        elif "uri".startswith(name):
            addresses.append(value)
    for address in addresses:
        url(scan, call, address)
    if sends:
        scan.act("send", addresses[0] if addresses else call.command, command=call.command)
    return True


def start_process(scan: Scan, call: Call, args: Args) -> bool:
    """Start-Process: a program with its arguments; -Verb RunAs takes administrator rights."""
    words = call.words[1:]
    position = 0
    program: list[str] = []
    given: list[str] = []
    while position < len(words):
        word = words[position]
        position += 1
        if not word.startswith("-") or len(word) < 2 or " " in word:
            (given if program else program).append(word)
            continue
        name, glued, value = word.lower()[1:].partition(":")
        if name in (
            "wait",
            "nonewwindow",
            "nnw",
            "passthru",
            "loaduserprofile",
            "usenewenvironment",
        ) or name.startswith(("wai", "non", "pas", "lo", "usen")):
            continue
        if not glued:
            value = words[position] if position < len(words) else ""
            position += 1
        if ("verb".startswith(name) and len(name) > 3) or name == "verb":
            if value.lower() == "runas":
                scan.act("admin", "RunAs", why="takes administrator rights", command=call.command)
        elif "filepath".startswith(name) or name == "path":
            program.append(value)
        elif name in ("args",) or "argumentlist".startswith(name):
            given.append(value)
        elif "redirectstandardoutput".startswith(name) or "redirectstandarderror".startswith(name):
            scan.use("write", value, command=call.command)
    if not program:
        scan.unclear(f"{call.command}: no program is named")
        return True
    name = program[0]
    if re.match(r"[a-z][a-z0-9+.-]{2,}:(?![\\/]{1}[^/])", name, re.I) or name.startswith("http"):
        url(scan, call, name)
    elif re.search(
        r"\.(?!exe$|com$|ps1$|bat$|cmd$|vbs$|js$|hta$|msi$|scr$|lnk$|reg$)\w{2,4}$", name
    ):
        scan.act("change", name, level=Level.LOW, command=call.command)
    elif re.search(r"\.(?:ps1|bat|cmd|vbs|js|hta|msi|scr|lnk|reg)$", name, re.I):
        scan.use("script", name, command=call.command)
    else:
        known = re.fullmatch(
            r"(?:notepad|calc|mspaint|explorer|chrome|firefox|msedge|code|spotify"
            r"|winword|excel|powerpnt|outlook|teams|slack|discord|vlc|snippingtool"
            r"|taskmgr|wordpad|write|control|devmgmt\.msc|ms-settings)(?:\.exe)?",
            name,
            re.I,
        )
        if known and not given:
            scan.act("change", name, level=Level.LOW, command=call.command)
        elif known:
            scan.act("change", name, level=Level.MEDIUM, command=call.command)
        else:
            scan.judge([name, *(part for text in given for part in text.split())])
    return True


def loads(scan: Scan, call: Call, args: Args) -> bool:
    """Import-Module and Add-Type: a module by name runs what is installed; a path or code asks."""
    words = call.words[1:]
    lowered = [word.lower() for word in words]
    if call.name.lower() == "add-type":
        assembly = any(re.fullmatch(r"-a(?:ssemblyname|n|s\w*)?", word) for word in lowered)
        if assembly:
            scan.act("run", call.command, command=call.command)
        else:
            scan.act("code", call.command, why="compiles code from the line", command=call.command)
        return True
    for word in words:
        if re.search(r"[\\/]|\.(?:psm1|ps1|dll|psd1)$", word):
            scan.use("script", word, command=call.command)
        elif not word.startswith("-"):
            scan.act("run", word, command=call.command)
    return True


def new_object(scan: Scan, call: Call, args: Args) -> bool:
    """New-Object: plain types pass, others can run or reach anything."""
    words = [word for word in call.words[1:] if not word.startswith("-")]
    name = words[0].lower() if words else ""
    plain = (
        r"(?:system\.)?(?:text\.stringbuilder|collections\.\w+(?:\.\w+)*(?:\[.*\])?|random"
        r"|datetime|timespan|uri|version|guid|object|string|psobject|hashtable"
        r"|management\.automation\.psobject|diagnostics\.stopwatch|drawing\.\w+"
        r"|globalization\.\w+|xml\.xmldocument|byte\[\]|int\[\]|string\[\])"
    )
    if re.fullmatch(plain, name):
        return True
    if re.search(r"net\.(?:webclient|http)", name):
        scan.act("look", name, command=call.command)
    else:
        scan.act(
            "code", name, why=f"makes an object that can do anything: {name}", command=call.command
        )
    return True


def returns(scan: Scan, call: Call, args: Args) -> bool:
    """`gci && return ri x`: there the grammar takes return for a command; what it returns runs."""
    words = call.words[1:]
    if words and (cmdlet(words[0].lower()) or program(words[0].lower())):
        scan.judge(words, call.stdin)
    return True


def set_alias(scan: Scan, call: Call, args: Args) -> bool:
    """Set-Alias: another name for a command."""
    words = [word for word in call.words[1:] if not word.startswith("-")]
    if len(words) >= 2:
        scan.state.aliases[words[0].lower()] = words[1]
    return True


def invoke_item(scan: Scan, call: Call, args: Args) -> bool:
    """Invoke-Item: opens a file in its program; a program or script runs."""
    for word in call.words[1:]:
        if word.startswith("-"):
            continue
        if (
            re.search(r"\.(?:exe|bat|cmd|ps1|vbs|js|msi|lnk|scr|hta|reg|com)$", word, re.I)
            or UNKNOWN in word
        ):
            scan.use("script", word, command=call.command)
        else:
            scan.act("change", word, level=Level.LOW, command=call.command)
    return True


# What a cmdlet that no table has does, by its verb.
_VERBS = {
    "read": "get test measure select sort where group compare convertto convertfrom format out "
    "resolve split join find show read wait search trace debug ping confirm assert watch tee",
    "ask": "new add write export save copy rename compress expand edit update merge push pop mount "
    "convert limit step sync checkpoint import use initialize",
    "destroy": "remove clear reset uninstall unregister dismount revoke optimize repair restore "
    "undo",
    "system": "set enable disable install register start stop restart suspend resume grant protect "
    "unprotect block unblock lock unlock request approve deny submit complete",
    "send": "send publish connect receive disconnect",
    "code": "invoke",
}
VERBS = {verb: act for act, verbs in _VERBS.items() for verb in verbs.split()}


HANDLERS = {
    "powershell": powershell, "new_item": new_item, "invoke_expression": invoke_expression,
    "script_blocks": script_blocks, "webrequest": webrequest, "start_process": start_process,
    "loads": loads, "new_object": new_object, "set_alias": set_alias,
    "returns": returns, "invoke_item": invoke_item,
}  # fmt: skip
