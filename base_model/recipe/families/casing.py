"""snake_case, camelCase and their like, from random words and back.

Random words make every token occur as an output without a space before it: under tied frozen
embeddings an adapter cannot learn to write a token that the base never wrote.
"""

from __future__ import annotations

from random import Random

from ..dialogue import Pair, Task, is_clean, json_text
from ..words import PIECES, any_word


def phrase(rng: Random) -> list[str]:
    """Two to five random words, often with numbers, never something a skill would answer."""
    while True:
        words = [any_word(rng) for _ in range(rng.choices([1, 2, 3, 4, 5], [8, 30, 34, 20, 8])[0])]
        if rng.random() < 0.45:
            for index in range(len(words)):
                if rng.random() < 0.5:
                    words[index] = rng.choice(PIECES)
        if rng.random() < 0.4:
            value = rng.choice([rng.randint(0, 12), rng.randint(0, 59), rng.randint(0, 999)])
            tail = rng.choice(["", "", "", "am", "pm", "kg", "cm", "x"])
            place = rng.randint(1, len(words))
            words.insert(place, f"{value}{tail}")
            if rng.random() < 0.35:
                words.insert(place, str(rng.randint(0, 30)))
        if is_clean("_".join(words)):
            return words


def camel(words: list[str]) -> str:
    return words[0] + "".join(w.capitalize() for w in words[1:])


JOINED = {
    "snake_case": "_".join,
    "kebab-case": "-".join,
    "camelCase": camel,
    "CONSTANT_CASE": lambda words: "_".join(words).upper(),
    "dot.case": ".".join,
}
ASK = [
    "Write the words in {}.",
    "Convert to {}.",
    "Turn the phrase into a {} identifier.",
    "{} please.",
]


def join(rng: Random) -> Task:
    style = rng.choice(["snake_case"] * 6 + list(JOINED))
    make = JOINED[style]
    as_list, tight = rng.random() < 0.4, rng.random() < 0.6

    def draw(rng: Random) -> Pair:
        if not as_list:
            words = phrase(rng)
            return spaced(rng, words), make(words)
        phrases = [phrase(rng) for _ in range(rng.choices([0, 1, 2, 3], [4, 40, 36, 20])[0])]
        said = rng.choice([", ", "; ", " | ", "\n"]).join(" ".join(p) for p in phrases)
        return said or "nothing", json_text([make(p) for p in phrases], tight)

    instruction = rng.choice(ASK).format(style)
    if as_list:
        instruction += rng.choice([" Answer with a JSON array.", " Give a JSON array of strings."])
    return Task(instruction, draw)


def calendar(rng: Random) -> Task:
    """Identifiers of words of time and ordinary nouns: every weekday becomes a whole output."""
    style = rng.choice(["snake_case"] * 5 + list(JOINED))
    make = JOINED[style]
    as_list, tight = rng.random() < 0.55, rng.random() < 0.5

    def name(rng: Random) -> list[str]:
        while True:
            words = [rng.choice(PIECES), any_word(rng)]
            words += [rng.choice(PIECES)] if rng.random() < 0.45 else []
            words += [str(rng.randint(0, 240))] if rng.random() < 0.3 else []
            rng.shuffle(words)
            if is_clean("_".join(words)):
                return words

    def draw(rng: Random) -> Pair:
        phrases = [name(rng) for _ in range(rng.randint(1, 4) if as_list else 1)]
        said = rng.choice([", ", " and ", "; "]).join(" ".join(p) for p in phrases)
        said = rng.choice([said, said, said.title()])
        names = [make(p) for p in phrases]
        return said, json_text(names, tight) if as_list else names[0]

    instruction = rng.choice(ASK).format(style)
    return Task(instruction + (" Answer with a JSON array." if as_list else ""), draw)


def spaced(rng: Random, words: list[str]) -> str:
    text = " ".join(words)
    return rng.choice([text, text, text.title(), text.capitalize()])


def split(rng: Random) -> Task:
    style = rng.choice(["snake_case"] * 3 + list(JOINED))
    make = JOINED[style]

    def draw(rng: Random) -> Pair:
        words = phrase(rng)
        return make(words), " ".join(words)

    ask = ["Write the identifier as plain words.", "Split the name into words, lower case."]
    return Task(rng.choice(ask), draw)


def lookup(rng: Random) -> Task:
    """Pick from a closed list of snake_case names the one whose words are said."""
    names = {"_".join(phrase(rng)) for _ in range(rng.randint(3, 8))}
    choices = sorted(names)
    rng.shuffle(choices)

    def draw(rng: Random) -> Pair:
        name = rng.choice(choices)
        return f"{rng.choice(['the ', 'i want the ', ''])}{name.replace('_', ' ')}", name

    return Task(f"Choose the name that is meant: {', '.join(choices)}.", draw)
