"""`livery jobs`: adapters made in the background, by workers that may come and go."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands import options
from livery.config.flags import given_flags, option_flags
from livery.config.settings import OPTIONS, PREFERENCE, by_name
from livery.config.values import Choice
from livery.errors import UserError, printable, shown

if TYPE_CHECKING:
    from livery.serve.jobs.jobs import Job, Jobs

_OURS = ("data", "output_dir", "backend")
_SETTINGS = [one.name for one in OPTIONS if one.name not in (*_OURS, *PREFERENCE)]

_folder = click.option(
    "--root", type=click.Path(path_type=Path), default=".", show_default=True,
    help="Folder that holds adapters, data and the jobs.",
)  # fmt: skip
_database = click.option(
    "--database", metavar="URL", envvar="LIVERY_DATABASE", show_envvar=True,
    help="A Postgres database that workers of several machines share; by default SQLite in the "
    "folder.",
)  # fmt: skip


def _place(function: Any) -> Any:
    return _folder(_database(function))


@click.group(
    "jobs",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def jobs_command() -> None:
    """Make adapters in the background: data, training, evaluation, conversion, packing.

    A job outlives the terminal, the worker and a restart of the machine: what runs is found again,
    what was killed continues from its last checkpoint. One job runs on a device, others wait.

    \b
    Examples:
      livery jobs submit date-keys --max-steps 500
      livery jobs worker
      livery jobs list
      livery jobs log JOB
    """


@jobs_command.command("submit", short_help="Queue a job.")
@click.argument("skill", required=False)
@click.option("--data", metavar="NAME_OR_PATH", help="Rows to train on, instead of the skill's.")
@click.option("--name", help="The adapter's name; by default the skill's or the data's.")
@click.option(
    "--step", "steps", multiple=True, help="Only these steps; may be repeated.",
    type=click.Choice(["data", "train", "eval", "convert", "pack"]),
)  # fmt: skip
@click.option("--target", type=float, metavar="X", help="Share of cases that must be right.")
@click.option(
    "--engine", type=click.Choice(["mlx", "torch", "llamacpp"]),
    help="What evaluates; by default what trained.",
)  # fmt: skip
@click.option(
    "--data-seed", type=int, default=7, show_default=True, help="Seed of the data generator."
)
@click.option(
    "--attempts", type=click.IntRange(1, 1_000), default=5, show_default=True,
    help="How often a step is started before a killed process fails the job.",
)  # fmt: skip
@click.option(
    "--overwrite", is_flag=True, help="Train in place of an older adapter, which is kept aside."
)
@click.option(
    "--key", help="Names this submission: sent again with the same key, it is the same job."
)
@_place
@options.as_json
@option_flags("backend", *_SETTINGS)
def submit(
    skill: str | None, data: str | None, name: str | None, steps: tuple[str, ...],
    target: float | None, engine: str | None, data_seed: int, attempts: int, overwrite: bool,
    key: str | None, root: Path, database: str | None, as_json: bool, **flags: Any,
) -> int:  # fmt: skip
    """Queue a job for the skill SKILL (a name or a Python file), for rows of your own, or both.

    Settings of training are the flags of livery train. A worker starts the job when its device is
    free.

    \b
    Examples:
      livery jobs submit date-keys --max-steps 500 --target 0.9
      livery jobs submit --data my/rows --name mine --model ID_OR_PATH --epochs 2
      livery jobs submit date-keys --name larger --lora-r 32 --key nightly-2026-05-01
    """
    jobs = _open(root, database)
    from livery.serve.jobs.request import JobRequest

    given = given_flags(flags)
    request = JobRequest(
        skill=str(Path(skill).absolute()) if skill and skill.endswith(".py") else skill,
        data=_rows(jobs, data), name=name or "", steps=steps, engine=engine, target=target,
        backend=given.pop("backend", "auto"), data_seed=data_seed, attempts=attempts,
        overwrite=overwrite, settings={one: _word(one, value) for one, value in given.items()},
    )  # fmt: skip
    job = jobs.submit(request, key=key)
    if not as_json:
        from livery.serve.jobs import worker

        if not worker.any_lives(jobs.layout):
            click.echo(f"No worker runs yet: livery jobs worker --root {root}", err=True)
    return _show(job, as_json, f"Job {job.id} is {job.state}: livery jobs show {job.id}")


def _rows(jobs: Jobs, data: str | None) -> str | None:
    """The name of a folder of data, else a path from here."""
    named = data is None or ("/" not in data and jobs.layout.data(data).exists())
    return data if named else str(Path(str(data)).absolute())


def _word(name: str, value: Any) -> Any:
    """A flag's value as it was written; a job keeps what was said."""
    kind = by_name(name).kind
    if isinstance(kind, Choice):
        return next(word for word, meaning in kind.values.items() if meaning == value)
    return value


@jobs_command.command("list", short_help="List jobs, the newest first.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option(
    "--state",
    type=click.Choice(["queued", "running", "paused", "failed", "cancelled", "done"]),
    help="Only those in this state.",
)
@_place
@options.as_json
def list_command(
    limit: int, state: str | None, root: Path, database: str | None, as_json: bool
) -> int:
    """List jobs, the newest first.

    \b
    Examples:
      livery jobs list
      livery jobs list --state failed --json
    """
    where: dict[str, Any] = {"state": state} if state else {}
    fresh = root.is_dir() and not (root / ".livery").exists()
    found = [] if fresh else _existing(root, database).list(limit, **where)
    if as_json:
        click.echo(json.dumps({"jobs": [job.as_dict() for job in found]}, indent=2))
    elif not found:
        click.echo("There are no jobs. Queue one with: livery jobs submit SKILL")
    else:
        for job in found:
            step = f"{job.step} ({job.attempt})" if job.step and job.attempt > 1 else job.step
            click.echo(f"{job.id}  {job.state:<9}  {step or '':<10}  {_when(job)}  {job.name}")
    return 0


