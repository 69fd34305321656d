"""Small changes to the text of a row: slots filled, slips of the fingers, a capital in front."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping

from datagen.actions.intents import SLOT, Word


def mistyped(text: str, rng: random.Random) -> str:
    """With one or two slips of the fingers, never in a slot's word."""
    places = list(re.finditer(r"(?<![{\w])[a-z]{4,}(?![}\w])", text))
    for place in sorted(rng.sample(places, min(len(places), 2)), key=lambda m: -m.start()):
        at = place.start() + rng.randrange(1, len(place[0]) - 1)
        one, other = text[at], text[at + 1]
        slip = rng.choice((other + one, one, one + one + other))
        text = text[:at] + slip + text[at + 2 :]
    return text


def tool_of(command: str) -> str:
    """The name of a command's program: "systemctl" of "sudo systemctl stop x"."""
    return re.sub(r"^\W*(?:sudo )?", "", command).split()[0].strip("()")


def written(template: str, words: Mapping[str, Word]) -> str:
    return SLOT.sub(lambda slot: words[slot[1]].written, template)


def first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
