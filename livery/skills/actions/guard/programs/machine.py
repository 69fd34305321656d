"""The machine: processes, services, disks, settings."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import UNKNOWN
from livery.skills.actions.guard.risk import Effect, Level
from livery.skills.actions.guard.scan import Args, Call, Scan


def kill(scan: Scan, call: Call, args: Args) -> bool:
    """kill: one process asks; all of them, or the first, is never run."""
    words = call.words[1:]
    if (
        (words and words[0] in ("-l", "-L", "--list", "--table"))
        or words[:2] in (["-0"], ["-s", "0"])
        or words[:1] == ["-0"]
    ):
        return True
    rest = [
        w
        for n, w in enumerate(words)
        if not w.startswith("-") or (n > 0 and re.fullmatch(r"-\d+", w))
    ]
    if call.name == "killall5" or (
        call.name == "kill"
        and any(w in ("-1", "1", "--1") for w in (rest if len(words) > 1 else []))
    ):
        scan.add(
            Effect("write", "system", "processes"),
            Level.CRITICAL,
            f"{call.command}: ends every process",
            command=call.command,
        )
        return True
    if (
        call.name in ("pkill", "killall", "skill")
        and any(w in ("-u", "-U", "--user", "--uid") for w in words)
    ) or any(w in (".", ".*", "*") for w in rest):
        scan.act("kill", call.command, why="ends all of a user's processes", command=call.command)
        return True
    if words == ["-1"]:
        scan.add(
            Effect("write", "system", "processes"),
            Level.CRITICAL,
            f"{call.command}: ends every process",
            command=call.command,
        )
        return True
    own = rest and all(re.match(r"%|\d+$|" + UNKNOWN, w) for w in rest) and call.name == "kill"
    hard = any(re.fullmatch(r"-(?:9|KILL|SIGKILL)|-s", w) for w in words)
    scan.act(
        "kill",
        call.command,
        level=Level.MEDIUM
        if own and not hard and all(w.startswith("%") for w in rest)
        else Level.HIGH,
        why="ends a process",
        command=call.command,
    )
    return True


_SHOWS = frozenset(
    (
        "status list list-units list-unit-files list-timers list-sockets show cat "
        "is-active is-enabled is-failed list-dependencies get-default list-jobs print "
        "blame version help ls info describe logs show-environment list-sessions "
        "session-status user-status tree monit jlist prettylist --status-all analyze"
    ).split()
)


def services(scan: Scan, call: Call, args: Args) -> bool:
    """systemctl, service, launchctl: show, or start, stop and change."""
    words = [word for word in call.words[1:] if not word.startswith("-")]
    verb = (
        words[1]
        if call.name in ("service", "rc-service") and len(words) > 1
        else words[0]
        if words
        else "status"
    )
    if verb in _SHOWS or "--status-all" in call.words:
        return True
    if verb in (
        "poweroff",
        "reboot",
        "halt",
        "suspend",
        "hibernate",
        "kexec",
        "rescue",
        "emergency",
        "isolate",
        "exit",
        "soft-reboot",
    ):
        scan.act("power", f"{call.command} {verb}", command=call.command)
    elif call.name == "systemd-run":
        scan.act("system", call.command, command=call.command)
        scan.judge(words)
    else:
        scan.act(
            "system",
            f"{call.command} {verb}",
            why="starts, stops or changes services",
            command=call.command,
        )
    return True


def format_(scan: Scan, call: Call, args: Args) -> bool:
    """mkfs, wipefs: what is on the device is gone, or what is in a file of the project."""
    words = call.words[1:]
    if (
        call.name == "wipefs"
        and not any(re.match(r"-\w*[ao]|--all|--offset", word) for word in words)
    ) or ("-n" in words and call.name == "wipefs"):
        return True
    paths = [
        word for word in args.operands if "/" in word or "." in word or word.startswith(UNKNOWN)
    ]
    if (
        call.name != "wipefs"
        and paths
        and all(scan.place(path).kind in ("project", "temp") for path in paths)
    ):
        for path in paths:
            scan.use("write", path, command=call.command, at_least=Level.HIGH)
        return True
    scan.act("wreck", call.command, why="wipes what is on the device", command=call.command)
    return True


def partition(scan: Scan, call: Call, args: Args) -> bool:
    """fdisk and the like: -l shows, everything else changes partitions."""
    words = call.words[1:]
    if call.name == "parted" and words[-1:] != ["print"] and not {"-l", "--list"} & set(words):
        pass  # its -s is no question, as sfdisk's is
    elif any(
        word in ("-l", "--list", "-s", "-p", "--print", "-d", "--dump", "-x", "-V", "-v")
        for word in words
    ) or words[-1:] == ["print"]:
        return True
    level = Level.CRITICAL if len(words) > 1 or call.stdin is not None else Level.HIGH
    scan.act(
        "wreck",
        call.command,
        level=level,
        why="changes the partitions of a disk",
        command=call.command,
    )
    return True


def diskutil(scan: Scan, call: Call, args: Args) -> bool:
    """macOS's diskutil."""
    verb = args.operands[0].lower() if args.operands else ""
    if verb in ("list", "info", "activity", "listfilesystems") or args.operands[1:2] == ["list"]:
        return True
    wrecks = re.match(
        r"erase|reformat|zero|random|secureerase|partitiondisk|resize|split|merge|apfs"
        r"|cs|corestorage|appleraid",
        verb,
    )
    scan.act(
        "wreck" if wrecks else "system", call.command, why="changes a disk", command=call.command
    )
    return True


