"""What other tools and older setups call settings, and what is not a setting of Livery's: renamed,
ignored with a note, or refused with the way out.

Their other flags and variables are settings, under the names of `livery.config.settings`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

# -- flags and variables of older setups -----------------------------------------------------------

TRAIN_COMMAND = "JARVIS_ADAPTER_TRAIN_CMD"

# Variables of older setups that are no setting -> what to do instead.
OTHER_VARIABLES: dict[str, str] = {
    "AIOS_FT_RUN_NAME": "a run has the name of its folder: set AIOS_FT_ADAPTER_DIR",
    "AIOS_FT_RUN_DIR": "a run's log and checkpoints are in its adapter folder: set "
    "AIOS_FT_ADAPTER_DIR",
}

# Flag of an older trainer -> what to do instead. All but VALUELESS_FLAGS take a value.
REFUSED_FLAGS: dict[str, str] = {
    "--include-invalid": "rows are trained on as they stand: leave them out of train.jsonl",
    "--teacher-model": "livery dsl has it, whose teacher makes rows and judges "
    "answers: livery eval scores a skill by its own contract, and livery eval --engine http scores "
    "another model beside yours",
    "--beta": "livery dpo has it, and learns from pairs of answers",
    "--pairs": "livery dpo --pairs FILE learns from pairs of answers",
    "--offline-fallback": "livery dsl has it; livery data makes a skill's rows offline anyway",
    "--with-training": "livery run always trains, and skips what is current; livery run dsl has it",
    "--with-evals": "livery run always evaluates, and skips what is current; livery run dsl has it",
    "--with-alignment": "livery dpo --pairs FILE --adapter DIR --output-dir DIR goes on from an "
    "adapter with pairs of answers; livery run dsl has it",
}
# Flags that are taken and change nothing: what is said of each.
IGNORED_FLAGS: dict[str, str] = {
    "--eval-accumulation-steps": "evaluation keeps two numbers a batch and has nothing to "
    "accumulate; lower --batch-size where memory is short",
}
VALUELESS_FLAGS = {
    "--include-invalid", "--offline-fallback", "--with-training", "--with-evals",
    "--with-alignment",
}  # fmt: skip


def train_command_note(value: str) -> str:
    """What to say of a worker's JARVIS_ADAPTER_TRAIN_CMD; "" where it starts Livery.

    A worker runs that command, and it finds the variable in its own environment.
    """
    if _is_livery(value):
        return ""
    return (
        f"environment {TRAIN_COMMAND}: {value!r} is another trainer, which Livery does not start. "
        f"To let a worker train with Livery, set {TRAIN_COMMAND}='livery train'."
    )


def _is_livery(command: str) -> bool:
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    names = {word.rpartition("/")[2] for word in words}
    return bool(names & {"livery", "mlx_train", "cuda_train", "train_mac.sh", "train_cuda.sh"})


# -- keys of a configuration file --------------------------------------------------------------

# Keys of other tools, and ours at the wrong level -> what to write instead.
RENAMED_KEYS = {
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
IGNORED_FLAG_KEYS = {
    flag.removeprefix("--").replace("-", "_"): f"not used: {note}."
    for flag, note in IGNORED_FLAGS.items()
}


def _unless(harmless: Any, note: str) -> Callable[[Any], str | None]:
    return lambda value: None if value == harmless else note


# mlx-lm's keys that change nothing about what is trained: value -> what to say, or None.
IGNORED_KEYS: dict[str, Callable[[Any], str | None]] = {
    "train": _unless(True, "not used: `livery train` always trains."),
    "test": _unless(False, "not used: run `livery eval` after training."),
    "test_batches": _unless(-1, "not used: `livery eval` runs all cases."),
    "val_batches": _unless(-1, "not used: the whole validation set is evaluated, as with -1."),
    "wandb": _unless(None, "not used: write report_to: wandb, and project_name."),
    "clear_cache_threshold": _unless(0, "not needed: the cache manages itself."),
    "trust_remote_code": _unless(False, "not used: code from a model's folder is never run."),
    "dataset_generation": _unless(None, "not used: `livery dsl data` makes data by it."),
    "alignment": _unless(None, "not used by `livery train`: `livery dpo` learns from preferences."),
    "config": _unless(None, "not used: a configuration file does not name another."),
}
# mlx-lm's keys that would change what is trained: the value that changes nothing, and the remedy.
REFUSED_KEYS: dict[str, tuple[Any, str]] = {
    "training_mode": ("normal", "supervised training is what `livery train` does; remove it."),
}
