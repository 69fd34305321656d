"""What a run minimises, as a function of its rows: one for both backends.

A backend gives each row of a micro-batch one number that carries a gradient, the summed
log-probability of its supervised tokens. An objective makes them one loss:

    sft:  sum over rows of -weight * logprob, divided over a step by its supervised tokens

An objective over pairs (chosen and rejected) is another such function: its rows stand side by side
in one micro-batch (`MicroBatch.group`), and what a frozen reference says of them comes along as a
constant of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from livery.training.plan import MicroBatch


@dataclass(frozen=True)
class Rows:
    """A micro-batch's rows in their own order; arrays (B,) float32 of one framework.

    Attributes:
        xp: that framework's functions, `mlx.core` or `torch`: what both have may be used
            (exp, log1p, abs, maximum, sigmoid, logaddexp, zeros_like …).
        logprobs: summed log-probability of each row's supervised tokens; the gradient flows here.
        counts: supervised tokens of each row.
        weights: of each row, 1 where the data say nothing.
        constants: the micro-batch's own, by name, such as a reference's log-probabilities.
    """

    xp: Any
    logprobs: Any
    counts: Any
    weights: Any
    constants: Mapping[str, Any]


@dataclass(frozen=True)
class Objective:
    """Attributes:
    name: for messages.
    loss: () float32, summed over the rows or groups of rows. It may add over groups alone, since
        micro-batches are split between them.
    count: what the losses of a step are divided by, summed over its micro-batches.
    """

    name: str
    loss: Callable[[Rows], Any]
    count: Callable[[MicroBatch], int]


def row_arrays(batch: MicroBatch) -> dict[str, np.ndarray]:
    """counts, weights and the constants of a micro-batch's rows, each (B,) float32."""
    counts = (batch.targets >= 0).sum(axis=1)
    weights = np.ones(len(counts)) if batch.weights is None else batch.weights
    found = {"counts": counts, "weights": weights, **batch.constants}
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def rows_of(xp: Any, logprobs: Any, arrays: Mapping[str, Any]) -> Rows:
    """`Rows` of log-probabilities and of what `row_arrays` gave, as arrays of the framework."""
    constants = {name: a for name, a in arrays.items() if name not in ("counts", "weights")}
    return Rows(xp, logprobs, arrays["counts"], arrays["weights"], constants)


def _supervised_loss(rows: Rows) -> Any:
    return -(rows.weights * rows.logprobs).sum()


SFT = Objective("sft", _supervised_loss, lambda batch: batch.supervised)
