"""Rows by category: which expressions a sentence holds, and how they stand together."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from datagen.date_keys import clock, days, nothing, spans
from datagen.date_keys.carriers import NUMBER_END, fill, sentence
from datagen.date_keys.noise import roughen
from datagen.date_keys.numbers import words
from datagen.date_keys.said import Said, Source
from datagen.date_keys.words import FRAMES, POOLS
from livery.skills.date_keys import MAX_KEYS

# Shares of the training rows; what needs more examples to learn has more.
CATEGORIES: dict[str, float] = {
    "relative_days": 0.06,
    "time_of_day": 0.08,
    "weekdays": 0.08,
    "periods": 0.07,
    "specific_times": 0.15,
    "relative_time": 0.09,
    "negatives": 0.10,
    "ambiguous": 0.10,
    "mixed": 0.27,
}


# A number that tells no time, right before one that does.
_COUNTS = "|".join((*(words(n) for n in range(1, 21)), "thirty", "forty", "fifty", "half"))
_RUN_TOGETHER = re.compile(rf"{NUMBER_END} (?:[0-9]|(?:{_COUNTS})\b)")


@dataclass(frozen=True)
class Draft:
    """A command with its keys."""

    text: str
    keys: tuple[str, ...]


def draft(source: Source, category: str) -> Draft:
    """A new row of a category."""
    made = _MAKERS[category](source)
    while _RUN_TOGETHER.search(made.text):
        made = _MAKERS[category](source)
    made = replace(made, text=made.text.replace(NUMBER_END, ""))
    keys = tuple(dict.fromkeys(made.keys))[:MAX_KEYS]
    return Draft(roughen(source, made.text), keys)


def _one(source: Source, said: Said, extra: str = "") -> Draft:
    """One sentence about one expression, sometimes with something timeless beside it."""
    text = sentence(source, said, extra)
    if source.chance(0.05):
        aside = fill(source, source.own(POOLS["cmd"]))
        text = f"{text} and {aside}" if source.chance(0.6) else f"{aside} and {text}"
    return Draft(text, said.keys)


def _attribute(source: Source, said: Said) -> Draft:
    """ "my tuesday class", "the 3 pm call"."""
    return Draft(fill(source, source.own(FRAMES["attribute"]), said), said.keys)


def _relative_days(source: Source) -> Draft:
    if source.chance(0.27):
        return _pair(source, days.day(source), days.day(source))
    return _one(source, days.day(source))


def _time_of_day(source: Source) -> Draft:
    draw = source.rng.random()
    if draw < 0.42:
        said = days.day_part(source)
    elif draw < 0.64:
        said = days.part(source)
    elif draw < 0.80:
        said = days.meal(source)
    elif draw < 0.88:
        said = _day_then(source, days.meal(source))
    else:
        return _pair(source, days.part(source), days.part(source))
    return _one(source, said)


def _weekdays(source: Source) -> Draft:
    if source.chance(0.28):
        plain = source.chance(0.6)
        return _pair(source, days.weekday(source, plain=plain), days.weekday(source, plain=plain))
    if source.chance(0.1):
        return _attribute(source, days.weekday(source, plain=True))
    return _one(source, days.weekday(source))


def _periods(source: Source) -> Draft:
    if source.chance(0.28):
        return _pair(source, days.period(source), days.period(source))
    return _one(source, days.period(source))


def _specific_times(source: Source) -> Draft:
    if source.chance(0.06):
        return _attribute(source, clock.with_half(source))
    if source.chance(0.15):
        said = clock.span_of_two(source)
    else:
        said = clock.with_half(source)
    return _one(source, said, "alarm")


def _relative_time(source: Source) -> Draft:
    if source.chance(0.12):
        return _pair(source, spans.later(source), spans.later(source))
    return _one(source, spans.later(source), "later")


def _negatives(source: Source) -> Draft:
    draw = source.rng.random()
    if draw < 0.19:
        return Draft(fill(source, source.own(POOLS["plain_query"])), ())
    if draw < 0.37:
        return Draft(fill(source, source.own(POOLS["plain_cmd"])), ())
    if draw < 0.44:
        return Draft(fill(source, f"{source.own(POOLS['cmd'])}"), ())
    if draw < 0.56:
        return Draft(fill(source, source.own(FRAMES["during"]), nothing.duration(source)), ())
    if draw < 0.62:
        return Draft(_timer(source), ())
    if draw < 0.75:
        return Draft(sentence(source, replace(nothing.habit(source), tense="future")), ())
    if draw < 0.87:
        return Draft(fill(source, source.own(FRAMES["ago"]), nothing.ago(source)), ())
    return Draft(sentence(source, nothing.date(source)), ())


def _timer(source: Source) -> str:
    """ "set a timer for ten minutes" and "a ten minute nap": durations."""
    amount = nothing.amount(source)
    single = "half hour" if amount.startswith(("a ", "an ", "half")) else amount.removesuffix("s")
    frame = source.own(FRAMES["timer"])
    return fill(source, frame.replace("{amount}", amount).replace("{single}", single))


def _ambiguous(source: Source) -> Draft:
    draw = source.rng.random()
    if draw < 0.30:
        return _one(source, clock.without_half(source), "alarm")
    if draw < 0.45:
        return _one(source, nothing.vague(source), "later")
    if draw < 0.57:
        return _one(source, nothing.far(source))
    if draw < 0.66:
        return _slot(source)
    if draw < 0.81:  # "tomorrow at eight": the day stands, the time is open
        return _one(source, _together(source, _any_day(source), clock.without_half(source)))
    if draw < 0.90:
        return _pair(source, _any_day(source), _any_day(source))
    if draw < 0.93:  # "is it at eight or nine"
        one, other = clock.without_half(source), clock.without_half(source)
        said = Said(f"{one.text} or {other.noun}", noun=f"{one.noun} or {other.noun}")
        return _one(source, said, "alarm")
    title = fill(source, f"play {source.own(POOLS['title'])}")
    return Draft(title, ())


def _slot(source: Source) -> Draft:
    """ "move my ten o'clock to friday": an appointment called by an open time."""
    slot = f"{source.shared(('my', 'the', 'our'))} {clock.without_half(source).noun}"
    day = _any_day(source)
    if source.chance(0.5):
        text = f"{source.shared(('cancel', 'skip', 'confirm', 'tell me about', 'postpone'))} {slot}"
        return Draft(text, ())
    frame = source.own(FRAMES["slot"]).replace("{slot}", slot)
    return Draft(fill(source, frame, day), day.keys)


def _mixed(source: Source) -> Draft:
    draw = source.rng.random()
    if draw < 0.18:
        return _one(source, _day_with_time(source), "alarm")
    if draw < 0.34:
        return _one(source, _part_with_time(source), "alarm")
    if draw < 0.36:
        return _attribute(source, _weekday_part(source, plain=True))
    if draw < 0.42:
        return _one(source, _weekday_part(source))
    if draw < 0.48:
        return _one(source, _day_with_part(source))
    if draw < 0.82:
        # Days with a time or a part of their own, and two of a kind, are the hardest to tell apart.
        kind = source.shared(_COMPOSED if source.chance(0.45) else _KINDS)
        one = kind(source)
        if source.chance(0.35):
            return _pair(source, one, kind(source))
        if source.chance(0.08):  # a week, and a day or an hour of it
            return _excepted(source)
        other = source.shared(_COMPOSED if source.chance(0.3) else _KINDS)(source)
        return _pair(source, *((one, other) if source.chance(0.5) else (other, one)))
    if draw < 0.90:
        return _with_nothing(source)
    return _three(source)


def _any_day(source: Source) -> Said:
    """A day without hours of its own."""
    if source.chance(0.5):
        return days.weekday(source, plain=source.chance(0.7))
    return days.day(
        source, source.shared(("today", "tomorrow", "tomorrow", "day_after_tomorrow", "yesterday"))
    )


def _anything(source: Source) -> Said:
    """Any expression with a key."""
    return source.shared(_KINDS)(source)


def _together(source: Source, one: Said, other: Said) -> Said:
    """ "tomorrow at 3 pm" or "at 3 pm tomorrow"."""
    bare = other.noun and other.text.startswith("at ") and source.chance(0.25)
    time = other.noun if bare else other.text
    if source.chance(0.55) and not bare:
        noun = f"{one.noun} {time}" if one.noun else ""
        return Said(f"{one.text} {time}", one.keys + other.keys, noun, tense=one.tense)
    noun = f"{other.noun} {one.text}" if other.noun else ""
    return Said(f"{time} {one.text}", other.keys + one.keys, noun, tense=one.tense)


def _day_with_time(source: Source) -> Said:
    day = _any_day(source)
    if source.chance(0.12):
        day = spans.in_days(source)
    if source.chance(0.12):
        day = days.day(source, source.shared(("tonight", "last_night")))
        return _together(source, day, clock.with_half(source, source.rng.randrange(18, 24)))
    if source.chance(0.08):
        return _together(source, day, clock.span_of_two(source))
    return _together(source, day, clock.with_half(source))


def _part_with_time(source: Source) -> Said:
    """A time that its day's part makes clear: "half seven tonight", "tomorrow morning at eight"."""
    draw = source.rng.random()
    if draw < 0.28:
        day, part = days.day(source, source.shared(("tonight", "tonight", "last_night"))), "night"
        day = replace(day, text=day.noun or day.text)
    elif draw < 0.7:
        day = days.day_part(source)
        part = day.keys[0].split("_")[1]
        day = replace(day, text=day.noun or day.text)
    else:
        # Not "in the morning on friday": beside a time that would only say am.
        day = _weekday_part(source, plain=True)
        part = day.keys[1]
    face, key = clock.beside_part(source, part)
    draw = source.rng.random()
    if draw < 0.5:
        return Said(f"{day.text} at {face}", (*day.keys, key), tense=day.tense)
    at = "at " if draw < 0.75 else ""
    return Said(f"{at}{face} {day.text}", (key, *day.keys), tense=day.tense)


