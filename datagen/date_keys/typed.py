"""How people type to an assistant: bare times, terse notes, long messages, short spellings."""

from __future__ import annotations

import re

from datagen.date_keys.carriers import fill, sentence
from datagen.date_keys.days import PARTS
from datagen.date_keys.said import Said, Source
from datagen.date_keys.words import FRAMES, POOLS

# Left to the model by the contract's `normalise`, since only the sentence tells.
_SHORT = {
    "monday": "mon",
    "wednesday": "wed",
    "saturday": "sat",
    "sunday": "sun",
    "minutes": "min",
    "hours": "hr",
    "hour": "hr",
    "evening": "eve",
    "please": "pls",
    "with": "w/",
    "appointment": "appt",
    "you": "u",
    "are": "r",
    "thanks": "thx",
    "meeting": "mtg",
}
_WORD = re.compile(r"[a-z]+")


def shorten(source: Source, text: str) -> str:
    """`text` with short spellings of some words."""
    return _WORD.sub(
        lambda m: _SHORT[m[0]] if m[0] in _SHORT and source.chance(0.7) else m[0], text
    )


def bare(source: Source, said: Said) -> str:
    """The expression alone: "next monday", "at 3 pm"."""
    text = said.noun if said.noun and source.chance(0.6) else said.text
    alone = text.removeprefix("in the ").removeprefix("at ")
    if alone in PARTS and source.chance(0.7):
        text = alone
    return text if source.chance(0.6) else source.shared(_AROUND).format(text)


_AROUND = (
    *("{} please", "for {}", "{} then", "how about {}", "what about {}", "make it {}", "and {}"),
    *("yes {}", "no {}", "ok {}", "um {}", "{} works", "{} is fine", "{} is good", "maybe {}"),
    *("so {}", "{} thanks", "ok {} then", "let's do {}", "hmm {}", "just {}", "say {}", "well {}"),
    *("{} perhaps", "{} would work", "{} sounds good", "could be {}", "i meant {}", "no wait {}"),
    *("{} again", "either way {}", "definitely {}", "only {}", "{} or so i think", "oh {}"),
    *("does {} work", "is {} ok", "can you do {}", "{} if you can", "{} at the latest"),
    *("{} i guess", "let's say {}", "not {}", "i said {}", "{} i mean", "it's {}", "by {} please"),
)


def note(source: Source, said: Said) -> str:
    """A few words without a verb, or with little else: "dentist tuesday 9 am"."""
    frame = source.own(FRAMES["note"])
    if not said.noun:
        frame = frame.replace("{n}", "{w}")
    return fill(source, frame, said)


def letter(source: Source, said: Said | None) -> str:
    """A long message; with `said`, one of its sentences says when."""
    parts = [fill(source, source.own(POOLS["remark"])) for _ in range(source.rng.randrange(1, 4))]
    if source.chance(0.4):
        parts.append(fill(source, source.own(POOLS["plain_cmd"])))
    if said is not None:
        parts.append(sentence(source, said))
    source.rng.shuffle(parts)
    if source.chance(0.4):
        parts.insert(0, fill(source, source.own(POOLS["greeting"])))
    if source.chance(0.5):
        parts.append(fill(source, source.own(POOLS["signature"])))
    return " ".join(parts)
