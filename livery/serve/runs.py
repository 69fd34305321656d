"""Runs as their folders tell them: adapters/NAME with a run_config.json in it.

Everything is read anew where a file has changed and from memory where it has not, so that hundreds
of runs with hundreds of checkpoints are listed at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from livery.paths import LOCK, METADATA, METRICS, RUN_CONFIG, RUN_MARK
from livery.serve.errors import NotFound
from livery.serve.growing import GrowingLines, lines_of
from livery.serve.known import facts, known, mark
from livery.serve.settings import ServeSettings, inside, is_name

RunState = Literal["queued", "running", "paused", "failed", "cancelled", "stopped", "done"]
_STEP = re.compile(r"step-(\d{6,12})")


@dataclass(frozen=True)
class Run:
    """A run at a glance.

    Attributes:
        state: of its job while that is not done; else "running" while a process holds the folder,
            "done" where the adapter is written, "stopped" where neither.
        step, steps: optimizer steps taken, and of the whole run; early stopping ends it before.
        kept_step: whose weights the adapter has; None before it is written.
        loss, eval_loss: the newest, nats a supervised token.
        best: the smallest eval_loss so far, and its step.
        started, ended: seconds since the epoch; it started when it began at step 0, however often
            it was resumed.
        seconds_left: of training, by its own rate.
        peak_memory: bytes.
        job: id of the job that makes it.
    """

    name: str
    state: RunState
    step: int
    steps: int | None
    kept_step: int | None
    loss: float | None
    eval_loss: float | None
    best: dict[str, float] | None
    started: float | None
    ended: float | None
    seconds_left: float | None
    tokens_per_second: float | None
    peak_memory: float | None
    model: str | None
    backend: str | None
    skill: str | None
    job: str | None


@dataclass(frozen=True)
class Checkpoint:
    """A saved state of training: its step, bytes on disk, when, and whether it is the best."""

    step: int
    bytes: int
    saved: float
    best: bool


def folders(settings: ServeSettings) -> list[Path]:
    """The runs' folders, newest first."""
    found: list[tuple[int, str, Path]] = []
    for folder in adapters(settings):
        if seen := mark(f"{folder}/{RUN_CONFIG}"):
            found.append((seen[2], folder.name, folder))
    return [folder for _, _, folder in sorted(found, reverse=True)]


def adapters(settings: ServeSettings) -> list[Path]:
    """Every folder in adapters/ that can be named in a request, by name."""
    with contextlib.suppress(OSError), os.scandir(settings.adapters) as entries:
        names = [e.name for e in entries if is_name(e.name) and e.is_dir(follow_symlinks=False)]
        return [settings.adapters / name for name in sorted(names)]
    return []


def find(settings: ServeSettings, name: str) -> Path:
    """The folder of a run. Raises NotFound."""
    folder = inside(settings.adapters, name, what="run")
    if not (folder / RUN_CONFIG).is_file():
        raise NotFound(f"There is no run named '{name}'.", key="name")
    return folder


def describe(settings: ServeSettings, folder: Path, job: Any = None) -> Run:
    """A run at a glance.

    Args:
        job: the newest of its name, if there is one (`livery.serve.jobs.jobs.Job`).
    """
    if mark(f"{folder}/{LOCK}") is not None:  # somebody may hold it
        return _described(settings, folder, job)
    files = [f"{folder}/{name}" for name in (RUN_CONFIG, RUN_MARK, METADATA, METRICS)]
    return known.of(
        ("run", folder),
        [*files, settings.data],
        lambda: _described(settings, folder, job),
        None if job is None else (job.id, job.state),
    )


