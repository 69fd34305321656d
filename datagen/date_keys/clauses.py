"""Several expressions in one command, each in its clause or all in one frame."""

from __future__ import annotations

from dataclasses import dataclass

from datagen.date_keys import clock, combine, days, nothing, things, typed
from datagen.date_keys.carriers import NUMBER_END, fill, sentence
from datagen.date_keys.said import Said, Source
from datagen.date_keys.words import FRAMES, POOLS


@dataclass(frozen=True)
class Draft:
    """A command with its keys."""

    text: str
    keys: tuple[str, ...]


# What is between two requests said in one breath.
_BETWEEN = (
    *("and",) * 6, "then", "and then", "but", "so", "also", "and also", "oh and", "after that",
    "plus", "and please", "and can you", "", "",
)  # fmt: skip


def _clauses(source: Source, *said: Said) -> Draft:
    """A whole sentence for each expression, run together: no frame is written for these, so the
    ways in which several moments can be in one command are as many as the frames' products."""
    text = ""
    for one in said:
        clause = sentence(source, one)
        if text and source.chance(0.12):  # what is between may tell no time at all
            text += f" and {fill(source, source.own(POOLS['plain_cmd']))}"
        text = f"{text} {source.shared(_BETWEEN)} {clause}" if text else clause
    return Draft(
        " ".join(text.split(" ")).replace("  ", " "), tuple(k for s in said for k in s.keys)
    )


def pair(source: Source, one: Said, other: Said) -> Draft:
    """Two expressions in one sentence, in order."""
    keys = one.keys + other.keys
    if source.chance(0.16):
        notes = (typed.note(source, one), typed.note(source, other))
        return Draft(source.shared((" ", " and ", " then ", " also ")).join(notes), keys)
    if source.chance(0.28):
        return _clauses(source, one, other)
    if one.noun and other.noun and source.chance(0.12):
        return _join(source, "joined_attributes", (one.noun, other.noun), keys)
    if one.owner and other.owner and source.chance(0.35):
        return _join(source, "joined_owners", (one.owner, other.owner), keys)
    if one.owner and other.noun and source.chance(0.25):
        return _join(source, "joined_owner_noun", (one.owner, other.noun), keys)
    if one.noun and source.chance(0.13):
        return _join(source, "joined_mixed", (one.noun, other.text), keys)
    if one.noun and other.noun and source.chance(0.4):
        return _join(source, "joined_nouns", (one.noun, other.noun), keys)
    return _join(source, "joined", (one.text, other.text), keys)


def _join(source: Source, frames: str, texts: tuple[str, ...], keys: tuple[str, ...]) -> Draft:
    frame = source.own(FRAMES[frames])
    for number, text in enumerate(texts, start=1):
        frame = frame.replace(f"{{{number}}}", text)
    return Draft(fill(source, frame), keys)


def excepted(source: Source) -> Draft:
    """ "keep next week free except next thursday at 9 am"."""
    whole = source.shared((days.period, days.day, days.day_part))(source)
    part = source.shared((*combine.COMPOSED, days.weekday, clock.with_half))(source)
    return _join(source, "excepted", (whole.text, part.text), whole.keys + part.keys)


def three(source: Source) -> Draft:
    kind = combine.day_with_time if source.chance(0.4) else combine.anything
    said = [kind(source) for _ in range(3)]
    if source.chance(0.5):
        return _clauses(source, *said)
    return _join(
        source, "three", tuple(s.text for s in said), tuple(k for s in said for k in s.keys)
    )


def with_nothing(source: Source) -> Draft:
    """An expression with a key beside one without: "run it for two hours at midnight"."""
    said = combine.anything(source)
    if source.chance(0.3):
        if source.chance(0.3):
            aside = fill(source, f"play {source.own(POOLS['title'])}")
        elif source.chance(0.25):
            aside = things.called(source)
        elif source.chance(0.3):
            aside = timer(source)
        else:
            aside = things.figures(source) + NUMBER_END
        if source.chance(0.3):
            return Draft(f"{said.text} {aside}", said.keys)
        return Draft(f"{aside} {source.shared(('', '', 'and remind me '))}{said.text}", said.keys)
    if source.chance(0.3):
        frames, other = (
            "beside_ago",
            source.shared((nothing.ago, nothing.ago, nothing.date))(source),
        )
    else:
        frames, other = (
            "beside",
            source.shared((nothing.duration, nothing.duration, nothing.habit))(source),
        )
    return _join(source, frames, (other.text, said.text), said.keys)


def timer(source: Source) -> str:
    """ "set a timer for ten minutes" and "a ten minute nap": durations."""
    amount = nothing.amount(source)
    single = "half hour" if amount.startswith(("a ", "an ", "half")) else amount.removesuffix("s")
    frame = source.own(FRAMES["timer"])
    return fill(source, frame.replace("{amount}", amount).replace("{single}", single))
