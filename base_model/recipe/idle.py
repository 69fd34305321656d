"""What holds words or numbers of time and says nothing of when: durations, habits, codes, names."""

from __future__ import annotations

from random import Random

from .numbers import ORDINALS
from .pools import POOLS
from .timewords import MONTHS, WEEKDAYS
from .typed import When, days_ahead, exact, minutes_ahead, open_clock, shorten, spoken
from .words import NOUNS, any_word, invented

PARTS = ("morning", "afternoon", "evening", "night")


def amount(rng: Random) -> str:
    """A stretch of time."""
    draw = rng.random()
    if draw < 0.5:
        return minutes_ahead(rng)[0]
    if draw < 0.75:
        return days_ahead(rng)[0]
    unit = rng.choice(["seconds", "months", "years", "nights", "weekends", "mornings"])
    return f"{spoken(rng, rng.randint(2, 60))} {unit}"


def duration(rng: Random) -> str:
    said = amount(rng)
    forms = ["for {}"] * 4 + ["for about {}", "for at least {}", "for up to {}", "for the past {}"]
    forms += ["lasting {}", "no longer than {}", "for a total of {}"]
    if not said.startswith(("a ", "an ", "half")):
        forms += ["for the next {}", "the last {}", "over the last {}", "these past {}"]
    return rng.choice([*forms, "all day", "all night long", "for ages", "day after day"]).format(
        said
    )


def habit(rng: Random) -> str:
    name, part, n = rng.choice(WEEKDAYS), rng.choice(PARTS), spoken(rng, rng.randint(2, 12))
    face = open_clock(rng).noun
    unit = rng.choice(["day", "week", "month", "year", "weekend", "hour", "weekday", "quarter"])
    nth = rng.choice(["first", "second", "third", "last", "1st", "2nd", "3rd", "4th"])
    return rng.choice(
        [
            f"every {name}",
            f"each {name}",
            f"every other {name}",
            f"every second {name}",
            f"every {nth} {name} of the month",
            f"the {nth} {name} of each month",
            f"on {name}s",
            f"{name}s",
            f"{name}s and {rng.choice(WEEKDAYS)}s",
            f"every {name} and {rng.choice(WEEKDAYS)}",
            f"{name}s at {face}",
            f"every {name} at {face}",
            f"{name} {part}s",
            f"every {name} {part}",
            f"every {part}",
            f"each and every {part}",
            f"every {unit}",
            f"each {unit}",
            f"every single {unit}",
            f"every other {unit}",
            f"once a {unit}",
            f"twice a {unit}",
            f"{n} times a {unit}",
            f"every {n} {unit}s",
            f"every {n} minutes",
            f"from {name} to {rng.choice(WEEKDAYS)} every week",
            f"{unit} after {unit}",
            rng.choice(["daily", "weekly", "monthly", "yearly", "hourly", "nightly", "biweekly"]),
            rng.choice(["on weekdays", "at weekends", "on weekends", "most days", "most mornings"]),
            rng.choice(
                ["regularly", "always", "usually", "as a rule", "day in day out", "all the time"]
            ),
        ]
    )


def past_span(rng: Random) -> str:
    return f"{amount(rng)} {rng.choice(['ago', 'ago', 'ago', 'earlier', 'back', 'before that'])}"


def date(rng: Random) -> str:
    month, n = rng.choice(MONTHS), rng.randint(1, 31)
    ending = {1: "st", 2: "nd", 3: "rd"}.get(0 if n in (11, 12, 13) else n % 10, "th")
    ordinal = rng.choice([f"{n}{ending}", ORDINALS[n]])
    short = rng.choice([month, month, month[:3]])
    year = rng.randint(1950, 2060)
    season = rng.choice(["summer", "spring", "autumn", "winter", "fall"])
    feast = rng.choice(
        ["christmas", "easter", "new year's eve", "halloween", "my birthday", "ramadan"]
    )
    return rng.choice(
        [
            f"on {short} {ordinal}",
            f"on the {ordinal} of {month}",
            f"{short} {n}",
            f"{n} {short}",
            f"on {n} {short} {year}",
            f"by the {ordinal}",
            f"on the {ordinal}",
            f"in {month}",
            f"next {month}",
            f"in {year}",
            f"since {year}",
            f"{n}/{rng.randint(1, 12)}/{year % 100:02d}",
            f"{year}-{rng.randint(1, 12):02d}-{n:02d}",
            f"this {season}",
            f"next {season}",
            f"in the {season} of {year}",
            f"at {feast}",
            f"before {feast}",
            f"the {rng.choice(['week', 'weekend', 'month', *WEEKDAYS])} after next",
            f"the {rng.choice(['week', 'weekend', 'month', *WEEKDAYS])} before last",
            f"in {spoken(rng, rng.randint(2, 12))} {rng.choice(['months', 'years', 'seconds'])}",
            rng.choice(
                ["in a month", "in a year", "in a month's time", "a year from now", "in a second"]
            ),
        ]
    )


