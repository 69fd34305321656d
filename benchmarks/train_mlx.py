"""mlx_lm's own LoRA trainer against ours: one epoch, one process, interleaved.

    python -m benchmarks.train_mlx --json mlx.json                 # the first three cases
    python -m benchmarks.train_mlx --case date-keys --repeats 3

Both train the same model on the same rows with the same LoRA, optimizer and batch size, from tokens
that are ready; each run loads the base again, so peak memory is its own. mlx_lm drops the last
partial batch: its time is scaled to all rows. MLX reads how wide it schedules once a process, so
both run under our setting; it changes neither the time nor the memory of mlx_lm's one stream.
"""

from __future__ import annotations

import contextlib
import gc
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx

from benchmarks.cases import BUILT_IN, CASES, LORA, RATE, facts
from benchmarks.measure import (
    Sample,
    compare,
    interleave,
    machine,
    matmul_peak,
    report,
    training_options,
)
from livery.config.settings import TrainSettings
from livery.engines.mlx.load import load_base
from livery.training.plan import Example, Plan
from mlx_train.backend import MlxBackend
from mlx_train.machine import work_side_by_side


def theirs(
    model: str, examples: Sequence[Example], batch_size: int, *, at_once: int | None = None
) -> Sample:
    """One epoch of mlx_lm.tuner.trainer.train, as mlx_lm.lora calls it.

    Args:
        at_once: rows that it holds at once, of those of a step; None is all of them.
    """
    import mlx.optimizers as optim
    from mlx_lm.tuner.datasets import CacheDataset
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.tuner.utils import linear_to_lora_layers

    rows = [(e.tokens.tolist(), e.prompt_length) for e in examples]

    class Ready:
        """Rows that are tokenized already: (tokens, length of the prompt)."""

        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> tuple[list[int], int]:
            return rows[index]

        def process(self, row: tuple[list[int], int]) -> tuple[list[int], int]:
            return row

    base = load_base(model)
    base.model.freeze()
    config = {"rank": LORA.rank, "scale": LORA.scale, "dropout": 0.0, "keys": None}
    layers: Any = base.model.layers
    keys = {n for n, _ in layers[0].named_modules() if n.endswith(LORA.targets)}
    linear_to_lora_layers(base.model, len(layers), {**config, "keys": keys})
    steps = len(examples) // batch_size
    micro = at_once or batch_size
    iters = steps * (batch_size // micro)
    mx.clear_cache()
    mx.reset_peak_memory()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        args = TrainingArgs(
            batch_size=micro,
            iters=iters,
            grad_accumulation_steps=batch_size // micro,
            steps_per_report=max(10, iters),
            steps_per_save=10**9,
            max_seq_length=4096,
            adapter_file=str(Path(folder) / "adapters.safetensors"),
        )
        began, busy = time.perf_counter(), time.process_time()
        train(base.model, optim.AdamW(learning_rate=RATE), CacheDataset(Ready()), args=args)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
    memory = mx.get_peak_memory()
    _release()
    of_all = len(examples) / (steps * batch_size)
    return Sample(seconds * of_all, memory, processor=busy * of_all)


def ours(model: str, examples: Sequence[Example], batch_size: int) -> Sample:
    """One epoch of our plan on our backend."""
    settings = TrainSettings(
        model=model,
        lora=LORA,
        batch_size=batch_size,
        learning_rate=RATE,
        max_grad_norm=0.0,
    )
    backend = MlxBackend(settings)
    mx.clear_cache()
    mx.reset_peak_memory()
    began, busy = time.perf_counter(), time.process_time()
    plan = Plan(examples, batch_size)
    for step in range(len(plan.epoch(0))):
        backend.train_step(plan.step(step), step=step + 1, learning_rate=RATE)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    memory = mx.get_peak_memory()
    found = facts(model, plan, backend.parameters, seconds, matmul_peak())
    del backend
    _release()
    return Sample(seconds, memory, found, busy)


def _release() -> None:
    gc.collect()
    mx.clear_cache()


def main() -> None:
    options = training_options(__doc__, CASES).parse_args()
    work_side_by_side()
    results: dict[str, Any] = {"machine": {**machine(), "matmul_gflops": matmul_peak() / 1e9}}
    print(results["machine"], flush=True)
    with tempfile.TemporaryDirectory() as name:
        for case in options.case or BUILT_IN:
            model, examples, batch_size = CASES[case](Path(name))
            examples = examples[: options.rows]
            print(f"{case}: {len(examples)} rows, batches of {batch_size}", flush=True)
            contestants = {
                "mlx_lm": lambda m=model, e=examples, b=batch_size: theirs(m, e, b),
                "livery": lambda m=model, e=examples, b=batch_size: ours(m, e, b),
            }
            results[case] = compare(interleave(contestants, options.repeats), "mlx_lm", "livery")
    report(results, options.json)


if __name__ == "__main__":
    main()
