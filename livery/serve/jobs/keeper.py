"""A worker beside a server that lives on: one is started whenever none lives."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

from livery.errors import UserError
from livery.serve.jobs import steps, worker
from livery.serve.jobs.layout import Layout

QUICK = 30.0  # seconds: what ends a worker sooner than that may end the next one, too
LONGEST = 300.0  # seconds between two starts, at most


class Keeper:
    """Starts a worker of this machine where no worker lives, of whatever machine or device.

    One that ends soon after its start is followed by the next after 2, 4, 8, … seconds.

    Args:
        database: URL of the jobs' database, where it is not the folder's own.
        say: told of each start and end, in a sentence.
    """

    def __init__(self, layout: Layout, database: str | None, say: Callable[[str], None]) -> None:
        self.layout, self.database, self.say = layout, database, say
        self.problem: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._began = self._due = 0.0
        self._log = self._failures = 0

    def look(self, now: float | None = None) -> None:
        """Look once: after a worker that has ended, and whether the next one is due."""
        now = time.monotonic() if now is None else now
        if self._process is not None:
            if self._process.poll() is None:
                if now - self._began >= QUICK:
                    self.problem, self._failures = None, 0
                return  # also while it has not said yet that it lives
            process, self._process = self._process, None
            self._ended(process, now)
        if worker.any_lives(self.layout):
            self.problem = None
        elif now >= self._due:
            self._start(now)

    def _start(self, now: float) -> None:
        path = worker.log(self.layout)
        self._log = path.stat().st_size if path.exists() else 0
        try:
            self._process = worker.start(self.layout.root, self.database)
        except (OSError, UserError) as error:  # a full disk, too many processes
            self._put_off(now, f"a worker cannot be started ({error})", failed=True)
            return
        if self._process is not None:
            self._began = now
            self.say(
                "started a worker for the jobs. It goes on when this server ends; to stop it "
                f"then: kill {self._process.pid}"
            )

    def _ended(self, process: subprocess.Popen[bytes], now: float) -> None:
        lived = now - self._began
        said = f"the worker {process.pid} {_how(process.returncode)} after {lived:.0f} s"
        if last := steps.tail(worker.log(self.layout), self._log, 1):
            said += f" ({last[0]})"
        self._put_off(now, said, failed=lived < QUICK)

    def _put_off(self, now: float, said: str, *, failed: bool) -> None:
        """Settle when the next one starts, and tell it with what ended the last."""
        self._failures = self._failures + 1 if failed else 0
        wait = min(LONGEST, 2.0 ** min(self._failures, 10)) if failed else 0.0
        self._due = now + wait
        when = f"The next one starts {f'in {wait:g} s' if wait else 'at once'}"
        if failed:
            self.problem = f"{said}, {self._failures} such in a row. {when}."
        self.say(f"{said}. {when}; .livery/logs/worker.log has what it said.")


def _how(code: int) -> str:
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
