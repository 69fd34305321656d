"""Runs: a list, one in full, its metrics, samples, checkpoints, log, report, and what happens."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.responses import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from livery.paths import RUN_CONFIG, SAMPLES
from livery.serve import evaluations, runs
from livery.serve.api.files import send_file
from livery.serve.api.problems import from_root
from livery.serve.api.services import Livery, Services
from livery.serve.errors import Conflict, NotFound
from livery.serve.growing import lines_of
from livery.serve.known import facts
from livery.serve.removal import remove_adapter
from livery.serve.runs import Checkpoint, Run
from livery.serve.watching import Watcher, beginning

router = APIRouter(prefix="/api/runs", tags=["runs"])
EVERY = 0.5  # seconds between two looks at a run that is watched
# A report is a page with styles and pictures of its own, and nothing that runs.
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
Limit = Annotated[int, Query(ge=1, le=1000)]


@dataclass(frozen=True)
class RunList:
    """Runs, newest first, and the name to give as `before` for the next ones."""

    runs: list[Run]
    before: str | None


@dataclass(frozen=True)
class WholeRun(Run):
    """A run with what it was asked to do, and how it was evaluated."""

    config: dict[str, Any]
    evaluations: list[evaluations.Summary]


@dataclass(frozen=True)
class Metrics:
    """Lines of training_metrics.jsonl, how many there are, and the position for `events`."""

    metrics: list[dict[str, Any]]
    total: int
    position: str


@dataclass(frozen=True)
class Samples:
    """Lines of samples.jsonl."""

    samples: list[dict[str, Any]]


@dataclass(frozen=True)
class Checkpoints:
    """A run's checkpoints, newest first."""

    checkpoints: list[Checkpoint]


def find_run(name: str, livery: Livery) -> Path:
    """The folder of the run that a path names."""
    return runs.find(livery.settings, name)


Folder = Annotated[Path, Depends(find_run)]


def newest_job(livery: Services, name: str) -> Any:
    """The newest job that trains a run; None where there is none."""
    return newest_jobs(livery, [name]).get(name)


@router.get("")
def list_runs(
    livery: Livery, limit: Limit = 100, before: Annotated[str | None, Query(max_length=128)] = None
) -> RunList:
    """Runs, the newest first."""
    folders = runs.folders(livery.settings)
    if before is not None:
        names = [folder.name for folder in folders]
        folders = folders[names.index(before) + 1 :] if before in names else []
    chosen = folders[:limit]
    return RunList(described(livery, chosen), chosen[-1].name if len(folders) > limit else None)


def described(livery: Services, folders: list[Path]) -> list[Run]:
    """Runs at a glance, each with its newest job, which are looked up at once."""
    jobs = newest_jobs(livery, [folder.name for folder in folders])
    return [runs.describe(livery.settings, f, jobs.get(f.name)) for f in folders]


def newest_jobs(livery: Services, names: list[str]) -> dict[str, Any]:
    """Name -> newest job of it."""
    if not names:
        return {}
    found: dict[str, Any] = {}
    for job in livery.jobs.list(name=tuple(names)):
        if "train" in job.request.steps:
            found.setdefault(job.name, job)
    return found


@router.get("/{name}")
def one_run(folder: Folder, livery: Livery) -> WholeRun:
    """A run, with its whole configuration and a summary of each evaluation."""
    run = runs.describe(livery.settings, folder, newest_job(livery, folder.name))
    return WholeRun(
        **vars(run),
        config=from_root(facts(folder / RUN_CONFIG), livery.settings),
        evaluations=evaluations.of_adapter(folder),
    )


@router.delete("/{name}", status_code=204)
async def delete_run(name: str, folder: Folder, livery: Livery) -> None:
    """Delete the run with its adapter: DELETE /api/adapters/NAME, also of a run that has none."""
    await livery.slowly(remove_adapter, livery.settings, livery.jobs, name)


