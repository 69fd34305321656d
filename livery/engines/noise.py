"""What sampling adds to the logits: numbers that depend on the seed, the row and the step alone."""

from __future__ import annotations

import numpy as np


def gumbel(width: int, seed: int, row: int, step: int) -> np.ndarray:
    """(width,) float32, a function of the three numbers on every machine."""
    state = np.random.SeedSequence([seed % 2**63, row, step])
    drawn = np.random.Generator(np.random.PCG64(state)).gumbel(size=width)
    return drawn.astype(np.float32)