def _weekday_part(source: Source, plain: bool = False) -> Said:
    """ "friday morning": two keys. `plain` leaves out "friday in the morning"."""
    if source.chance(0.12):
        day = days.day(source, source.shared(("day_after_tomorrow", "day_before_yesterday")), True)
    else:
        day = days.weekday(source, plain=True)
    part = source.shared(("morning", "afternoon", "evening", "night"))
    draw = source.rng.random()
    noun = f"{day.noun} {part}"
    if plain or draw < 0.8 or part == "night":
        text = f"on {noun}" if day.text.startswith("on ") else noun
        return Said(text, (*day.keys, part), noun, days.owner(noun), day.tense)
    if draw < 0.92:
        return Said(f"{day.text} in the {part}", (*day.keys, part), tense=day.tense)
    return Said(f"in the {part} {day.text}", (part, *day.keys), tense=day.tense)


def _day_then(source: Source, part: Said) -> Said:
    """ "tomorrow at noon", "at lunch on friday"."""
    return _together(source, _any_day(source), part)


def _day_with_part(source: Source) -> Said:
    """A day with a meal, noon or midnight."""
    if source.chance(0.5):
        return _day_then(source, days.meal(source))
    return _day_then(source, days.part(source, source.shared(("noon", "midnight"))))


