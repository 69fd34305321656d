"""Copying a text as it is, and picking or moving its words."""

from __future__ import annotations

from random import Random

from ..carriers import timed_sentence
from ..dialogue import Pair, Task, is_clean
from ..words import any_word, invented, title


def line(rng: Random) -> str:
    """Something to copy: words, a sentence, codes, mixed case and marks."""
    draw = rng.random()
    if draw < 0.3:
        return timed_sentence(rng)[0]
    words = [any_word(rng) for _ in range(rng.randint(2, 12))]
    if draw < 0.55:
        return " ".join(words)
    if draw < 0.75:
        for index in range(len(words)):
            roll = rng.random()
            if roll < 0.15:
                words[index] = str(rng.randint(0, 9999))
            elif roll < 0.25:
                words[index] = words[index].upper()
            elif roll < 0.4:
                words[index] = title(rng)
            elif roll < 0.5:
                words[index] += rng.choice([",", ".", ";", "!", "?", ":"])
        return " ".join(words)
    if draw < 0.88:
        return "".join(
            rng.choice("abcdefghijklmnopqrstuvwxyz0123456789-_.") for _ in range(rng.randint(4, 14))
        )
    return (
        rng.choice(["-", ", ", "/", ".", "_"]).join(words)
        if is_clean("_".join(words))
        else line(rng)
    )


REPEAT = [
    "Repeat the text exactly.",
    "Copy what I write.",
    "Say it back word for word.",
    "Echo the input unchanged.",
    "Write the same text again.",
    "Répète le texte sans rien changer.",
]


def repeat(rng: Random) -> Task:
    def draw(rng: Random) -> Pair:
        text = line(rng)
        return text, text

    return Task(rng.choice(REPEAT), draw)


def words_of(rng: Random) -> Task:
    """First word, last word, sorted words and the like."""
    old, new = any_word(rng), invented(rng)
    place = rng.randint(2, 4)
    which = {2: "second", 3: "third", 4: "fourth"}[place]
    actions = {
        "Write only the first word.": lambda w: w[0],
        "Answer with the last word.": lambda w: w[-1],
        f"Write the {which} word.": lambda w: w[place - 1],
        "Write the words in reverse order.": lambda w: " ".join(reversed(w)),
        "Sort the words alphabetically.": lambda w: " ".join(sorted(w)),
        "How many words are there? Answer with a number.": lambda w: str(len(w)),
        "Write the text in capital letters.": lambda w: " ".join(w).upper(),
        "Capitalise every word.": lambda w: " ".join(x.capitalize() for x in w),
        "Join the words with commas.": lambda w: ", ".join(w),
        "Join the words with hyphens.": lambda w: "-".join(w),
        "Put each word on its own line.": lambda w: "\n".join(w),
        "Make a bullet list of the words.": lambda w: "\n".join(f"- {x}" for x in w),
        "Write the text in double quotes.": lambda w: '"' + " ".join(w) + '"',
        "Leave out the first word.": lambda w: " ".join(w[1:]),
        "Leave out the last word.": lambda w: " ".join(w[:-1]),
        "Write the text twice.": lambda w: " ".join(w + w),
        f"Replace the first word by {new}.": lambda w: " ".join([new, *w[1:]]),
        f"Add {old} at the end.": lambda w: " ".join([*w, old]),
        "Write the longest word.": lambda w: max(w, key=len),
    }
    instruction = rng.choice(list(actions))
    action = actions[instruction]

    def draw(rng: Random) -> Pair:
        words = [any_word(rng) for _ in range(rng.randint(4, 8))]
        return " ".join(words), action(words)

    return Task(instruction, draw)
