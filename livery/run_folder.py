"""The folder of a run: whose it is, that one process writes it, and its growing logs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

from livery.errors import UserError
from livery.files import atomic_write, explain_os_errors, read_json, write_json
from livery.settings import TrainSettings

RUN_CONFIG = "run_config.json"
METRICS = "training_metrics.jsonl"
SAMPLES = "samples.jsonl"
METADATA = "training_metadata.json"

# Settings that a run may change on the way without changing what it learns.
_FREE = (
    "model", "data", "output_dir", "backend", "device", "dtype", "grad_checkpoint",
    "attention", "compile",
    "epochs", "max_steps", "steps_per_report", "steps_per_eval", "save_every",
    "early_stop_patience", "early_stop_min_delta", "max_samples", "val_split", "eval_max_samples",
    "samples", "sample_tokens", "save_total", "keep", "optimizer", "columns", "train_on", "strict",
)  # fmt: skip


def deciding_settings(settings: TrainSettings, total_steps: int) -> dict[str, Any]:
    """The settings that decide the numbers of a run, as plain values."""
    values = json.loads(json.dumps(settings.as_dict()))  # tuples become lists, as when read back
    lora = values.pop("lora")
    values.update({f"lora.{key}": value for key, value in lora.items()})
    return {k: v for k, v in values.items() if k not in _FREE} | {"total_steps": total_steps}


def base_digest(model: str | Path) -> str:
    """Digest of a base model: its configuration, and names, sizes and first MiB of its weights.

    A GGUF file is digested likewise; a hub id that is no folder here by name.
    """
    total = hashlib.sha256()
    path = Path(model)
    files = [path] if path.is_file() else [path / "config.json", *path.glob("*.safetensors")]
    if not path.exists():
        return hashlib.sha256(str(model).encode()).hexdigest()
    for file in sorted(files):
        if file.is_file():
            total.update(f"{file.name}:{file.stat().st_size}:".encode())
            with file.open("rb") as handle:
                total.update(handle.read(1 << 20))
    return total.hexdigest()


def claim(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make sure that the folder is ours to write.

    Raises:
        UserError: it holds another run or adapter, there is nothing to resume, or it cannot be
            written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose another --output-dir.")
    with explain_os_errors(folder, "making the run's folder"):
        folder.mkdir(parents=True, exist_ok=True)
        # Found out now rather than after an hour of training.
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    holds = [n for n in (RUN_CONFIG, "adapter_config.json") if (folder / n).exists()]
    if resume and not (folder / RUN_CONFIG).exists():
        raise UserError(f"{folder}: holds no run to resume; leave out --resume to begin one.")
    if holds and not resume:
        if not overwrite:
            raise UserError(
                f"{folder}: already holds a run ({holds[0]}). Add --resume to go on with it, "
                "--overwrite to begin anew in its place, or choose another --output-dir."
            )
        _clear(folder)


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the folder against a second trainer; the lock ends with the process."""
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{folder}: another process is training in this folder.") from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / ".lock").unlink()


def append(path: Path, row: dict[str, Any]) -> None:
    """Add one line to a log. A line is written by one call, so a reader sees whole lines."""
    with explain_os_errors(path, "logging"), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def cut_after(path: Path, step: int) -> None:
    """Drop the lines of steps after `step`, which a resumed run will take again."""
    if not path.exists():
        return
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut off by a kill
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    with atomic_write(path, "w") as file:
        file.writelines(kept)


def write_run_config(folder: Path, settings: TrainSettings, facts: dict[str, Any]) -> None:
    """Record what was asked for, with its resolved values."""
    write_json(folder / RUN_CONFIG, {"settings": settings.as_dict(), **facts})


def read_run_config(folder: Path) -> dict[str, Any]:
    """What `write_run_config` recorded. Raises UserError where there is none."""
    return read_json(folder / RUN_CONFIG)


def _clear(folder: Path) -> None:
    """Remove what a run wrote here, and nothing else."""
    for name in (
        RUN_CONFIG, METRICS, SAMPLES, METADATA, "adapter_config.json", "adapter_model.safetensors",
        "README.md", "report.md", "report.html",
    ):  # fmt: skip
        (folder / name).unlink(missing_ok=True)
    for path in folder.glob("evaluation*.json"):
        path.unlink()
    for name in ("checkpoints", "mlx", "gguf"):
        shutil.rmtree(folder / name, ignore_errors=True)
