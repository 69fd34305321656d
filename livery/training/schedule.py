"""The learning rate as a pure function of the step, so that a resumed run needs no state for it."""

from __future__ import annotations

import math

from livery.config.settings import TrainSettings


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