def number_thing(rng: Random) -> str:
    """Prices, phone numbers, codes, versions, rooms, ages, sizes, scores."""
    n, m = rng.randint(1, 99), rng.randint(0, 99)
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(6, 10)))
    code = invented(rng)[:4].upper()
    noun = rng.choice(NOUNS)
    return rng.choice(
        [
            f"for {n}.{m:02d}",
            f"for ${n}",
            f"for {n} dollars",
            f"for £{n}.{m:02d}",
            f"for {spoken(rng, n)} euros",
            f"at {n} quid each",
            f"on {digits[:3]} {digits[3:]}",
            f"on +44 {digits}",
            f"with order {code}-{digits[:4]}",
            f"with code {digits[:4]}",
            f"to version {n % 10}.{m % 20}",
            f"to v{n % 20}.{m % 10}.{n % 7}",
            f"in room {spoken(rng, rng.randint(1, 40))}",
            f"in room {n}{m:02d}",
            f"on platform {spoken(rng, rng.randint(1, 20))}",
            f"on floor {spoken(rng, rng.randint(2, 30))}",
            f"to {spoken(rng, rng.randint(14, 30))} degrees",
            f"at {n} percent",
            f"to level {spoken(rng, rng.randint(1, 12))}",
            f"on channel {spoken(rng, rng.randint(1, 60))}",
            f"from page {n}",
            f"for {spoken(rng, rng.randint(2, 20))} people",
            f"at gate {code[0]}{n % 30}",
            f"on bus {n}",
            f"at {n} {rng.choice(['high', 'mill', 'park', 'church', 'king'])} street",
            f"{spoken(rng, rng.randint(2, 12))} {noun}s",
            f"size {n}",
            f"chapter {spoken(rng, rng.randint(1, 30))}",
            f"episode {n} of season {spoken(rng, rng.randint(1, 12))}",
            f"aged {n}",
            f"who is {spoken(rng, n)} years old",
            f"at number {n}",
            f"at www.{any_word(rng)}{n}.com",
            f"by {rng.choice(['half', 'a third', 'a quarter', 'two thirds'])}",
            f"a quarter of the {noun}",
            f"half of the {noun}",
            f"{n} to {m}",
            f"with {spoken(rng, rng.randint(2, 9))} to go",
            f"at {n} miles an hour",
        ]
    )


def appointment(rng: Random) -> str:
    """Something called by an open time: `my ten o'clock`."""
    face = open_clock(rng).noun
    kind = rng.choice(
        ["", " call", " meeting", " bus", " slot", " class", " train", " appointment"]
    )
    return f"{rng.choice(['my', 'the', 'our'])} {face}{kind}"


def idle(rng: Random) -> When:
    """Any of these, as a piece of a sentence that answers how long, how often or how much."""
    draw = rng.random()
    if draw < 0.18:
        return open_clock(rng)
    makers = [duration] * 4 + [habit] * 5 + [date] * 4 + [number_thing] * 4 + [past_span] * 2
    makers += [lambda r: r.choice(POOLS["vague"])] * 3  # type: ignore[list-item]
    text = rng.choice(makers)(rng)
    return When(shorten(rng, text) if rng.random() < 0.15 else text)


def dosed(rng: Random) -> When:
    """A habit or a stretch beside an exact time, which counts: `every day at 8 am`."""
    said, plain = exact(rng)
    text = rng.choice([habit, duration])(rng)
    return When(
        rng.choice([f"{text} at {said}", f"at {said} {text}", f"{text} from {said}"]), (plain,)
    )
