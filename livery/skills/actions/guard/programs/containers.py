"""Containers: what one mounts of this machine, which rights it has, and what runs in it."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import visible
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Args, Call, Scan


def dockerrun(scan: Scan, call: Call, args: Args) -> bool:
    """docker run: what it mounts of this machine, which rights it has, what it runs."""
    words = (
        call.words[call.words.index("run") + 1 :]
        if "run" in call.words
        else call.words[call.words.index("create") + 1 :]
    )
    mounted: dict[str, str] = {}
    position = 0
    takes = (
        "-e",
        "--env",
        "--name",
        "-p",
        "--publish",
        "-w",
        "--workdir",
        "-u",
        "--user",
        "--network",
        "--net",
        "--env-file",
        "-h",
        "--hostname",
        "--entrypoint",
        "--memory",
        "-m",
        "--cpus",
        "--gpus",
        "--restart",
        "--label",
        "-l",
        "--platform",
        "--add-host",
        "--dns",
        "--shm-size",
        "--tmpfs",
        "--log-driver",
        "--log-opt",
        "--ulimit",
        "--expose",
        "--ip",
        "--link",
        "--stop-signal",
        "--health-cmd",
        "--runtime",
        "--cidfile",
        "--cgroupns",
        "--storage-opt",
        "--sysctl",
        "--group-add",
        "--pull",
    )
    strong = (
        "--privileged",
        "--cap-add",
        "--device",
        "--security-opt",
        "--pid",
        "--userns",
        "--ipc",
        "--uts",
        "--volumes-from",
    )
    scan.act("run", call.command, why="runs a container", command=call.command)
    while position < len(words) and words[position].startswith("-"):
        word = words[position]
        head, equals, value = word.partition("=")
        position += 1
        takes_value = head in takes or head in strong[1:] or head in ("-v", "--volume", "--mount")
        if not word.startswith("--") and len(word) > 2 and word[1] in "vewpu":
            head, value, equals = word[:2], word[2:], "="
            takes_value = True
        if takes_value and not equals:
            value = words[position] if position < len(words) else ""
            position += 1
        if head in ("-v", "--volume"):
            found = re.match(r"((?:[A-Za-z]:)?[^:]*):([^:]*)(?::(.*))?$", value)
            source, target, mode = found.groups() if found else ("", value, "")
            _mounted(scan, call, source, "ro" in (mode or "").split(","))
            mounted[target] = source
        elif head == "--mount":
            fields: dict[str, str] = {}
            for part in value.split(","):
                key, _, text = part.partition("=")
                fields[key] = text
            source = fields.get("source") or fields.get("src") or ""
            _mounted(scan, call, source, "readonly" in fields or "ro" in fields)
            mounted[
                fields.get("target") or fields.get("dst") or fields.get("destination") or ""
            ] = source
        elif head in strong and value not in ("no-new-privileges", "no-new-privileges:true"):
            scan.act(
                "admin",
                word,
                why=f"{head} takes rights on this machine",
                command=call.command,
                source=head,
            )
        elif head in ("--network", "--net") and value == "host":
            scan.act("look", word, why="shares this machine's network", command=call.command)
    rest = words[position + 1 :]
    if rest:
        start = len(scan.findings)
        with scan.apart():
            scan.state.links = {}
            for target, source in mounted.items():
                if target and source:
                    scan.state.links[target] = source
            scan.judge(rest)
            scan.state.links = {}
        if not any(target for target in mounted):
            # Nothing of this machine is in there: at worst the container is lost.
            scan.findings[start:] = [
                f
                for f in scan.findings[start:]
                if f.level < Level.HIGH or (f.effect is not None and f.effect.kind == "network")
            ]
    return True


def _mounted(scan: Scan, call: Call, source: str, reading: bool) -> None:
    if not source or (re.fullmatch(r"[\w.-]+", source) and source not in (".", "..")):
        return
    place = scan.place(source)
    if source.endswith("docker.sock") or place.kind in (
        "root",
        "trunk",
        "auth",
        "device",
        "secret",
        "startup",
    ):
        scan.act(
            "admin",
            source,
            why=f"gives a container {visible(source)} of this machine",
            command=call.command,
            source=source,
        )
    elif place.kind in ("home", "system", "outside", "unknown") and not reading:
        scan.act("change", source, command=call.command)


def dockerexec(scan: Scan, call: Call, args: Args) -> bool:
    """docker exec: a command within a container."""
    if args.has("--privileged"):
        scan.act("admin", call.command, command=call.command)
    scan.act("run", call.command, why="runs a command in a container", command=call.command)
    if len(args.operands) > 1:
        scan.judge(args.operands[1:], call.stdin)
    return True


HANDLERS = {"dockerrun": dockerrun, "dockerexec": dockerexec}
