"""AdamW on one flat vector: a dozen kernels a step, whatever the number of modules.

Decoupled weight decay and bias correction as in torch.optim.AdamW, clipping as in
torch.nn.utils.clip_grad_norm_, so that a run can change backends.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from livery.engines.mlx.head import sum_last


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
