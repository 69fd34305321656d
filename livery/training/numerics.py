"""What every backend computes alike: the objective, a step's learning rate, LoRA's first weights.

An objective is a function of a micro-batch's rows. A backend gives each row one number that carries
a gradient, the summed log-probability of its supervised tokens; the objective makes them one loss:

    sft:  sum over rows of -weight * logprob, divided over a step by its supervised tokens

An objective over pairs (chosen and rejected) is another such function
(`livery.training.preference`): its rows stand side by side in one micro-batch (`MicroBatch.group`),
and what a frozen reference says of them comes along as a constant of each row.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from livery.config.settings import TrainSettings
from livery.training.plan import MicroBatch


@dataclass(frozen=True)
class Rows:
    """A micro-batch's rows in their own order; arrays (B,) float32 of one framework.

    Attributes:
        xp: that framework's functions, `mlx.core`, `torch` or, where nothing is differentiated,
            `numpy`: what all have may be used (exp, expm1, log, minimum, logaddexp, zeros_like …).
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


Figures = Mapping[str, float]


@dataclass(frozen=True)
class Objective:
    """Attributes:
    name: for messages.
    loss: () float32, summed over the rows or groups of rows. It may add over groups alone, since
        micro-batches are split between them.
    count: what the losses of a step are divided by, summed over its micro-batches.
    measures: names of further figures, whose sums are divided by `count` like the loss.
    measure: their sums over the rows (of numpy, float64), in that order.
    reference: whether it needs every row's log-probability under a frozen reference.
    judged_by: the measure whose highest value on the validation rows is best; "" for the lowest
        loss.
    warning: (measures now, measures before the first step, if known) -> what to tell the user, or
        "".
    """

    name: str
    loss: Callable[[Rows], Any]
    count: Callable[[MicroBatch], int]
    measures: tuple[str, ...] = ()
    measure: Callable[[Rows], Sequence[float]] = lambda rows: ()
    reference: bool = False
    judged_by: str = ""
    warning: Callable[[Figures, Figures], str] = lambda now, first: ""

    def score(self, loss: float, figures: Figures) -> float:
        """What is lowest where an evaluation is best."""
        return -figures[self.judged_by] if self.judged_by else loss

    def of_batch(
        self, xp: Any, logprobs: Any, batch: MicroBatch, to: Callable[[np.ndarray], Any]
    ) -> Any:
        """() float32: the loss of a micro-batch's rows by their log-probabilities (B,); `to` makes
        an array of the framework `xp` of one of numpy."""
        arrays = {name: to(values) for name, values in row_arrays(batch).items()}
        return self.loss(rows_of(xp, logprobs, arrays))

    def measured(self, batch: MicroBatch, logprobs: np.ndarray) -> np.ndarray:
        """(len(measures),) float64: the sums of `measures` over a micro-batch's rows."""
        if not self.measures:
            return np.zeros(0)
        return np.asarray(self.measure(_in_numpy(batch, logprobs)), np.float64)

    def scored(self, batch: MicroBatch, logprobs: np.ndarray) -> np.ndarray:
        """(2 + len(measures),) float64: a micro-batch's loss, its count and its measures, as an
        evaluation adds them up."""
        rows = _in_numpy(batch, logprobs)
        return np.asarray([float(self.loss(rows)), self.count(batch), *self.measure(rows)])


def _in_numpy(batch: MicroBatch, logprobs: np.ndarray) -> Rows:
    arrays = {name: values.astype(np.float64) for name, values in row_arrays(batch).items()}
    return rows_of(np, np.asarray(logprobs, np.float64), arrays)


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


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """Learning rate of optimizer step `step` (counted from 1) of `total`.

    Linear from 0 over `warmup_steps`, then constant, or linear or half a cosine down to
    `min_lr_ratio` of the peak at the last step.
    """
    peak, warm = settings.learning_rate, min(settings.warmup_steps, total - 1)
    if step <= warm:
        return peak * step / (warm + 1)
    if settings.schedule == "constant":
        return peak
    done = min(1.0, (step - warm - 1) / max(1, total - warm))
    left = 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return peak * (settings.min_lr_ratio + (1.0 - settings.min_lr_ratio) * left)


def initial_a(seed: int, module: str, rank: int, in_features: int) -> np.ndarray:
    """LoRA's initial A (rank, in_features), float32, of the module with this Hugging Face path.

    Uniform on (-1/sqrt(in), 1/sqrt(in)), as PEFT (Kaiming-uniform with a = sqrt 5) and mlx-lm draw
    it. The draw depends on the seed and the module's name alone, so every backend starts from the
    same numbers, and adapting one module more leaves the others as they were.

    Args:
        seed: of the run.
        module: e.g. "model.layers.0.self_attn.q_proj".
    """
    key = hashlib.sha256(f"{seed}\n{module}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))
    bound = 1.0 / math.sqrt(in_features)
    # Drawn as float64 and rounded: numpy's float32 stream is not promised to stay as it is.
    return generator.uniform(-bound, bound, (rank, in_features)).astype(np.float32)
