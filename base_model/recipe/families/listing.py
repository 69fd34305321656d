"""The times of a sentence, listed in plain words; an empty list where it names none."""

from __future__ import annotations

from random import Random

from ..carriers import busy_sentence, spoken_sentence, timed_sentence
from ..dialogue import Pair, Task, json_text
from ..timewords import mention, no_mention

AS_JSON = [
    "List the times of the sentence as a JSON array of strings.",
    "Which times are named? Answer with a JSON list, in order.",
    "Extract the time expressions in plain form as a JSON array. Use [] if there are none.",
    "Find every point in time in the command. JSON array of strings.",
    "When? Give a JSON list of the plain times.",
    "You read voice commands and write down the times they name as a JSON array.",
]
AS_COMMAS = [
    "List the times of the sentence, separated by commas. Write none if there is none.",
    "When should it happen? Plain words, commas between them, or none.",
    "Name the times in the order they are said, or none.",
]
AS_LINES = [
    "List the times, one a line. Write none if there is none.",
    "Write each time of the text on its own line with a dash, or none.",
]
COUNT = ["How many times are named? Answer with a number.", "Count the points in time."]
ANY = ["Does the sentence name a point in time? yes or no.", "Is a time named? Answer yes or no."]


def as_json(rng: Random) -> Task:
    tight = rng.random() < 0.5

    def draw(rng: Random) -> Pair:
        text, times = timed_sentence(rng)
        return text, json_text(times, tight)

    return Task(rng.choice(AS_JSON), draw)


def as_text(rng: Random) -> Task:
    form = rng.random()

    def draw(rng: Random) -> Pair:
        text, times = timed_sentence(rng)
        if form < 0.55:
            return text, ", ".join(times) or "none"
        if form < 0.75:
            return text, "\n".join(f"- {t}" for t in times) or "none"
        return text, str(len(times)) if form < 0.87 else ("yes" if times else "no")

    ask = AS_COMMAS if form < 0.55 else AS_LINES if form < 0.75 else COUNT if form < 0.87 else ANY
    return Task(rng.choice(ask), draw)


def as_said(rng: Random) -> Task:
    """The words of the sentence that say when, copied as they stand."""

    def draw(rng: Random) -> Pair:
        while True:
            said = [mention(rng) if rng.random() < 0.8 else no_mention(rng)]
            text = spoken_sentence(rng, said)
            if said[0].spoken in text:
                return text, said[0].spoken

    ask = [
        "Copy the words that say when.",
        "Quote the part about time.",
        "Which words name the time?",
    ]
    return Task(rng.choice(ask), draw)


def without(rng: Random) -> Task:
    """A correction: what holds in the end."""

    def draw(rng: Random) -> Pair:
        first, second = mention(rng), mention(rng)
        turn = rng.choice(
            ["no wait", "no", "sorry i mean", "actually make that", "i mean", "scratch that"]
        )
        text = f"{spoken_sentence(rng, [first])} {turn} {second.spoken}"
        return text, ", ".join(second.plain)

    ask = [
        "The speaker corrects himself. Write the time that holds in the end.",
        "Which time counts after the correction?",
    ]
    return Task(rng.choice(ask), draw)


def several(rng: Random) -> Task:
    """Two to four times in one sentence, among what only sounds like one: none may be lost."""
    form, tight = rng.random(), rng.random() < 0.5

    def draw(rng: Random) -> Pair:
        text, times = busy_sentence(rng)
        if form < 0.7:
            return text, json_text(times, tight)
        return text, (", " if form < 0.85 else "\n").join(times)

    ask = AS_JSON if form < 0.7 else AS_COMMAS if form < 0.85 else AS_LINES[:1]
    return Task(rng.choice(ask), draw)


def numbered(rng: Random) -> Task:
    """The sentence's times, numbered: counting them keeps all of them."""

    def draw(rng: Random) -> Pair:
        text, times = timed_sentence(rng)
        return text, "; ".join(f"{n}) {t}" for n, t in enumerate(times, 1)) or "none"

    ask = ["Number the times of the sentence: 1) ...; 2) ... Write none if there is none."]
    return Task(rng.choice(ask), draw)
