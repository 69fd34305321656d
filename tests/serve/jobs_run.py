"""Jobs on real processes: a step that waits at a gate, and workers that can be killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

from livery.paths import python_path
from livery.serve.jobs.jobs import Job, Jobs
from livery.serve.jobs.layout import Layout
from livery.serve.jobs.process import Try, tries
from livery.serve.jobs.request import JobRequest
from tests import PATIENCE, ROOT

# The skill of docs/your-own-skill.md.
REMOTE = re.findall(
    r"```python\n(.+?)```", (ROOT / "docs/your-own-skill.md").read_text("utf-8"), flags=re.DOTALL
)[0]
# The same, whose data cannot be made before a file is there.
GATED = """
import time
from pathlib import Path

open_rows = generate


def generate(rng):
    Path({came!r}).touch()
    while not Path({gate!r}).exists():
        time.sleep(0.02)
    return open_rows(rng)
"""


class Gate:
    """A job of one step, which runs until it is opened."""

    def __init__(self, folder: Path, name: str) -> None:
        self.skill = folder / f"{name}.py"
        self.gate, self.came = folder / f"{name}.gate", folder / f"{name}.came"
        self.skill.write_text(REMOTE + GATED.format(gate=str(self.gate), came=str(self.came)))

    def request(self, **more: object) -> JobRequest:
        return JobRequest(skill=str(self.skill), steps=("data",), **more)  # type: ignore[arg-type]

    def wait(self) -> None:
        """Until the step runs."""
        wait_for(self.came.exists)

    def open(self) -> None:
        self.gate.touch()


def wait_for(holds: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def wait_until(jobs: Jobs, job: str, *states: str) -> Job:
    wait_for(lambda: jobs.get(job).state in states)
    return jobs.get(job)


@contextlib.contextmanager
def working(jobs: Jobs, device: str = "auto", *more: str) -> Generator[subprocess.Popen[bytes]]:
    """A worker; killed at the end."""
    worker = worker_of(jobs, device, *more)
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()


def worker_of(jobs: Jobs, device: str = "auto", *more: str) -> subprocess.Popen[bytes]:
    url = {} if jobs.url.startswith("sqlite") else {"LIVERY_DATABASE": jobs.url}
    with (jobs.layout.root / f"worker-{device}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "livery", "jobs", "worker", "--root", str(jobs.layout.root),
             "--device", device, *more],
            stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": python_path(), **url},
        )  # fmt: skip


def running(layout: Layout, job: str) -> Try | None:
    """The try that runs now."""
    found = tries(layout, job)
    return found[-1] if found and found[-1].ended is None else None


def kill(layout: Layout, job: str) -> bool:
    """SIGKILL the step's own process, and not its wrapper; whether there was one."""
    one = running(layout, job)
    if one is None:
        return False
    for child in children(one.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
            return True
    return False


def children(pid: int) -> list[int]:
    said = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in said.stdout.split()]


def group_lives(pid: int) -> bool:
    """Whether any process of this group is there, zombies apart."""
    said = subprocess.run(
        ["ps", "-eo", "pgid=,stat="], capture_output=True, text=True, check=False
    ).stdout
    rows = [line.split() for line in said.splitlines()]
    return any(int(group) == pid and not state.startswith("Z") for group, state in rows)