def disks(scan: Scan, call: Call, args: Args) -> bool:
    """Volumes, pools and file systems: show, change, destroy."""
    text = " ".join(call.words[1:])
    if call.name in ("swapon", "swapoff"):
        if call.name == "swapoff" or not re.match(r"-s$|--show|$", text):
            scan.act("system", call.command, why="changes the swap space", command=call.command)
        return True
    if (
        re.match(
            r"(?:list|status|get|show|info|history|iostat|subvolume list|filesystem "
            r"(?:show|df|usage)|isLuks|luksDump|device stats|smart-log|id-\w+|-s\b|-i\b"
            r"|-a\b|-I\b|--detail|--examine|-l\b|ls\b|deps|--all)",
            text,
        )
        or not text
    ) and not (call.name == "hdparm" and re.search(r"--(?:security|trim|make|write)", text)):
        return True
    wrecks = re.search(
        r"destroy|remove|[eE]rase|[fF]ormat|--zero-superblock|--security-erase"
        r"|create|labelclear|reduce|wipe|sanitize|rollback|-w\b",
        text,
    ) or re.match(r"lvremove|vgremove|pvremove|pvcreate|badblocks$|sg_format|lvreduce", call.name)
    scan.act(
        "wreck" if wrecks else "system",
        call.command,
        why="changes disks or volumes",
        command=call.command,
    )
    return True


def sysctl(scan: Scan, call: Call, args: Args) -> bool:
    """sysctl: name=value, -w, -p and --system set."""
    words = call.words[1:]
    if any(
        re.match(r"-\w*[wp]|--write|--load|--system", word)
        or ("=" in word and not word.startswith("-"))
        for word in words
    ):
        scan.act("system", call.command, why="changes the kernel's settings", command=call.command)
    return True


def setters(scan: Scan, call: Call, args: Args) -> bool:
    """timedatectl, hostnamectl, hwclock: show, or set."""
    text = " ".join(call.words[1:])
    shows = not text or re.match(
        r"(?:status|show|list-\w+|timesync-status|-r|--show|--get|tracking|sources"
        r"|sourcestats|-q|--help|--version|--status|--static$)",
        text,
    )
    if not shows:
        scan.act(
            "system",
            call.command,
            why="sets the clock, name or language of the machine",
            command=call.command,
        )
    return True


def macos(scan: Scan, call: Call, args: Args) -> bool:
    """macOS's and SELinux's settings: read, or set."""
    verb = call.words[1] if len(call.words) > 1 else ""
    if (
        call.name == "getenforce"
        or re.fullmatch(
            r"read|read-type|domains|find|status|-g|list|print\w*|export|--status|-dv+"
            r"|--verify|-v|--display|dump-keychain-x|list-keychains|-l|assess|--assess"
            r"|isactive",
            verb,
        )
        or verb.startswith(("-get", "-d", "--verify", "--display"))
    ):
        return True
    if call.name == "security" and verb.startswith(("find-", "dump", "export")):
        scan.act(
            "read",
            call.command,
            level=Level.HIGH,
            why="prints passwords or keys",
            command=call.command,
        )
        return True
    if call.name == "defaults":
        scan.act(
            "lose" if verb in ("delete", "remove") else "change",
            call.command,
            level=Level.HIGH if verb in ("delete", "remove") else Level.MEDIUM,
            command=call.command,
        )
        return True
    scan.act(
        "admin",
        call.command,
        why="changes the machine's protection or settings",
        command=call.command,
    )
    return True


def debugger(scan: Scan, call: Call, args: Args) -> bool:
    """Debuggers: run a program, and commands of their own."""
    words = call.words[1:]
    if call.name == "perf" and words[:1] in (
        ["report"],
        ["list"],
        ["stat"],
        ["annotate"],
        ["script"],
    ):
        scan.act("run", call.command, command=call.command)
        if "--" in words or words[:1] == ["stat"]:
            rest = [w for w in words[1:] if not w.startswith("-")]
            scan.judge(rest) if rest else None
        return True
    if any(
        re.match(r"-(?:ex|iex|x|p|o|e|c|batch|-eval|-command|-pid|-attach)", word) for word in words
    ):
        scan.act(
            "code", call.command, why="looks into or changes running programs", command=call.command
        )
        for number, word in enumerate(words):
            if (
                word in ("-ex", "-iex", "-o")
                and number + 1 < len(words)
                and (found := re.match(r"(?:!|shell\s)(.*)", words[number + 1]))
            ):
                scan.script(found[1], "bash")
    else:
        scan.act("run", call.command, command=call.command)
    return True


HANDLERS = {
    "kill": kill, "services": services, "format": format_, "partition": partition,
    "diskutil": diskutil, "disks": disks, "sysctl": sysctl, "setters": setters, "macos": macos,
    "debugger": debugger,
}  # fmt: skip
