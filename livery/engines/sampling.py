"""What sampling does to the logits: noise from seed, row and step alone, and the nucleus."""

from __future__ import annotations

import numpy as np


def gumbel(width: int, seed: int, row: int, step: int) -> np.ndarray:
    """(width,) float32, a function of the three numbers on every machine."""
    state = np.random.SeedSequence([seed % 2**63, row, step])
    drawn = np.random.Generator(np.random.PCG64(state)).gumbel(size=width)
    return drawn.astype(np.float32)


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
