"""Spoken times in plain figures and plain words: one expression at a time."""

from __future__ import annotations

from random import Random

from ..clock import Mention, bare_time, exact_time, figures, twenty_four
from ..dialogue import Pair, Task
from ..spans import duration
from ..timewords import calendar_date, habit, mention, no_mention

PLAIN = [
    "Write the time in plain figures.",
    "Normalise the expression.",
    "Say when that is in plain words.",
    "Rewrite the time in the short form.",
    "Give the plain form of the time expression.",
    "Simplify the time.",
]


def normalise(rng: Random) -> Task:
    only_clock = rng.random() < 0.45

    def draw(rng: Random) -> Pair:
        if only_clock:
            said = exact_time(rng)
            lead = rng.choice(["", "", "at ", "by ", "around "])
            return lead + said.spoken, said.plain[0]
        if rng.random() < 0.15:
            return no_mention(rng).spoken, "none"
        said = mention(rng)
        return said.spoken, ", ".join(said.plain)

    return Task(rng.choice(PLAIN[:1] if only_clock else PLAIN), draw)


def clock_forms(rng: Random) -> Task:
    """Between the twelve- and the twenty-four-hour clock."""
    to_24 = rng.random() < 0.3

    def draw(rng: Random) -> Pair:
        hour, minute, half = (
            rng.randint(1, 12),
            rng.choice([0, 15, 30, 45, rng.randint(0, 59)]),
            rng.choice(["am", "pm"]),
        )
        full = hour % 12 + (12 if half == "pm" else 0)
        if to_24:
            return figures(hour, minute, half), f"{full:02d}:{minute:02d}"
        return twenty_four(rng, hour, minute, half), figures(hour, minute, half)

    ask = ["Write the time with the 24-hour clock.", "24-hour form."]
    if not to_24:
        ask = ["Write the time with am or pm.", "Give the 12-hour time.", "12-hour form."]
    return Task(rng.choice(ask), draw)


def half_of_day(rng: Random) -> Task:
    def draw(rng: Random) -> Pair:
        if rng.random() < 0.3:
            return bare_time(rng).spoken, "unknown"
        said = exact_time(rng)
        return said.spoken, said.plain[0][-2:]

    return Task(
        rng.choice(["Is it am or pm? Say unknown if it is not said.", "am, pm or unknown?"]), draw
    )


def kind(rng: Random) -> Task:
    """A point in time, a duration, a repetition, a calendar date, or an open clock time."""
    labels = ["time", "duration", "repetition", "date", "unclear"]

    def draw(rng: Random) -> Pair:
        label = rng.choice(labels)
        makers = {"time": mention, "duration": duration, "repetition": habit, "date": calendar_date}
        said: Mention = makers.get(label, bare_time)(rng)
        return said.spoken, label

    ask = ["Which kind is it: {}?", "Classify the expression as {}."]
    return Task(rng.choice(ask).format(", ".join(labels)), draw)
