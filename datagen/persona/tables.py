"""The tables beside this file: families of wordings with the facts that fill them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from datagen.persona.words import FILLS

FILES = ("general.txt", "technical.txt", "maths.txt", "talk.txt")
# One fact in so many of a family is held out.
HELD_OUT = 7

_HEAD = re.compile(r"\[(?P<category>\w+) (?P<name>\w+)(?: (?P<tone>error|clarification))?\]")


@dataclass
class Family:
    """Questions of one kind.

    Attributes:
        category, name: as the table heads it.
        tone: "chat", "error" or "clarification"; only chat has a form of address.
        asked, held_out: wordings of the question, for training and for held-out rows.
        answers: wordings of the answer; {a} is where the form of address goes.
        facts: (x, y) to fill them with.
    """

    category: str
    name: str
    tone: str = "chat"
    asked: list[str] = field(default_factory=list[str])
    held_out: list[str] = field(default_factory=list[str])
    answers: list[str] = field(default_factory=list[str])
    facts: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def fills(self, held_out: bool) -> list[tuple[str, str]]:
        """The facts of one side. Words of talk are on both."""
        if not self.facts:
            return list(FILLS.get(f"{self.category} {self.name}", (("", ""),)))
        return [
            fact
            for at, fact in enumerate(self.facts)
            if (at % HELD_OUT == HELD_OUT - 1) == held_out
        ]


@cache
def families() -> tuple[Family, ...]:
    """All families, in the order of the tables."""
    found: list[Family] = []
    for name in FILES:
        path = Path(__file__).parent / name
        for line in path.read_text(encoding="utf-8").splitlines():
            if head := _HEAD.fullmatch(line):
                found.append(Family(head["category"], head["name"], head["tone"] or "chat"))
            elif line and not line.startswith("#"):
                kind, _, text = line.partition(" ")
                if kind == "=":
                    x, _, y = text.partition(" > ")
                    found[-1].facts.append((x, y))
                else:
                    {"q:": found[-1].asked, "h:": found[-1].held_out, "a:": found[-1].answers}[
                        kind
                    ].append(text)
    return tuple(found)
