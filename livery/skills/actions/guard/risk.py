"""What a command can do and how bad that is: levels, effects, findings, the verdict."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["read", "write", "delete", "network", "execute", "privilege"]
Scope = Literal["project", "home", "system"]


class Level(enum.IntEnum):
    """How a command is to be treated; levels are ordered.

    low reads what is within reach; medium changes the project or looks at the network, and may run;
    high is asked about first; critical is never run.
    """

    LOW = 0
    MEDIUM = 1
    HIGH = 2
    CRITICAL = 3

    def __str__(self) -> str:
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Level:
        """The level called `word`; KeyError where there is none."""
        return cls[word.upper()]


@dataclass(frozen=True)
class Effect:
    """One thing that a command does.

    Attributes:
        kind: read, write, delete, network, execute or privilege.
        scope: whether that stays in the project, reaches the home folder, or the system (which
            includes other machines).
        what: the path, host or program concerned, as a reader may see it.
    """

    kind: Kind
    scope: Scope
    what: str


@dataclass(frozen=True)
class Finding:
    """An effect with its level and the reason for it, before they are added up.

    Attributes:
        effect: what happens; None for what is only suspicious.
        level: how bad it is on its own.
        why: the reason, a clause without a full stop.
        source: the option or operand it comes from; empty where it is the command's own.
        command: the command's words up to its last subcommand ("git push").
        unknown: it stands for something that could not be understood.
        secret: a secret is read, or data leave the machine ("read", "send").
    """

    effect: Effect | None
    level: Level
    why: str
    source: str = ""
    command: str = ""
    unknown: bool = False
    secret: str = ""


@dataclass(frozen=True)
class Risk:
    """The verdict on a command.

    Attributes:
        level: of the worst thing found.
        effects: everything it does, each once.
        reasons: why it has this level, worst first; overrides of a policy stand among them.
        shell: bash or powershell, as it was read.
        shown: the command with its invisible characters escaped.
    """

    level: Level
    effects: tuple[Effect, ...]
    reasons: tuple[str, ...]
    shell: str
    shown: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "level": str(self.level),
            "effects": [
                {"kind": effect.kind, "scope": effect.scope, "what": effect.what}
                for effect in self.effects
            ],
            "reasons": list(self.reasons),
            "shell": self.shell,
            "shown": self.shown,
        }


def verdict(
    findings: Iterable[Finding], *, shell: str, shown: str, overrides: Iterable[str] = ()
) -> Risk:
    """The findings added up: the worst level, every effect once, every reason once, worst first."""
    ordered = sorted(findings, key=lambda finding: -finding.level)
    level = max((finding.level for finding in ordered), default=Level.LOW)
    effects = dict.fromkeys(f.effect for f in ordered if f.effect is not None)
    reasons = dict.fromkeys(f"{f.level}: {f.why}" for f in ordered if f.why)
    return Risk(level, tuple(effects), (*dict.fromkeys(overrides), *reasons), shell, shown)
