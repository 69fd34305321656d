"""What older setups say that is no setting of Livery's: refused with the way out, or needless.

Their other flags and variables are settings, under the names of `livery.config.options`.
"""

from __future__ import annotations

import shlex

TRAIN_COMMAND = "JARVIS_ADAPTER_TRAIN_CMD"

# Flag of an older trainer -> what to do instead. All but SWITCHES take a value.
FLAGS: dict[str, str] = {
    "--include-invalid": "rows are trained on as they stand: leave them out of train.jsonl",
    "--teacher-model": "training and scoring use no teacher: livery eval scores a skill "
    "by its own contract, and livery eval --engine http scores another model beside yours",
    "--beta": "preference training (DPO) is not supported yet: TRL's DPOTrainer takes the adapter "
    "folder as it is, and livery train --init-adapter goes on from what it writes",
    "--pairs": "preference training (DPO) is not supported yet: TRL's DPOTrainer takes the adapter "
    "folder as it is, and livery train --init-adapter goes on from what it writes",
    "--offline-fallback": "no command asks a teacher: livery data makes a skill's rows offline",
    "--with-training": "livery run always trains; a stage whose result is current is skipped",
    "--with-evals": "livery run always evaluates; a stage whose result is current is skipped",
    "--with-alignment": "preference training (DPO) is not supported yet: TRL's DPOTrainer takes "
    "the adapter folder as it is",
}
# Flags that are taken and change nothing: what is said of each.
NEEDLESS: dict[str, str] = {
    "--eval-accumulation-steps": "evaluation keeps two numbers a batch and has nothing to "
    "accumulate; lower --batch-size where memory is short",
}
SWITCHES = {
    "--include-invalid", "--offline-fallback", "--with-training", "--with-evals",
    "--with-alignment",
}  # fmt: skip


def train_command_note(value: str) -> str:
    """What to say of a worker's JARVIS_ADAPTER_TRAIN_CMD; "" where it starts Livery.

    A worker runs that command, and it finds the variable in its own environment.
    """
    if _is_ours(value):
        return ""
    return (
        f"environment {TRAIN_COMMAND}: {value!r} is another trainer, which Livery does not start. "
        f"To let a worker train with Livery, set {TRAIN_COMMAND}='livery train'."
    )


def _is_ours(command: str) -> bool:
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    names = {word.rpartition("/")[2] for word in words}
    return bool(names & {"livery", "mlx_train", "cuda_train", "train_mac.sh", "train_cuda.sh"})
