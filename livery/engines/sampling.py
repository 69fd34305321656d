"""What sampling does to the logits: noise that is the same on every engine, and the nucleus.

The token with the largest sum of logit / temperature and Gumbel noise is a draw from the softmax.
The noise of a token is a hash of its id, the seed, the prompt's row and the step, made of operators
that numpy, torch and MLX share: each computes it where its logits are, alike to the last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def noise_keys(seed: int, places: Sequence[tuple[int, int]]) -> np.ndarray:
    """(B, 2) int32, what `gumbel` starts from at each of these (row, step)."""
    states = [np.random.SeedSequence([seed % 2**63, *at]).generate_state(2) for at in places]
    return np.asarray(states, np.uint32).view(np.int32)


def gumbel(tokens: Any, keys: Any, log: Callable[[Any], Any]) -> Any:
    """(B, V) float32 Gumbel noise, from -2.8 to 16.6, as an array of the library it is given.

    Args:
        tokens: (V,) int32, the ids.
        keys: (B, 2) int32, from `noise_keys`.
        log: the library's natural logarithm, in float32.

    The shifts, masks and multipliers are those of C. Wellons' lowbias32, a second key added midway
    so that the noise of one place is not that of another moved along. 23 bits and a half are what
    float32 holds of the open interval (0, 1).
    """
    bits = tokens * -1640531535 + keys[:, :1]
    bits = (bits ^ (bits >> 16 & 0xFFFF)) * 0x7FEB352D
    bits = (bits ^ (bits >> 15 & 0x1FFFF)) + keys[:, 1:]
    bits = bits * -2073254261
    bits = bits ^ (bits >> 16 & 0xFFFF)
    return -log(-log(((bits & 0x7FFFFF) + 0.5) * 2.0**-23))


def host_gumbel(width: int, seed: int, row: int, step: int) -> np.ndarray:
    """(width,) float32, the noise of one place, in numpy."""

    def log(values: np.ndarray) -> np.ndarray:
        return np.log(values.astype(np.float32))

    return gumbel(np.arange(width, dtype=np.int32), noise_keys(seed, [(row, step)]), log)[0]


def nucleus(scaled: np.ndarray, top_p: float) -> np.ndarray:
    """Bool, the shape of `scaled` (B, V): the likeliest tokens of each row, as many as it takes for
    their probabilities to reach `top_p`; one at least.

    Args:
        scaled: logits divided by the temperature, -inf where the grammar forbids.
    """
    places = np.argsort(-scaled, axis=-1, kind="stable")
    ordered = np.take_along_axis(scaled, places, -1).astype(np.float64)
    weights = np.exp(ordered - ordered[:, :1])
    shares = weights / weights.sum(-1, keepdims=True)
    kept = np.empty(scaled.shape, bool)
    np.put_along_axis(kept, places, np.cumsum(shares, -1) - shares < top_p, -1)
    return kept
