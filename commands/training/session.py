"""One training run put together from a resolved configuration: its settings made definite, data,
backend, loop, adapter folder."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from commands.training import backends, fastest
from commands.training.data import Data, choose_prompts, describe_dropped, load_data
from commands.training.export import export, rehearse
from commands.training.init_adapter import start_from
from livery.base_check import check_base, check_lengths
from livery.config.layers import Config
from livery.config.settings import TrainSettings
from livery.dataset.template import load_chat
from livery.errors import UserError
from livery.models import find_base, is_embedded, read_config
from livery.paths import RUN_CONFIG
from livery.reading import read_json
from livery.training import checkpoint, recipe, run_folder, trackers
from livery.training.events import Callback, Event, Note
from livery.training.job import Job, RunResult
from livery.training.loop import train as run_loop
from livery.training.plan import Example, Plan
from livery.weights import check_weights, read_tensors


@dataclass(frozen=True)
class Request:
    """How a run begins.

    Attributes:
        resume: go on with the run in the output folder.
        resume_anyway: although it was made from something else.
        overwrite: start over in a folder that holds a run.
        held: the caller holds the folder's lock.
        begin: called when a new run is about to write its first file.
        resume_command: shown when the run is interrupted.
        callbacks: called with every event, in this order.
    """

    resume: bool = False
    resume_anyway: bool = False
    overwrite: bool = False
    held: bool = False
    begin: Callable[[], None] = lambda: None
    resume_command: str = "the same command with --resume"
    callbacks: Sequence[Callback] = ()


def train(config: Config, request: Request) -> RunResult:
    """Train as configured and write the adapter folder.

    Raises:
        UserError: data, model, folder or settings are wrong.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    # A run that continues may find itself on a machine without the framework it began with.
    asked = config.values["backend"].source.startswith(("flag", "environment"))
    settings, substitutions = backends.choose(
        config.settings, fall_back=request.resume and not asked
    )
    folder = Path(settings.output_dir)
    trackers.check(settings.report_to)

    def output(event: Event) -> None:
        for callback in request.callbacks:
            callback(event)

    def say(*texts: str) -> None:
        for text in filter(None, texts):
            output(Note(text))

    reports = trackers.Reports(settings.report_to, say)
    with holding(folder, held=request.held), reports:
        say(*config.notes, *substitutions)
        if first_process():
            # Now rather than after the model was loaded.
            run_folder.claim(folder, resume=request.resume, overwrite=request.overwrite)
            check_inputs(settings, overwrite=request.overwrite)
        settings, date_note = fix_date(settings, resume=request.resume)
        say(date_note)
        data = load_data(settings)
        settings, fitted = fit_to_base(config, settings, data)
        say(fitted)
        prompt_kwargs, prompt_note = choose_prompts(data)
        say(prompt_note, *describe_dropped(data, paired=settings.paired))
        settings, notes = choose_fastest(
            settings, config.settings, data.train.examples, request.resume, say
        )
        say(*notes)
        if not request.resume and first_process():
            say(advise(settings))
        if first_process():
            say(check_base(settings, _first_row(data)))
        rows = (*data.train.examples, *data.valid.examples)
        check_lengths(settings, max((len(row.tokens) for row in rows), default=0))
        backend, notes = backends.load(settings, data.train.examples)
        say(*notes)
        if settings.init_adapter and not _is_past(settings, request):
            # A checkpoint that the run resumes from replaces it.
            say(start_from(settings.init_adapter, settings, backend))
        told: set[str] = set()

        def tell(text: str) -> None:
            if text not in told:
                told.add(text)
                say(text)

        if first_process():
            for note in rehearse(settings, data.chat.tokenizer, backend.get_state()):
                tell(note)
        job = Job(
            train=data.train.examples,
            valid=data.valid.examples,
            train_digest=data.train.digest,
            valid_digest=data.valid.digest,
            decode=lambda ids: str(data.chat.tokenizer.decode(ids)),
            export=lambda state, facts: export(settings, data.chat.tokenizer, state, facts, tell),
            callbacks=(reports, output),
            resume=request.resume,
            resume_anyway=request.resume_anyway,
            overwrite=request.overwrite,
            held=True,
            record={"prompt_kwargs": prompt_kwargs},
            begin=request.begin,
            resume_command=request.resume_command,
        )
        return run_loop(settings, backend, job)


def _is_past(settings: TrainSettings, request: Request) -> bool:
    """Whether a run goes on from a checkpoint and the adapter that it started from is gone."""
    folder = Path(settings.output_dir)
    gone = settings.init_adapter is not None and not Path(settings.init_adapter).exists()
    return request.resume and gone and bool(checkpoint.steps(folder))


def _first_row(data: Data) -> list[int]:
    return [int(token) for token in data.train.examples[0].tokens] if data.train.examples else []


def holding(folder: Path, *, held: bool = False) -> contextlib.AbstractContextManager[None]:
    """The lock of the run's folder, taken by the process that writes, unless it is held already."""
    if held or not first_process():
        return contextlib.nullcontext()
    return run_folder.locked(folder)


