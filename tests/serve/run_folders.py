"""Runs on disk as training leaves them, made in a millisecond."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from livery.files import write_json
from livery.paths import METADATA, METRICS, RUN_CONFIG, SAMPLES
from livery.training import run_folder
from livery.training.events import Evaluated, Metrics, Sampled


def make_run(
    root: Path, name: str, steps: int = 20, *, total: int = 40, done: bool = False, **settings: Any
) -> Path:
    """A run that has reported every second step and was evaluated every tenth."""
    folder = root / "adapters" / name
    folder.mkdir(parents=True)
    asked = {"model": "base_model", "data": "data/some", "backend": "torch", **settings}
    work = {"plain": 1000, "steps": 10}
    write_json(
        folder / RUN_CONFIG,
        {"settings": asked, "total_steps": total, "work": work, "backend": "torch"},
    )
    run_folder.begin(folder)
    go_on(folder, 0, steps)
    if done:
        write_json(folder / METADATA, {"steps": steps})
    return folder


def go_on(folder: Path, after: int, until: int) -> None:
    """The lines that training adds from one step to another."""
    log = run_folder.log_events(folder)
    for step in range(after + 2, until + 1, 2):
        log(Metrics(step, step / 10, 4.0 - step / 100, 1.0, 1e-3, 500.0, 50.0, 321.5))
        if step % 10 == 0:
            log(Evaluated(step, step / 10, 3.0 - step / 100, 0.1, 1.0, 1.0))
            log(Sampled(step, "prompt", "expected", f"answer {step}"))


def add_checkpoint(folder: Path, step: int) -> None:
    place = folder / "checkpoints" / f"step-{step:06d}"
    place.mkdir(parents=True)
    (place / "state.json").write_text(json.dumps({"step": step}))
    (place / "state.safetensors").write_bytes(b"x" * 100)


def metrics_file(folder: Path) -> Path:
    return folder / METRICS


def samples_file(folder: Path) -> Path:
    return folder / SAMPLES
