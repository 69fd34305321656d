"""Conversations of the corpus, the ways a task is put to the model, and what must never occur."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Pair = tuple[str, str]
Drawer = Callable[[Random], Pair]


@dataclass(frozen=True)
class Turn:
    role: str
    text: str


@dataclass(frozen=True)
class Dialogue:
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Task:
    """An instruction, and a drawer of (input, answer) pairs that obey it."""

    instruction: str
    draw: Drawer


Family = Callable[[Random], Task]

_UNITS = "week|weekend|month|year"
_WEEKDAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_PARTS = "morning|afternoon|evening|night"

# What the skills answer. The base learns the abilities beneath them and never the answers.
FORBIDDEN = re.compile(
    rf"(?:this|next|last)_(?:{_WEEKDAYS}|{_UNITS})"
    rf"|(?:tomorrow|yesterday|this)_(?:{_PARTS})|last_night|day_(?:after|before)_"
    r"|in_\d+_(?:minute|day|hour)|at_\d{1,2}(?:_\d\d)?_?[ap]m"
    r"|at_breakfast|during_lunch|at_dinner|after_dinner"
    r"|\[/?(?:ACTION|SHELL)\]|==\s*(?:END\s+)?STATE"
    r'|"conditions"\s*:\s*\[\s*\{',
    re.IGNORECASE,
)


class ForbiddenOutput(ValueError):
    """The generator made something that only a skill's adapter may learn to write."""


def check(dialogue: Dialogue) -> Dialogue:
    """Returns the dialogue unchanged.

    Raises ForbiddenOutput when a composite date key, an action tag, a state block or a query
    tree stands in any turn.
    """
    for turn in dialogue.turns:
        found = FORBIDDEN.search(turn.text)
        if found:
            raise ForbiddenOutput(f"{found.group(0)!r} in a {turn.role} turn: {turn.text[:120]!r}")
    return dialogue


def is_clean(text: str) -> bool:
    return FORBIDDEN.search(text) is None


def converse(rng: Random, task: Task) -> Dialogue:
    """Puts a task: the instruction in the system turn or beside the input, one to twelve pairs."""
    layout = rng.random()
    count = rng.choices([1, 2, 3, 4, rng.randint(5, 12)], [48, 25, 14, 9, 4])[0]
    pairs = [task.draw(rng) for _ in range(count)]
    turns: list[Turn] = []
    if layout < 0.62:
        turns.append(Turn("system", task.instruction))
        for given, answer in pairs:
            turns += [Turn("user", given), Turn("assistant", answer)]
        return Dialogue(tuple(turns))
    if layout < 0.7:
        turns.append(Turn("system", rng.choice(SYSTEMS)))
    for index, (given, answer) in enumerate(pairs):
        asked = wrap(rng, task.instruction, given) if index == 0 or rng.random() < 0.4 else given
        turns += [Turn("user", asked), Turn("assistant", answer)]
    return Dialogue(tuple(turns))


def wrap(rng: Random, instruction: str, given: str) -> str:
    bare = instruction.rstrip(".")
    return rng.choice(
        [
            f"{bare}: {given}",
            f"{bare}:\n{given}",
            f"{instruction}\n\n{given}",
            f"{given}\n\n{instruction}",
            f'{instruction}\n"{given}"',
            f"{instruction}\nText: {given}",
        ]
    )


def json_text(value: object, tight: bool) -> str:
    """JSON with or without spaces after commas and colons; both are seen, so both can be asked."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":") if tight else None)


SYSTEMS = [
    "You are a helpful assistant.",
    "You are a careful assistant. Do exactly what is asked.",
    "Answer briefly.",
    "You answer with the result and nothing else.",
    "Be precise.",
    "You are a small local model. Follow the instruction.",
    "Reply in the requested format only.",
]
