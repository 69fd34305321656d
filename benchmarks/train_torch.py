"""TRL's SFTTrainer with PEFT against ours on torch: one epoch, a process a run, interleaved.

    python -m benchmarks.train_torch --json torch.json             # the first three cases
    python -m benchmarks.train_torch --case date-keys --repeats 3 --dtype bfloat16

The extra `bench` has TRL: pip install -c constraints.txt -e '.[mlx,cuda,bench]'

Both train the same model on the same tokens with the same LoRA, optimizer, batch size and dtype.
TRL is given what is fastest for it: rows that are tokenized already, no gradient checkpointing, no
logging, no saving. Peak memory is the process's own (Linux), its base weights included; on a GPU it
is the allocator's.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.cases import CASES, LORA, RATE, facts
from benchmarks.measure import Sample, race
from livery.config.settings import TrainSettings
from livery.dataset.tokenizer import load_tokenizer
from livery.training.plan import Example, Plan


def theirs(
    model: str,
    examples: Sequence[Example],
    batch_size: int,
    dtype: str,
    *,
    at_once: int | None = None,
) -> Sample:
    """One epoch of SFTTrainer on rows that are tokenized already.

    Args:
        at_once: rows that it holds at once, of those of a step; None is all of them.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    rows = Dataset.from_dict(
        {
            "input_ids": [e.tokens.tolist() for e in examples],
            "labels": [np.where(e.supervised, e.tokens, -100).tolist() for e in examples],
        }
    )
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=loaded,
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=at_once or batch_size,
                gradient_accumulation_steps=batch_size // (at_once or batch_size),
                num_train_epochs=1,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                max_grad_norm=0.0,
                max_length=None,
                gradient_checkpointing=False,
                bf16=False,
                use_cpu=not torch.cuda.is_available(),
                dataset_kwargs={"skip_prepare_dataset": True},
                optim="adamw_torch",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=rows,
            processing_class=load_tokenizer("base_model"),
            peft_config=LoraConfig(
                r=LORA.rank, lora_alpha=int(LORA.alpha), target_modules=list(LORA.targets)
            ),
        )
        forget_peak()
        began, busy = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
        seconds, busy = time.perf_counter() - began, time.process_time() - busy
        return Sample(seconds, peak(), processor=busy)


def ours(model: str, examples: Sequence[Example], batch_size: int, dtype: str) -> Sample:
    """One epoch of our plan on our backend."""
    from cuda_train.backend import TorchBackend

    settings = TrainSettings(
        model=model,
        lora=LORA,
        batch_size=batch_size,
        learning_rate=RATE,
        max_grad_norm=0.0,
        dtype=dtype,  # pyright: ignore[reportArgumentType]
    )
    backend = TorchBackend(settings)
    plan = Plan(examples, batch_size)
    if torch.cuda.is_available():  # as a run begins, which chooses by it how its steps are launched
        print(backend.self_check(plan.step(0)[0]).note, file=sys.stderr)
    forget_peak()
    began, busy = time.perf_counter(), time.process_time()
    for step in range(len(plan.epoch(0))):
        backend.train_step(plan.step(step), step=step + 1, learning_rate=RATE)
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    found = facts(model, plan, backend.parameters, seconds, matmul_peak(dtype))
    return Sample(seconds, peak(), found, busy)


def matmul_peak(dtype: str, seconds: float = 0.5) -> float:
    """Matmul rate of torch on this device, FLOP/s: the ceiling of everything here."""
    gpu = torch.cuda.is_available()
    size = 8192 if gpu else 1024
    a = torch.randn(size, size, device="cuda" if gpu else "cpu").to(getattr(torch, dtype))
    _ = a @ a
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        _ = a @ a
        count += 1
        if gpu:
            torch.cuda.synchronize()
    return count * 2 * size**3 / (time.perf_counter() - began)


def forget_peak() -> None:
    """Count peak memory from here on."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)


def peak() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def ceiling(dtype: str) -> dict[str, float]:
    """What the machine allows, for the record."""
    return {"matmul_gflops": matmul_peak(dtype) / 1e9}


def main() -> None:
    contestants = {"trl": theirs, "livery": ours}
    race("benchmarks.train_torch", __doc__, CASES, contestants, {"livery": "trl"}, ceiling)


if __name__ == "__main__":
    main()
