"""Variables that decide what another program runs or loads."""

from __future__ import annotations

import re

from livery.skills.actions.guard.arguments import split
from livery.skills.actions.guard.places import HOME, OUTPUT, UNKNOWN
from livery.skills.actions.guard.risk import Level
from livery.skills.actions.guard.scan import Scan
from livery.skills.actions.guard.tables import patterns

# Variables that hold options for one program: they are judged as if they stood behind its name.
_OPTIONS_OF = {
    "grep_options": "grep", "tar_options": "tar", "less": "less", "ack_options": "ack",
    "manopt": "man", "zipopt": "zip", "gzip": "gzip", "xz_opt": "xz", "xz_defaults": "xz",
    "rsync_rsh": "rsync -e", "pytest_addopts": "pytest", "fzf_default_opts": "fzf",
}  # fmt: skip
# Variables that name folders to load from; a folder of the project is the project's code.
_FOLDERS = ("pythonpath", "node_path", "perl5lib", "rubylib", "home", "xdg_config_home")
_HOME = re.compile(f"{HOME}|/root|/(?:home|Users)/[^/]+")
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
    if lowered == "env" and re.fullmatch(r"\w+", value):
        return  # ENV=test: the name of a setting for a program, where sh wants a file
    if lowered in _OPTIONS_OF and UNKNOWN not in value and OUTPUT not in value:
        options, plus, command = value.partition("+") if lowered == "less" else (value, "", "")
        scan.judge(
            [*_OPTIONS_OF[lowered].split(), *split(options), *([plus + command] * bool(plus))]
        )
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
    if lowered in ("kubeconfig", "docker_host", "http_proxy", "https_proxy", "all_proxy"):
        scan.act("change", name, level=Level.MEDIUM, why="sets what is reached", command=name)
        return
    if lowered in (*_FOLDERS, "histfile", "pythonwarnings", "shell"):
        parts = [part for part in re.split(r"[:;]", value) if part]
        if lowered == "home" and all(_HOME.fullmatch(part) for part in parts):
            return
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
