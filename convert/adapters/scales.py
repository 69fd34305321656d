"""Moving a scale into B, and back out to the last bit.

PEFT holds a scale for each module; MLX one for all, GGUF one numerator for all. What differs from
it is multiplied into B. A float32 product cannot always be divided back (two neighbours may round
to the same product), so what the division misses is kept: a few ±1s in units of the last place,
which pack to a few percent of B.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from livery.adapter import Pair
from livery.errors import UserError


def is_number(value: Any) -> bool:
    """Whether a value from a file is a number that a float can hold; true and false are none."""
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer of thousands of digits
        return False


def alpha_for(scale: float, rank: int, *, rslora: bool = False) -> float:
    """The alpha whose scale at `rank` is exactly `scale`, or the nearest there is."""
    divisor = math.sqrt(rank) if rslora else rank
    guess = scale * divisor
    around = (guess, math.nextafter(guess, math.inf), math.nextafter(guess, -math.inf))
    return min(around, key=lambda alpha: abs(alpha / divisor - scale))


def most_common(values: Iterable[float]) -> float:
    """The value that occurs most often, the smaller one of equals."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def fold(module: str, b: np.ndarray, factor: float) -> np.ndarray:
    """`b * factor` in float32, whatever b was stored in.

    Raises:
        UserError: the product overflows.
    """
    if factor == 1.0:
        return b
    with np.errstate(over="ignore", under="ignore"):
        product = (b.astype(np.float64) * factor).astype(np.float32)
    if not np.isfinite(product).all() and np.isfinite(b).all():
        raise UserError(f"{module}: its scale is {factor:g} times that of the others: B overflows.")
    return product


def unfold(product: np.ndarray, factor: float, missed: str = "") -> np.ndarray:
    """`product / factor` in float32, corrected by what `missing` kept."""
    if factor == 1.0:
        return product
    quotient = _divide(product, factor)
    if not missed:
        return quotient
    # Bounded: a hostile record must not inflate beyond the tensor it belongs to.
    raw = zlib.decompressobj().decompress(base64.b64decode(missed), quotient.nbytes)
    steps = np.frombuffer(raw, np.int32)
    return (quotient.view(np.int32) + steps.reshape(quotient.shape)).view(np.float32)


def missing(b: np.ndarray, product: np.ndarray, factor: float) -> str:
    """What `unfold(product, factor)` misses of `b`; "" where it misses nothing."""
    if factor == 1.0:
        return ""
    wanted = np.ascontiguousarray(b, dtype=np.float32).view(np.int32)
    steps = wanted - _divide(product, factor).view(np.int32)
    if not steps.any():
        return ""
    return base64.b64encode(zlib.compress(steps.tobytes(), 6)).decode()


def _divide(product: np.ndarray, factor: float) -> np.ndarray:
    if factor == 0.0:
        return np.zeros_like(product, dtype=np.float32)
    with np.errstate(over="ignore", under="ignore"):
        return np.ascontiguousarray((product.astype(np.float64) / factor).astype(np.float32))


def pad_rank(pair: Pair, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """(A, B) filled up with zeros to `rank`: the same delta."""
    a, b = pair.a, pair.b
    extra = rank - pair.rank
    if extra == 0:
        return a, b
    rows = [(0, 0)] * (a.ndim - 2)
    return np.pad(a, [*rows, (0, extra), (0, 0)]), np.pad(b, [*rows, (0, 0), (0, extra)])
