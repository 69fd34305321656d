"""Three optimizer steps in as many processes as it is launched in; see test_mlx_backend.

mlx.launch -n 2 -- python -m tests.mlx_train.mlx_processes MODEL OUT.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

from livery.blas import use_openblas

use_openblas()

import numpy as np  # noqa: E402

from livery.training.plan import shard  # noqa: E402
from tests.mlx_train.mlx_exact import backend, micro_batch  # noqa: E402

STEPS = [
    [micro_batch(20, (7, 4, 9), (3, 2, 5)), micro_batch(13, (5, 6), (2, 2), seed=3)],
    [micro_batch(0, (12, 6), (4, 2), seed=5)],
    [micro_batch(9, (8,), (3,), seed=6)],  # one row: the second process has none
]


def main(model: str, out: str) -> None:
    made = backend(model)
    results: list[list[float]] = []
    for step, batches in enumerate(STEPS, start=1):
        mine = shard(batches, made.rank, made.world)
        done = made.train_step(mine, step=step, learning_rate=1e-2)
        results.append([done.loss_sum, done.count, done.grad_norm])
    sums = made.sum_over_processes(np.asarray([1e-9 + made.rank, 2.0**30 + made.rank]))
    if made.rank == 0:
        state = made.get_state()
        np.savez(Path(out), world=made.world, results=results, sums=sums, **state.weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
