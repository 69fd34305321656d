"""Rows by category: which expressions a sentence holds, and how they stand together."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from datagen.date_keys import clauses, clock, combine, days, lists, nothing, spans, things, typed
from datagen.date_keys.carriers import NUMBER_END, fill, sentence
from datagen.date_keys.clauses import Draft
from datagen.date_keys.noise import roughen
from datagen.date_keys.numbers import words
from datagen.date_keys.said import Said, Source
from datagen.date_keys.words import FRAMES, POOLS
from livery.skills.date_keys import MAX_KEYS

# Shares of the training rows; what needs more examples to learn has more.
CATEGORIES: dict[str, float] = {
    "relative_days": 0.065,
    "time_of_day": 0.08,
    "weekdays": 0.08,
    "periods": 0.07,
    "specific_times": 0.14,
    "relative_time": 0.09,
    "negatives": 0.17,
    "ambiguous": 0.10,
    "mixed": 0.27,
}


# What the contract reads as one moment, where two sentences about two were run together.
_ONE_DAY = re.compile(
    rf"(?<!next )(?<!last )(?<!this )\b({'|'.join(days.WEEKDAYS)}) (?:of |in )?(next|last) week\b"
)
# A number that tells no time, right before one that does.
_COUNTS = "|".join((*(words(n) for n in range(1, 21)), "thirty", "forty", "fifty", "half"))
RUN_TOGETHER = re.compile(rf"{NUMBER_END} (?:[0-9]|(?:{_COUNTS})\b)")


def draft(source: Source, category: str) -> Draft:
    """A new row of a category."""
    made = _MAKERS[category](source)
    while RUN_TOGETHER.search(made.text) or _merges(made):
        made = _MAKERS[category](source)
    made = replace(made, text=made.text.replace(NUMBER_END, ""))
    keys = tuple(dict.fromkeys(made.keys))[:MAX_KEYS]
    text = typed.shorten(source, made.text) if source.chance(0.05) else made.text
    return Draft(roughen(source, text), keys)


def _merges(made: Draft) -> bool:
    """Whether the contract would read a weekday and a week of their own as one day."""
    return any(f"{m[2]}_{m[1]}" not in made.keys for m in _ONE_DAY.finditer(made.text))


def _one(source: Source, said: Said, extra: str = "") -> Draft:
    """One sentence about one expression, sometimes with something timeless beside it."""
    how = source.rng.random()
    # Held-out rows have no bare times: they would keep those words from the training rows.
    if how < 0.11 and not source.held_out:
        return Draft(typed.bare(source, said), said.keys)
    if how < 0.22:
        return Draft(typed.note(source, said), said.keys)
    if how < 0.24:
        return Draft(typed.letter(source, said), said.keys)
    text = sentence(source, said, extra)
    if source.chance(0.05):
        aside = fill(source, source.own(POOLS["cmd"]))
        text = f"{text} and {aside}" if source.chance(0.6) else f"{aside} and {text}"
    return Draft(text, said.keys)


def _attribute(source: Source, said: Said) -> Draft:
    """ "my tuesday class", "the 3 pm call"."""
    return Draft(fill(source, source.own(FRAMES["attribute"]), said), said.keys)


def _relative_days(source: Source) -> Draft:
    if source.chance(0.25):
        return clauses.pair(source, days.day(source), days.day(source))
    return _one(source, days.day(source))


def _time_of_day(source: Source) -> Draft:
    draw = source.rng.random()
    if draw < 0.05 and not source.held_out:
        name = source.shared(days.PARTS)
        return Draft(typed.bare(source, Said(name, (name,), name)), (name,))
    if draw < 0.42:
        said = days.day_part(source)
    elif draw < 0.64:
        said = days.part(source)
    elif draw < 0.80:
        said = days.meal(source)
    elif draw < 0.88:
        said = combine.day_then(source, days.meal(source))
    else:
        return clauses.pair(source, days.part(source), days.part(source))
    return _one(source, said)


def _weekdays(source: Source) -> Draft:
    if source.chance(0.22):
        return _one(source, lists.weekdays(source))
    if source.chance(0.2):
        plain = source.chance(0.6)
        return clauses.pair(
            source, days.weekday(source, plain=plain), days.weekday(source, plain=plain)
        )
    if source.chance(0.1):
        return _attribute(source, days.weekday(source, plain=True))
    return _one(source, days.weekday(source))


def _periods(source: Source) -> Draft:
    if source.chance(0.28):
        return clauses.pair(source, days.period(source), days.period(source))
    return _one(source, days.period(source))


def _specific_times(source: Source) -> Draft:
    if source.chance(0.06):
        return _attribute(source, clock.with_half(source))
    if source.chance(0.12):
        said = clock.span_of_two(source)
    elif source.chance(0.06):
        said = lists.hours(source)
    else:
        said = clock.with_half(source)
    return _one(source, said, "alarm")


def _relative_time(source: Source) -> Draft:
    if source.chance(0.12):
        return clauses.pair(source, spans.later(source), spans.later(source))
    return _one(source, spans.later(source), "later")


def _negatives(source: Source) -> Draft:
    draw = source.rng.random()
    if draw < 0.09:
        return Draft(fill(source, source.own(POOLS["plain_query"])), ())
    if draw < 0.22:
        return Draft(fill(source, source.own(POOLS["plain_cmd"])), ())
    if draw < 0.24:
        return Draft(fill(source, f"{source.own(POOLS['cmd'])}"), ())
    if draw < 0.36:
        return Draft(things.figures(source), ())
    if draw < 0.40:
        return Draft(things.called(source), ())
    if draw < 0.43:
        return Draft(typed.letter(source, None), ())
    if draw < 0.50 and not source.held_out:
        kinds = (nothing.habit, nothing.ago, nothing.far, *(nothing.date,) * 3)
        said = source.shared(kinds)(source)
        return Draft(typed.bare(source, said) if source.chance(0.7) else nothing.amount(source), ())
    if draw < 0.59:
        return Draft(fill(source, source.own(FRAMES["during"]), nothing.duration(source)), ())
    if draw < 0.64:
        return Draft(clauses.timer(source), ())
    if draw < 0.77:
        said = replace(nothing.habit(source), tense="future")
        if source.chance(0.2):
            return Draft(typed.note(source, said), ())
        return Draft(sentence(source, said), ())
    if draw < 0.85:
        return Draft(fill(source, source.own(FRAMES["ago"]), nothing.ago(source)), ())
    if source.chance(0.2):
        return Draft(typed.note(source, nothing.date(source)), ())
    return Draft(sentence(source, nothing.date(source)), ())


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
    if draw < 0.81:  # "tomorrow at eight": the day is given, the time is open
        return _one(
            source, combine.together(source, combine.any_day(source), clock.without_half(source))
        )
    if draw < 0.90:
        return clauses.pair(source, combine.any_day(source), combine.any_day(source))
    if draw < 0.94:  # "is it at eight or nine", "from 9:30 to 11:00"
        one, other = clock.without_half(source), clock.without_half(source)
        said = Said(f"{one.text} or {other.noun}", noun=f"{one.noun} or {other.noun}")
        if source.chance(0.5):
            form = source.shared(("from {} to {}", "between {} and {}", "{} to {}"))
            span = form.format(one.noun, other.noun)
            said = Said(span, noun=span)
            if source.chance(0.4):
                said = combine.together(source, combine.any_day(source), said)
        return _one(source, said, "alarm")
    title = fill(source, f"play {source.own(POOLS['title'])}")
    return Draft(title, ())


def _slot(source: Source) -> Draft:
    """ "move my ten o'clock to friday": an appointment called by an open time."""
    slot = f"{source.shared(('my', 'the', 'our'))} {clock.without_half(source).noun}"
    day = combine.any_day(source)
    if source.chance(0.5):
        text = f"{source.shared(('cancel', 'skip', 'confirm', 'tell me about', 'postpone'))} {slot}"
        return Draft(text, ())
    frame = source.own(FRAMES["slot"]).replace("{slot}", slot)
    return Draft(fill(source, frame, day), day.keys)


def _mixed(source: Source) -> Draft:
    if source.chance(0.32):
        makers = (lists.several,) * 4 + (lists.hours_of_a_day,)
        return _one(source, source.shared(makers)(source))
    draw = source.rng.random()
    if draw < 0.18:
        return _one(source, combine.day_with_time(source), "alarm")
    if draw < 0.34:
        return _one(source, combine.part_with_time(source), "alarm")
    if draw < 0.36:
        return _attribute(source, combine.weekday_part(source, plain=True))
    if draw < 0.42:
        return _one(source, combine.weekday_part(source))
    if draw < 0.48:
        return _one(source, combine.day_with_part(source))
    if draw < 0.82:
        # Days with a time or a part of their own, and two of a kind, are the hardest to tell apart.
        kind = source.shared(combine.COMPOSED if source.chance(0.45) else combine.KINDS)
        one = kind(source)
        if source.chance(0.35):
            return clauses.pair(source, one, kind(source))
        if source.chance(0.08):  # a week, and a day or an hour of it
            return clauses.excepted(source)
        other = source.shared(combine.COMPOSED if source.chance(0.3) else combine.KINDS)(source)
        return clauses.pair(source, *((one, other) if source.chance(0.5) else (other, one)))
    if draw < 0.91:
        return clauses.with_nothing(source)
    return clauses.three(source)


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
