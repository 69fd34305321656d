"""SFT on schemas that rows share: TRL's SFTTrainer, mlx_lm's trainer and ours on both backends.

    export LD_PRELOAD=libopenblas.so.0
    python -m benchmarks.schemas --rows 16 --repeats 1 --json schemas.json

Rows of the skill dsl on SmolLM2-135M: the schemas of 1,000 tokens and more, each with its eight
queries, eight rows a step. One epoch, a process a run, all four in turn in one run.

The extra `bench` has TRL: pip install -c constraints.txt -e '.[mlx,cuda,bench]'

All train the same rows from tokens that are ready, with the same LoRA, optimizer and rows a step.
TRL and mlx_lm hold one row at a time and accumulate: then they need the least memory, and a row
alone has no padding. Peak memory is the process's own on torch (Linux) and the allocator's on MLX,
for theirs and ours alike; --dtype is torch's, MLX runs float32.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import train_torch
from benchmarks.cases import CASES
from benchmarks.measure import Sample, race
from livery.training.plan import Example

NAME = "smollm2-schemas"
Examples = Sequence[Example]


def trl(model: str, examples: Examples, batch_size: int, dtype: str) -> Sample:
    return train_torch.theirs(model, examples, batch_size, dtype, at_once=1)


def mlx_lm(model: str, examples: Examples, batch_size: int, dtype: str) -> Sample:
    from benchmarks import train_mlx

    train_mlx.work_side_by_side()
    return train_mlx.theirs(model, examples, batch_size, at_once=1)


def livery_mlx(model: str, examples: Examples, batch_size: int, dtype: str) -> Sample:
    from benchmarks import train_mlx

    train_mlx.work_side_by_side()
    return train_mlx.ours(model, examples, batch_size)


def main() -> None:
    contestants = {
        "trl": trl,
        "livery": train_torch.ours,
        "mlx_lm": mlx_lm,
        "livery-mlx": livery_mlx,
    }
    race(
        "benchmarks.schemas",
        __doc__,
        {NAME: CASES[NAME]},
        contestants,
        {"livery": "trl", "livery-mlx": "mlx_lm"},
        train_torch.ceiling,
    )


if __name__ == "__main__":
    main()
