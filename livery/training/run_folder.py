"""The folder of a run: whose it is, that one process writes it, and its growing logs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.files import atomic_write, explain_os_errors, read_json, write_json
from livery.paths import (
    LOCK,
    MADE_FROM,
    METADATA,
    METRICS,
    REFERENCE,
    RUN_CONFIG,
    RUN_MARK,
    SAMPLES,
    TENSORBOARD,
    TRACKERS_LOG,
)
from livery.reading import read_object
from livery.training import checkpoint
from livery.training.events import Callback, Evaluated, Event, Metrics, Sampled, as_line
from livery.training.run_lock import locked

# Everything that a run, its export and the evaluations of it write.
_LOGS = (METRICS, SAMPLES, METADATA, TRACKERS_LOG, MADE_FROM, REFERENCE)
_ADAPTER = (
    "adapter_config.json", "adapter_model.safetensors", "mlx/adapter_config.json",
    "mlx/adapters.safetensors", "gguf/adapter.gguf", "README.md",
)  # fmt: skip
_REPORTS = ("report.md", "report.html", *(
    f"evaluation{cases}{engine}.json"
    for cases in ("", "_second", "_data") for engine in ("", "_llamacpp")
))  # fmt: skip
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json", "tokenizer.model", "vocab.json", "merges.txt",
)  # fmt: skip
# What a new run would replace, were it there.
_WRITTEN = (*_ADAPTER, METRICS, SAMPLES, METADATA, "checkpoints", *TOKENIZER)


def writing(path: str | Path, doing: str) -> contextlib.AbstractContextManager[None]:
    """`locked` for what is written into a run's folder or below it; nothing for another place."""
    place = Path(path).absolute()
    for folder in (place, *place.parents[:2]):
        if (folder / RUN_CONFIG).is_file() or (folder / LOCK).is_file():
            return locked(folder, doing)
    return contextlib.nullcontext()


def claim(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make sure that the folder, which the caller holds, is ours to write. Removes nothing.

    Raises:
        UserError: it holds another run or adapter, there is nothing to resume, or what is
            there was not written by a run.
    """
    if resume:
        if not (folder / RUN_CONFIG).exists():
            raise UserError(f"{folder}: holds no run to resume; leave out --resume to begin one.")
        return
    if (folder / RUN_CONFIG).exists():
        if not overwrite:
            raise UserError(
                f"{folder}: already holds a run ({RUN_CONFIG}). Add --resume to continue it, "
                "--overwrite to start over in its place, or choose another --output-dir."
            )
        return
    found = next((name for name in _WRITTEN if os.path.lexists(folder / name)), None)
    if found is not None:
        raise UserError(
            f"{folder}: holds {found}, which Livery did not write and this run would replace. "
            "Choose another --output-dir, or move it away."
        )


def clear(folder: Path, keep: Collection[str] = ()) -> None:
    """Remove the run that the folder holds, and nothing else; its record goes last.

    Args:
        keep: files that the new run has written there already.
    """
    if not (folder / RUN_CONFIG).exists():
        return
    for step in checkpoint.steps(folder):
        checkpoint.remove(checkpoint.folder(folder, step))
    for name in sorted({*_ADAPTER, *_REPORTS, *_LOGS} - {*keep}):
        with contextlib.suppress(OSError):
            (folder / name).unlink()
    for file in (folder / TENSORBOARD).glob("events.out.tfevents.*"):
        with contextlib.suppress(OSError):
            file.unlink()
    for name in ("checkpoints", "mlx", "gguf", TENSORBOARD):
        with contextlib.suppress(OSError):  # somebody else's files are in it too
            (folder / name).rmdir()
    with contextlib.suppress(FileNotFoundError):
        (folder / RUN_CONFIG).unlink()


def append(path: Path, row: dict[str, Any]) -> None:
    """Add one line to a log. A line is written by one call, so a reader sees whole lines."""
    with explain_os_errors(path, "logging"), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def log_events(folder: Path) -> Callback:
    """The callback that writes training_metrics.jsonl and samples.jsonl, a line an event."""

    def log(event: Event) -> None:
        if isinstance(event, Metrics | Evaluated):
            append(folder / METRICS, as_line(event))
        elif isinstance(event, Sampled):
            append(folder / SAMPLES, dataclasses.asdict(event))

    return log


def begin(folder: Path) -> None:
    """Mark the folder as that of a new run. The mark of an older one is replaced and not removed:
    whoever watches the folder sees it change once."""
    _mark(folder, {"id": secrets.token_hex(4), "started": time.time(), "cuts": 0})


def take_back(folder: Path, step: int) -> None:
    """Drop the lines of steps after `step` from the logs of a run that is resumed there, which will
    take these steps again.

    It stays the same run, but its mark counts up where a line was dropped: who has read so far does
    not know what comes in its place.
    """
    found: dict[str, Any] = {}
    with contextlib.suppress(UserError):
        found = read_object(folder / RUN_MARK)
    if not isinstance(found.get("cuts"), int):  # of a version that had no marks
        began = (folder / RUN_CONFIG).stat().st_mtime
        found = {"id": secrets.token_hex(4), "started": began, "cuts": 0}
        _mark(folder, found)
    rest = {
        path: _until(path, step) for name in (METRICS, SAMPLES) if (path := folder / name).exists()
    }
    dropped = any(lines < path.read_text("utf-8").count("\n") for path, (_, lines) in rest.items())
    # Before it, in case we are killed; after it, for who looks in between.
    if dropped:
        _mark(folder, found := found | {"cuts": found["cuts"] + 1})
    for path, (text, _) in rest.items():
        with atomic_write(path, "w") as file:
            file.write(text)
    if dropped:
        _mark(folder, found | {"cuts": found["cuts"] + 1})


def _mark(folder: Path, said: dict[str, Any]) -> None:
    write_json(folder / RUN_MARK, said)


def _until(path: Path, step: int) -> tuple[str, int]:
    """(the lines of a log up to a step, how many)."""
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        with contextlib.suppress(
            ValueError, KeyError, TypeError, RecursionError
        ):  # a line cut off by a kill
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    return "".join(kept), len(kept)


def write_run_config(folder: Path, settings: TrainSettings, facts: dict[str, Any]) -> None:
    """Record what was asked for, with its resolved values."""
    write_json(folder / RUN_CONFIG, {"settings": settings.as_dict(), **facts})


def recorded_backend(folder: Path) -> tuple[Any, Any] | None:
    """The (backend, dtype) that the folder's run was given, where it recorded them."""
    try:
        settings = read_run_config(folder)["settings"]
        return settings["backend"], settings["dtype"]
    except (UserError, LookupError, TypeError):
        return None


def recorded_threads(folder: Path) -> int | None:
    """The number of threads that the folder's run computes with, where it recorded one."""
    try:
        found = read_run_config(folder).get("threads")
    except UserError:
        return None
    return found if isinstance(found, int) and found > 0 else None


def read_run_config(folder: Path) -> dict[str, Any]:
    """What `write_run_config` recorded. Raises UserError where there is none."""
    return read_json(folder / RUN_CONFIG)
