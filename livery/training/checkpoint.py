"""Portable training state on disk: one folder per checkpoint, complete or absent.

    checkpoints/step-000200/
      state.safetensors   weight/<name>, first/<name>, second/<name>, float32 (ARCHITECTURE.md)
      state.json          step, progress of the run, what it was made from, sha256 of the above

Nothing in it belongs to a framework: a run started on MLX can continue on torch,
and the other way round.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from livery import temporary
from livery.errors import UserError, shown
from livery.files import atomic_directory, sha256
from livery.reading import read_object
from livery.training.backend import Arrays, PortableState
from livery.training.origin import Origin

FORMAT = 1
_FILES = ("state.safetensors", "state.json")
_RENAMED = {"window_tokens": "window_count"}  # in checkpoints of 0.1.0
_PARTS = {"weight": "weights", "first": "first_moment", "second": "second_moment"}


class OtherFormat(UserError):
    """A checkpoint that is whole, and that another version of Livery reads."""


@dataclass(frozen=True)
class RunProgress:
    """The state of a run beyond its weights.

    Attributes:
        window_loss, window_count: sums since the last line of training_metrics.jsonl: the loss, and
            what it is divided by.
        best_loss, best_step: eval_loss and step of the best evaluation so far; None before it.
        reference_loss: what early stopping compares with: eval_loss, or the score that the
            objective makes of an evaluation (`livery.training.numerics.Objective.score`).
        stale: evaluations since it last improved.
        last_eval: step of the latest evaluation.
        last_loss: its eval_loss; None from a checkpoint of an older version, which has none.
        valid: digest of the rows that these evaluations were made on.
        window_measures: sums of the objective's other figures, as of the loss.
        first_figures, best_figures, last_figures: the means of an evaluation: of step 0, of the
            best one, of the latest.
    """

    window_loss: float = 0.0
    window_count: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    reference_loss: float | None = None
    stale: int = 0
    last_eval: int = 0
    valid: str = ""
    last_loss: float | None = None
    window_measures: tuple[float, ...] = ()
    first_figures: dict[str, float] = field(default_factory=dict[str, float])
    best_figures: dict[str, float] = field(default_factory=dict[str, float])
    last_figures: dict[str, float] = field(default_factory=dict[str, float])

    def after(self, loss: float, count: int, measures: Sequence[float]) -> RunProgress:
        """The progress with the sums of one more step in its window."""
        before = self.window_measures or (0.0,) * len(measures)
        return dataclasses.replace(
            self,
            window_loss=self.window_loss + loss,
            window_count=self.window_count + count,
            window_measures=tuple(a + b for a, b in zip(before, measures, strict=True)),
        )

    def reported(self) -> RunProgress:
        """The progress with an empty window."""
        return dataclasses.replace(self, window_loss=0.0, window_count=0, window_measures=())

    def on_rows(self, valid: str) -> RunProgress:
        """The progress on the validation rows of this digest, without what other rows gave."""
        if self.valid in ("", valid):
            return dataclasses.replace(self, valid=valid)
        return RunProgress(
            self.window_loss, self.window_count, valid=valid, window_measures=self.window_measures
        )


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint read back."""

    path: Path
    state: PortableState
    progress: RunProgress
    origin: Origin
    made_by: dict[str, Any] = field(default_factory=dict[str, Any])


def folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return run / "checkpoints" / f"step-{step:06d}"


def steps(run: Path) -> list[int]:
    """Steps that have a checkpoint, ascending."""
    found = [re.fullmatch(r"step-(\d{6,})", p.name) for p in (run / "checkpoints").glob("step-*")]
    every = {int(m.group(1)) for m in found if m}
    return sorted(step for step in every if folder(run, step).is_dir())


