"""The times of a command as people type it, in plain words: the third course's main families."""

from __future__ import annotations

from random import Random

from ..days import when
from ..dialogue import Pair, Task, json_text
from ..idle import dosed, idle
from ..scenes import dress, one, sentence
from ..typed import exact

ASK = [
    "List the {dates} of the {command} as a JSON array of {words}, in order of mention, like {like}"
    ", or [] if there are none.",
    "List the {dates} of the {command} as a JSON array, in order, or [] if there is none.",
    "Which {dates} are in the {command}? JSON array of {words}, for example {like}; [] for none.",
    "Read the {command} and write its {dates} as a JSON list in plain words. [] means none.",
    "JSON array of the {dates}. Example: {like}.",
    "You hear a {command}. Answer with the {dates} in it as a JSON array like {like}.",
    "When? JSON array of {words}.",
]
DATES = [
    "dates and times",
    "times",
    "days and times",
    "moments",
    "points in time",
    "times and dates",
]
COMMAND = ["command", "voice command", "sentence", "message", "text", "request", "user's words"]


def instruction(rng: Random, tight: bool) -> str:
    """A wording of the task, often with an example list."""
    plain = [when(rng, 0.0).plain[0] for _ in range(rng.randint(2, 4))]
    words = rng.choice(["plain times", "strings", "plain words", "times"])
    return rng.choice(ASK).format(
        dates=rng.choice(DATES),
        command=rng.choice(COMMAND),
        words=words,
        like=json_text(list(dict.fromkeys(plain)), tight),
    )


def times(rng: Random) -> Task:
    tight = rng.random() < 0.75

    def draw(rng: Random) -> Pair:
        text, plain = sentence(rng)
        return text, json_text(plain, tight)

    return Task(instruction(rng, tight), draw)


def in_words(rng: Random) -> Task:
    """With commas, on lines or numbered."""
    form = rng.choice(["commas", "lines", "numbers", "count"])

    def draw(rng: Random) -> Pair:
        text, plain = sentence(rng)
        if form == "count":
            return text, str(len(plain))
        if form == "commas":
            return text, ", ".join(plain) or "none"
        if form == "lines":
            return text, "\n".join(plain) or "none"
        return text, "; ".join(f"{n}) {t}" for n, t in enumerate(plain, 1)) or "none"

    asked = rng.choice(DATES)
    return Task(
        {
            "commas": f"Name the {asked} in order, with commas between them, or none.",
            "lines": f"Write each of the {asked} on a line of its own, or none.",
            "numbers": f"Number the {asked}: 1) ...; 2) ... Write none if there is none.",
            "count": f"How many {asked} are named? A number.",
        }[form],
        draw,
    )


def alone(rng: Random) -> Task:
    """One expression without a sentence: its plain form, or none."""
    as_list, tight = rng.random() < 0.45, rng.random() < 0.75
    clock = rng.random() < 0.25

    def draw(rng: Random) -> Pair:
        chance = rng.random()
        if clock and chance < 0.8:
            said, time = exact(rng)
            text, plain = rng.choice(["", "at ", "by "]) + said, (time,)
        else:
            maker = idle if chance < 0.25 else dosed if chance < 0.3 else when
            made = maker(rng)
            text, plain = made.text, made.plain
        text = dress(rng, text)
        return text, json_text(list(plain), tight) if as_list else ", ".join(plain) or "none"

    if as_list:
        return Task(instruction(rng, tight), draw)
    ask = ["Give the time in plain words, or none.", "When is that? Plain words, or none."]
    return Task(rng.choice([*ask, "Write the time in its plain form, or none."]), draw)


def quoted(rng: Random) -> Task:
    """The words that say when, copied from the command, each with its plain form."""
    both = rng.random() < 0.6

    def draw(rng: Random) -> Pair:
        first, second = when(rng), when(rng)
        text = one(rng, first)
        said = [first]
        if rng.random() < 0.55:
            text = f"{text} {rng.choice(['and', 'then', 'but', 'so'])} {one(rng, second)}"
            said.append(second)
        text = " ".join(text.split())
        said = [s for s in said if s.text in text]
        if not said:
            return draw(rng)
        return text, "\n".join(
            f"{s.text} = {', '.join(s.plain) or 'none'}" if both else s.text for s in said
        )

    if both:
        return Task("Copy each expression of time and write its plain form after it.", draw)
    return Task("Copy the words that say when, one expression a line.", draw)
