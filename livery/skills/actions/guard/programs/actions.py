"""The verbs of [ACTION] tags whose argument is a program, an address, a path or code."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import visible
from livery.skills.actions.guard.programs.python import python_code
from livery.skills.actions.guard.programs.words import url
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Args, Call, Scan


def launch(scan: Scan, call: Call, args: Args) -> bool:
    """launch_app: a program's name. A shell or an editor of the registry asks first."""
    text = " ".join(call.words[1:]).strip()
    name = re.sub(r"\.exe$", "", text.lower().replace("\\", "/").rpartition("/")[2])
    if re.match(r"[a-z][a-z0-9+.-]{2,}:", text, re.I):
        url(scan, call, text)
    elif re.fullmatch(
        r"cmd|command prompt|powershell|pwsh|windows powershell|terminal|windows terminal|wt"
        r"|regedit|registry editor|task scheduler|diskpart|disk management|bash|wsl|mmc|msconfig"
        r"|(?:gpedit|services|diskmgmt|compmgmt|secpol)(?:\.msc)?",
        name,
    ):
        scan.act("code", text, why="opens what can change the whole machine", command=call.command)
    elif re.fullmatch(r"[\w .+&'()-]{1,60}", text) and not re.search(
        r"(?:^|\s)[-/]\w|\.(?:bat|cmd|ps1|vbs|js|hta|msi|scr|sh|lnk|reg|com|py|jar)$", text
    ):
        scan.act("change", text, level=Level.LOW, command=call.command)
    else:
        scan.act(
            "ask", text, why="starts a program with arguments, or from a path", command=call.command
        )
    return True


def open_url(scan: Scan, call: Call, args: Args) -> bool:
    """open_url: web addresses pass, other schemes ask."""
    text = " ".join(call.words[1:]).strip()
    if not text:
        return True
    if re.search(r"`|\$[({]", text):
        scan.act("ask", text, why="has signs of a shell in the address", command=call.command)
    if re.match(r"https?://", text, re.I) or not re.match(
        r"[a-z][a-z0-9+.-]*:(?!\d)|\\\\|/|\.", text, re.I
    ):
        url(scan, call, text)
    else:
        scan.act("ask", text, why="opens something other than a web page", command=call.command)
    return True


def plain(scan: Scan, call: Call, args: Args) -> bool:
    """set_volume, set_timer and the like: a number or a name, in which a shell finds nothing."""
    text = " ".join(call.words[1:])
    if re.search(r"[`$;|&<>(){}\n]", text):
        scan.act("ask", text, why="has signs of a shell in its argument", command=call.command)
    return True


def file_write(scan: Scan, call: Call, args: Args) -> bool:
    """file_write: `path | text`; a move's or copy's second part is written too."""
    parts = [part.strip() for part in " ".join(call.words[1:]).split("|")]
    if call.name in ("file_move", "file_copy") and len(parts) > 1:
        scan.use("write" if call.name == "file_move" else "read", parts[0], command=call.command)
        scan.use("write", parts[1], command=call.command)
    else:
        scan.use("write", parts[0], command=call.command)
        if len(parts) > 1 and re.search(r"\.(?:ps1|bat|cmd|vbs|js|sh|py|hta)$", parts[0], re.I):
            scan.act(
                "change",
                parts[0],
                level=Level.HIGH,
                why="writes a file that can be run",
                command=call.command,
            )
    return True


def shell_tag(scan: Scan, call: Call, args: Args) -> bool:
    """shell and run: the argument is a command."""
    scan.script(" ".join(call.words[1:]), "tag")
    return True


def exec_code(scan: Scan, call: Call, args: Args) -> bool:
    """exec_code: `language | code`, or code alone, read as Python."""
    text = " ".join(call.words[1:])
    fence = re.fullmatch(r"\s*```(\w*)\n(.*?)\n?```\s*", text, re.S)
    if fence:
        text = f"{fence[1]} | {fence[2]}" if fence[1] else fence[2]
    found = re.match(r"\s*(\w+)\s*\|\s*(.*)", text, re.S)
    language, code = (found[1].lower(), found[2]) if found else ("python", text)
    if language in ("python", "py", "python3"):
        python_code(scan, call, code)
    elif language in ("bash", "sh", "shell", "powershell", "ps1"):
        scan.script(code, "powershell" if language.startswith("p") else "bash")
    else:
        scan.act("code", visible(language), command=call.command)
    return True


HANDLERS = {
    "launch": launch, "open_url": open_url, "plain": plain, "file_write": file_write,
    "shell_tag": shell_tag, "exec_code": exec_code,
}  # fmt: skip
