"""Expressions made of several: a day with a time, a time with the part that makes it clear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from datagen.date_keys import clock, days, spans
from datagen.date_keys.said import Said, Source


def any_day(source: Source) -> Said:
    """A day without hours of its own."""
    if source.chance(0.5):
        return days.weekday(source, plain=source.chance(0.7))
    return days.day(
        source, source.shared(("today", "tomorrow", "tomorrow", "day_after_tomorrow", "yesterday"))
    )


def anything(source: Source) -> Said:
    """Any expression with a key."""
    return source.shared(KINDS)(source)


def together(source: Source, one: Said, other: Said) -> Said:
    """ "tomorrow at 3 pm" or "at 3 pm tomorrow"."""
    bare = other.noun and other.text.startswith("at ") and source.chance(0.25)
    time = other.noun if bare else other.text
    if source.chance(0.55) and not bare:
        noun = f"{one.noun} {time}" if one.noun else ""
        return Said(f"{one.text} {time}", one.keys + other.keys, noun, tense=one.tense)
    noun = f"{other.noun} {one.text}" if other.noun else ""
    return Said(f"{time} {one.text}", other.keys + one.keys, noun, tense=one.tense)


def day_with_time(source: Source) -> Said:
    day = any_day(source)
    if source.chance(0.12):
        day = spans.in_days(source)
    if source.chance(0.12):
        day = days.day(source, source.shared(("tonight", "last_night")))
        return together(source, day, clock.with_half(source, source.rng.randrange(18, 24)))
    if source.chance(0.08):
        return together(source, day, clock.span_of_two(source))
    return together(source, day, clock.with_half(source))


def part_with_time(source: Source) -> Said:
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
        day = weekday_part(source, plain=True)
        part = day.keys[1]
    face, key = clock.beside_part(source, part)
    if face.isalnum() and source.chance(0.08):
        face = f"{face}{source.shared(('ish', ' ish'))}"
    draw = source.rng.random()
    if draw < 0.5:
        return Said(f"{day.text} at {face}", (*day.keys, key), tense=day.tense)
    at = "at " if draw < 0.75 else ""
    return Said(f"{at}{face} {day.text}", (key, *day.keys), tense=day.tense)


def weekday_part(source: Source, plain: bool = False) -> Said:
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
    if draw < 0.87:
        early = source.shared(("early", "late", "first thing", "later"))
        when = f"{early} in the {part}"
        if source.chance(0.4):
            when = f"{source.shared(('early', 'late', 'mid'))} {part}"
        elif part == "morning" and source.chance(0.4):
            when = source.shared(("in the early hours", "in the small hours")) + " of the morning"
        return Said(f"{day.text} {when}", (*day.keys, part), tense=day.tense)
    if draw < 0.93:
        return Said(f"{day.text} in the {part}", (*day.keys, part), tense=day.tense)
    return Said(f"in the {part} {day.text}", (part, *day.keys), tense=day.tense)


def day_then(source: Source, part: Said) -> Said:
    """ "tomorrow at noon", "at lunch on friday"."""
    return together(source, any_day(source), part)


def day_with_part(source: Source) -> Said:
    """A day with a meal, noon or midnight."""
    if source.chance(0.5):
        return day_then(source, days.meal(source))
    return day_then(source, days.part(source, source.shared(("noon", "midnight"))))


COMPOSED: tuple[Callable[[Source], Said], ...] = (
    day_with_time,
    part_with_time,
    weekday_part,
    day_with_part,
)
KINDS: tuple[Callable[[Source], Said], ...] = (
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
    *COMPOSED,
)
