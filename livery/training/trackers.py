"""`report_to`: a run's numbers in TensorBoard, Weights & Biases, trackio, MLflow or SwanLab.

One callback over the run's events opens the trackers and feeds them; a tracker is a class of a few
lines around its library, which is imported when the run starts. The libraries read their own
variables (WANDB_MODE, MLFLOW_TRACKING_URI, TRACKIO_DIR, SWANLAB_API_KEY …).

A tracker never ends a run: when one raises, the user is told once and it is switched off. What is
remembered of each is in trackers.json in the run's folder: the id of its run, which a resumed run
continues, and the last steps reported to it, which a resumed run does not report again.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from livery.errors import UserError
from livery.files import write_json
from livery.paths import TENSORBOARD, TRACKERS_LOG
from livery.reading import read_object
from livery.training.events import (
    Evaluated,
    Event,
    Failed,
    Finished,
    Interrupted,
    Metrics,
    Started,
)
from livery.training.self_check import first_line

# Where nothing else names a project or an experiment.
PROJECT = "livery"

Status = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True)
class Run:
    """What a tracker is opened with.

    Attributes:
        folder: that the run writes.
        project: from the settings; "" where they name none.
        name: of the run, for people: the folder's.
        id: that the tracker gave this run when it began; "" for a new one.
        config: settings and facts of the run, flat.
    """

    folder: Path
    project: str
    name: str
    id: str
    config: Mapping[str, Any]

    def project_or(self, *variables: str) -> str:
        """The project of the settings, else what one of the tracker's own variables names."""
        named = (os.environ.get(variable, "") for variable in variables)
        return self.project or next(filter(None, named), PROJECT)

    def name_unless(self, variable: str) -> str | None:
        """The run's name, or None where the tracker's own variable names it."""
        return None if os.environ.get(variable) else self.name


class Tracker(Protocol):
    """One run in one tracker. Every method may raise what it likes.

    Attributes:
        id: by which the tracker finds this run again; "" where it needs none.
    """

    id: str

    def log(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self, status: Status) -> None: ...


class TensorBoard:
    """Event files in the run's folder, under tensorboard/."""

    id = ""

    def __init__(self, run: Run) -> None:
        # tensorboardX writes without torch; torch's own writer needs the tensorboard package.
        found = importlib.util.find_spec("tensorboardX") is not None
        module: Any = importlib.import_module(
            "tensorboardX" if found else "torch.utils.tensorboard"
        )
        # Its files are named by the second: a run resumed within one would replace its own.
        self._writer = module.SummaryWriter(
            str(run.folder / TENSORBOARD), filename_suffix=f".{time.time_ns()}"
        )
        if not run.id:
            lines = (f"    {key}: {value}" for key, value in run.config.items())
            self._writer.add_text("settings", "\n".join(lines), 0)
        self.id = run.name

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # a run that is killed has reported all that it says it has

    def close(self, status: Status) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases; WANDB_MODE=offline writes to ./wandb, for `wandb sync`."""

    def __init__(self, run: Run) -> None:
        wandb: Any = importlib.import_module("wandb")
        again = {"id": run.id, "resume": "allow", "allow_val_change": True} if run.id else {}
        self._run = wandb.init(
            project=run.project_or("WANDB_PROJECT"),
            name=run.name_unless("WANDB_NAME"),
            config=dict(run.config),
            **again,
        )
        self.id = str(self._run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, status: Status) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)


class Trackio:
    """trackio's database on this machine, or the Space that TRACKIO_SPACE_ID names."""

    def __init__(self, run: Run) -> None:
        self._trackio: Any = importlib.import_module("trackio")
        # A run is found again by its name.
        self.id = run.id or f"{run.name}-{secrets.token_hex(3)}"
        self._run = self._trackio.init(
            project=run.project_or("TRACKIO_PROJECT"),
            name=self.id,
            config=dict(run.config),
            resume="allow" if run.id else "never",
            embed=False,
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, status: Status) -> None:
        self._trackio.finish()  # a run's own finish() is repeated, and printed, as Python exits


class MLflow:
    """MLflow, where MLFLOW_TRACKING_URI says, else in ./mlflow.db or ./mlruns."""

    _STATUS: Mapping[Status, str] = {
        "finished": "FINISHED", "interrupted": "KILLED", "failed": "FAILED",
    }  # fmt: skip

    def __init__(self, run: Run) -> None:
        mlflow: Any = importlib.import_module("mlflow")
        self._entities: Any = importlib.import_module("mlflow.entities")
        self._client = mlflow.MlflowClient()
        if run.id:
            self.id = run.id
            self._client.update_run(self.id, status="RUNNING")
            return
        experiment = "" if run.project else os.environ.get("MLFLOW_EXPERIMENT_ID", "")
        if not experiment:
            name = run.project_or("MLFLOW_EXPERIMENT_NAME")
            found = self._client.get_experiment_by_name(name)
            experiment = found.experiment_id if found else self._client.create_experiment(name)
        self.id = str(self._client.create_run(experiment, run_name=run.name).info.run_id)
        params = [self._entities.Param(k, str(v)[:500]) for k, v in run.config.items()]
        for start in range(0, len(params), 100):  # as many as one call takes
            self._client.log_batch(self.id, params=params[start : start + 100])

    def log(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(k, v, now, step) for k, v in values.items()]
        self._client.log_batch(self.id, metrics=metrics)

    def close(self, status: Status) -> None:
        self._client.set_terminated(self.id, self._STATUS[status])