@router.get("/{name}/metrics")
def metrics(
    folder: Folder,
    livery: Livery,
    after: Annotated[int | None, Query(ge=0, description="Only of later steps.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    points: Annotated[
        int | None, Query(ge=1, le=10_000, description="So many, at even distances.")
    ] = None,
) -> Metrics:
    """Loss, speed and memory of each reported step, and the evaluations."""
    log = runs.metrics(folder)
    if points is None:
        rows, told = log.after(after, limit)
    else:
        rows, told = log.thinned(points), log.size
    start = beginning(folder, _log_of(livery, folder.name))
    return Metrics(rows, len(log), str(replace(start, metrics=told)))


@router.get("/{name}/events", response_class=EventSourceResponse)
async def events(
    folder: Folder,
    livery: Livery,
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
    after: Annotated[str | None, Query(max_length=100)] = None,
    follow: Annotated[bool, Query(description="Stay; otherwise end at what is there.")] = True,
) -> AsyncIterable[ServerSentEvent]:
    """Events metric, sample, log, state and restarted as they happen.

    The id of each is the position after it: sent back as Last-Event-ID (browsers do) or `after`, it
    continues there, also on a server that was started anew.
    """

    def describe() -> Run:
        return runs.describe(livery.settings, folder, newest_job(livery, folder.name))

    log = await to_thread.run_sync(_log_of, livery, folder.name)
    watcher = Watcher(folder, describe, log, last_event_id or after)
    while True:
        found = await to_thread.run_sync(watcher.look)
        for one in found:
            yield ServerSentEvent(event=one.kind, data=one.data, id=str(one.position))
        if not found:
            if not follow:
                return
            await anyio.sleep(EVERY)


@router.get("/{name}/samples")
def samples(
    folder: Folder, after: Annotated[int | None, Query(ge=0)] = None, limit: Limit = 200
) -> Samples:
    """The same few prompts answered at each evaluation."""
    return Samples(lines_of(folder / SAMPLES).after(after, limit)[0])


@router.get("/{name}/checkpoints")
def list_checkpoints(folder: Folder) -> Checkpoints:
    """The saved states of training."""
    return Checkpoints(runs.checkpoints(folder))


@router.get("/{name}/log", response_class=Response)
def log(folder: Folder, livery: Livery, request: Request) -> Response:
    """What the run's job printed, or a range of it."""
    found = _log_of(livery, folder.name)
    if found is None or not found.is_file():
        raise NotFound(f"The run {folder.name} has no log: no job of this server made it.")
    return send_file(found, request, media_type="text/plain; charset=utf-8")


@router.get("/{name}/report", response_class=Response)
def report(folder: Folder, request: Request) -> Response:
    """The evaluation's report as a page, without scripts."""
    page = folder / "report.html"
    if page.is_symlink() or not page.is_file():
        raise NotFound(f"The run {folder.name} has no report yet. It is written by: livery report")
    return send_file(
        page, request, media_type="text/html; charset=utf-8",
        headers={"content-security-policy": REPORT_POLICY},
    )  # fmt: skip


@router.post("/{name}/stop", status_code=202)
def stop(folder: Folder, livery: Livery) -> dict[str, str]:
    """Stop training at the next step; everything is saved, and `resume` goes on from there."""
    job = _job_of(livery, folder.name, "stop")
    return {"job": livery.jobs.pause(job.id).id}


@router.post("/{name}/resume", status_code=202)
def resume(folder: Folder, livery: Livery) -> dict[str, str]:
    """Go on with a run that was stopped, failed or was cancelled."""
    job = _job_of(livery, folder.name, "resume")
    again = livery.jobs.resume if job.state == "paused" else livery.jobs.retry
    return {"job": again(job.id).id}


def _job_of(livery: Services, name: str, doing: str) -> Any:
    job = newest_job(livery, name)
    if job is None:
        raise Conflict(
            f"The run {name} was not started here, so this server cannot {doing} it. In a "
            "terminal, Ctrl-C stops it and livery train --resume goes on with it."
        )
    return job


def _log_of(livery: Services, name: str) -> Path | None:
    job = newest_job(livery, name)
    return None if job is None else Path(job.log)
