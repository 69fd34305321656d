"""Numbers in words and digits, sums, and lengths of time in other units."""

from __future__ import annotations

from random import Random

from ..dialogue import Pair, Task
from ..numbers import english, french
from ..spans import day_length, length
from ..words import NAMES, NOUNS


def size(rng: Random) -> int:
    return rng.choice(
        [rng.randint(0, 20), rng.randint(0, 99), rng.randint(0, 99), rng.randint(0, 9999)]
    )


def words_to_digits(rng: Random) -> Task:
    in_french = rng.random() < 0.2
    backwards = rng.random() < 0.35

    def draw(rng: Random) -> Pair:
        value = rng.randint(0, 99) if in_french else size(rng)
        said = french(value) if in_french else english(value, hyphen=rng.random() < 0.5)
        return (
            (str(value), french(value) if in_french else english(value))
            if backwards
            else (said, str(value))
        )

    if in_french:
        return Task(
            "Écris le nombre en lettres." if backwards else "Écris le nombre en chiffres.", draw
        )
    ask = ["Write the number in words.", "Spell the number."]
    if not backwards:
        ask = ["Write the number in digits.", "As digits.", "Which number is this? Use digits."]
    return Task(rng.choice(ask), draw)


def in_sentence(rng: Random) -> Task:
    """Digits for the number words inside a sentence."""

    def draw(rng: Random) -> Pair:
        value, other = rng.randint(2, 99), rng.randint(2, 99)
        noun, more = rng.choice(NOUNS), rng.choice(NOUNS)
        said = english(value, hyphen=rng.random() < 0.3), english(other, hyphen=rng.random() < 0.3)
        form = rng.choice(
            ["{n} has {a} {x}s", "add {a} {x}s and {b} {y}s", "we need {a} {x}s not {b}"]
        )
        name = rng.choice(NAMES).lower()
        return (
            form.format(n=name, a=said[0], b=said[1], x=noun, y=more),
            form.format(n=name, a=value, b=other, x=noun, y=more),
        )

    return Task(
        rng.choice(["Write the numbers as digits.", "Replace number words by digits."]), draw
    )


def sums(rng: Random) -> Task:
    spelled = rng.random() < 0.2

    def draw(rng: Random) -> Pair:
        kind = rng.choice("++--*/")
        a, b = size(rng) % 200, rng.randint(0, 60)
        if kind == "*":
            a, b = rng.randint(0, 12), rng.randint(0, 12)
        if kind == "/":
            b = rng.randint(1, 12)
            a = b * rng.randint(0, 12)
        if kind == "-" and b > a:
            a, b = b, a
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[kind]
        word = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}[kind]
        left, right = (english(a), english(b)) if spelled else (str(a), str(b))
        asked = rng.choice(
            [f"{left} {word} {right}", f"what is {left} {word} {right}?", f"{a} {kind} {b}"]
        )
        return asked, str(result)

    return Task(rng.choice(["Calculate.", "Answer with the number.", "Work out the sum."]), draw)


def to_minutes(rng: Random) -> Task:
    """Hours to minutes, weeks to days."""
    days = rng.random() < 0.35
    unit = "days" if days else "minutes"
    with_unit = rng.random() < 0.5
    wrapped = rng.random() < 0.4

    def draw(rng: Random) -> Pair:
        said, value = day_length(rng) if days else length(rng)
        if wrapped:
            said = rng.choice(
                ["in {}", "{} from now", "for {}", "{} ago", "wait {}", "it takes {}"]
            ).format(said)
        return said, f"{value} {unit}" if with_unit else str(value)

    ask = [f"How many {unit} is that?", f"Convert to {unit}.", f"Write it in {unit}."]
    return Task(rng.choice(ask) + ("" if with_unit else " Only the number."), draw)


def compare(rng: Random) -> Task:
    bigger = rng.random() < 0.5

    def draw(rng: Random) -> Pair:
        values = rng.sample(range(500), rng.randint(2, 5))
        said = rng.choice([", ", " ", " and "]).join(str(v) for v in values)
        return said, str(max(values) if bigger else min(values))

    return Task(f"Write the {'largest' if bigger else 'smallest'} number.", draw)
