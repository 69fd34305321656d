"""Memory and time of one training step against the length of its schema, on both backends.

    LD_PRELOAD=libopenblas.so.0 OMP_NUM_THREADS=2 python -m benchmarks.long_context --json long.json
    python -m benchmarks.long_context --length 4096 --shape embedded --backend torch

A step is eight rows that share a prompt of LENGTH random tokens, the schema, with 40 tokens of
their own and 40 of the answer each, as the skill dsl has them. Models are random and of two shapes,
the embedded base's and a tiny one; weights do not change what a step takes. Each run is a process
of its own. Its memory is the process's largest resident set (Linux), and what of that the step
itself added to the framework and the base's weights.
A run that would need more than the machine has free, by its memory at half the length and four
times that, is left out, as is whatever does not fit into --minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import LORA, RATE
from benchmarks.measure import Sample, machine
from livery.config.settings import TrainSettings
from livery.files import read_json, write_json
from livery.machine import memory
from livery.paths import HOME
from livery.resident import peak_resident, resident
from livery.training.plan import Example, Plan

LENGTHS = (4096, 8192, 16384, 32768)
ROWS, OWN, ANSWER = 8, 40, 40
BACKENDS = ("torch", "mlx")
TINY = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32}  # fmt: skip
SHAPES = ("tiny", "embedded")


def make_model(shape: str, folder: Path) -> str:
    """A random model of a shape, that reads as many tokens as the longest case has."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    base: dict[str, Any] = read_json(HOME / "base_model" / "config.json")
    base["max_position_embeddings"] = 2 * LENGTHS[-1]  # room for rows behind the schema
    config: Any = LlamaConfig.from_dict({**base, **(TINY if shape == "tiny" else {})})
    torch.manual_seed(0)
    LlamaForCausalLM(config).float().save_pretrained(folder / shape)
    return str(folder / shape)


def rows(length: int) -> list[Example]:
    """The examples of one step."""
    rng = np.random.default_rng(length)
    schema = rng.integers(10, 4000, length)
    mask = np.arange(length + OWN + ANSWER) >= length + OWN
    return [
        Example(np.concatenate([schema, rng.integers(10, 4000, OWN + ANSWER)]).astype(np.int32),
                mask)
        for _ in range(ROWS)
    ]  # fmt: skip


def run_once(backend: str, model: str, length: int, *, checkpoint: bool) -> Sample:
    """One step, in this process."""
    settings = TrainSettings(
        model=model, lora=LORA, batch_size=ROWS, learning_rate=RATE, dtype="float32",
        max_length=length + OWN + ANSWER, grad_checkpoint=checkpoint,
    )  # fmt: skip
    if backend == "torch":
        from cuda_train.backend import TorchBackend as Backend
    else:
        from mlx_train.backend import MlxBackend as Backend
    trainer = Backend(settings)
    plan = Plan(rows(length), ROWS)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # resets VmHWM, see proc(5)
    loaded = resident()
    began, busy = time.perf_counter(), time.process_time()
    trainer.train_step(plan.step(0), step=1, learning_rate=RATE)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    peak = peak_resident()
    return Sample(seconds, peak, {"step_bytes": peak - loaded}, busy)


def run_apart(words: Sequence[str], seconds: float) -> Sample | str:
    """One step in a process of its own; a text where it did not end well."""
    command = [sys.executable, "-m", "benchmarks.long_context", "--one", *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=HOME, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return "out of time"
    if done.returncode:
        return f"ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}"
    return Sample(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--length", type=int, action="append", help="tokens of the schema")
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--backend", choices=BACKENDS, action="append")
    parser.add_argument("--minutes", type=float, default=10.0, help="start nothing beyond them")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        backend, model, length, checkpoint = options.one
        sample = run_once(backend, model, int(length), checkpoint=checkpoint == "yes")
        print(json.dumps(dataclasses.asdict(sample)))
        return

    ends = time.monotonic() + 60 * options.minutes
    found: list[dict[str, Any]] = []
    print("| shape | backend | checkpointing | tokens | MB | of the step | processor s | s |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        models = {s: make_model(s, Path(folder)) for s in options.shape or SHAPES}
        before: dict[tuple[str, str, str], tuple[int, int] | None] = {}
        # The short ones of all first: what does not fit into the time are the longest.
        for length, shape, backend, checkpoint in itertools.product(
            sorted(options.length or LENGTHS), models, options.backend or BACKENDS, ("no", "yes")
        ):
            key = (shape, backend, checkpoint)
            last = before.get(key, (length, 0))
            if last is None:
                continue
            words = [backend, models[shape], str(length), checkpoint]
            sample = one(words, length, last, ends - time.monotonic())
            ran = isinstance(sample, Sample)
            before[key] = (length, sample.memory) if ran else None
            print(f"| {shape} | {backend} | {checkpoint} | {length:,} | {_cells(sample)} |",
                  flush=True)  # fmt: skip
            row = {"shape": shape, "backend": backend, "checkpointing": checkpoint,
                   "tokens": length}  # fmt: skip
            found.append(row | (dataclasses.asdict(sample) if ran else {"left_out": sample}))
    if options.json:
        write_json(options.json, {"machine": machine(), "runs": found})


def one(words: Sequence[str], length: int, last: tuple[int, int], left: float) -> Sample | str:
    """A run, unless time or memory says that it cannot be.

    Args:
        last: (tokens, bytes) of the same run at a shorter length; 0 bytes for none.
        left: seconds.
    """
    if left <= 0:
        return "out of time"
    tokens, took = last
    if took * (length / tokens) ** 2 > memory()[1]:
        return f"left out: up to {took * (length / tokens) ** 2 / 1e9:.0f} GB"
    return run_apart(words, left)


def _cells(sample: Sample | str) -> str:
    if isinstance(sample, str):
        return f"{sample} | | | "
    step = (sample.facts or {})["step_bytes"]
    return (
        f"{sample.memory / 1e6:,.0f} | {step / 1e6:,.0f} | {sample.processor:.1f} | "
        f"{sample.seconds:.1f}"
    )


if __name__ == "__main__":
    main()
