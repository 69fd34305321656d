"""Time and memory beside the trainers that people would take instead, on the same rows.

A figure decides nothing here but that both ran: `proven` says that it was measured.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from commands.prove import model as proof
from commands.prove.outcome import Outcome, Skip, judged, need
from commands.prove.rows import LORA, RATE, make_rows, padded, write_model
from commands.prove.speed import dtype_here, shape_here, wait
from livery.training.plan import Example

# (seconds, peak bytes) of one pass over the rows; bytes are 0 where nobody counts them.
Pass = tuple[float, int]
ROWS, BATCH, SHARED = 32, 8, 400


def trl(folder: Path) -> Outcome:
    """TRL's SFTTrainer with PEFT, given rows that are tokenized already."""
    place = proof.require()
    need("trl", "peft", "datasets")
    dtype = dtype_here(place)
    path = write_model(folder, shape_here(place), dtype)
    examples = _rows(shape_here(place))
    theirs = _measured(place, lambda: _by_trl(path, examples, place, dtype, folder))
    return _beside("TRL", theirs, _measured(place, lambda: _ours(path, examples, place, dtype)))


def unsloth(folder: Path) -> Outcome:
    """Unsloth's model and kernels in its own few lines, on CUDA."""
    place = proof.require()
    if place.type != "cuda":
        raise Skip("Unsloth trains on CUDA alone")
    need("unsloth", "peft")
    dtype = dtype_here(place)
    path = write_model(folder, shape_here(place), dtype)
    examples = _rows(shape_here(place))
    theirs = _measured(place, lambda: _by_unsloth(path, examples))
    return _beside("Unsloth", theirs, _measured(place, lambda: _ours(path, examples, place, dtype)))


def mlx_lm(folder: Path) -> Outcome:
    """mlx_lm's own LoRA trainer, as mlx_lm.lora calls it."""
    from commands.prove.mlx import PREFIX, beside_mlx_lm
    from commands.prove.mlx import ROWS as rows

    theirs, mine = beside_mlx_lm(folder)
    what = f"{rows} rows, {PREFIX} of their tokens shared"
    return _beside("mlx_lm.lora", theirs, mine, what)


def _rows(shape: dict[str, Any]) -> list[Example]:
    return make_rows(shape["vocab_size"], ROWS, SHARED, 48)


def _beside(
    name: str, theirs: Pass, mine: Pass, what: str = f"{ROWS} rows, {SHARED} of their tokens shared"
) -> Outcome:
    faster = theirs[0] / mine[0]
    said = f"{what}: {name} {theirs[0]:.2f} s, Livery "
    said += f"{mine[0]:.2f} s ({faster:.1f}x)"
    figures = {"theirs_s": theirs[0], "ours_s": mine[0], "speedup": faster}
    if theirs[1] and mine[1]:
        share = mine[1] / theirs[1]
        said += f"; peak {theirs[1] / 1e6:.0f} MB, Livery {mine[1] / 1e6:.0f} MB ({share:.2f})"
        figures |= {"theirs_mb": theirs[1] / 1e6, "ours_mb": mine[1] / 1e6, "memory_ratio": share}
    return judged(True, said, **figures)


def _measured(place: Any, train: Callable[[], Callable[[], Any]]) -> Pass:
    """Set up, then the time and the GPU's peak of two passes, of which the second counts."""
    import gc

    import torch

    gc.collect()
    if place.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    one_pass = train()
    with contextlib.redirect_stdout(io.StringIO()):
        one_pass()
        wait(place)
        began = time.perf_counter()
        one_pass()
        wait(place)
    seconds = time.perf_counter() - began
    return seconds, int(torch.cuda.max_memory_allocated()) if place.type == "cuda" else 0


def _ours(path: Path, examples: Sequence[Example], place: Any, dtype: Any) -> Callable[[], None]:
    from cuda_train.backend import TorchBackend
    from livery.config.settings import TrainSettings
    from livery.training.plan import Plan

    settings = TrainSettings(
        model=str(path), lora=LORA, batch_size=BATCH, dtype=dtype, backend="torch",
        max_grad_norm=0.0, attention="sdpa",
    )  # fmt: skip
    backend = TorchBackend(settings, device=str(place))
    plan = Plan(examples, BATCH)

    def one_pass() -> None:
        for step in range(len(plan.epoch(0))):
            backend.train_step(plan.step(step), step=step + 1, learning_rate=RATE)

    return one_pass


def _by_trl(
    path: Path, examples: Sequence[Example], place: Any, dtype: str, folder: Path
) -> Callable[[], Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    tokens = [example.tokens.tolist() for example in examples]
    labels = [padded([example])[1][0].tolist() for example in examples]
    loaded: Any = AutoModelForCausalLM.from_pretrained(str(path), dtype=getattr(torch, dtype))
    trainer = SFTTrainer(
        model=loaded,
        args=SFTConfig(
            output_dir=str(folder / "trl"), per_device_train_batch_size=BATCH, num_train_epochs=1,
            learning_rate=RATE, lr_scheduler_type="constant", max_grad_norm=0.0, max_length=None,
            gradient_checkpointing=False, bf16=False, use_cpu=place.type == "cpu",
            dataset_kwargs={"skip_prepare_dataset": True}, optim="adamw_torch",
            logging_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"input_ids": tokens, "labels": labels}),
        processing_class=AutoTokenizer.from_pretrained(str(path)),
        peft_config=LoraConfig(
            r=LORA.rank, lora_alpha=int(LORA.alpha), target_modules=list(LORA.targets)
        ),
    )  # fmt: skip
    return trainer.train


def _by_unsloth(path: Path, examples: Sequence[Example]) -> Callable[[], None]:
    import importlib

    import torch

    fast: Any = importlib.import_module("unsloth").FastLanguageModel
    loaded, _ = fast.from_pretrained(model_name=str(path), max_seq_length=1024, load_in_4bit=False)
    model = fast.get_peft_model(
        loaded, r=LORA.rank, lora_alpha=int(LORA.alpha), target_modules=list(LORA.targets),
        use_gradient_checkpointing=False,
    )  # fmt: skip
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE)

    def one_pass() -> None:
        for start in range(0, len(examples), BATCH):
            tokens, labels, mask = (
                torch.from_numpy(array).to("cuda") for array in padded(examples[start:][:BATCH])
            )
            model(input_ids=tokens, labels=labels, attention_mask=mask).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return one_pass
