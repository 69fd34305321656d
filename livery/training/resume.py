"""Going on with a run: its newest whole checkpoint, what has changed since, and its logs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.training import checkpoint, run_folder
from livery.training.backend import Backend
from livery.training.checkpoint import Checkpoint, RunProgress
from livery.training.events import Callback, Note, Resumed
from livery.training.origin import Origin, base_digest


def resume(
    settings: TrainSettings,
    backend: Backend,
    origin: Origin,
    progress: RunProgress,
    tell: Callback,
    *,
    anyway: bool,
) -> tuple[int, RunProgress]:
    """Load the newest checkpoint that can be read, cut the logs to it, and say what has changed.

    Args:
        progress: of a run that begins, its validation rows named.
        anyway: go on although the run was made from something else.

    Returns:
        (steps taken, progress); where nothing was saved yet, step 0 and `progress`.

    Raises:
        UserError: the checkpoint is of another run.
    """
    folder = Path(settings.output_dir)
    found, passed_over = checkpoint.newest(folder)
    for problem in passed_over:
        tell(Note(f"{problem} Going back to the checkpoint before it."))
    if found is None:
        why = "No checkpoint can be read" if passed_over else "No checkpoint was saved yet"
        tell(Note(f"{why}: starting from step 0."))
        _cut_logs(folder, backend, -1)
        return 0, progress
    base = base_digest(settings.model, like=found.origin.base)
    differences = dataclasses.replace(origin, base=base).differences(found.origin)
    if differences:
        text = f"{found.path}: made by another run: " + "; ".join(differences) + "."
        if not anyway:
            raise UserError(f"{text} Add --resume-anyway to continue it regardless.")
        tell(Note(f"{text} Continuing anyway."))
    for text in _changes(settings, backend, found, progress.valid):
        tell(Note(text))
    backend.set_state(found.state)
    _cut_logs(folder, backend, found.state.step)
    tell(Resumed(found.state.step, found.path))
    return found.state.step, found.progress.on_rows(progress.valid)


def made_by(settings: TrainSettings, backend: Backend) -> dict[str, Any]:
    """What a run may change on the way; its checkpoints say which it was."""
    return {"backend": backend.name, "dtype": backend.dtype, "optimizer": settings.optimizer}


def _cut_logs(folder: Path, backend: Backend, step: int) -> None:
    if backend.rank == 0:
        run_folder.take_back(folder, step)


def _changes(
    settings: TrainSettings, backend: Backend, found: Checkpoint, valid: str
) -> Iterator[str]:
    """What another backend, dtype, optimizer or validation set does not carry over."""
    made_by = found.made_by
    for key, now in (("backend", backend.name), ("dtype", backend.dtype)):
        if made_by.get(key) != now:
            yield f"The run's {key} was {made_by.get(key)} and is now {now}."
    if made_by.get("backend") != backend.name and settings.lora.dropout:
        yield "The other backend draws other dropout masks."
    if made_by.get("optimizer") != settings.optimizer:
        yield (
            f"The optimizer was {made_by.get('optimizer')}; its moments were read as float32, and "
            "what 8 bits lost is not recovered."
        )
    if found.progress.valid not in ("", valid):
        yield "The validation set changed; the best checkpoint is reset."
    yield from found.state.notes
