"""Seeing to one step of a job until it is done, failed, paused or cancelled.

It can be stopped anywhere and begun again anywhere: what it knows is in the job's row and folder. A
process that lives is waited for, whoever started it; a try that has ended is never made again.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from livery.errors import LiveryError, UserError
from livery.serve.jobs import process, steps, store
from livery.serve.jobs.jobs import Job, Jobs
from livery.serve.jobs.process import Try

# What comes of a step; of "superseded" another leg of the same job took over.
DONE, STOPPED, SUPERSEDED = "done", "stopped", "superseded"


def attend(jobs: Jobs, job: str, leg: int, step: str, device: str) -> str:
    """Start the step, or find it running, and wait for its end; the job's row says what came of it.

    Args:
        device: of this worker; its lock lets one process at a time run there.

    Returns:
        "done" where the next step may follow.
    """
    with _alone(jobs, job):
        try:
            return _attend(jobs, job, leg, step, device)
        except LiveryError as error:  # a faulty file of the user's, a full disk
            cause = {"kind": "exit code", "detail": str(error), "last_lines": []}
            _settle(jobs, job, leg, store.FAILED, cause)
            return STOPPED


def finish(jobs: Jobs, job: str, leg: int) -> None:
    """All steps are done."""
    _settle(jobs, job, leg, store.DONE)


def fail(jobs: Jobs, job: str, leg: int, error: Exception) -> None:
    """Something that nobody foresaw."""
    lines = traceback.format_exception(error)[-1:]
    detail = f"a fault of Livery's own: {error!r}"
    cause = {"kind": "exit code", "detail": detail, "last_lines": lines}
    _settle(jobs, job, leg, store.FAILED, cause)


def _attend(jobs: Jobs, job: str, leg: int, step: str, device: str) -> str:
    layout, child, unheard = jobs.layout, None, 0
    while True:
        row = store.get(jobs.engine, job)
        if row is None or row.leg != leg or row.state not in (store.QUEUED, store.RUNNING):
            return SUPERSEDED
        if child is not None:
            child.poll()  # or it stays behind as a zombie
        if row.wanted == "cancel":
            if process.end(layout, job):
                _settle(jobs, job, leg, store.CANCELLED)
                return STOPPED
        elif process.lives(layout, job):
            if row.wanted == "pause":
                process.interrupt(layout, job)
        else:
            found = jobs.get(job)
            every = process.tries(layout, job)
            every = [process.lose(one) if one.ended is None else one for one in every]
            if child is not None and child.pid not in [one.pid for one in every]:
                child.wait()
                unheard += 1
                if unheard >= found.attempts:
                    raise UserError(
                        f"{step} cannot be started: its wrapper ended {unheard} times before it "
                        f"wrote down that it had begun, the last time with {child.returncode}."
                    )
            child = None
            made = [one for one in every if one.step == step]
            if any(one.code == 0 for one in made):  # in whatever leg
                return DONE
            made = [one for one in made if one.leg == leg]
            if jobs.expire(job) or _is_over(jobs, found, leg, step, made, row.wanted):
                return STOPPED
            child = _start(jobs, found, leg, step, len(made) + 1, device)
        time.sleep(process.POLL)


def _is_over(jobs: Jobs, job: Job, leg: int, step: str, made: list[Try], wanted: str) -> bool:
    """Whether the leg ends here, after tries that failed and of which none lives."""
    last = made[-1] if made else None
    failed = last is not None and not steps.worth_another(last)
    if wanted == "pause" and not failed:
        _settle(jobs, job.id, leg, store.PAUSED)
        return True
    # A machine that was switched off has failed nothing.
    counted = [one for one in made if not (one.lost and one.boot != process.boot())]
    if last is None or not (failed or len(counted) >= job.attempts):
        return False
    cause = steps.cause(jobs.layout, job.id, step, last)
    _settle(jobs, job.id, leg, store.FAILED, cause)
    return True


def _start(
    jobs: Jobs, job: Job, leg: int, step: str, number: int, device: str
) -> Popen[bytes] | None:
    """Start the next try; None where its device is taken, or it is no longer wanted."""
    layout, request = jobs.layout, job.request
    trainer = step == "train" and request.trainer is not None

    def claim() -> list[str]:
        """From here on who pauses or cancels the job leaves the process to us."""
        began = {"state": store.RUNNING, "step": step, "attempt": number}
        held = {"leg": leg, "wanted": "run", "state": (store.QUEUED, store.RUNNING)}
        store.change(jobs.engine, job.id, {"started": store.now()}, leg=leg, started=None)
        if not store.change(jobs.engine, job.id, began, **held):
            return []
        if step == "train":
            steps.make_way(layout, job.id, request)
        if trainer:
            steps.write_for_trainer(layout, job.id, request)
        return steps.command(layout, request, step)

    environment = (
        steps.trainer_environment(layout, job.id, request, device)
        if trainer
        else steps.environment(device)
    )
    return process.start(
        layout, job.id, f"{leg}-{step}-{number}", device_lock(jobs, device), environment, claim
    )  # fmt: skip


def _settle(
    jobs: Jobs, job: str, leg: int, state: str, cause: dict[str, Any] | None = None
) -> None:
    """Put on record how the leg ended."""
    ended = store.now() if state in store.ENDED else None
    values = {"state": state, "ended": ended, "cause": store.as_json(cause) if cause else None}
    store.change(jobs.engine, job, values, leg=leg, state=store.ACTIVE)


@contextmanager
def _alone(jobs: Jobs, job: str) -> Generator[None]:
    """Hold the job against every other worker: a workflow that runs twice sees to it in turn."""
    while True:
        with process.attending(jobs.layout, job) as ours:
            if ours:
                yield
                return
        time.sleep(process.POLL)


def device_lock(jobs: Jobs, device: str) -> Path:
    """The lock of a device of this machine."""
    return jobs.layout.lock("device", process.executor(device))
