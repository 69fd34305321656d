"""What each step of a job runs, and how to read what became of it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any, TypeGuard

from livery.config.settings import OPTIONS
from livery.errors import TargetMissed
from livery.files import write_json
from livery.paths import METADATA, RUN_CONFIG
from livery.reading import read_object
from livery.serve.jobs.layout import Layout
from livery.serve.jobs.process import Try
from livery.serve.jobs.request import ENGINES, JobRequest, training_flags

DATA_SEED = 7  # whose rows are in data/SKILL, as `livery data SKILL` makes them
INTERRUPTED = 130
DATABASE = "LIVERY_DATABASE"  # URL of the workers' database
_SETTLED = ("threads", "dtype")  # settings of training that evaluation answers with, too
_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")
_TAIL = 16_384


def command(layout: Layout, request: JobRequest, step: str) -> list[str]:
    """The command of a step, to be run in the root folder. It continues what it began before."""
    if step == "train" and request.trainer is not None:
        return list(request.trainer["argv"])
    adapter, data = f"adapters/{request.name}", data_of(request)
    words = {
        "data": ["data", str(request.skill), f"--out={data}",
                 f"--seed={request.data_seed}"],
        "train": ["train", *([request.skill] if request.skill else []), f"--data={data}",
                  f"--output-dir={adapter}", *training_flags(request)],
        "eval": ["eval", str(request.skill), f"--adapter={adapter}", "--baseline",
                 f"--train-data={data}"],
        "convert": ["convert", adapter, adapter, "--to=all", "--overwrite"],
        "promote": ["promote", str(request.skill), adapter, f"--over=adapters/{request.over}"],
        "pack": ["pack", adapter, f"--out={adapter}.zip", "--overwrite"],
    }[step]  # fmt: skip
    if step == "train" and (layout.adapter(request.name) / RUN_CONFIG).exists():
        words.append("--resume")
    if step in ("eval", "promote"):
        words += [f"--engine={engine}" for engine in _engine(layout, request)]
    if step == "eval":
        words += [f"--{name}={request.settings[name]}" for name in _SETTLED
                  if name in request.settings]  # fmt: skip
        words += [f"--target={request.target:g}"] if request.target is not None else []
    return [sys.executable, "-m", "livery", *words]


def environment(device: str) -> dict[str, str]:
    """The variables of a step's process: those of the worker, without the ones that stand for
    settings, which a job has from its request alone, and the one with a password."""
    ours = {name for option in OPTIONS for name in option.environment()} | {DATABASE}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, **_visible(device)}


def trainer_environment(
    layout: Layout, job: str, request: JobRequest, device: str
) -> dict[str, str]:
    """The variables of a trainer that is not Livery's: where it finds what, and what it is for."""
    trainer = request.trainer or {}
    return {
        **{name: value for name, value in os.environ.items() if name != DATABASE},
        **_visible(device),
        **trainer["variables"],
        "JARVIS_TRAIN_DATASET_PATH": str(layout.data(str(request.data))),
        "JARVIS_TRAIN_PARAMS_PATH": str(_params(layout, job)),
        "JARVIS_TRAIN_OUTPUT_DIR": str(layout.adapter(request.name)),
        "JARVIS_TRAIN_LOG_PATH": str(layout.log(job)),
    }


def write_for_trainer(layout: Layout, job: str, request: JobRequest) -> None:
    """What a trainer that is not Livery's finds by its variables: its settings, and a place."""
    layout.adapter(request.name).mkdir(exist_ok=True)
    write_json(_params(layout, job), (request.trainer or {})["params"])


def _params(layout: Layout, job: str) -> Path:
    return layout.job(job) / "params.json"


def _visible(device: str) -> dict[str, str]:
    """cuda:N is the only one that the process sees."""
    kind, _, number = device.partition(":")
    return {"CUDA_VISIBLE_DEVICES": number} if kind == "cuda" and number else {}


def make_way(layout: Layout, job: str, request: JobRequest) -> None:
    """Set an older adapter of that name aside, once, before the job's first training."""
    folder, aside = layout.adapter(request.name), layout.replaced(job)
    if request.overwrite and not aside.exists():
        if folder.exists():
            os.rename(folder, aside)
        else:
            aside.mkdir()


def data_of(request: JobRequest) -> str:
    """The folder of a job's rows, as its commands name it from the root."""
    if request.data:
        return str(Path("data") / request.data)
    name = Path(str(request.skill)).name.removesuffix(".py")
    return f"data/{name}" + (f"-{request.data_seed}" if request.data_seed != DATA_SEED else "")


def _engine(layout: Layout, request: JobRequest) -> list[str]:
    """The engine that was asked for, else the one of the framework that trained, where known."""
    record = layout.adapter(request.name) / METADATA
    trained = str(read_object(record).get("backend")) if record.is_file() else request.backend
    engine = request.engine or trained
    return [engine] if engine in ENGINES else []


def cause(layout: Layout, job: str, step: str, one: Try) -> dict[str, Any]:
    """Why a try failed, as `livery.serve.jobs.jobs.Cause` has it."""
    lines = tail(layout.log(job), one.log_start)
    number = one.signal or (one.code - 128 if _by_signal(one.code) else None)
    said = " ".join(lines[-10:]).lower()
    if one.code == TargetMissed.exit_code and step == "eval":
        kind, detail = "target missed", "the evaluation missed its target"
    elif one.code == TargetMissed.exit_code and step == "promote":
        kind, detail = "target missed", "it is not shown to be better, so nothing was replaced"
    elif number == signal.SIGKILL and one.oom:
        kind, detail = "out of memory", f"{step} was killed by the system, which had no memory left"
    elif one.code and number is None and any(words in said for words in _MEMORY):
        kind, detail = "out of memory", f"{step} ran out of memory"
    elif number is not None and one.code != INTERRUPTED:
        kind, detail = "signal", f"{step} was ended by {_name(number)}"
    elif one.code == INTERRUPTED:
        kind, detail = "signal", f"{step} was interrupted"
    elif one.code is None:
        kind, detail = "signal", f"{step} and its wrapper were killed, or the machine stopped"
    else:
        kind, detail = "exit code", f"{step} exited with {one.code}"
    return {"kind": kind, "detail": detail, "last_lines": lines}


def worth_another(one: Try) -> bool:
    """Whether a try that failed may end otherwise the next time: it was killed. A command that gave
    up by itself would give up again."""
    return one.code is None or _by_signal(one.code)


def _by_signal(code: int | None) -> TypeGuard[int]:
    """Whether an exit code is a shell's word for a signal."""
    return code is not None and 128 < code < 160


def tail(log: Path, start: int = 0, lines: int = 20) -> list[str]:
    """The last lines of a log, from byte `start` on; of a line that was drawn over, the last."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    drawn = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line for line in drawn if line][-lines:]


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
