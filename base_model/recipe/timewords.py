"""Expressions of time and their plain words: `half seven tonight` -> `tonight`, `7:30 pm`.

Durations, repetitions, calendar dates and clock times that could be morning or evening have none.
"""

from __future__ import annotations

from random import Random

from .clock import (
    Mention,
    at_time,
    bare_time,
    clock_face,
    figures,
    number,
    pick_minute,
    twelve,
)
from .numbers import ORDINALS
from .spans import ago, ahead_days, ahead_minutes, duration

WEEKDAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = """january february march april may june july august september october november
december""".split()
PARTS = ["morning", "afternoon", "evening"]


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
