"""Drafts of rows: a family's wording filled, addressed, and where wanted after other turns."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from datagen.persona import sums, words
from datagen.persona.tables import Family, families

# Shares of the forms of address, and of rows that come after other turns.
FORMS = {"sir": 7, "madam": 6, "name": 5, "none": 4}
LATER, MOST_BEFORE = 0.25, 4
STATEMENTS = 0.4  # of casual rows


@dataclass(frozen=True)
class Draft:
    """A row to be written.

    Attributes:
        category, family, tone: of the last question.
        form: "chat", "statement" or "multi_turn".
        address: "sir", "madam", a name, or "".
        turns: up to the last of the user's.
        answer: to it.
        facts: what the answer must hold.
    """

    category: str
    family: str
    tone: str
    form: str
    address: str
    turns: tuple[dict[str, str], ...]
    answer: str
    facts: tuple[str, ...]

    @property
    def asked(self) -> str:
        """All that the user says."""
        return "\n".join(turn["content"] for turn in self.turns if turn["role"] == "user")


class Composer:
    """Draws drafts, from one side of the tables."""

    def __init__(self, rng: random.Random, *, held_out: bool) -> None:
        self.rng, self.held_out = rng, held_out
        self.by_category: dict[str, list[Family]] = {}
        for family in families():
            self.by_category.setdefault(family.category, []).append(family)

    def draft(self, category: str) -> Draft:
        """A row of a category."""
        address = self._address()
        statement = category == "casual" and self.rng.random() < STATEMENTS
        last = self._one("statements" if statement else category, address)
        turns: list[dict[str, str]] = []
        later = self.rng.random() < LATER
        for _ in range(self.rng.randint(1, MOST_BEFORE) if later else 0):
            before = self._one(self.rng.choice([*self.by_category]), address)
            turns += before.turns
            turns.append({"role": "assistant", "content": before.answer})
        form = "multi_turn" if turns else "statement" if statement else "chat"
        return Draft(
            category, last.family, last.tone, form, address, (*turns, *last.turns), last.answer,
            last.facts,
        )  # fmt: skip

    def _address(self) -> str:
        (form,) = self.rng.choices([*FORMS], weights=[*FORMS.values()])
        if form == "name":
            return self.rng.choice(words.NAMES_HELD_OUT if self.held_out else words.NAMES)
        return "" if form == "none" else form

    def _one(self, category: str, address: str) -> Draft:
        """A single question and its answer."""
        rng = self.rng
        family = rng.choice(self.by_category[category])
        x, y = rng.choice(family.fills(self.held_out))
        fills = {"x": x, "y": y}
        if sums.has_numbers(family.name):
            fills |= sums.draw(family.name, rng)
        if family.name == "garbled":
            fills = {"x": self._garbled(), "y": self._garbled()}
        if category == "statements":
            fills = {name: rng.choice(of) for name, of in _STATEMENTS.items()}
        question = rng.choice(family.held_out if self.held_out else family.asked)
        asked, answer = _filled(question, fills), rng.choice(family.answers)
        fills["a"] = f", {address}" if address and family.tone == "chat" else ""
        return Draft(
            family.category, f"{family.name}: {question}", family.tone, "chat", address,
            ({"role": "user", "content": _capital(asked) if family.name != "garbled" else asked},),
            _capital(_filled(answer, fills)), _facts(family, fills),
        )  # fmt: skip

    def _garbled(self) -> str:
        """A word that nobody knows."""
        rng = self.rng
        return "".join(
            rng.choice(words.CONSONANTS) + rng.choice(words.CONSONANTS) + rng.choice(words.VOWELS)
            for _ in range(rng.randint(2, 3))
        )


_STATEMENTS = {"s": words.FIRST, "t": words.THEN, "u": words.LAST}
# Families whose y is the fact of an answer; in the others it is only words.
_FACTUAL = ("general_knowledge", "technical")


def _facts(family: Family, fills: dict[str, str]) -> tuple[str, ...]:
    if family.category in _FACTUAL:
        return (fills["y"],)
    if family.category == "maths" or family.name == "early":
        return (fills["v"],)
    return ()


def _filled(text: str, fills: dict[str, str]) -> str:
    return re.sub(r"\{(\w)\}", lambda match: fills[match[1]], text)


def _capital(text: str) -> str:
    """With a capital, unless code, a number or a link comes first."""
    return text[:1].upper() + text[1:]