@jobs_command.command("show", short_help="Show a job.")
@click.argument("job")
@_place
@options.as_json
def show(job: str, root: Path, database: str | None, as_json: bool) -> int:
    """Show a job: its state, where it is, and why it failed.

    \b
    Examples:
      livery jobs show 3f9a0c61d2b84e57
      livery jobs show 3f9a0c61d2b84e57 --json
    """
    found = _existing(root, database).get(job)
    lines = [
        f"job      {found.id}",
        f"adapter  {found.run_folder}",
        f"state    {found.state}"
        + (f", {found.step}, attempt {found.attempt} of {found.attempts}" if found.step else ""),
        f"created  {_when(found)}",
        f"log      {found.log}",
    ]
    if found.cause:
        lines += [f"failed   {found.cause.kind}: {found.cause.detail}"]
        lines += [f"         {line}" for line in found.cause.last_lines]
    return _show(found, as_json, "\n".join(lines))


@jobs_command.command("log", short_help="Print what a job's processes print.")
@click.argument("job")
@click.option("--tail", "lines", type=click.IntRange(1), metavar="N", help="Only the last N lines.")
@_place
def log(job: str, lines: int | None, root: Path, database: str | None) -> int:
    """Print what a job's processes have printed.

    \b
    Examples:
      livery jobs log 3f9a0c61d2b84e57
      livery jobs log 3f9a0c61d2b84e57 --tail 20
    """
    place = _existing(root, database).log(job)
    text = place.read_bytes().decode(errors="replace") if place.exists() else ""
    whole = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    for line in whole[-lines:] if lines else whole:
        click.echo(printable(line.removesuffix("\r").rpartition("\r")[2]))
    return 0


# What is done to one job: its line among the commands, and its help.
_CHANGES = {
    "cancel": (
        "End a job and all its processes.",
        "End a job and all its processes. What it has made stays.",
    ),
    "pause": (
        "Stop a job at a checkpoint, to be resumed.",
        "Stop a job where it can continue; its device is free for others then.\n\n"
        "A trainer finishes its step and saves a checkpoint. Other steps begin again when the job "
        "is resumed.",
    ),
    "resume": (
        "Continue a job that was paused.",
        "Continue a job that was paused, from its last checkpoint.",
    ),
    "retry": (
        "Start a job again that failed or was cancelled.",
        "Start a job again that failed or was cancelled, at the step where it stopped.",
    ),
}


def _add_change(verb: str, short: str, text: str) -> None:
    example = f"\n\n\b\nExamples:\n  livery jobs {verb} 3f9a0c61d2b84e57"

    @jobs_command.command(verb, help=text + example, short_help=short)
    @click.argument("job")
    @_place
    @options.as_json
    def change(job: str, root: Path, database: str | None, as_json: bool) -> int:
        found: Job = getattr(_existing(root, database), verb)(job)
        said = f"Job {job} is {found.state}."
        if verb == "pause" and found.state == "running":
            said = f"Job {job} stops at the next checkpoint: livery jobs show {job}"
        return _show(found, as_json, said)


for _verb, _texts in _CHANGES.items():
    _add_change(_verb, *_texts)


@jobs_command.command("worker", short_help="Take jobs off the queue and see to them.")
@click.option(
    "--device", default="auto", show_default=True,
    help="Where it trains: auto, cpu, mps, cuda or cuda:N; start one worker a device.",
)  # fmt: skip
@click.option("--drain", is_flag=True, help="Stop when no job is left.")
@_place
def worker_command(device: str, drain: bool, root: Path, database: str | None) -> int:
    """Take jobs off the queue, one at a time, and see to their steps until Ctrl-C.

    The steps are processes of their own: they run on when a worker is stopped or killed, and the
    next worker finds them. livery serve starts a worker if there is none.

    \b
    Examples:
      livery jobs worker
      livery jobs worker --device cuda:1
      livery jobs worker --drain
      LIVERY_DATABASE=postgresql://livery@db/livery livery jobs worker --root /shared/livery
    """
    jobs = _open(root, database)
    from livery.serve.jobs import worker

    worker.work(jobs, device, drain=drain, say=lambda text: click.echo(printable(text), err=True))
    return 0


def _existing(root: Path, database: str | None) -> Jobs:
    """The jobs of a folder that has some; a mistyped one is left as it is."""
    if not (root / ".livery").is_dir():
        raise UserError(
            f"{shown(root)}: there are no jobs in this folder. Check --root, or queue one with: "
            "livery jobs submit"
        )
    return _open(root, database)


def _open(root: Path, database: str | None) -> Jobs:
    if not root.is_dir():  # mistyped, most of the time: what is asked for here would never be seen
        raise UserError(f"{shown(root)}: is not a folder. Make it, or name another --root.")
    try:
        from livery.serve.jobs.jobs import Jobs
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed. Install it with: pip install 'livery[serve]'"
        ) from None
    return Jobs(root, database)


def _show(job: Job, as_json: bool, text: str) -> int:
    click.echo(json.dumps(job.as_dict(), indent=2) if as_json else printable(text))
    return 0


def _when(job: Job) -> str:
    return datetime.datetime.fromtimestamp(job.created).strftime("%Y-%m-%d %H:%M:%S")