def _described(settings: ServeSettings, folder: Path, job: Any) -> Run:
    config = facts(folder / RUN_CONFIG)
    asked = _mapping(config.get("settings"))
    log = lines_of(folder / METRICS)
    newest, evaluated = log.last(), log.last(evaluation=True)
    state = state_of(folder, job)
    steps = _whole(config.get("total_steps"))
    made = facts(folder / METADATA) if state == "done" else {}
    step = max(int(log.steps[-1]) if len(log) else 0, _whole(made.get("steps")) or 0)
    best = min(log.losses, key=lambda one: one[1], default=None)
    rate = _number(newest.get("tokens_per_second"))
    peak = _number(newest.get("peak_memory_mb"))
    started = _number(facts(folder / RUN_MARK).get("started")) or _written(folder / RUN_CONFIG)
    ended = _written(folder / METADATA)
    return Run(
        name=folder.name,
        state=state,
        step=step,
        steps=steps,
        kept_step=_whole(made.get("kept_step")),
        loss=_number(newest.get("loss")),
        eval_loss=_number(evaluated.get("eval_loss")),
        best=None if best is None else {"step": best[0], "eval_loss": best[1]},
        started=started,
        ended=None if state == "running" else ended or log.changed or started,
        seconds_left=_left(config, step, steps, rate) if state == "running" else None,
        tokens_per_second=rate,
        peak_memory=None if not peak else peak * 1e6,
        model=_text(asked.get("model")),
        backend=_text(config.get("backend")) or _text(asked.get("backend")),
        skill=skill_of(settings, folder, asked, job),
        job=None if job is None else job.id,
    )


def state_of(folder: Path, job: Any = None) -> RunState:
    """What a run is doing."""
    if job is not None and job.state != "done":
        return job.state
    if is_running(folder):
        return "running"
    return "done" if (folder / METADATA).is_file() else "stopped"


_dead: dict[Path, tuple[int, int]] = {}


def is_running(folder: Path) -> bool:
    """Whether a process holds the run's folder (`livery.training.run_folder.locked`).

    A file that nobody held is not tried again until it is written to: trying takes the lock for a
    moment, in which a run that begins would find it taken.
    """
    place = folder / LOCK
    try:
        handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        stat = os.fstat(handle)
        mark = (stat.st_ino, stat.st_mtime_ns)
        if _dead.get(place) == mark:
            return False
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if len(_dead) > 4096:
            _dead.clear()
        _dead[place] = mark
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def metrics(folder: Path) -> GrowingLines:
    """A run's training_metrics.jsonl, as far as it is written."""
    return lines_of(folder / METRICS)


def checkpoints(folder: Path) -> list[Checkpoint]:
    """The checkpoints that a run keeps, the newest first."""
    best = _best_step(folder)
    place = folder / "checkpoints"
    return known.of(("checkpoints", folder), [place], lambda: _checkpoints(folder, best), best)


def _checkpoints(folder: Path, best: int | None) -> list[Checkpoint]:
    found: list[Checkpoint] = []
    for step in checkpoint_steps(folder):
        place = folder / "checkpoints" / f"step-{step:06d}"
        with contextlib.suppress(OSError):
            state, weights = (place / "state.json").stat(), (place / "state.safetensors").stat()
            size = state.st_size + weights.st_size
            found.append(Checkpoint(step, size, state.st_mtime, step == best))
    return sorted(found, key=lambda one: -one.step)


def checkpoint_steps(folder: Path) -> list[int]:
    """As `livery.training.checkpoint.steps`, which brings numpy with it."""
    names = [path.name for path in (folder / "checkpoints").glob("step-*")]
    return sorted({int(found[1]) for name in names if (found := _STEP.fullmatch(name))})


def _best_step(folder: Path) -> int | None:
    best = min(metrics(folder).losses, key=lambda one: one[1], default=None)
    return None if best is None else best[0]


def skill_of(
    settings: ServeSettings, folder: Path, asked: Mapping[str, Any], job: Any = None
) -> str | None:
    """The skill that a run is of: as its job, its evaluation or its data's manifest says."""
    if job is not None and job.request.skill:
        return job.request.skill
    data = asked.get("data")
    if isinstance(data, str):
        place = (settings.root / data).resolve()
        if place.is_relative_to(settings.root):
            return _text(facts(place / "manifest.json").get("skill"))
    return None


def _left(
    config: Mapping[str, Any], step: int, steps: int | None, rate: float | None
) -> float | None:
    """Seconds of training that are left, by the tokens of an average step."""
    work = _mapping(config.get("work"))
    plain, of = _number(work.get("plain")), _number(work.get("steps"))
    if not (steps and rate and plain and of):
        return None
    return max(0, steps - step) * plain / of / rate


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
