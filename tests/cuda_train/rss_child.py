"""A process of its own that trains on a CPU and prints what it foretold and what it took.

    python -m tests.cuda_train.rss_child MODEL DTYPE STEPS PREFIX SHORTEST LONGEST

Every row has another length, as in real data. What it took is its peak of resident memory less what
it had when it began.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any, cast

from livery.resident import peak_resident, resident

START = resident()

import numpy as np  # noqa: E402

from livery.config.settings import LoraSettings, TrainSettings  # noqa: E402
from livery.training.plan import Example, Plan  # noqa: E402


def rows(steps: int, prefix: int, shortest: int, longest: int) -> list[Example]:
    """Sixteen rows a step behind one prompt."""
    rng = np.random.default_rng(0)
    shared = rng.integers(5, 500, prefix)
    found: list[Example] = []
    for length in rng.integers(shortest, longest, 16 * steps):
        tokens = np.concatenate([shared, rng.integers(5, 500, int(length) + 8)])
        found.append(Example(tokens.astype(np.int32), np.arange(len(tokens)) >= len(tokens) - 8))
    return found


def main() -> None:
    model, dtype = sys.argv[1:3]
    steps, *shape = map(int, sys.argv[3:7])
    importlib.import_module("cuda_train")  # it settles the allocator before torch is there
    import torch

    torch.set_num_threads(1)
    from cuda_train.backend import TorchBackend
    from cuda_train.memory import forecast

    settings = TrainSettings(
        model=model,
        lora=LoraSettings(rank=16),
        dtype=cast(Any, dtype),
        backend="torch",
        device="cpu",
    )
    examples = rows(steps, *shape)
    foretold = forecast(settings, examples).need()
    backend = TorchBackend(settings)
    plan = Plan(examples, 16)
    for step in range(steps):
        backend.train_step(plan.step(step), step=step + 1, learning_rate=1e-4)
    took = peak_resident() - START
    print(json.dumps({"foretold": foretold.total, "took": took, **foretold.parts()}), flush=True)


if __name__ == "__main__":
    main()
