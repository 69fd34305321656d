"""TRL's DPOTrainer with PEFT against ours on torch: one epoch, a process a run, interleaved.

    python -m benchmarks.dpo --json dpo.json                 # the cases that need no real base
    python -m benchmarks.dpo --case smollm2-shared --rows 16 --repeats 3

The extra `bench` has TRL: pip install -c constraints.txt -e '.[mlx,cuda,bench]'

Both train the same model on the same tokens with the same LoRA, optimizer, loss (sigmoid, beta
0.1), pairs a step and dtype. TRL is given what is fastest for it: rows that are tokenized already,
no gradient checkpointing, no logging, no saving; it computes the reference in every step, which in
one epoch is what computing it beforehand costs, too. Ours computes it first, within the time
measured. Peak memory is the process's own (Linux), its base weights included; on a GPU the
allocator's.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cases import LORA, RATE, gemma, smollm2
from benchmarks.measure import Sample, compare, interleave, machine, report
from benchmarks.train_torch import forget_peak, peak
from livery.config.settings import TrainSettings
from livery.dataset.tokenizer import load_tokenizer
from livery.paths import HOME
from livery.training.plan import Example, Plan, work

BETA, ANSWER = 0.1, 20

# (model folder, examples: chosen and rejected in turn, pairs a step)
Case = tuple[str, list[Example], int]


def _pair(prompt: np.ndarray, answers: Sequence[np.ndarray]) -> list[Example]:
    made: list[Example] = []
    for answer in answers:
        tokens = np.concatenate([prompt, answer]).astype(np.int32)
        made.append(Example(tokens, np.arange(len(tokens)) >= len(prompt)))
    return made


def _long(model: str, vocabulary: int, pairs: int, *, shared: int) -> Case:
    """Prompts of 400 tokens, of which `shared` are those of all pairs; answers of 20."""
    rng = np.random.default_rng(1)
    common = rng.integers(20, vocabulary, shared)
    made: list[Example] = []
    for _ in range(pairs):
        prompt = np.concatenate([common, rng.integers(20, vocabulary, 400 - shared)])
        made += _pair(prompt, list(rng.integers(20, vocabulary, (2, ANSWER))))
    return model, made, 8


def _nothing_shared(model: str, vocabulary: int, pairs: int) -> Case:
    """Answers of 64 to 256 tokens after a prompt of four: nothing that is worth sharing."""
    rng = np.random.default_rng(2)
    made: list[Example] = []
    for _ in range(pairs):
        lengths = rng.integers(64, 257, 2)
        answers = [rng.integers(20, vocabulary, int(n)) for n in lengths]
        made += _pair(rng.integers(20, vocabulary, 4), answers)
    return model, made, 8


EMBEDDED = str(HOME / "base_model")
CASES: dict[str, Callable[[Path], Case]] = {
    "shared": lambda folder: _long(EMBEDDED, 4000, 64, shared=380),
    "own-prompts": lambda folder: _long(EMBEDDED, 4000, 64, shared=0),
    "nothing-shared": lambda folder: _nothing_shared(EMBEDDED, 4000, 64),
    "gemma-shared": lambda folder: _long(gemma(folder), 200_000, 24, shared=380),
    "smollm2-shared": lambda folder: _long(smollm2(), 49_000, 48, shared=380),
    "smollm2-own-prompts": lambda folder: _long(smollm2(), 49_000, 48, shared=0),
    "smollm2-nothing-shared": lambda folder: _nothing_shared(smollm2(), 49_000, 48),
}
BUILT_IN = tuple(CASES)[:3]


def theirs(model: str, examples: Sequence[Example], pairs: int, dtype: str) -> Sample:
    """One epoch of DPOTrainer on rows that are tokenized already."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    rows = [
        {
            "prompt_ids": chosen.tokens[: chosen.prompt_length].tolist(),
            "chosen_ids": chosen.tokens[chosen.supervised].tolist(),
            "rejected_ids": rejected.tokens[rejected.supervised].tolist(),
        }
        for chosen, rejected in zip(examples[0::2], examples[1::2], strict=True)
    ]
    text = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with tempfile.TemporaryDirectory() as folder:
        trainer = DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)),
            args=DPOConfig(
                output_dir=folder,
                per_device_train_batch_size=pairs,
                num_train_epochs=1,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                max_grad_norm=0.0,
                max_length=None,
                beta=BETA,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=not torch.cuda.is_available(),
                optim="adamw_torch",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([text]),
            processing_class=load_tokenizer("base_model"),
            peft_config=LoraConfig(
                r=LORA.rank, lora_alpha=int(LORA.alpha), target_modules=list(LORA.targets)
            ),
        )
        trainer.train_dataset = Dataset.from_list(rows)
        forget_peak()
        began, busy = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        return Sample(seconds, peak(), processor=busy)


def ours(model: str, examples: Sequence[Example], pairs: int, dtype: str) -> Sample:
    """The reference, and one epoch of our plan on our backend."""
    from cuda_train.backend import TorchBackend
    from livery.training.reference import with_reference

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainSettings(
            model=model,
            output_dir=folder,
            lora=LORA,
            loss_type="sigmoid",
            beta=BETA,
            batch_size=pairs,
            learning_rate=RATE,
            max_grad_norm=0.0,
            dtype=dtype,  # pyright: ignore[reportArgumentType]
        )
        backend = TorchBackend(settings)
        forget_peak()
        began, busy = time.perf_counter(), time.process_time()
        (rows,) = with_reference(settings, backend, [examples])
        plan = Plan.of(rows, settings)
        for step in range(len(plan.epoch(0))):
            backend.train_step(plan.step(step), step=step + 1, learning_rate=RATE)
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
    done = work(plan)
    return Sample(
        seconds, peak(), {"positions": done.computed, "plain_positions": done.plain}, busy
    )


CONTESTANTS = {"trl": theirs, "livery": ours}


def in_a_process(contestant: str, case: str, folder: Path, dtype: str, rows: int | None) -> Sample:
    """One run in a process of its own, whose peak memory is that run's."""
    command = [sys.executable, "-m", "benchmarks.dpo", "--one", contestant, "--case", case,
               "--folder", str(folder), "--dtype", dtype]  # fmt: skip
    command += ["--rows", str(rows)] if rows else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOME, check=False)
    if done.returncode:
        raise SystemExit(f"{contestant}, {case}: {done.stderr[-2000:]}")
    return Sample(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--case", choices=CASES, action="append", help="which cases; the first three by default"
    )
    parser.add_argument("--repeats", type=int, default=2, help="runs of each, interleaved")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rows", type=int, help="only so many pairs of each case")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases, rows = options.case or BUILT_IN, options.rows
    if options.one:
        if options.one == "livery":
            importlib.import_module("cuda_train")  # settles torch's allocator, as a run does
        model, examples, pairs = CASES[cases[0]](options.folder)
        examples = examples[: 2 * rows] if rows else examples
        sample = CONTESTANTS[options.one](model, examples, pairs, options.dtype)
        print(json.dumps(dataclasses.asdict(sample)))
        return
    results: dict[str, Any] = {"machine": {**machine(), "dtype": options.dtype}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in cases:
            _, examples, pairs = CASES[case](folder)
            count = len(examples) // 2
            print(f"{case}: {min(count, rows or count)} pairs, {pairs} a step", flush=True)
            contestants = {
                who: lambda w=who, c=case: in_a_process(w, c, folder, options.dtype, rows)
                for who in CONTESTANTS
            }
            results[case] = compare(interleave(contestants, options.repeats), "trl", "livery")
    report(results, options.json)


if __name__ == "__main__":
    main()
