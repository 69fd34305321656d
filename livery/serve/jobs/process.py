"""Steps as detached processes: started once, found again, ended.

A step runs in a session of its own, so it outlives the worker that started it. It inherits the lock
(flock) on its job's folder and holds it as long as it lives: whoever finds the lock taken waits,
whoever finds it free reads how the last try ended. Process numbers are only used to send signals,
and only to a process that holds the lock; after a restart of the machine nothing does.

    job/lock            held by the step's process and its wrapper
    job/attend          held by the worker that sees to the job
    job/1-train-2.json  leg 1, second try: pid, host, boot, and how it ended
    job/1-train-2.stop  it was asked to stop
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from livery.files import write_json
from livery.paths import python_path
from livery.reading import read_object
from livery.serve.jobs.layout import Layout

POLL = 0.2
# How long a process has after SIGTERM before it is killed, in seconds.
GRACE = 15.0
_IN_NAME = ("path", "leg", "step", "number")
_RECORD = re.compile(r"(\d+)-([a-z]+)-(\d+)\.json")


@dataclass(frozen=True)
class Try:
    """One start of a step's process.

    Attributes:
        code: that it exited with; None where a signal ended it, or it is lost.
        signal: that ended it.
        oom: the kernel killed a process for want of memory meanwhile.
        ended: when, in seconds since 1970; None where it runs, or was not found lost yet.
        lost: nobody saw how it ended: it was killed with its wrapper, or the machine stopped.
    """

    path: Path
    leg: int
    step: str
    number: int
    started: float
    pid: int
    host: str
    boot: str
    log_start: int
    code: int | None = None
    signal: int | None = None
    oom: bool = False
    ended: float | None = None
    lost: bool = False

    @property
    def ours(self) -> bool:
        """Whether it runs, or ran, on this machine since it was started."""
        return self.host == host() and self.boot == boot()


@contextlib.contextmanager
def taken(path: Path, kind: int = fcntl.LOCK_EX) -> Generator[int | None]:
    """A lock that is held while the block runs: its descriptor, or None where another has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def attending(layout: Layout, job: str) -> Generator[bool]:
    """Hold a job against every worker while the block runs; False where one sees to it."""
    folder = layout.job(job)
    folder.mkdir(parents=True, exist_ok=True)
    with taken(folder / "attend") as handle:
        yield handle is not None


def is_taken(path: Path) -> bool:
    """Whether a process holds this lock; two that look at once do not take each other for it."""
    if not path.exists():
        return False
    with taken(path, fcntl.LOCK_SH) as handle:
        return handle is None


def lives(layout: Layout, job: str) -> bool:
    """Whether a process of the job's is running."""
    return is_taken(layout.job(job) / "lock")


def tries(layout: Layout, job: str) -> list[Try]:
    """What of the job's was ever started, the oldest first."""
    found: list[Try] = []
    for path in layout.job(job).glob("*.json"):
        named = _RECORD.fullmatch(path.name)
        if named:
            said = read_object(path)
            found.append(Try(path, int(named[1]), named[2], int(named[3]), **said))
    return sorted(found, key=lambda one: (one.leg, one.started, one.number))


def lose(one: Try) -> Try:
    """Put on record that a try, whose job's lock is free, has ended unseen. Nothing is sent to its
    process number from then on: it may be somebody else's soon."""
    lost = dataclasses.replace(one, ended=time.time(), lost=True)
    facts = dataclasses.asdict(lost)
    write_json(one.path, {key: facts[key] for key in facts if key not in _IN_NAME})
    return lost


def start(
    layout: Layout, job: str, name: str, device: Path, environment: Mapping[str, str],
    claim: Callable[[], Sequence[str]],
) -> subprocess.Popen[bytes] | None:  # fmt: skip
    """Start a step, unless a process of the job lives, this try was started before, the device is
    taken by another job, or the step is no longer wanted; None then.

    Args:
        name: of the try, "1-train-2".
        device: the lock of the device that it runs on.
        claim: asked, with both locks held, for the command; empty where it is no longer wanted.
    """
    folder = layout.job(job)
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / f"{name}.json"
    with taken(folder / "lock") as lock, taken(device) as held:
        if lock is None or held is None or record.exists() or not (command := claim()):
            return None
        with layout.log(job).open("ab") as log:
            log.write(f"== {name}: {' '.join(command)}\n".encode())
            log.flush()
            return subprocess.Popen(
                [
                    sys.executable, "-m", "livery.serve.jobs.child", str(record),
                    f"{lock},{held}", str(log.tell()), *command,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                pass_fds=(lock, held), cwd=layout.root,
                env={**environment, "PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip


def interrupt(layout: Layout, job: str) -> None:
    """Ask the job's process, once, to stop where it can go on later: a trainer saves first."""
    one = _running(layout, job)
    if one is not None and one.ours:
        with contextlib.suppress(FileExistsError):
            one.path.with_suffix(".stop").touch(exist_ok=False)
            _signal(one, signal.SIGINT)


def end(layout: Layout, job: str) -> bool:
    """End the job's processes, and wait until they have ended.

    Returns:
        False where they run on another machine, whose worker has to do it.
    """
    began, asked = time.monotonic(), None
    while lives(layout, job):
        one = _running(layout, job)
        if one is not None and not one.ours:
            return False
        if one is not None and asked != one.path:
            asked = one.path
            _signal(one, signal.SIGTERM)
        elif one is not None and time.monotonic() - began > GRACE:
            _signal(one, signal.SIGKILL)
        time.sleep(POLL / 2)
    return True


def _running(layout: Layout, job: str) -> Try | None:
    """The newest try, if a process of the job lives and has said who it is."""
    found = tries(layout, job)
    if found and found[-1].ended is None and lives(layout, job):
        return found[-1]
    return None


def _signal(one: Try, number: signal.Signals) -> None:
    """To the whole process group, which is the step's own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(one.pid, number)


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def executor(device: str) -> str:
    """A device of this machine, in the names of locks and of its worker: the same after a
    restart."""
    return f"{host()}-{device.replace(':', '-')}"


@cache
def boot() -> str:
    """What tells this start of the machine from every other."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text().strip()
    if platform.system() == "Darwin":
        said: Any = subprocess.run(
            ["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False
        )
        return said.stdout.strip()
    return ""


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, in a control group or on the
    whole machine; 0 where the system does not count them."""
    with contextlib.suppress(OSError):
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(), re.MULTILINE)
        return int(found[1]) if found else 0
    return 0
