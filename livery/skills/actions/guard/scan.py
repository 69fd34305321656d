"""One judging under way: what was found so far, and what is known of the shell's state."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from livery.skills.actions.guard import places
from livery.skills.actions.guard.places import OUTPUT, PIPE, UNKNOWN, Place, visible
from livery.skills.actions.guard.policy import Policy
from livery.skills.actions.guard.risk import Effect, Finding, Kind, Level, Scope
from livery.skills.actions.guard.tables import Option, Spec, patterns

MAX_SECONDS = 0.7  # of processor time for one piece of code
MAX_TEXT = 65_536  # characters of a variable's value
MAX_DEPTH = 24
MAX_STEPS = 20_000

# What acts of the tables do: kind, scope, level.
ACTS: dict[str, tuple[Kind | None, Scope, Level]] = {
    "none": (None, "project", Level.LOW),
    "read": ("read", "project", Level.LOW),
    "change": ("write", "project", Level.MEDIUM),
    "install": ("execute", "project", Level.MEDIUM),  # a package; its scripts run
    "run": ("execute", "project", Level.MEDIUM),  # code of the project
    "look": ("network", "system", Level.MEDIUM),
    "lose": ("delete", "project", Level.HIGH),
    "code": ("execute", "project", Level.HIGH),  # code from the line, or that nobody can read here
    "foreign": ("execute", "system", Level.HIGH),  # code from elsewhere
    "send": ("network", "system", Level.HIGH),
    "remote": ("write", "system", Level.HIGH),  # changes what others share
    "destroy": ("delete", "system", Level.HIGH),
    "system": ("write", "system", Level.HIGH),
    "admin": ("privilege", "system", Level.HIGH),
    "power": ("execute", "system", Level.HIGH),
    "ask": ("execute", "system", Level.HIGH),
    "kill": ("write", "home", Level.HIGH),
    "wreck": ("delete", "system", Level.CRITICAL),
}
WHYS = {
    "change": "changes files of the project",
    "install": "installs packages, whose scripts run",
    "run": "runs code of the project",
    "look": "talks to the network",
    "lose": "loses what cannot be restored",
    "code": "runs code that is not judged here",
    "foreign": "runs code from elsewhere",
    "send": "sends data out",
    "remote": "changes things on another machine or service",
    "destroy": "deletes things on another machine or service",
    "system": "changes the machine's settings",
    "admin": "takes or gives rights",
    "power": "stops the machine",
    "wreck": "destroys a disk or a system",
}
_KIND_OF_USE: dict[str, Kind] = {
    "read": "read", "make": "write", "write": "write", "delete": "delete", "tree": "delete",
    "modes": "privilege", "open": "privilege", "script": "execute",
}  # fmt: skip
_WORDS = {
    "read": "reads", "make": "creates", "write": "writes", "delete": "deletes",
    "tree": "deletes with everything in it:", "modes": "changes rights of",
    "open": "changes rights with everything in it:", "script": "runs the file",
}  # fmt: skip
_AT = {
    "secret": ", which holds secrets", "startup": ", which runs later by itself",
    "auth": ", which decides who may log in or what starts", "device": ", a disk",
    "root": ", the root of a system, a disk or a home folder", "trunk": ", part of the system",
    "outside": ", outside the project", "unknown": "; where that is, is only known at run time",
}  # fmt: skip


class TooLong(Exception):
    """Judging took more time than a command is worth; it is high then."""


@dataclass(frozen=True)
class Stream:
    """What a command reads on standard input.

    Attributes:
        text: the text, where it is known.
        origin: network, or empty.
        found: folders in which the names that it holds were found; empty where it holds none.
    """

    text: str | None = None
    origin: str = ""
    found: tuple[str, ...] = ()


@dataclass
class Call:
    """A command about to be judged.

    Attributes:
        words: its words after expansion, the name first.
        stdin: what it reads; None where that is the terminal.
        name: the base name that it was looked up by.
        command: name and subcommands.
    """

    words: list[str]
    stdin: Stream | None = None
    name: str = ""
    command: str = ""


@dataclass
class Args:
    """Words read by a rule: options with their values, operands, the words after a subcommand."""

    spec: Spec
    flags: list[tuple[str, str | None]] = field(default_factory=list[tuple[str, str | None]])
    options: list[Option] = field(default_factory=list[Option])  # of the flags, one each
    operands: list[str] = field(default_factory=list[str])
    dashed: int | None = None  # how many operands came before `--`

    def has(self, *names: str) -> bool:
        """Whether an option of one of these names was given."""
        return any(flag in names for flag, _ in self.flags)

    def values(self, *names: str) -> list[str]:
        """The values of options of these names."""
        return [value for flag, value in self.flags if flag in names and value is not None]


@dataclass
class State:
    """What the shell knows at one point of a script."""

    variables: dict[str, str] = field(default_factory=dict[str, str])
    functions: dict[str, Any] = field(default_factory=dict[str, Any])
    aliases: dict[str, str] = field(default_factory=dict[str, str])
    links: dict[str, str] = field(default_factory=dict[str, str])
    arguments: list[str] | None = None
    cwd: str = ""


class Scan:
    """Collects findings. Programs call back through `judge` (words) and `script` (text)."""

    def __init__(
        self,
        policy: Policy,
        judge: Callable[[Scan, Call], None],
        script: Callable[[Scan, str, str, Stream | None], None],
    ) -> None:
        self.policy = policy
        self.findings: list[Finding] = []
        self.overrides: list[str] = []
        self.state = State()
        self.depth = 0
        self.steps = 0
        self.loops: list[str] = []
        self.end = time.process_time() + MAX_SECONDS
        self.dialect = "bash"
        self.files: dict[str, Stream] = {}
        self._judge = judge
        self._script = script

    # -- going deeper

    def judge(self, words: list[str], stdin: Stream | None = None) -> None:
        """Judge a command given as words."""
        if words:
            with self.deeper() as fits:
                if fits:
                    self._judge(self, Call(list(words), stdin))

    def script(self, text: str, shell: str = "bash", stdin: Stream | None = None) -> None:
        """Judge shell code. Code with unknown parts is high, whatever else it holds."""
        if any(mark in text for mark in (UNKNOWN, OUTPUT, PIPE)):
            self.add(None, Level.HIGH, "part of the code is only known at run time", unknown=True)
        with self.deeper() as fits:
            if fits:
                self._script(self, text, shell, stdin)

    def tick(self) -> None:
        """Raises TooLong where the time for this piece is over."""
        if time.process_time() > self.end:
            raise TooLong

    def start_again(self) -> None:
        """Fresh time and depth for the next piece."""
        self.end = time.process_time() + MAX_SECONDS
        self.depth = self.steps = 0
        self.loops.clear()

    @contextmanager
    def deeper(self) -> Generator[bool, None, None]:
        """One level down, or a finding where that is too deep or too much."""
        self.steps += 1
        self.tick()
        if self.depth >= MAX_DEPTH or self.steps > MAX_STEPS:
            self.add(
                None, Level.HIGH, "longer or more deeply nested than the guard reads", unknown=True
            )
            yield False
            return
        self.depth += 1
        try:
            yield True
        finally:
            self.depth -= 1

    # -- findings

    def add(
        self,
        effect: Effect | None,
        level: Level,
        why: str,
        *,
        source: str = "",
        command: str = "",
        unknown: bool = False,
        secret: str = "",
    ) -> None:
        """Note one thing."""
        self.findings.append(Finding(effect, level, visible(why), source, command, unknown, secret))

    def act(
        self, name: str, what: str, *, level: Level | None = None, why: str = "",
        source: str = "", command: str = "",
    ) -> None:  # fmt: skip
        """Note an act of the tables ("lose") on `what`."""
        kind, scope, usual = ACTS[name]
        said = level if level is not None else usual
        if kind is None and said is Level.LOW:
            return
        reason = why or WHYS.get(name, "")
        effect = Effect(kind, scope, visible(what)) if kind else None
        self.add(
            effect, said, f"{command or what}: {reason}" if reason else "", source=source,
            command=command, secret="send" if name == "send" else "", unknown=name == "ask",
        )  # fmt: skip

    def place(self, path: str) -> Place:
        """Where a path lies from where the shell stands, links and the user's policy counted in."""
        for link, target in self.state.links.items():
            if path == link or path.startswith(link.rstrip("/") + "/"):
                path = target + path[len(link.rstrip("/")) :]
                break
        return places.place(path, self.state.cwd, self.policy.project)

    def use(
        self, use: str, path: str, *, command: str = "", at_least: Level = Level.LOW,
            source: str = "",
    ) -> Place:  # fmt: skip
        """Note a use of a path: "read", "write", "delete", "tree", …"""
        where = self.place(path)
        # In a here-document's command the parser loses a "-".
        if use == "script" and re.match(r"https?://|ftp://|[\\/]{2}[\w.-]+[\\/]", path, re.I):
            self.act("foreign", path, source=source, command=command)
            return where
        if use == "script" and path in ("", "-", *places.INPUT):
            self.act("code", path or "-", why="runs what it is handed as its script",
                     source=source, command=command)  # fmt: skip
            return where
        if where.kind == "null" or (path == PIPE and use in ("read", "write")):
            return where
        if use == "script" and (made := self.files.get(_name(path))) is not None:
            self._runs_made(path, made, command)
        level = self.policy.level_at(
            path, max(places.cost(use, where.kind), at_least), self.overrides
        )
        said = f"{_WORDS[use]} {where.shown}{_AT.get(where.kind, '')}"
        secret = "read" if where.kind == "secret" and use in ("read", "script") else ""
        if (
            where.kind == "auth"
            and use == "read"
            and patterns("shadow").search(path.replace("\\", "/"))
        ):
            level, secret = Level.HIGH, "read"
            said = f"reads {where.shown}, which holds passwords"
        self.add(
            Effect(_KIND_OF_USE[use], where.scope, where.shown), level,
            said if level > Level.LOW else "", source=source or path, command=command,
                secret=secret,
        )  # fmt: skip
        return where

    def _runs_made(self, path: str, made: Stream, command: str) -> None:
        """A file is run that was written just before."""
        if made.origin:
            self.act("foreign", path, why="runs what was fetched just before", command=command)
        elif made.text is None:
            self.act("code", path, why="runs what was written just before", command=command)
        else:
            del self.files[_name(path)]
            self.script(made.text, "bash")
            self.files[_name(path)] = made

    def wrote(self, path: str, text: str | None, origin: str = "") -> None:
        """Remember what a file holds that is written here and may be run later."""
        self.files[_name(path)] = Stream(text, origin)

    def unclear(self, why: str, *, command: str = "") -> None:
        """Note that something could not be understood: high."""
        self.add(None, Level.HIGH, why, command=command, unknown=True)

    def over(self, start: int, change: Callable[[Finding], Finding]) -> None:
        """Change the findings from `start` on."""
        self.findings[start:] = [change(finding) for finding in self.findings[start:]]

    # -- the shell's state

    @contextmanager
    def apart(self) -> Generator[None, None, None]:
        """A subshell: what it sets is gone afterwards."""
        kept = self.state
        self.state = replace(
            kept, variables=dict(kept.variables), functions=dict(kept.functions),
            aliases=dict(kept.aliases), links=dict(kept.links),
        )  # fmt: skip
        try:
            yield
        finally:
            functions = self.state.functions
            links = self.state.links
            self.state = kept
            kept.functions.update({k: v for k, v in functions.items() if k not in kept.functions})
            kept.links.update(links)

    @contextmanager
    def perhaps(self) -> Generator[None, None, None]:
        """Code that may or may not run: what it sets is not known afterwards."""
        variables, cwd = dict(self.state.variables), self.state.cwd
        try:
            yield
        finally:
            now = self.state.variables
            for name in {*variables, *now}:
                if variables.get(name) != now.get(name):
                    now[name] = UNKNOWN
            if self.state.cwd != cwd:
                self.state.cwd = UNKNOWN


def _name(path: str) -> str:
    return path.replace("\\", "/").removeprefix("./").lower()
