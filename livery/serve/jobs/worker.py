"""A worker: a process that takes jobs off the queue, one at a time, and sees to their steps.

`livery jobs worker` runs it. A worker serves one device of its machine, and a folder has one worker
a device. It may be killed at any time: the steps' processes run on, and the next worker of any
device finds them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from livery.errors import UserError
from livery.paths import python_path
from livery.serve.jobs import process, store
from livery.serve.jobs.attend import DONE, attend, fail, finish
from livery.serve.jobs.jobs import APPLICATION, QUEUE, VERSION, WORKFLOW, Jobs
from livery.serve.jobs.layout import Layout
from livery.serve.jobs.process import executor
from livery.serve.jobs.serial import json_serializer
from livery.serve.jobs.steps import DATABASE
from livery.serve.jobs.watchdog import Watchdog

Say = Callable[[str], None]


def lives(layout: Layout, device: str = "auto") -> bool:
    """Whether this machine has a worker for the device."""
    return process.is_taken(layout.lock("worker", executor(device)))


def how_many_live(layout: Layout) -> int:
    """How many workers there are, of all devices and all machines that share the folder."""
    places = layout.lock("worker", "").parent.glob("worker-*")
    return sum(process.is_taken(path) for path in places)


def any_lives(layout: Layout) -> bool:
    """Whether any device, of any machine that shares the folder, has a worker."""
    return how_many_live(layout) > 0


def log(layout: Layout) -> Path:
    """What workers print that were started in the background."""
    return layout.private / "logs" / "worker.log"


def start(
    root: Path, database: str | None = None, device: str = "auto"
) -> subprocess.Popen[bytes] | None:
    """Start a worker in the background, unless there is one. It outlives whoever starts it.

    Returns:
        Its process; None where there is one.
    """
    layout = Layout(root.absolute())
    layout.make()
    if lives(layout, device):
        return None
    # By a variable, because a URL has a password, and everybody can read the words of a command.
    variables = {name: value for name, value in os.environ.items() if name != DATABASE}
    variables |= {DATABASE: database} if database else {}
    with log(layout).open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "livery", "jobs", "worker", f"--root={layout.root}",
             f"--device={device}"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            cwd=layout.root, env={**variables, "PYTHONPATH": python_path()},
        )  # fmt: skip


def work(jobs: Jobs, device: str, *, drain: bool = False, say: Say = print) -> None:
    """Serve the queue until a signal comes.

    Args:
        device: auto, cpu, mps, cuda or cuda:N, as `livery train --device` has it.
        drain: return when no job is queued or running any more.

    Raises:
        UserError: the folder has a worker for this device.
    """
    with _only(jobs.layout, device):
        watchdog = _launch(jobs, device, say)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        say(f"Worker {executor(device)} serves {jobs.layout.root}. Ctrl-C stops it; jobs run on.")
        while not stop.wait(watchdog.period):
            watchdog.look()
            left = drain and jobs.list(1, state=(store.QUEUED, store.RUNNING))
            if drain and not left and not watchdog.running:
                break
        sys.stdout.flush()
        # The threads that wait for steps would keep the process, and have nothing to save.
        os._exit(0)


@contextlib.contextmanager
def _only(layout: Layout, device: str) -> Generator[None]:
    """Hold the device's lock. Who only looks whether it is held holds it for a moment, too."""
    for _ in range(10):
        with process.taken(layout.lock("worker", executor(device))) as handle:
            if handle is not None:
                yield
                return
        time.sleep(process.POLL)
    raise UserError(f"{layout.root}: there is already a worker for the device {device}.")


def _launch(jobs: Jobs, device: str, say: Say) -> Watchdog:
    from dbos import DBOS, WorkflowSerializationFormat

    seen: set[str] = set()

    # A worker that was killed has begun its workflow in vain, however often that happens.
    @DBOS.workflow(
        name=WORKFLOW, max_recovery_attempts=None,
        serialization_type=WorkflowSerializationFormat.PORTABLE,
    )  # fmt: skip
    def run(job: str, leg: int) -> str:
        seen.add(f"{job}-{leg}")
        try:
            return _run(jobs, job, leg, device, say)
        finally:
            seen.discard(f"{job}-{leg}")

    config: Any = {
        "name": APPLICATION, "application_version": VERSION, "executor_id": executor(device),
        "system_database_url": jobs.url, "serializer": json_serializer(), "log_level": "ERROR",
        "notification_listener_polling_interval_sec": 1.0,
    }  # fmt: skip
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(
        QUEUE, worker_concurrency=1, polling_interval_sec=0.5, on_conflict="always_update"
    )
    return Watchdog(jobs, executor(device), seen, say)


def _run(jobs: Jobs, job: str, leg: int, device: str, say: Say) -> str:
    """The workflow: each step is recorded when it is done, and not begun again after that."""
    from dbos import DBOS

    said = DONE
    try:
        for step in jobs.get(job).request.steps:
            say(f"{job}: {step}")
            said = DBOS.run_step({"name": step}, attend, jobs, job, leg, step, device)
            if said != DONE:
                break
        else:
            finish(jobs, job, leg)
    except DBAPIError:
        raise  # the database is away: the watchdog gives the job to the queue again
    except Exception as error:
        fail(jobs, job, leg, error)
    state = jobs.get(job).state
    say(f"{job}: {state}")
    return said
