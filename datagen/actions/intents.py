"""Intents and the words of their slots, read from intents.txt and words.txt beside this file.

INTENTS["app_launch"][0].wordings       # what is asked
POOLS["app"][0]                         # Word(said="firefox", written="Firefox")
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_HERE = Path(__file__).parent
SLOT = re.compile(r"\{(\w+)\}")
# One in so many wordings, words and turns is kept for validation.
HELD_OUT = 6

T = TypeVar("T")


@dataclass(frozen=True)
class Word:
    """What fills a slot: as it is said, and as a tag or an answer has it."""

    said: str
    written: str


@dataclass(frozen=True)
class Intent:
    """One thing to ask for.

    Attributes:
        scenario, risk: of its rows.
        place: its number in the file, from 1.
        action: the content of its action tag, "" for none.
        commands: by shell, empty for none.
        wordings: by language ("en", "hinglish", "hi").
        orders: wordings that can stand beside others.
        replies: by language.
        warnings: by language, before a high risk is asked for.
    """

    scenario: str
    risk: str
    place: int
    action: str
    commands: dict[str, str]
    wordings: dict[str, tuple[str, ...]]
    orders: tuple[str, ...]
    replies: dict[str, tuple[str, ...]]
    warnings: dict[str, tuple[str, ...]]

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the slots of its tag or commands."""
        return tuple(dict.fromkeys(SLOT.findall(" ".join([self.action, *self.commands.values()]))))


def part(items: Sequence[T], held_out: bool) -> Sequence[T]:
    """The items of one split: every sixth is held out, from the fourth on; of fewer than four
    every split has all."""
    if len(items) < 4:
        return items
    return [item for at, item in enumerate(items) if (at % HELD_OUT == 3) == held_out]


_LANGUAGE = {
    "-": "en", "h": "hinglish", "d": "hi", ".": "en", "~": "hinglish", "=": "hi", "w": "en",
    "x": "hinglish",
}  # fmt: skip
_SHELL = {"b": "bash", "p": "powershell"}


def _lines(name: str) -> list[str]:
    text = (_HERE / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _pools() -> dict[str, tuple[Word, ...]]:
    pools: dict[str, tuple[Word, ...]] = {}
    for line in _lines("words.txt"):
        name, _, words = line.partition(": ")
        pairs = [word.strip().partition("=") for word in words.split("|")]
        pools[name] = tuple(Word(said, written or said) for said, _, written in pairs)
    return pools


def _intents() -> dict[str, tuple[Intent, ...]]:
    blocks: list[list[str]] = []
    for line in _lines("intents.txt"):
        blocks.append([]) if line[0] == "@" else None
        blocks[-1].append(line)
    found: defaultdict[str, list[Intent]] = defaultdict(list)
    for place, (head, *lines) in enumerate(blocks, start=1):
        _, scenario, risk = head.split()
        of: defaultdict[str, list[str]] = defaultdict(list)
        for line in lines:
            of[line[0]].append(line[2:])
        found[scenario].append(
            Intent(
                scenario, risk, place,
                action=next(iter(of["a"]), ""),
                commands={shell: of[mark][0] for mark, shell in _SHELL.items() if of[mark]},
                wordings=_by_language(of, "-hd"),
                orders=tuple(of["&"]),
                replies=_by_language(of, ".~="),
                warnings=_by_language(of, "wx"),
            )
        )  # fmt: skip
    return {scenario: tuple(intents) for scenario, intents in found.items()}


def _by_language(of: dict[str, list[str]], marks: str) -> dict[str, tuple[str, ...]]:
    return {_LANGUAGE[mark]: tuple(of[mark]) for mark in marks if of[mark]}


POOLS = _pools()
INTENTS = _intents()