def check_inputs(settings: TrainSettings, *, overwrite: bool) -> None:
    """Raises UserError where beginning in the output folder would remove what the run reads."""
    folder = Path(settings.output_dir).resolve()
    if folder == Path(settings.model).resolve():
        raise UserError(f"{folder}: is the base model itself; choose another --output-dir.")
    start = settings.init_adapter
    if overwrite and start is not None:
        place = Path(start).resolve()
        if place.exists() and (place == folder or folder in place.parents):
            raise UserError(
                f"{folder}: holds the adapter that the run starts from, and --overwrite would "
                "remove it. Choose another --output-dir."
            )


def choose_fastest(
    settings: TrainSettings,
    asked: TrainSettings,
    examples: Sequence[Example],
    resume: bool,
    tell: Callable[[str], None],
) -> tuple[TrainSettings, list[str]]:
    """(the settings with the backend and dtype that train fastest here, what they substitute).

    What was asked for stays; so does, where a run continues, what it began with.

    Args:
        settings: with the backend that is taken where nothing is measured.
        asked: as they were before that: backend and dtype are open where they are "auto".
    """
    if resume:
        backend, dtype = run_folder.recorded_backend(Path(settings.output_dir)) or ("", "auto")
        if asked.backend == "auto" and backends.installed(backend):
            settings = dataclasses.replace(settings, backend=backend)
        if settings.backend == backend and asked.dtype == "auto":
            settings = dataclasses.replace(settings, dtype=dtype)
        return settings, []
    names: list[backends.Name] = [
        name for name in backends.NAMES
        if asked.backend in ("auto", name) and backends.installed(name)
    ]  # fmt: skip
    if not names or not fastest.on_a_cpu(settings):
        return settings, []
    plan = Plan.of(examples, settings)
    steps = settings.max_steps or plan.total_steps(settings.epochs)
    best = fastest.fastest(settings, plan.step(0)[0], steps, tell, names)
    if best is None or (best.backend == "mlx" and settings.backend == "mlx"):
        return settings, []
    return backends.choose(
        dataclasses.replace(
            settings, backend=best.backend, dtype=best.dtype, optimizer=asked.optimizer,
            compile=asked.compile,
        )
    )  # fmt: skip


def advise(settings: TrainSettings) -> str:
    """What to tell whoever trains here by the slower of two ways."""
    return fastest.faster_way(
        settings,
        gpu=not fastest.on_a_cpu(settings),
        bfloat16=fastest.multiplies_bfloat16(),
        both=all(map(backends.installed, ("mlx", "torch"))),
    )


def fix_date(settings: TrainSettings, *, resume: bool) -> tuple[TrainSettings, str]:
    """(the settings with the day that a template which writes the date takes for today, for the
    whole run; what to tell the user). A run that continues keeps the day that it began with."""
    if not load_chat(settings.model, settings.template).asks_date:
        return settings, ""
    record = Path(settings.output_dir) / RUN_CONFIG
    if resume and not settings.template_date and record.is_file():
        before = run_folder.read_run_config(record.parent).get("settings", {})
        settings = dataclasses.replace(settings, template_date=before.get("template_date") or "")
    if not settings.template_date:
        today = datetime.date.today().isoformat()
        settings = dataclasses.replace(settings, template_date=today)
    return settings, (
        f"The chat template writes today's date: for this run, and for the adapter's prompts, that "
        f"is {settings.template_date} (--template-date sets another)."
    )


def fit_to_base(config: Config, settings: TrainSettings, data: Data) -> tuple[TrainSettings, str]:
    """(the settings with what nobody said chosen for base and data, what to tell the user). Nothing
    changes for the embedded base, which has a configuration of its own.

    Raises:
        UserError: as `check_weights`.
    """
    if is_embedded(settings.model) and not settings.paired:
        return settings, ""
    folder, parameters = find_base(settings.model), None
    if folder is not None:
        check_weights(read_config(folder), folder)
        parameters = recipe.count_parameters(read_tensors(folder), read_config(folder))
    whole = dataclasses.replace(config, settings=settings)
    fitted, note = recipe.fit(whole, parameters, len(data.train.examples) // settings.group)
    return fitted.settings, note


def resume_command(output_dir: str, command: str = "train") -> str:
    """The command that continues this run, with as many processes on this machine as it has; its
    settings are on record in its folder."""
    return f"{_program(command)} --resume --output-dir {shlex.quote(output_dir)}"


def _program(command: str) -> str:
    """What starts the command as it was started: alone, by torchrun or by mlx.launch."""
    count = os.environ.get("LOCAL_WORLD_SIZE", "")
    if count.isdecimal() and os.environ.get("WORLD_SIZE", "1") != "1":
        module = "cuda_train" if command == "train" else f"cuda_train.{command}"
        machines = os.environ.get("GROUP_WORLD_SIZE", "1")
        several = "" if machines == "1" else f"--nnodes {machines} --rdzv-endpoint … "
        return f"torchrun {several}--nproc-per-node {count} -m {module}"
    hosts = os.environ.get("MLX_HOSTFILE", "")
    if "MLX_RANK" in os.environ and hosts and Path(hosts).is_file():
        module = "mlx_train" if command == "train" else f"mlx_train.{command}"
        return f"mlx.launch -n {len(read_json(Path(hosts)))} -- python -m {module}"
    alone = "livery" if Path(sys.argv[0]).name == "livery" else f"{sys.executable} -m livery"
    return f"{alone} {command}"


def first_process() -> bool:
    """Whether this is the process that writes, of those that train together."""
    return os.environ.get("MLX_RANK", os.environ.get("RANK", "0")) == "0"
