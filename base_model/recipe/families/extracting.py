"""Finding things in a text: names, places, objects, codes, quoted words; lists of items."""

from __future__ import annotations

import json
from random import Random

from ..dialogue import Pair, Task, json_text
from ..numbers import english
from ..words import NAMES, NOUNS, PLACES, VERBS, any_word, invented, thing, title


def field(rng: Random) -> Task:
    """One fact out of a sentence, `none` where it is not given."""
    wanted = rng.choice(["name", "place", "object", "number", "code", "colour"])
    ask = {
        "name": "Which person is named? Answer none if nobody is.",
        "place": "Which city is named? Answer none if there is none.",
        "object": "Which object is meant?",
        "number": "Which number stands in the text? Digits, or none.",
        "code": "Copy the code from the text, or none.",
        "colour": "Which colour is named? none if there is none.",
    }[wanted]
    colours = "red blue green yellow black white pink grey brown purple orange".split()

    def draw(rng: Random) -> Pair:
        have = {
            "name": title(rng),
            "place": rng.choice(PLACES),
            "object": rng.choice(NOUNS),
            "number": str(rng.randint(2, 999)),
            "code": invented(rng).upper() + "-" + str(rng.randint(10, 9999)),
            "colour": rng.choice(colours),
        }
        bits = {
            "name": [f"for {have['name']}", f"with {have['name']}"],
            "place": [f"in {have['place']}", f"to {have['place']}"],
            "number": [f"{have['number']} times", f"number {have['number']}"],
            "code": [f"code {have['code']}", f"({have['code']})"],
            "colour": [],
        }
        given = {k for k in bits if rng.random() < 0.5}
        if rng.random() < 0.8:
            given.add(wanted)
        colour = f"{have['colour']} " if "colour" in given else ""
        parts = [f"{rng.choice(VERBS)} the {colour}{have['object']}"]
        tail = [rng.choice(v) for k, v in bits.items() if k in given and v]
        rng.shuffle(tail)
        text = " ".join(parts + tail)
        if rng.random() < 0.4:
            text = text[0].upper() + text[1:] + "."
        elif rng.random() < 0.4:
            text = text.lower()
            have = {k: v.lower() for k, v in have.items()}
        answer = have[wanted] if wanted == "object" or wanted in given else "none"
        return text, answer

    return Task(ask, draw)


def items(rng: Random) -> Task:
    """The items of a list said aloud, as a JSON array of strings."""
    kinds = {
        "objects": NOUNS,
        "people": [n.lower() for n in NAMES],
        "cities": [p.lower() for p in PLACES],
    }
    wanted = rng.choice(list(kinds))
    mixed = rng.random() < 0.5
    how, tight = rng.random(), rng.random() < 0.5

    def draw(rng: Random) -> Pair:
        count = rng.choices([0, 1, 2, 3, 4], [15, 25, 28, 20, 12])[0]
        good = rng.sample(kinds[wanted], count)
        other = rng.choice([k for k in kinds if k != wanted])
        bad = rng.sample(kinds[other], rng.randint(1, 2)) if mixed or not good else []
        said = good + [b for b in bad if b not in good]
        rng.shuffle(said)
        good = [g for g in said if g in good]
        v = rng.choice(VERBS)
        joined = " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)
        joined = joined if rng.random() < 0.5 else " and ".join(said)
        text = rng.choice(
            [f"{v} {joined}", f"{v} the {joined} please", f"we need {joined}", joined]
        )
        if how < 0.7:
            return text, json_text(good, tight)
        return text, ", ".join(good) or "none"

    form = "a JSON array of strings" if how < 0.7 else "a comma list, or none"
    ask = [f"List the {wanted} as {form}.", f"Which {wanted} are named? Give {form}."]
    return Task(rng.choice(ask), draw)


def numbers(rng: Random) -> Task:
    """All numbers of a text in digits."""

    def draw(rng: Random) -> Pair:
        values = [rng.randint(0, 120) for _ in range(rng.randint(0, 4))]
        words = []
        for value in values:
            words += [
                rng.choice(VERBS),
                english(value, False) if rng.random() < 0.6 else str(value),
                rng.choice(NOUNS),
            ]
        text = " ".join(words) or f"{rng.choice(VERBS)} the {thing(rng)}"
        return text, json.dumps(values)

    return Task("List the numbers as a JSON array of numbers.", draw)


def quoted(rng: Random) -> Task:
    def draw(rng: Random) -> Pair:
        inside = " ".join(any_word(rng) for _ in range(rng.randint(1, 5)))
        left, right = (" ".join(any_word(rng) for _ in range(rng.randint(0, 5))) for _ in "ab")
        mark = rng.choice(["''", '""', "()", "[]", "<>"])
        return f"{left} {mark[0]}{inside}{mark[1]} {right}".strip(), inside

    return Task("Write only what stands between the marks.", draw)
