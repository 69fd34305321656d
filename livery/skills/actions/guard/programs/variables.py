"""Variables that decide what another program runs or loads."""

from __future__ import annotations

import re

from livery.skills.actions.guard.places import HOME, OUTPUT, UNKNOWN
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Scan
from livery.skills.actions.guard.tables import patterns

_OPTIONS = re.compile(
    r"-(?:r|-require|-import|-loader|-experimental-loader|-eval|e|p|i|-inspect|M|I|d"
    r"|agent|javaagent|toolexec|exec|XX:On)"
)


def assigned(scan: Scan, name: str, value: str) -> None:
    """Note what setting a variable does to the commands that will see it."""
    if patterns("variables").fullmatch(name) is None:
        return
    lowered = name.lower()
    if patterns("tame").fullmatch(value.strip()):
        return
    if lowered.endswith("_options") or lowered in (
        "goflags",
        "makeflags",
        "perl5opt",
        "rubyopt",
        "maven_opts",
        "gradle_opts",
    ):
        words = value.split()
        if (
            UNKNOWN not in value
            and OUTPUT not in value
            and not any(_OPTIONS.match(word) for word in words)
        ):
            return
    if lowered in ("less", "lesskey"):
        return
    if lowered in ("kubeconfig", "docker_host", "http_proxy", "https_proxy", "all_proxy"):
        scan.act("change", name, level=Level.MEDIUM, why="sets what is reached", command=name)
        return
    if lowered in (
        "pythonpath",
        "node_path",
        "perl5lib",
        "rubylib",
        "histfile",
        "pythonwarnings",
        "shell",
    ):
        parts = [part for part in re.split(r"[:;]", value) if part]
        if all(scan.place(part).kind == "project" or part.startswith(UNKNOWN) for part in parts):
            scan.act(
                "run", name, why="adds a folder of the project to what is loaded", command=name
            )
            return
    if lowered == "path":
        parts = [part for part in re.split(r":", value) if part]
        usual = re.compile(
            r"(?:/(?:usr/(?:local/)?)?s?bin|/opt/homebrew/s?bin|/snap/bin|/usr/games)/?"
        )
        if all(usual.fullmatch(part) or part == UNKNOWN for part in parts):
            return
        if all(usual.fullmatch(part) or part == UNKNOWN or part.startswith(HOME) for part in parts):
            scan.act(
                "run",
                name,
                level=Level.MEDIUM,
                why="adds a folder of the user's to where programs are found",
                command=name,
            )
            return
    scan.act(
        "code",
        name,
        why=f"{name} decides what the next programs run or load",
        command=name,
        source=name,
    )
    if re.search(
        r"pager|editor|command|external|askpass|lessopen|lessclose|_ssh$|shell|prompt|^ps", lowered
    ):
        scan.script(value.lstrip("|").strip(), "bash")
