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

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.cases import LORA, RATE, gemma, smollm2
from benchmarks.measure import Case, Sample, race
from benchmarks.train_torch import forget_peak, peak
from livery.config.settings import TrainSettings
from livery.dataset.tokenizer import load_tokenizer
from livery.paths import HOME
from livery.training.plan import Example, Plan, work

BETA, ANSWER = 0.1, 20


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


def main() -> None:
    contestants = {"trl": theirs, "livery": ours}
    race("benchmarks.dpo", __doc__, CASES, contestants, {"livery": "trl"}, pairs=True)


if __name__ == "__main__":
    main()
