"""Stretches of time: from now on, for how long, how long ago."""

from __future__ import annotations

from random import Random

from .clock import Mention, number
from .numbers import english


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


def duration(rng: Random) -> Mention:
    said = length(rng)[0] if rng.random() < 0.7 else day_length(rng)[0]
    return Mention(
        rng.choice([f"for {said}", f"for {said}", f"for about {said}", f"lasting {said}"])
    )


def ago(rng: Random) -> Mention:
    said = length(rng)[0] if rng.random() < 0.4 else day_length(rng)[0]
    return Mention(rng.choice([f"{said} ago", f"{said} ago", f"{said} earlier", f"{said} back"]))