def write(
    run: Path,
    state: PortableState,
    progress: RunProgress,
    origin: Origin,
    made_by: dict[str, Any],
) -> Path:
    """Save a checkpoint atomically and return its folder.

    Args:
        made_by: backend, dtype, optimizer and versions, for the message on resuming elsewhere.

    Raises:
        UserError: the disk is full or the folder may not be written; older checkpoints are intact.
    """
    path = folder(run, state.step)
    tensors: Arrays = {
        f"{part}/{name}": np.ascontiguousarray(value, np.float32)
        for part, attribute in _PARTS.items()
        for name, value in sorted(getattr(state, attribute).items())
    }
    with atomic_directory(path) as fresh:
        (fresh / "state.safetensors").write_bytes(save(tensors))
        facts = {
            "format": FORMAT,
            "step": state.step,
            "progress": dataclasses.asdict(progress),
            "origin": dataclasses.asdict(origin),
            "made_by": made_by,
            "sha256": sha256(fresh / "state.safetensors"),
        }
        (fresh / "state.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> Checkpoint:
    """Read one checkpoint folder.

    Raises:
        OtherFormat: it was written by another version of Livery.
        UserError: a file is missing, truncated or changed.
    """
    try:
        facts = _facts(path)
        tensors_path = path / "state.safetensors"
        if sha256(tensors_path) != facts["sha256"]:
            raise UserError(f"{tensors_path}: damaged: its bytes are not those that were saved.")
        parts: dict[str, Arrays] = {attribute: {} for attribute in _PARTS.values()}
        for key, value in load_file(tensors_path).items():
            part, _, name = key.partition("/")
            parts[_PARTS[part]][name] = value
        return Checkpoint(
            path,
            PortableState(
                parts["weights"], parts["first_moment"], parts["second_moment"], facts["step"]
            ),
            RunProgress(**facts["progress"]),
            Origin(**facts["origin"]),
            facts["made_by"],
        )
    except (
        OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError,
    ) as error:  # fmt: skip
        raise UserError(f"{path}: not a complete checkpoint: {error}.") from error


def _facts(path: Path) -> dict[str, Any]:
    """state.json. Raises OtherFormat, or what comes of a file that is not such a record."""
    try:
        facts = read_object(path / "state.json")
        facts["progress"] = {
            _RENAMED.get(k, k): tuple(v) if isinstance(v, list) else v
            for k, v in facts["progress"].items()
        }
    except UserError as error:
        raise ValueError(str(error).removesuffix(".")) from None
    strange = facts["format"] != FORMAT or not (
        facts["progress"].keys() <= _names(RunProgress) and facts["origin"].keys() <= _names(Origin)
    )
    if strange:
        raise OtherFormat(
            f"{path}: written by another version of Livery (checkpoint format "
            f"{shown(facts['format'])}; this one reads {FORMAT}). Continue with the "
            "version that wrote it, start over in its place with --overwrite, or move this "
            "checkpoint away to continue from an earlier one."
        )
    return facts


def _names(kind: type[RunProgress | Origin]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def newest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and what was passed over on the way to it.

    Raises:
        OtherFormat: the newest that is not damaged is another version's. Going back from it would
            train again what is done, and in time replace it.
    """
    passed_over: list[str] = []
    for step in reversed(steps(run)):
        try:
            return read(folder(run, step)), passed_over
        except OtherFormat:
            raise
        except UserError as error:
            passed_over.append(str(error))
    return None, passed_over


def prune(run: Path, keep: int, also: Iterable[int | None] = (), now: int | None = None) -> None:
    """Remove all but the `keep` newest checkpoints and those of the steps in `also`.

    Only whole checkpoints of this format up to step `now`, the run's own, count and are removed:
    one that cannot be read, however high its number, must not push out one that can.
    """
    mine = [step for step in steps(run) if now is None or step <= now]
    whole = [step for step in mine if is_whole(folder(run, step))]
    kept = {*whole[-keep:], *also}
    for step in whole:
        if step not in kept:
            remove(folder(run, step))


def is_whole(path: Path) -> bool:
    """Whether a checkpoint of this format can be read, its digest included."""
    try:
        stat = (path / "state.safetensors").stat()
        return _digest(path, stat.st_mtime_ns, stat.st_size) == _facts(path)["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        return False


@functools.lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    """SHA-256 of the tensors; taken once for each state of the file."""
    del changed, size
    return sha256(path / "state.safetensors")


def remove(path: Path) -> None:
    """Remove what Livery wrote of a checkpoint; what somebody put beside it stays."""
    with contextlib.suppress(OSError):
        if {entry.name for entry in path.iterdir()} <= {*_FILES}:
            temporary.discard(path)
            return
    for name in _FILES:
        with contextlib.suppress(OSError):
            (path / name).unlink()