# What stands between two requests said in one breath.
_BETWEEN = (
    *("and",) * 6, "then", "and then", "but", "so", "also", "and also", "oh and", "after that",
    "plus", "and please", "and can you", "", "",
)  # fmt: skip


def _clauses(source: Source, *said: Said) -> Draft:
    """A whole sentence for each expression, run together: no frame is written for these, so the
    ways in which several moments can stand in one command are as many as the frames' products."""
    text = ""
    for one in said:
        clause = sentence(source, one)
        if text and source.chance(0.12):  # what lies between may tell no time at all
            text += f" and {fill(source, source.own(POOLS['plain_cmd']))}"
        text = f"{text} {source.shared(_BETWEEN)} {clause}" if text else clause
    return Draft(
        " ".join(text.split(" ")).replace("  ", " "), tuple(k for s in said for k in s.keys)
    )


def _pair(source: Source, one: Said, other: Said) -> Draft:
    """Two expressions in one sentence, in order."""
    keys = one.keys + other.keys
    if source.chance(0.3):
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


def _excepted(source: Source) -> Draft:
    """ "keep next week free except next thursday at 9 am"."""
    whole = source.shared((days.period, days.day, days.day_part))(source)
    part = source.shared((*_COMPOSED, days.weekday, clock.with_half))(source)
    return _join(source, "excepted", (whole.text, part.text), whole.keys + part.keys)


def _three(source: Source) -> Draft:
    said = [_anything(source) for _ in range(3)]
    if source.chance(0.5):
        return _clauses(source, *said)
    return _join(
        source, "three", tuple(s.text for s in said), tuple(k for s in said for k in s.keys)
    )


def _with_nothing(source: Source) -> Draft:
    """An expression with a key beside one without: "run it for two hours at midnight"."""
    said = _anything(source)
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


_COMPOSED: tuple[Callable[[Source], Said], ...] = (
    _day_with_time,
    _part_with_time,
    _weekday_part,
    _day_with_part,
)
_KINDS: tuple[Callable[[Source], Said], ...] = (
    days.day,
    days.day_part,
    days.part,
    days.meal,
    days.weekday,
    days.weekday,
    days.period,
    clock.with_half,
    clock.with_half,
    spans.later,
    spans.later,
    *_COMPOSED,
)
_MAKERS: dict[str, Callable[[Source], Draft]] = {
    "relative_days": _relative_days,
    "time_of_day": _time_of_day,
    "weekdays": _weekdays,
    "periods": _periods,
    "specific_times": _specific_times,
    "relative_time": _relative_time,
    "negatives": _negatives,
    "ambiguous": _ambiguous,
    "mixed": _mixed,
}
