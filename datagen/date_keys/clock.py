"""Times of the clock: with am or pm, on 24 hours, beside a part of the day, and without either."""

from __future__ import annotations

from datagen.date_keys.numbers import spoken, words
from datagen.date_keys.said import Said, Source
from livery.skills.date_keys import time_key

# Half of the times said are on the hour; most others on a quarter or five minutes.
_MINUTES = (0,) * 12 + (30,) * 7 + (15,) * 4 + (45,) * 5 + (5, 10, 20, 25, 35, 40, 50, 55) * 2

_TO = (*("to",) * 6, "till", "of")


def minutes(source: Source) -> int:
    """A minute past the hour, as often as people say it."""
    return source.shared(_MINUTES) if source.chance(0.96) else source.rng.randrange(1, 60)


def face(source: Source, hour: int, minute: int, plain: bool = False) -> str:
    """A time on a 12-hour face, without am or pm: (15, 30) -> "half three", "3 30", "half past 3".

    `plain` leaves out what is not said before "am" and "pm" ("seven o'clock").
    """
    h = (hour - 1) % 12 + 1
    after = h % 12 + 1
    rng = source.rng
    digits = source.chance(0.35)
    say = str if digits else words
    if minute == 0:
        if not plain and source.chance(0.3):
            return f"{say(h)} o'clock"
        return f"{h}:00" if digits and source.chance(0.08) else say(h)
    ways = ["numbers"] * 4
    if minute == 15:
        ways += ["quarter past"] * 5
    elif minute == 30:
        ways += ["half past"] * 4 + ["half"] * 3
    elif minute == 45:
        ways += ["quarter to"] * 7
    elif minute < 30:
        ways += ["past"] * (5 if minute % 5 == 0 else 1)
    else:
        ways += ["to"] * (6 if minute % 5 == 0 else 1)
    way = rng.choice(ways)
    a = "a " if source.chance(0.25) else ""
    mins = " minutes" if minute % 5 or source.chance(0.15) else ""
    if way == "quarter past":
        quarter = "15" if digits and source.chance(0.4) else f"{a}quarter"
        return f"{quarter} {rng.choice(('past', 'past', 'past', 'after'))} {say(h)}"
    if way == "half past":
        return f"half past {say(h)}"
    if way == "half":
        return f"half {say(h)}"
    if way == "quarter to":
        return f"{a}quarter {rng.choice(_TO)} {say(after)}"
    if way == "past":
        return f"{say(minute)}{mins} {rng.choice(('past', 'past', 'after'))} {say(h)}"
    if way == "to":
        return f"{say(60 - minute)}{mins} {rng.choice(_TO)} {say(after)}"
    if digits:
        return f"{h}{rng.choice((':', ' ', ':', ' ', '.'))}{minute:02}"
    if minute < 10:
        return f"{words(h)} {rng.choice(('oh', 'o'))} {words(minute)}"
    return f"{words(h)} {words(minute)}"


def half_of_day(source: Source, hour: int, text: str) -> str:
    """`text` with am or pm, or with the part of the day that tells them apart."""
    half = "am" if hour < 12 else "pm"
    if source.chance(0.6) and "o'clock" not in text:
        spelled = source.shared((half, half, half, f"{half[0]} m", f"{half[0]} m", f"{half[0]}.m."))
        tight = text[-1].isdigit() and spelled == half and source.chance(0.5)
        return f"{text}{spelled}" if tight else f"{text} {spelled}"
    return f"{text} {part_phrase(source, hour)}"


def part_phrase(source: Source, hour: int) -> str:
    """ "in the morning" and the like for an hour of the day."""
    if hour < 12:
        return "at night" if hour < 4 and source.chance(0.25) else "in the morning"
    if hour < 17:
        return "in the afternoon"
    if hour < 21:
        return "in the evening"
    return source.shared(("at night", "at night", "in the evening"))


def time_of_24(source: Source, hour: int, minute: int) -> str:
    """A time on a 24-hour clock: "15:30", "15 30", "fifteen thirty", "eighteen hundred"."""
    rng = source.rng
    if source.chance(0.55):
        return f"{hour:02}{rng.choice((':', ':', ':', ' ', '.'))}{minute:02}"
    if minute == 0:
        return f"{words(hour)} hundred{rng.choice(('', '', ' hours'))}"
    return f"{words(hour)} {'oh ' if minute < 10 else ''}{words(minute)}"


