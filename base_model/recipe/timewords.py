"""Spoken times and what they mean in plain figures: `half seven tonight` -> `tonight`, `7:30 pm`.

A `Mention` is a piece of a sentence and the plain English words it normalises to. Durations,
repetitions, calendar dates and clock times that could be morning or evening have none.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from .numbers import ORDINALS, english

WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = """january february march april may june july august september october november
december""".split()
PARTS = ["morning", "afternoon", "evening"]


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


def day(rng: Random) -> Mention:
    options = [
        (["today", "today", "later today", "sometime today", "before the end of today"], "today"),
        (["tomorrow", "tomorrow", "tomorrow", "by tomorrow", "first thing tomorrow"], "tomorrow"),
        (["yesterday", "yesterday", "since yesterday"], "yesterday"),
        (["tonight", "tonight", "later tonight", "for tonight"], "tonight"),
        (["last night", "last night", "from last night"], "last night"),
        (["the day after tomorrow", "day after tomorrow"], "day after tomorrow"),
        (["the day before yesterday", "day before yesterday"], "day before yesterday"),
    ]
    spoken, plain = rng.choice(options)
    return Mention(rng.choice(spoken), (plain,))


def part_of_day(rng: Random) -> Mention:
    draw = rng.random()
    part = rng.choice(PARTS)
    if draw < 0.3:
        lead = rng.choice(["in the", "in the", "during the", "sometime in the", "early in the"])
        return Mention(f"{lead} {part}", (part,))
    if draw < 0.38:
        return Mention(rng.choice(["at night", "in the night", "during the night"]), ("night",))
    if draw < 0.58:
        lead = rng.choice(["this", "this", "later this", "early this"])
        return Mention(f"{lead} {part}", (f"this {part}",))
    which = rng.choice(["tomorrow", "tomorrow", "yesterday"])
    if which == "tomorrow" and rng.random() < 0.2:
        return Mention("tomorrow night", ("tomorrow night",))
    form = rng.choice(
        [f"{which} {part}"] * 4 + [f"{which} in the {part}", f"the {part} of {which}"]
    )
    return Mention(form, (f"{which} {part}",))


def meal(rng: Random) -> Mention:
    options = [
        (["at breakfast", "at breakfast time", "over breakfast"], "at breakfast"),
        (
            ["during lunch", "over lunch", "at lunch", "at lunchtime", "at lunch time"],
            "during lunch",
        ),
        (["at dinner", "at dinner time", "over dinner", "at dinnertime"], "at dinner"),
        (["after dinner", "after dinner", "once dinner is over"], "after dinner"),
    ]
    spoken, plain = rng.choice(options)
    return Mention(rng.choice(spoken), (plain,))


def weekday(rng: Random) -> Mention:
    name = rng.choice(WEEKDAYS)
    draw = rng.random()
    if draw < 0.5:
        forms = [f"on {name}", f"on {name}", name, f"this {name}", f"this {name}", f"by {name}"]
        forms += [f"{name} coming", f"this coming {name}", f"on {name} this week", f"{name}"]
        return Mention(rng.choice(forms), (f"this {name}",))
    if draw < 0.78:
        forms = [f"next {name}"] * 4 + [f"{name} next week", f"{name} of next week"]
        forms += [f"on {name} next week", f"the {name} after this one"]
        return Mention(rng.choice(forms), (f"next {name}",))
    forms = [f"last {name}"] * 4 + [
        f"{name} last week",
        f"{name} of last week",
        f"this past {name}",
    ]
    return Mention(rng.choice(forms), (f"last {name}",))


def weekday_part(rng: Random) -> Mention:
    name, part = rng.choice(WEEKDAYS), rng.choice([*PARTS, "night"])
    which = rng.choice(["this", "this", "next", "last"])
    lead = "" if which == "this" and rng.random() < 0.7 else f"{which} "
    on = rng.choice(["", "on "]) if not lead else ""
    if part != "night" and rng.random() < 0.25:
        return Mention(f"{on}{lead}{name} in the {part}", (f"{which} {name}", part))
    return Mention(f"{on}{lead}{name} {part}", (f"{which} {name}", part))


def period(rng: Random) -> Mention:
    unit = rng.choice(["week", "weekend", "month", "year"])
    which = rng.choice(["this", "next", "last"])
    forms = {
        "this": [f"this {unit}"] * 3 + [f"later this {unit}", f"before the end of this {unit}"],
        "next": [f"next {unit}"] * 3 + [f"the coming {unit}", f"the following {unit}"],
        "last": [f"last {unit}"] * 3 + [f"the past {unit}", f"the previous {unit}"],
    }[which]
    if unit == "weekend" and which == "this":
        forms += ["at the weekend", "on the weekend", "over the weekend"]
    return Mention(rng.choice(forms), (f"{which} {unit}",))


def length(rng: Random) -> tuple[str, int]:
    """A stretch of time up to a few hours as it is said, and its minutes."""
    draw = rng.random()
    if draw < 0.4:
        value = rng.choice([1, 2, 3, 5, 5, 10, 10, 15, 15, 20, 20, 25, 30, 35, 40, 45, 45, 50, 55])
        if rng.random() < 0.25:
            value = rng.randint(2, 99)
        unit = "minute" if value == 1 else rng.choice(["minutes"] * 4 + ["mins"])
        return f"{number(rng, value)} {unit}", value
    if draw < 0.62:
        hours = rng.choice([1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 12])
        if hours == 1:
            return rng.choice(["an hour", "one hour", "1 hour", "an hour's time"]), 60
        return f"{number(rng, hours)} {rng.choice(['hours', 'hours', 'hours', 'hrs'])}", 60 * hours
    if draw < 0.82:
        hours = rng.randint(1, 5)
        half = ["an hour and a half", "one and a half hours", "one hour and thirty minutes"]
        more = [f"{english(hours)} and a half hours", f"{english(hours)} hours and a half"]
        return rng.choice(half if hours == 1 else more), 60 * hours + 30
    if draw < 0.93:
        odd = [
            ("half an hour", 30),
            ("a half hour", 30),
            ("half an hour", 30),
            ("a quarter of an hour", 15),
            ("quarter of an hour", 15),
            ("three quarters of an hour", 45),
            ("a minute", 1),
            ("a couple of minutes", 2),
            ("a couple of hours", 120),
            ("an hour and a quarter", 75),
        ]
        return rng.choice(odd)
    hours, minutes = rng.randint(1, 4), rng.choice([5, 10, 15, 20, 30, 40, 45, 50])
    unit = "hour" if hours == 1 else "hours"
    tail = f"{number(rng, minutes)} minutes"
    return f"{number(rng, hours)} {unit} {rng.choice(['and ', ''])}{tail}", 60 * hours + minutes


def day_length(rng: Random) -> tuple[str, int]:
    """A stretch of days or weeks as it is said, and its days."""
    draw = rng.random()
    if draw < 0.55:
        value = rng.choice([1, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 20, 21, 30, 45, 60, 90])
        return f"{number(rng, value)} {'day' if value == 1 else 'days'}", value
    if draw < 0.68:
        return rng.choice(["a week", "one week", "1 week", "a week"]), 7
    if draw < 0.8:
        return rng.choice(["a fortnight", "a fortnight", "two weeks", "2 weeks"]), 14
    if draw < 0.88:
        return rng.choice([("a couple of days", 2), ("a day", 1), ("a couple of weeks", 14)])
    weeks = rng.randint(3, 8)
    return f"{number(rng, weeks)} weeks", 7 * weeks


def ahead_minutes(rng: Random) -> Mention:
    said, minutes = length(rng)
    forms = [f"in {said}"] * 5 + [f"{said} from now"] * 3 + [f"after {said}", f"within {said}"]
    if said.endswith("s") and not said.endswith("time"):
        forms.append(f"in {said} time")
    return Mention(rng.choice(forms), (f"in {minutes} minutes",))


def ahead_days(rng: Random) -> Mention:
    said, days = day_length(rng)
    forms = (
        [f"in {said}"] * 4 + [f"{said} from now"] * 2 + [f"{said} from today", f"in {said} time"]
    )
    return Mention(rng.choice(forms), (f"in {days} days",))


def calendar_date(rng: Random) -> Mention:
    month, number_ = rng.choice(MONTHS), rng.randint(1, 31)
    suffix = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}.get(number_, "th")
    ordinal = rng.choice([f"{number_}{suffix}", ORDINALS[number_], str(number_)])
    forms = [f"on {month} {ordinal}", f"on the {ordinal} of {month}", f"by {month} {ordinal}"]
    forms += [f"in {month}", f"on {month} the {ordinal}", f"in {rng.randint(1950, 2060)}"]
    if not ordinal.isdigit():
        forms.append(f"on the {ordinal}")
    return Mention(rng.choice(forms))


def habit(rng: Random) -> Mention:
    name = rng.choice(WEEKDAYS)
    part = rng.choice([*PARTS, "night"])
    forms = [f"every {name}", f"each {name}", f"on {name}s", f"every {part}", "every day", "daily"]
    forms += [f"every other {name}", "twice a week", "once a month", "every week", "every weekend"]
    forms += [f"each {part}", "every hour", "weekly", "on weekdays", "every year", "all the time"]
    forms += [f"every {number(rng, rng.randint(2, 40))} minutes", f"every {name} {part}"]
    return Mention(rng.choice(forms))


def duration(rng: Random) -> Mention:
    said = length(rng)[0] if rng.random() < 0.7 else day_length(rng)[0]
    return Mention(
        rng.choice([f"for {said}", f"for {said}", f"for about {said}", f"lasting {said}"])
    )


def ago(rng: Random) -> Mention:
    said = length(rng)[0] if rng.random() < 0.4 else day_length(rng)[0]
    return Mention(rng.choice([f"{said} ago", f"{said} ago", f"{said} earlier", f"{said} back"]))


def vague(rng: Random) -> Mention:
    unit = rng.choice(["week", "weekend", "month"])
    forms = ["soon", "later", "at some point", "right away", "now", "one day", "some time", "again"]
    forms += [f"the {unit} after next", f"the {unit} before last", "in a while", "in the summer"]
    forms += ["whenever you can", "as soon as possible", "in a bit", "eventually", "in spring"]
    return Mention(rng.choice(forms))


def decoy(rng: Random) -> Mention:
    """A number or a fraction that has nothing to do with time."""
    n = number(rng, rng.randint(1, 40))
    forms = [f"on channel {n}", f"from page {n}", f"to size {n}", f"{n} times", f"by {n} percent"]
    forms += [f"for {n} people", f"to level {n}", f"on platform {n}", f"at number {n}", "by half"]
    forms += ["a quarter of it", f"{n} of them", f"for {n} quid", "by a third", f"in room {n}"]
    return Mention(rng.choice(forms))


TIMES = (
    (day, 12),
    (part_of_day, 11),
    (meal, 4),
    (weekday, 13),
    (weekday_part, 7),
    (period, 8),
    (ahead_minutes, 13),
    (ahead_days, 8),
    (twelve, 4),
)
NO_TIMES = (
    (calendar_date, 3),
    (habit, 4),
    (duration, 4),
    (ago, 2),
    (vague, 2),
    (bare_time, 3),
    (decoy, 2),
)


def draw(rng: Random, table: tuple[tuple[object, int], ...]) -> Mention:
    makers = [maker for maker, _ in table]
    maker = rng.choices(makers, [weight for _, weight in table])[0]
    return maker(rng)  # type: ignore[operator]


def at_time(rng: Random) -> Mention:
    """An exact clock time with its preposition."""
    exact = exact_time(rng) if rng.random() < 0.85 else twelve(rng)
    lead = rng.choice(["at", "at", "at", "at", "by", "around", "before", "from", "for"])
    return Mention(f"{lead} {exact.spoken}", exact.plain)


def day_and_time(rng: Random) -> Mention:
    """`tomorrow at half past four in the afternoon`, `seven thirty tonight`."""
    draw_ = rng.random()
    if draw_ < 0.3:
        hour, minute = rng.randint(5, 11), pick_minute(rng)
        face = clock_face(rng, hour, minute)
        order = rng.choice([f"at {face} tonight", f"tonight at {face}", f"{face} tonight"])
        plain = figures(hour, minute, "pm")
        return Mention(order, ("tonight", plain) if order[0:3] == "ton" else (plain, "tonight"))
    if draw_ < 0.5:
        part = rng.choice(PARTS)
        span = {"morning": (5, 11), "afternoon": (1, 5), "evening": (5, 10)}[part]
        hour, minute = rng.randint(*span), pick_minute(rng)
        face = clock_face(rng, hour, minute)
        plain = figures(hour, minute, "am" if part == "morning" else "pm")
        which = rng.choice(["tomorrow", "this", "yesterday"])
        when = f"{which} {part}"
        if rng.random() < 0.5:
            return Mention(f"{when} at {face}", (when, plain))
        return Mention(f"at {face} {when}", (plain, when))
    anchor = rng.choice([day, weekday, weekday])(rng)
    time = at_time(rng)
    if rng.random() < 0.7:
        return Mention(f"{anchor.spoken} {time.spoken}", anchor.plain + time.plain)
    return Mention(f"{time.spoken} {anchor.spoken}", time.plain + anchor.plain)


def mention(rng: Random) -> Mention:
    """Any expression that names a time."""
    draw_ = rng.random()
    if draw_ < 0.2:
        return at_time(rng)
    if draw_ < 0.34:
        return day_and_time(rng)
    return draw(rng, TIMES)


def no_mention(rng: Random) -> Mention:
    """An expression that sounds like a time and names none."""
    return draw(rng, NO_TIMES)
