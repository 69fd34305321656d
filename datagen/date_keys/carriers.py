"""Sentences around an expression: commands, plans, questions and remarks, with it at the front,
in the middle or at the end (frames.txt).
"""

from __future__ import annotations

import re

from datagen.date_keys.numbers import spoken
from datagen.date_keys.said import Said, Source
from datagen.date_keys.words import FRAMES, POOLS

_SLOT = re.compile(r"\{(\w+)\}")
# Stands after a number that tells no time until the sentence is whole, so that "cook for ten" and
# "two hours from now" are not put together unnoticed.
NUMBER_END = "\0"


def fill(source: Source, frame: str, said: Said | None = None) -> str:
    """Fill every slot of a frame from this split's share of the pools."""

    def slot(match: re.Match[str]) -> str:
        name = match[1]
        if said is not None and name in ("w", "n", "o"):
            return {"w": said.text, "n": said.noun or said.text, "o": said.owner}[name]
        if name == "num":
            return spoken(source, source.rng.randrange(2, 31)) + NUMBER_END
        return fill(source, source.own(POOLS[name]))

    return _SLOT.sub(slot, frame)


def sentence(source: Source, said: Said, extra: str = "") -> str:
    """A sentence that holds `said`, in a frame of its tense (or often in one of `extra`)."""
    if extra and source.chance(0.45):
        return fill(source, source.own(FRAMES[extra]), said)
    if said.owner and source.chance(0.16):
        return fill(source, source.own(FRAMES["owner"]), said)
    # Left to the pools, an expression would hardly ever open the sentence.
    opening = "{w}" if source.chance(0.3) else ""
    if said.tense == "past" or (said.tense == "any" and source.chance(0.4)):
        frames = tuple(f for f in FRAMES["past"] if said.noun or "{n}" not in f)
        return fill(source, source.own(frames, opening), said)
    if said.noun and not opening and source.chance(0.25):
        return fill(source, source.own(FRAMES["noun"]), said)
    return fill(source, source.own(FRAMES["future"], opening), said)
