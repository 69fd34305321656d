"""Clock times as people say them and in plain figures: `half seven in the evening`, `7:30 pm`.

A `Mention` is a piece of a sentence and the plain English words it normalises to. A clock time
that could be morning or evening has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .numbers import english


@dataclass(frozen=True)
class Mention:
    """What is said, and the plain times it stands for (none for a duration, a date, a habit)."""

    spoken: str
    plain: tuple[str, ...] = ()


def figures(hour: int, minute: int, half: str) -> str:
    """3, 5, "pm" -> "3:05 pm"."""
    clock = f"{hour}:{minute:02d}" if minute else str(hour)
    return f"{clock} {half}"


def pick_minute(rng: Random) -> int:
    draw = rng.random()
    if draw < 0.34:
        return 0
    if draw < 0.72:
        return rng.choice([15, 30, 45])
    return rng.choice([5, 10, 20, 25, 35, 40, 50, 55]) if draw < 0.88 else rng.randint(1, 59)


def number(rng: Random, value: int, words: float = 0.6) -> str:
    """Spelled out more often than in digits, as a recogniser writes it."""
    return english(value, hyphen=rng.random() < 0.3) if rng.random() < words else str(value)


def clock_face(rng: Random, hour: int, minute: int) -> str:
    """A twelve-hour clock time as people say or write it, without morning or evening."""
    here, after = number(rng, hour), number(rng, hour % 12 + 1)
    styles: list[str] = [f"{hour}:{minute:02d}"]
    if minute == 0:
        styles = [here, here, f"{here} o'clock", f"{here} o clock", f"{hour}:00", str(hour)]
    elif minute < 10:
        styles += [f"{english(hour)} {rng.choice(['oh', 'oh', 'o'])} {english(minute)}"]
        styles += [f"{hour} 0{minute}"]
    else:
        both = f"{english(hour)} {english(minute, hyphen=False)}"
        styles += [both, both, f"{hour} {minute}", f"{hour}.{minute}"]
    if minute == 15:
        styles += [f"quarter past {here}", f"a quarter past {here}", f"quarter after {here}"]
    if minute == 30:
        styles += [f"half past {here}", f"half past {here}", f"half {english(hour)}"] * 2
    if minute == 45:
        styles += [f"quarter to {after}", f"a quarter to {after}", f"quarter of {after}"] * 2
        styles += [f"quarter till {after}", f"quarter to {after}"]
    if minute in (5, 10, 20, 25):
        styles += [f"{number(rng, minute)} past {here}", f"{number(rng, minute)} past {here}"]
        styles += [f"{number(rng, minute)} minutes past {here}"]
    if minute in (35, 40, 50, 55):
        left = number(rng, 60 - minute)
        styles += [f"{left} to {after}", f"{left} to {after}", f"{left} minutes to {after}"]
    return rng.choice(styles)


def exact_time(rng: Random) -> Mention:
    """A clock time that says which half of the day it means; without the `at`."""
    hour, minute = rng.randint(1, 12), pick_minute(rng)
    if hour == 12 and minute == 0:
        hour = rng.randint(1, 11)
    half = rng.choice(["am", "pm", "pm"])
    plain = figures(hour, minute, half)
    draw = rng.random()
    if draw < 0.2:
        return Mention(twenty_four(rng, hour, minute, half), (plain,))
    face = clock_face(rng, hour, minute)
    if draw < 0.62:
        mark = {"am": ["am", " am", " a.m.", " a m"], "pm": ["pm", " pm", " p.m.", " p m"]}[half]
        tail = rng.choice(mark[:2] + mark) if face[-1].isdigit() else rng.choice(mark[1:])
        return Mention(face + tail, (plain,))
    if half == "am":
        tail = "at night" if hour in (1, 2) and rng.random() < 0.2 else "in the morning"
    elif hour == 12 or hour <= 4:
        tail = "in the afternoon"
    elif hour <= 5:
        tail = rng.choice(["in the afternoon", "in the evening"])
    elif hour <= 8:
        tail = "in the evening"
    else:
        tail = rng.choice(["in the evening", "at night"])
    if hour == 12 and half == "am":
        return Mention(face + " at night", (plain,))
    return Mention(f"{face} {tail}", (plain,))


def twenty_four(rng: Random, hour: int, minute: int, half: str) -> str:
    """15:30, fifteen thirty, 1530 hours; for the morning with a leading zero."""
    full = hour % 12 + (12 if half == "pm" else 0)
    styles = [f"{full}:{minute:02d}", f"{full:02d}:{minute:02d}", f"{full:02d} {minute:02d}"]
    if full < 10:
        styles = [f"{full:02d}:{minute:02d}"]
    if full >= 13:
        if 0 < minute < 10:
            styles += [f"{english(full)} oh {english(minute)}"]
        if minute >= 10:
            styles += [f"{english(full)} {english(minute, hyphen=False)}"]
        styles += [f"{full:02d}{minute:02d} hours", f"{full}h{minute:02d}"]
        styles += [f"{english(full)} hundred hours", f"{english(full)} hundred"] * (minute == 0)
    return rng.choice(styles)


def bare_time(rng: Random) -> Mention:
    """A clock time that could be morning or evening: no plain time."""
    hour = rng.randint(1, 11)
    return Mention("at " + clock_face(rng, hour, pick_minute(rng)))


def twelve(rng: Random) -> Mention:
    noon = ["noon", "midday", "twelve noon", "12 noon", "twelve o'clock at noon", "12 pm", "12pm"]
    noon += ["twelve pm", "12:00 pm", "twelve noon"]
    night = ["midnight", "twelve at night", "12 midnight", "twelve midnight", "12 am"]
    night += ["12am", "twelve am", "12:00 am", "twelve o'clock at night"]
    if rng.random() < 0.55:
        return Mention(rng.choice(noon), ("noon",))
    return Mention(rng.choice(night), ("midnight",))


def at_time(rng: Random) -> Mention:
    """An exact clock time with its preposition."""
    exact = exact_time(rng) if rng.random() < 0.85 else twelve(rng)
    lead = rng.choice(["at", "at", "at", "at", "by", "around", "before", "from", "for"])
    return Mention(f"{lead} {exact.spoken}", exact.plain)
