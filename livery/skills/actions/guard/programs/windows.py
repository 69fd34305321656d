"""Windows: cmd.exe, the programs that run others' code, and the administrator's."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import OUTPUT, UNKNOWN
from livery.skills.actions.guard.programs.words import url
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Args, Call, Scan


def cmd(scan: Scan, call: Call, args: Args) -> bool:
    """cmd /c: the rest of the line is code of cmd.exe."""
    words = call.words[1:]
    for number, word in enumerate(words):
        if re.match(r"[/-][ckr]", word, re.I):
            code = " ".join([word[2:], *words[number + 1 :]]).strip()
            if OUTPUT in code or UNKNOWN in code:
                scan.unclear("cmd: part of the code is only known at run time")
            scan.script(code, "cmd")
            return True
        if not word.startswith("/"):
            break
    if (words and not any(re.match(r"/\?", word) for word in words)) or call.stdin is not None:
        scan.act("code", call.command, command=call.command)
        if call.stdin is not None and call.stdin.text is not None:
            scan.script(call.stdin.text, "cmd")
    return True


def cmd_start(scan: Scan, call: Call, args: Args) -> bool:
    """start and call: the program behind the title and the options."""
    words = [w for w in call.words[1:] if not (w.startswith("/") and len(w) < 12)]
    if words and re.fullmatch(r'".*"|', words[0]):
        words = words[1:]
    if not words:
        return True
    if re.match(r"[a-z][a-z0-9+.-]+:(?!\\)", words[0], re.I):
        url(scan, call, words[0])
    else:
        scan.judge(words)
    return True


def reg(scan: Scan, call: Call, args: Args) -> bool:
    """reg: query shows; what is under HKLM concerns the whole machine."""
    verb = call.words[1].lower() if len(call.words) > 1 else ""
    key = call.words[2].lower() if len(call.words) > 2 else ""
    if verb == "query":
        return True
    if verb == "export" and not re.search(r"\\(?:sam|security|system)(?:\\|$)", key):
        scan.use("write", call.words[3] if len(call.words) > 3 else "-", command=call.command)
    elif verb == "save" or verb == "export":
        scan.act("read", key, level=Level.HIGH, why="copies the registry", command=call.command)
    elif verb == "delete":
        machine = re.match(r"hklm|hkey_local_machine|hkcr|hku", key)
        level = (
            Level.CRITICAL
            if machine and "/v" not in [w.lower() for w in call.words]
            else Level.HIGH
        )
        scan.act(
            "system", key, level=level, why=f"deletes the registry key {key}", command=call.command
        )
    else:
        scan.act("system", key, why="changes the registry", command=call.command)
    return True


def lolbin(scan: Scan, call: Call, args: Args) -> bool:
    """Programs of Windows that run or fetch code for whoever asks."""
    text = " ".join(call.words[1:])
    lowered = text.lower()
    if call.name == "certutil" and re.match(r"-(?:hashfile|dump|store|verify)", lowered):
        return True
    if (
        call.name == "wmic"
        and re.search(r"\bget\b|\blist\b", lowered)
        and not re.search(r"\bcall\b|\bdelete\b|\bcreate\b", lowered)
    ):
        return True
    if call.name == "rundll32" and re.fullmatch(r"user32\.dll[,\s]\s*lockworkstation", lowered):
        return True
    if call.name == "schtasks" and "/query" in lowered:
        return True
    if call.name == "wmic" and re.search(r"shadowcopy\s+delete", lowered):
        scan.act("wreck", call.command, why="deletes the machine's backups", command=call.command)
        return True
    if call.name == "forfiles" and (found := re.search(r'/c\s+"?(.+?)"?$', text, re.I)):
        scan.script(found[1].replace("cmd /c ", ""), "cmd")
    foreign = re.search(
        r"https?:|\\\\|ftp:|javascript:|vbscript:|scrobj|urlcache|transfer", lowered
    )
    scan.act(
        "foreign" if foreign else "code",
        call.command,
        why="runs or fetches code",
        command=call.command,
    )
    return True


_WRECKS = re.compile(
     r"vssadmin.*(?:delete|resize)|wbadmin.*delete|diskshadow|bcdedit.*(?:/delete"
 r"|recoveryenabled|safeboot|/set)|wevtutil\s+cl|fsutil.*(?:usn delete|file setzero)"
 r"|reagentc.*disable|wsl.*--unregister|manage-bde.*-(?:off|forcerecovery|lock)"
)  # fmt: skip
_LOOKS = re.compile(
     r"^(?:sc(?:\.exe)?\s+(?:\\\\\S+\s+)?(?:query\w*|qc|getdisplayname)|net1?\s+(?:view"
 r"|user|localgroup|group|share|session|statistics|config|accounts|time|file"
 r"|use)(?:\s+[^=/\s]+)?(?:\s+/(?:domain|all))?$|netsh\s+.*\bshow\b.*|bcdedit(?:\s+/enum.*)?"
     r"|powercfg\s+[/-](?:l|list|q|query|a|batteryreport|energy|getactivescheme"
 r"|availablesleepstates)\b.*|gpresult.*|auditpol\s+/get.*|wevtutil\s+(?:qe|el|gl"
 r"|gli|ep)\b.*|vssadmin\s+list.*|wbadmin\s+get.*|dism.*/get-.*|dism.*(?:checkhealth"
 r"|scanhealth)|sfc\s+/(?:verifyonly|scannow)|w32tm\s+/query.*"
 r"|manage-bde\s+-status.*|wsl\s+(?:-l|--list|--status|--version).*|tzutil\s+/[gl]"
 r"|pnputil\s+/enum.*|nltest\s+/dsget.*|netsh\s+.*export.*)$"
)  # fmt: skip


def winadmin(scan: Scan, call: Call, args: Args) -> bool:
    """sc, net, bcdedit, vssadmin and the like: show, change, or destroy backups and logs."""
    text = " ".join([call.name, *call.words[1:]]).lower()
    if _LOOKS.match(text):
        return True
    if call.name == "wsl":
        rest = call.words[1:]
        while rest and rest[0] in (
            "-e",
            "--exec",
            "-d",
            "-u",
            "--distribution",
            "--user",
            "--",
            "--cd",
        ):
            rest = (
                rest[2:]
                if rest[0] in ("-d", "-u", "--distribution", "--user", "--cd")
                else rest[1:]
            )
        if rest and not rest[0].startswith("-"):
            scan.script(" ".join(rest), "bash")
            return True
    if found := _WRECKS.search(text):
        # Backups undo a loss and are gone; logs and start settings can be made anew.
        level = (
            Level.CRITICAL
            if re.search(r"vssadmin|wbadmin|diskshadow|unregister|setzero", found[0])
            else Level.HIGH
        )
        scan.act(
            "wreck",
            call.command,
            level=level,
            why="destroys backups, logs or the way the machine starts",
            command=call.command,
        )
    elif re.search(r"^net1?\s+(?:user|localgroup|group)\s", text):
        scan.act("admin", call.command, why="changes accounts", command=call.command)
    else:
        scan.act("system", call.command, command=call.command)
    return True


def attrib(scan: Scan, call: Call, args: Args) -> bool | None:
    """attrib, icacls, takeown: with /t or /r /s everything below too."""
    words = call.words[1:]
    paths = [word for word in words if not re.match(r"[/+-]\w|[\w\\ ]+:[(\w]", word)]
    path = next(
        (w for n, w in enumerate(words) if n and words[n - 1].lower() == "/f"),
        paths[0] if paths else "",
    )
    if (call.name == "icacls" and len(words) == 1) or (
        call.name == "attrib" and not any(w[:1] in "+-" for w in words)
    ):
        return True
    deep = any(word.lower() in ("/t", "/s", "/r") for word in words)
    if path:
        scan.use(
            "open" if deep else "modes",
            path,
            command=call.command,
            at_least=Level.HIGH if call.name != "attrib" else Level.MEDIUM,
        )
    return True


HANDLERS = {
    "cmd": cmd, "cmd_start": cmd_start, "reg": reg, "lolbin": lolbin, "winadmin": winadmin,
    "attrib": attrib,
}  # fmt: skip
