"""How long from now: minutes, hours turned into minutes, days, weeks and fortnights."""

from __future__ import annotations

from datagen.date_keys.numbers import spoken
from datagen.date_keys.said import Said, Source

_MINUTES = (5, 10, 15, 20, 30, 45, 2, 3, 4, 6, 7, 8, 12, 25, 35, 40, 50, 55, 60, 90)
_UNITS = (("minutes",) * 7, ("mins",) * 2, ("min",))


def later(source: Source) -> Said:
    """ "in twenty minutes", "two and a half hours from now", "in a fortnight's time"."""
    draw = source.rng.random()
    if draw < 0.36:
        return in_minutes(source)
    if draw < 0.68:
        return in_hours(source)
    return in_days(source)


def in_minutes(source: Source) -> Said:
    """Minutes said as minutes, or as quarters of an hour."""
    if source.chance(0.12):
        amount, count = source.shared(
            (("a quarter of an hour", 15), ("three quarters of an hour", 45))
        )
    else:
        count = source.shared(_MINUTES) if source.chance(0.75) else source.rng.randrange(2, 100)
        if source.chance(0.1):  # long ones are typed, or come from the contract's hours
            count = source.shared((100, 120, 150, 180, 200, 240, 300, 720, 1440, 2880))
            if source.chance(0.7):
                count = source.rng.randrange(100, 3_500)
        unit = source.shared(source.shared(_UNITS))
        amount = f"{spoken(source, count) if count < 1000 else count} {unit}"
        if source.chance(0.04):
            amount, count = source.shared(("one minute", "a minute", "1 minute")), 1
    return _from_now(source, amount, f"in_{count}_minutes")


def in_hours(source: Source) -> Said:
    """Hours, half hours, and hours with minutes."""
    amount, count = hours(source)
    return _from_now(source, amount, f"in_{count}_minutes")


def hours(source: Source) -> tuple[str, int]:
    """(wording, minutes) of some hours."""
    kind = source.shared(
        ("one",) * 4
        + ("half",) * 4
        + ("whole",) * 6
        + ("one and a half",) * 3
        + ("and a half",) * 3
        + ("and minutes",) * 7
        + ("hour and quarter",) * 2
        + ("couple",)
        + ("ten",)
        + ("half after",)
    )
    if kind == "one":
        return source.shared(("an hour", "an hour", "one hour", "1 hour")), 60
    if kind == "half":
        return source.shared(("half an hour", "half an hour", "half an hour", "a half hour")), 30
    if kind == "one and a half":
        return (
            source.shared(
                ("an hour and a half", "an hour and a half", "one and a half hours", "1.5 hours")
            ),
            90,
        )
    if kind == "couple":
        return source.shared(("a couple of hours", "a couple of hours", "a couple hours")), 120
    if kind == "ten":  # "an hour and ten"
        past = source.shared((5, 10, 10, 20, 20, 25, 35, 40, 50))
        head, sixty = source.shared((("an hour", 60), ("an hour", 60), ("two hours", 120)))
        return f"{head} and {spoken(source, past)}", sixty + past
    if kind == "half after":
        count = source.rng.randrange(2, 7)
        return f"{spoken(source, count, 0.3)} hours and a half", 60 * count + 30
    if kind == "hour and quarter":
        return source.shared(
            (
                ("an hour and a quarter", 75),
                ("an hour and three quarters", 105),
                ("one and a quarter hours", 75),
                ("two and a quarter hours", 135),
            )
        )
    if kind == "whole":
        draw = source.rng.random()
        count = source.rng.randrange(2, 11) if draw < 0.8 else source.rng.randrange(11, 25)
        if draw > 0.94:
            count = source.shared((36, 48, 48, 72, source.rng.randrange(25, 80)))
        return f"{spoken(source, count)} hours", 60 * count
    count = source.rng.randrange(2, 9)
    if kind == "and a half":
        return f"{spoken(source, count, 0.2)} and a half hours", 60 * count + 30
    count = source.shared((1, 1, 1, 2, 2, 3, 4))
    past = source.shared((5, 10, 15, 15, 20, 25, 30, 30, 30, 35, 40, 45, 45, 50, 55))
    whole = (
        source.shared(("an hour", "an hour", "one hour", "1 hour"))
        if count == 1
        else f"{spoken(source, count)} hours"
    )
    and_ = source.shared((" and", " and", " and", ""))
    return f"{whole}{and_} {spoken(source, past)} minutes", 60 * count + past


def in_days(source: Source) -> Said:
    """Days, weeks (7) and fortnights (14)."""
    draw = source.rng.random()
    if draw < 0.5:
        count = (
            source.rng.randrange(2, 13) if source.chance(0.88) else source.rng.randrange(13, 100)
        )
        if source.chance(0.07):
            count = source.shared((100, 120, 150, 180, 200, 365, source.rng.randrange(100, 500)))
        amount = f"{spoken(source, count)} days"
        if source.chance(0.16):
            amount, count = source.shared(
                (
                    ("a day", 1),
                    ("a day", 1),
                    ("one day", 1),
                    ("1 day", 1),
                    ("a couple of days", 2),
                    ("a couple days", 2),
                )
            )
    elif draw < 0.65:
        amount, count = source.shared(("a week", "a week", "one week", "1 week")), 7
    elif draw < 0.87:
        weeks = source.rng.randrange(2, 7) if source.chance(0.85) else source.rng.randrange(7, 13)
        amount, count = f"{spoken(source, weeks)} weeks", 7 * weeks
        if source.chance(0.06):
            amount, count = source.shared((("a couple of weeks", 14), ("a couple weeks", 14)))
        elif source.chance(0.05):
            more = source.rng.randrange(2, 7)
            amount, count = f"{amount} and {spoken(source, more)} days", count + more
    else:
        amount, count = "a fortnight", 14
    said = _from_now(source, amount, f"in_{count}_days")
    if source.chance(0.1):
        return Said(f"{amount} from today", said.keys)
    return said


def _from_now(source: Source, amount: str, key: str) -> Said:
    plural = amount.endswith("s")
    times = f"{amount} time" if plural else f"{amount}'s time"
    if plural and source.chance(0.2):
        times = f"{amount}' time"
    if amount.split(" ")[-2:-1] == ["and"] and not plural:  # "an hour and ten"
        times = f"{amount} minutes' time"
    forms = (
        *(f"in {amount}",) * 13,
        *(f"{amount} from now",) * 5,
        *(f"{amount} later",) * 2,
        f"{amount} hence",
        f"in {times}",
        f"in {times}",
        f"in about {amount}",
        f"in exactly {amount}",
        f"in another {amount}" if plural else f"in {amount} or so",
        f"in around {amount}",
        f"in just {amount}",
        f"in roughly {amount}",
    )
    return Said(source.shared(forms), (key,))
