"""All trained parameters as one flat vector, and AdamW on it: a dozen kernels a step, whatever the
number of modules.

Decoupled weight decay and bias correction as in torch.optim.AdamW, clipping as in
torch.nn.utils.clip_grad_norm_, so that a run can change backends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from livery.engines.mlx.head import sum_last
from livery.errors import UserError
from mlx_train.lora import Parameter, from_portable, to_portable


@dataclass(frozen=True)
class AdamW:
    """Attributes:
    beta1, beta2, eps, weight_decay: as published.
    max_norm: global norm that the gradient is clipped to; 0 for none.
    """

    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    max_norm: float

    def update(
        self,
        weights: mx.array,
        summed: mx.array,
        tokens: int,
        first: mx.array,
        second: mx.array,
        *,
        step: int,
        learning_rate: float,
    ) -> tuple[mx.array, mx.array, mx.array, mx.array]:
        """One step: all arrays (n,) float32.

        Scalars are gathered before they meet a vector: each pass over the vectors counts.

        Args:
            summed: gradient summed over the step's tokens.
            tokens: how many they are.
            step: of this update, counted from 1.

        Returns:
            (weights, first moment, second moment, norm of the mean gradient before clipping ()).
        """
        squared = summed * summed
        norm = mx.sqrt(sum_last(squared)) / tokens
        scale = mx.array(1.0 / tokens)
        if self.max_norm > 0:
            scale = scale * mx.minimum(1.0, self.max_norm / (norm + 1e-6))
        first = self.beta1 * first + ((1.0 - self.beta1) * scale) * summed
        second = self.beta2 * second + ((1.0 - self.beta2) * scale * scale) * squared
        bias_correction = (1.0 - self.beta2**step) ** 0.5  # of the second moment's root
        rate = learning_rate / (1.0 - self.beta1**step)
        if self.weight_decay:
            weights = weights * (1.0 - learning_rate * self.weight_decay)
        update = (rate * bias_correction) * first / (mx.sqrt(second) + self.eps * bias_correction)
        return weights - update, first, second, norm


def flatten(arrays: Sequence[mx.array]) -> mx.array:
    """All arrays as one float32 vector (n,)."""
    return mx.concatenate([a.reshape(-1).astype(mx.float32) for a in arrays])


def cut(parameters: Sequence[Parameter], vector: mx.array) -> list[mx.array]:
    """The flat vector (n,) as arrays in MLX's shapes, in the order of the parameters."""
    ends = np.cumsum([p.size for p in parameters]).tolist()
    return [
        vector[end - p.size : end].reshape(p.shape) for p, end in zip(parameters, ends, strict=True)
    ]


def split(parameters: Sequence[Parameter], vector: mx.array) -> dict[str, np.ndarray]:
    """The flat vector (n,) as portable arrays by name."""
    return {
        p.name: to_portable(p, value)
        for p, value in zip(parameters, cut(parameters, vector), strict=True)
    }


def join(parameters: Sequence[Parameter], arrays: Mapping[str, np.ndarray]) -> mx.array:
    """The flat vector (n,) of portable arrays by name.

    Raises:
        UserError: parameters are missing, unknown, or of another shape.
    """
    names = {p.name for p in parameters}
    if lacking := sorted(names - arrays.keys()):
        raise UserError(
            f"The state lacks {len(lacking)} of this run's {len(names)} parameters, "
            f"{lacking[0]} for one. Was it trained with other targets or on another base?"
        )
    if strange := sorted(arrays.keys() - names):
        raise UserError(
            f"The state holds {len(strange)} parameters that this run does not train, "
            f"{strange[0]} for one. Was it trained with other targets or on another base?"
        )
    return flatten([from_portable(p, arrays[p.name]) for p in parameters])