class SwanLab:
    """SwanLab; SWANLAB_MODE=offline or local writes to ./swanlog. Only online runs go on."""

    def __init__(self, run: Run) -> None:
        swanlab: Any = importlib.import_module("swanlab")
        again = {"id": run.id, "resume": "allow"} if run.id else {}
        self._run = swanlab.init(
            project=run.project_or("SWANLAB_PROJECT", "SWANLAB_PROJ_NAME"),
            name=run.name_unless("SWANLAB_EXP_NAME"),
            config=dict(run.config),
            **again,
        )
        self.id = str(self._run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self, status: Status) -> None:
        if status == "failed":
            self._run.finish(state="crashed", error="the run failed")
        else:
            self._run.finish(state="success" if status == "finished" else "aborted")


@dataclass(frozen=True)
class Kind:
    """A tracker by name: how it is opened, and what it needs installed.

    Attributes:
        needs: modules; of each tuple all must be there, of the tuples one suffices.
        install: the packages to install where none is.
    """

    open: Callable[[Run], Tracker]
    needs: tuple[tuple[str, ...], ...]
    install: str


TRACKERS: Mapping[str, Kind] = {
    "tensorboard": Kind(
        TensorBoard, (("tensorboardX",), ("tensorboard", "torch")), "tensorboardX tensorboard"
    ),
    "wandb": Kind(WandB, (("wandb",),), "wandb"),
    "trackio": Kind(Trackio, (("trackio",),), "trackio"),
    "mlflow": Kind(MLflow, (("mlflow",),), "mlflow"),
    "swanlab": Kind(SwanLab, (("swanlab",),), "swanlab"),
}


def check(names: Sequence[str]) -> None:
    """Raises UserError where a tracker's package is not installed."""
    for name in names:
        kind = TRACKERS[name]
        if not any(all(map(importlib.util.find_spec, modules)) for modules in kind.needs):
            raise UserError(
                f"report_to: {name} is not installed. Run `pip install {kind.install}`, or leave "
                f"{name} out of report_to."
            )


class Reports:
    """The callback that reports to trackers. Use as a context manager, which closes them.

    Args:
        names: of TRACKERS.
        warn: tells the user of a tracker that is switched off.
    """

    def __init__(self, names: Sequence[str], warn: Callable[[str], None]) -> None:
        self._names, self._warn = names, warn
        self._open: dict[str, Tracker] = {}
        self._record: dict[str, dict[str, Any]] = {}
        self._file = Path()
        self._status: Status = "failed"

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, *_: object) -> None:
        for name, tracker in list(self._open.items()):
            with self._guard(name):
                tracker.close(self._status)
        self._open.clear()

    def __call__(self, event: Event) -> None:
        match event:
            case Started() if self._names:
                self._start(event)
            case Metrics():
                names = ("loss", "grad_norm", "learning_rate", "epoch", "tokens_per_second",
                         "supervised_tokens_per_second", "peak_memory_mb")  # fmt: skip
                values = {n: getattr(event, n) for n in names} | dict(event.figures)
                self._log("train", {f"train/{n}": v for n, v in values.items()}, event.step)
            case Evaluated():
                names = ("loss", "runtime", "samples_per_second", "steps_per_second")
                values = {n: getattr(event, f"eval_{n}") for n in names} | dict(event.figures)
                self._log("eval", {f"eval/{n}": v for n, v in values.items()}, event.step)
            case Finished():
                self._status = "finished"
            case Interrupted():
                self._status = "interrupted"
            case Failed():
                self._status = "failed"
            case _:
                pass

    def _start(self, event: Started) -> None:
        self._file = event.folder / TRACKERS_LOG
        self._record = _read(self._file)
        config = _config(event)
        for name in self._names:
            known = self._record.setdefault(name, {"id": "", "train": -1, "eval": -1})
            run = Run(
                event.folder, event.settings.project_name, event.folder.resolve().name,
                known["id"], config,
            )  # fmt: skip
            with self._guard(name):
                self._open[name] = TRACKERS[name].open(run)
                known["id"] = self._open[name].id
        write_json(self._file, self._record)

    def _log(self, kind: str, values: Mapping[str, float], step: int) -> None:
        told = False
        for name, tracker in list(self._open.items()):
            if step <= self._record[name][kind]:
                continue
            with self._guard(name):
                tracker.log(values, step)
                self._record[name][kind], told = step, True
        if told:
            write_json(self._file, self._record)

    @contextlib.contextmanager
    def _guard(self, name: str) -> Generator[None]:
        """Run a tracker's own code: its failure costs the tracker alone, its words go to stderr,
        and Ctrl-C keeps its meaning."""
        handler = signal.getsignal(signal.SIGINT)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        except (Exception, SystemExit) as error:
            self._open.pop(name, None)
            self._warn(
                f"{name} is switched off; the run continues without it ({first_line(error)})."
            )
        finally:
            with contextlib.suppress(ValueError, TypeError):  # not in the main thread, or not ours
                signal.signal(signal.SIGINT, handler)


def _config(event: Started) -> dict[str, Any]:
    """Settings that are set, LoRA's as "lora.…", and what the run found out."""
    settings = event.settings.as_dict()
    lora = {f"lora.{name}": value for name, value in settings.pop("lora").items()}
    names = ("backend", "dtype", "total_steps", "trainable", "parameters", "processes")
    facts = {name: getattr(event, name) for name in names}
    return {k: v for k, v in {**settings, **lora, **facts}.items() if v not in (None, "", (), {})}


def _read(file: Path) -> dict[str, dict[str, Any]]:
    """What is on record of each tracker; what is damaged counts as never reported."""
    if not file.is_file():
        return {}
    with contextlib.suppress(UserError):
        found = read_object(file)
        return {
            name: known
            for name, known in found.items()
            if isinstance(known, dict)
            and isinstance(known.get("id"), str)
            and all(type(known.get(kind)) is int for kind in ("train", "eval"))
        }
    return {}
