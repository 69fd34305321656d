"""The numbers of maths rows: drawn, and their results computed exactly."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

Numbers = dict[str, str]


def written(value: Fraction | int) -> str:
    """A number with at most two decimals, without a separator of thousands.

    Raises:
        ValueError: it has more decimals.
    """
    cents = Fraction(value) * 100
    if cents.denominator != 1:
        raise ValueError(f"{value} has more than two decimals")
    if cents % 100 == 0:
        return str(int(value))
    sign = "-" if cents < 0 else ""
    whole, part = divmod(abs(int(cents)), 100)
    return f"{sign}{whole}.{part:02d}".rstrip("0")


def _add(rng: random.Random) -> tuple[Fraction, ...]:
    m, n = rng.randint(2, 999), rng.randint(2, 999)
    return Fraction(m), Fraction(n), Fraction(m + n)


def _subtract(rng: random.Random) -> tuple[Fraction, ...]:
    n = rng.randint(2, 400)
    v = rng.randint(1, 500)
    return Fraction(n + v), Fraction(n), Fraction(v)


def _multiply(rng: random.Random) -> tuple[Fraction, ...]:
    m, n = rng.randint(2, 30), rng.randint(2, 30)
    return Fraction(m), Fraction(n), Fraction(m * n)


def _divide(rng: random.Random) -> tuple[Fraction, ...]:
    n, v = rng.choice((2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25)), rng.randint(2, 60)
    return Fraction(n * v), Fraction(n), Fraction(v)


def _percent(rng: random.Random) -> tuple[Fraction, ...]:
    m, n = rng.choice((5, 10, 15, 20, 25, 30, 40, 50, 60, 75)), rng.randint(2, 60) * 10
    return Fraction(m), Fraction(n), Fraction(m * n, 100)


def _square(rng: random.Random) -> tuple[Fraction, ...]:
    m = rng.randint(2, 60)
    return Fraction(m), Fraction(0), Fraction(m * m)


def _root(rng: random.Random) -> tuple[Fraction, ...]:
    v = rng.randint(2, 60)
    return Fraction(v * v), Fraction(0), Fraction(v)


def _average(rng: random.Random) -> tuple[Fraction, ...]:
    m, n, v = rng.randint(10, 60), rng.randint(10, 60), rng.randint(20, 60)
    o = 3 * v - m - n
    if o < 1:
        return _average(rng)
    return Fraction(m), Fraction(n), Fraction(v), Fraction(o)


def _remainder(rng: random.Random) -> tuple[Fraction, ...]:
    n = rng.randint(3, 12)
    v = rng.randint(1, n - 1)
    return Fraction(n * rng.randint(2, 20) + v), Fraction(n), Fraction(v)


def _minutes(rng: random.Random) -> tuple[Fraction, ...]:
    m, n = rng.randint(2, 12), rng.randint(1, 59)
    return Fraction(m), Fraction(n), Fraction(60 * m + n)


def _tip(rng: random.Random) -> tuple[Fraction, ...]:
    m, n = rng.choice((5, 10, 15, 20, 25)), rng.randint(2, 40) * 10
    return Fraction(m), Fraction(n), n + Fraction(m * n, 100)


def _price(rng: random.Random) -> tuple[Fraction, ...]:
    m, n = rng.randint(2, 20), rng.randint(2, 40)
    return Fraction(m), Fraction(n), Fraction(m * n)


def _early(rng: random.Random) -> tuple[Fraction, ...]:
    m = rng.randint(6, 12)
    return Fraction(m), Fraction(0), Fraction(m - 2)


def _zero(rng: random.Random) -> tuple[Fraction, ...]:
    return Fraction(rng.randint(1, 900)), Fraction(0), Fraction(0)


_SUMS: dict[str, Callable[[random.Random], tuple[Fraction, ...]]] = {
    "add": _add, "subtract": _subtract, "multiply": _multiply, "divide": _divide,
    "percent": _percent, "square": _square, "root": _root, "average": _average,
    "remainder": _remainder, "minutes": _minutes, "tip": _tip, "price": _price,
    "early": _early, "zero": _zero,
}  # fmt: skip


def has_numbers(family: str) -> bool:
    """Whether the family's wordings have numbers."""
    return family in _SUMS


def draw(family: str, rng: random.Random) -> Numbers:
    """The numbers m, n, o of a family and their result v."""
    m, n, v, *o = _SUMS[family](rng)
    numbers = {"m": m, "n": n, "v": v}
    if o:
        numbers["o"] = o[0]
    return {name: written(value) for name, value in numbers.items()}
