"""Shared by the MLX tests: micro-batches made by hand, and the plain computation they are held to.

The reference uses none of what it checks: no cache, no shared prefix, no picked rows of the head,
no padding, one example at a time, mlx's own cross-entropy.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_flatten

from livery.config.settings import LoraSettings, TrainSettings
from livery.training.numerics import SFT
from livery.training.plan import MicroBatch
from mlx_train.backend import MlxBackend

VOCAB = 512


def micro_batch(
    prefix: int, lengths: tuple[int, ...], answers: tuple[int, ...], *, seed: int = 0, pad: int = 3
) -> MicroBatch:
    """Rows of `lengths` inputs after a shared prefix, the last `answers` of them supervised."""
    rng = np.random.default_rng(seed)
    width = max(lengths) + pad
    tokens = np.zeros((len(lengths), width), np.int32)
    targets = np.full((len(lengths), width), -1, np.int32)
    for row, (length, answer) in enumerate(zip(lengths, answers, strict=True)):
        drawn = rng.integers(5, VOCAB, length + 1)
        tokens[row, :length] = drawn[:-1]
        targets[row, length - answer : length] = drawn[length + 1 - answer :]
    return MicroBatch(
        rng.integers(5, VOCAB, prefix).astype(np.int32),
        tokens,
        targets,
        np.asarray(lengths, np.int32),
    )


def backend(model: Any, **changes: Any) -> MlxBackend:
    """A backend whose B (and magnitude) are not at their start, so that every gradient counts."""
    lora = changes.pop("lora", LoraSettings(rank=4, alpha=8.0))
    objective = changes.pop("objective", SFT)
    settings = TrainSettings(model=str(model), lora=lora, **changes)
    made = MlxBackend(settings, objective=objective)
    randomize(made)
    return made


def randomize(made: MlxBackend) -> None:
    """Move B and the magnitude off their start."""
    rng = np.random.default_rng(1)
    state = made.get_state()
    for name, value in state.weights.items():
        if name.endswith("lora_B"):
            state.weights[name] = rng.normal(0, 0.05, value.shape).astype(np.float32)
        elif name.endswith("lora_magnitude"):
            state.weights[name] = (value * rng.uniform(0.9, 1.1, value.shape)).astype(np.float32)
    made.set_state(state)


def plain(made: MlxBackend, batches: list[MicroBatch]) -> tuple[float, dict[str, np.ndarray]]:
    """Summed loss and gradients, one whole example at a time."""
    model: Any = made.model

    def loss(tokens: mx.array, position: mx.array, targets: mx.array) -> mx.array:
        logits = model(tokens)[0, position].astype(mx.float32)
        return nn.losses.cross_entropy(logits, targets, reduction="sum")

    total, sums = 0.0, {}
    for batch in batches:
        for row, length in enumerate(batch.lengths):
            tokens = np.concatenate([batch.prefix, batch.tokens[row, :length]])
            (position,) = np.nonzero(batch.targets[row] >= 0)
            value, gradients = nn.value_and_grad(model, loss)(
                mx.array(tokens[None]),
                mx.array(position + len(batch.prefix)),
                mx.array(batch.targets[row, position]),
            )
            total += float(value)
            for name, gradient in tree_flatten(gradients):
                sums[name] = sums.get(name, 0.0) + np.asarray(gradient, np.float64)
    return total, sums


def fast(made: MlxBackend, batches: list[MicroBatch]) -> tuple[float, dict[str, np.ndarray]]:
    """The same through the backend's own step function."""
    total, sums = 0.0, {}
    for batch in batches:
        value, gradients = made.gradients(batch)
        total += value
        paths = _paths(made)
        for parameter, gradient in zip(made.trained, gradients.values(), strict=True):
            name = f"{paths[id(parameter.module)]}.{parameter.key}"
            sums[name] = sums.get(name, 0.0) + np.asarray(gradient, np.float64)
    return total, sums


def differences(
    ours: tuple[float, dict[str, np.ndarray]], theirs: tuple[float, dict[str, np.ndarray]]
) -> tuple[float, float]:
    """(relative difference of the loss, largest relative difference of a gradient)."""
    assert ours[1].keys() == theirs[1].keys()
    assert all(np.linalg.norm(g) > 0 for g in theirs[1].values()), "a gradient that checks nothing"
    worst = max(
        np.linalg.norm(ours[1][name] - g) / np.linalg.norm(g) for name, g in theirs[1].items()
    )
    return abs(ours[0] - theirs[0]) / abs(theirs[0]), float(worst)


def _paths(made: MlxBackend) -> dict[int, str]:
    modules: Any = made.model.named_modules()
    return {id(module): path for path, module in modules}
