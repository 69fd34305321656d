"""Keys of other tools' configuration files that are no settings here, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from livery.config.older import NEEDLESS

# Keys of other tools, and ours at the wrong level -> what to write instead.
ELSEWHERE = {
    "lora_alpha": "lora_parameters.alpha",
    "lora_r": "lora_parameters.rank",
    "lora_rank": "lora_parameters.rank",
    "lora_dropout": "lora_parameters.dropout",
    "lora_scale": "lora_parameters.scale",
    "r": "rank",
    "target_modules": "keys",
    "use_rslora": "rslora",
    "lora_layers": "num_layers",
    "gradient_accumulation_steps": "grad_accumulation_steps",
    "per_device_train_batch_size": "batch_size",
    "warmup": "warmup_steps",
    "lr": "learning_rate",
    "grad_clip": "max_grad_norm",
}


NEEDLESS_KEYS = {
    flag.removeprefix("--").replace("-", "_"): f"not used: {note}."
    for flag, note in NEEDLESS.items()
}


def _unless(harmless: Any, note: str) -> Callable[[Any], str | None]:
    return lambda value: None if value == harmless else note


# mlx-lm's keys that change nothing about what is trained: value -> what to say, or None.
SAID_ALOUD: dict[str, Callable[[Any], str | None]] = {
    "train": _unless(True, "not used: `livery train` always trains."),
    "test": _unless(False, "not used: run `livery eval` after training."),
    "test_batches": _unless(-1, "not used: `livery eval` runs all cases."),
    "val_batches": _unless(-1, "not used: the whole validation set is evaluated, as with -1."),
    "wandb": _unless(None, "not used: write report_to: wandb, and project_name."),
    "clear_cache_threshold": _unless(0, "not needed: the cache manages itself."),
    "trust_remote_code": _unless(False, "not used: code from a model's folder is never run."),
    "dataset_generation": _unless(None, "not used by `livery train`: it makes no data."),
    "alignment": _unless(
        None, "not used by `livery train`: it trains on answers, not preferences."
    ),
    "config": _unless(None, "not used: a configuration file does not name another."),
}
# mlx-lm's keys that would change what is trained: the value that changes nothing, and the remedy.
REFUSED: dict[str, tuple[Any, str]] = {
    "training_mode": ("normal", "supervised training is what `livery train` does; remove it."),
}
