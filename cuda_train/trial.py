"""Another way of computing a step, tried before it is used: whether it is right, and faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

_TIMED = 3


@dataclass(frozen=True)
class Trial:
    """The outcome of a trial.

    Attributes:
        right: it runs here, and its gradients are those of the way that is known.
        faster: than that way, where that was asked.
        note: for the user.
    """

    right: bool
    faster: bool
    note: str


def fastest(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds that the fastest of a few runs takes; what was run before has warmed it up."""
    taken: list[float] = []
    for _ in range(_TIMED):
        _wait(device)
        began = time.perf_counter()
        run()
        _wait(device)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
