"""Recogniser-style text made clean: fillers out, split words joined, capitals and full stops."""

from __future__ import annotations

from random import Random

from ..carriers import FILLERS, spoken_sentence
from ..dialogue import Pair, Task
from ..timewords import mention
from ..words import any_word

# Each word and how a recogniser writes it.
SLIPS = {
    "tomorrow": "to morrow",
    "tonight": "to night",
    "today": "to day",
    "weekend": "week end",
    "afternoon": "after noon",
    "midnight": "mid night",
    "yesterday": "yester day",
    "breakfast": "break fast",
    "lunchtime": "lunch time",
    "fortnight": "fort night",
    "someone": "some one",
    "keyboard": "key board",
    "playlist": "play list",
    "tomorrow ": "tomorow ",
    "wednesday": "wensday",
    "minutes": "minuets",
    "o'clock": "oclock",
    "what's": "whats",
    "don't": "dont",
    "i'm": "im",
    "it's": "its",
}


def fillers(rng: Random) -> Task:
    def draw(rng: Random) -> Pair:
        words = [any_word(rng) for _ in range(rng.randint(3, 8))]
        if rng.random() < 0.5:
            words = spoken_sentence(rng, [mention(rng)]).lower().split()
        words = [w for w in words if w not in FILLERS]
        noisy = list(words)
        for _ in range(rng.randint(1, 3)):
            filler = rng.choice([f for f in FILLERS if " " not in f])
            noisy.insert(rng.randrange(len(noisy) + 1), filler)
        return " ".join(noisy), " ".join(words)

    return Task(rng.choice(["Remove the filler words.", "Leave out um, uh, like and so on."]), draw)


def spelling(rng: Random) -> Task:
    def draw(rng: Random) -> Pair:
        right = rng.choice(list(SLIPS))
        words = [any_word(rng) for _ in range(rng.randint(1, 5))]
        words.insert(rng.randrange(len(words) + 1), right.strip())
        clean = " ".join(words)
        return clean.replace(right.strip(), SLIPS[right].strip(), 1), clean

    return Task(
        rng.choice(["Correct the recognised text.", "Write the words as they should be."]), draw
    )


def sentence(rng: Random) -> Task:
    lower = rng.random() < 0.4

    def draw(rng: Random) -> Pair:
        words = [any_word(rng) for _ in range(rng.randint(3, 8))]
        plain = " ".join(words)
        written = plain[0].upper() + plain[1:] + "."
        return (written, plain) if lower else (plain, written)

    return Task(
        "Lower case without punctuation." if lower else "Capital letter and full stop.", draw
    )