def hour_of_day(source: Source) -> int:
    """An hour, waking ones more often."""
    rng = source.rng
    return rng.randrange(6, 23) if source.chance(0.7) else rng.randrange(24)


def with_half(source: Source, hour: int | None = None, minute: int | None = None) -> Said:
    """A time that says which half of the day it means."""
    hour = hour_of_day(source) if hour is None else hour
    minute = minutes(source) if minute is None else minute
    if hour in (0, 11, 12, 23) and minute and minute % 5 == 0 and source.chance(0.4):
        text = _by_noon(source, hour, minute)
    elif hour in (0, 12):
        text = _twelve(source, hour, minute)
    elif source.chance(0.3) and hour >= 13:
        text = time_of_24(source, hour, minute)
    elif source.chance(0.04) and 1 <= hour < 10:
        text = f"{hour:02}:{minute:02}"
    else:
        # "half seven" and "quarter to seven" name the hour that follows, so noon and one differ.
        text = half_of_day(source, hour, face(source, hour, minute, plain=source.chance(0.7)))
    return _placed(source, text, time_key(hour, minute))


def _by_noon(source: Source, hour: int, minute: int) -> str:
    """ "quarter to noon", "ten past midnight": the half of the day needs no other word."""
    twelve = source.shared(("noon", "noon", "midday")) if hour in (11, 12) else "midnight"
    before, count = hour in (11, 23), 60 - minute if hour in (11, 23) else minute
    said = {15: source.shared(("quarter", "a quarter", "15")), 30: "half"}.get(count)
    if said is None or (count == 30 and before):
        said = spoken(source, count)
    return f"{said} {'to' if before else 'past'} {twelve}"


_ZONES = ("gmt", "cet", "est", "pst", "utc", "bst", "eastern", "pacific", "uk time", "local time")


def _twelve(source: Source, hour: int, minute: int) -> str:
    """Noon, midnight and the minutes after them."""
    half = "pm" if hour else "am"
    if minute:
        if source.chance(0.3):
            return f"{hour:02}:{minute:02}" if not hour else f"12:{minute:02} pm"
        text = face(source, 12, minute, plain=True)
        phrase = f"{half[0]} m" if source.chance(0.2) else half
        return f"{text} {phrase}"
    if hour:
        return source.shared(("12 pm", "twelve pm", "12pm", "twelve noon", "12 noon", "noon"))
    return source.shared(
        ("12 am", "twelve am", "12am", "twelve at night", "twelve o'clock at night", "midnight")
    )


def without_half(source: Source) -> Said:
    """A time that nobody can tell am from pm: no key."""
    hour = source.rng.randrange(1, 13)
    minute = minutes(source)
    if hour == 12:
        minute = minute or 30  # plain twelve is left alone: many mean noon
    return _placed(source, face(source, hour, minute), None)


def beside_part(source: Source, part: str) -> tuple[str, str]:
    """(face, key) of a time that a part of a day beside it ("tonight", "morning") makes clear."""
    rng = source.rng
    hours = {
        "morning": (5, 12),
        "afternoon": (13, 18),
        "evening": (17, 22),
        "night": (19, 24),
    }[part]
    hour = rng.randrange(*hours)
    minute = minutes(source)
    return face(source, hour, minute), time_key(hour, minute)


def _placed(source: Source, text: str, key: str | None) -> Said:
    """A time with its preposition."""
    keys = (key,) if key else ()
    before = source.shared(
        ("at",) * 14
        + ("around", "about", "by", "before", "after", "just after", "from", "at about", "for")
    )
    after = source.shared(("",) * 12 + (" sharp", " or so", " exactly", " on the dot"))
    if text in ("noon", "midnight") or source.chance(0.5):
        after = ""
    elif not after and source.chance(0.06):
        after = f" {source.shared(_ZONES)}"
    return Said(f"{before} {text}{after}", keys, noun=text)


def span_of_two(source: Source) -> Said:
    """ "from nine am to five pm", "between 2 and 4 pm" is left out: its first time has no half."""
    first = source.rng.randrange(6, 18)
    second = source.rng.randrange(first + 1, 23)
    if first < 12 and source.chance(0.2):
        second = 12
    one = with_half(source, first, source.shared((0, 0, 0, 30)))
    two = with_half(source, second, source.shared((0, 0, 0, 30)))
    join = source.shared((("from", "to"), ("from", "until"), ("between", "and"), ("from", "till")))
    return Said(f"{join[0]} {one.noun} {join[1]} {two.noun}", one.keys + two.keys)
