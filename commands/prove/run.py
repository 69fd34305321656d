"""Run the checks, each in a process of its own with a limit of time, and gather what they say."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from commands.prove.checks import CHECKS, Check
from commands.prove.outcome import Outcome, Verdict
from livery.errors import UserError
from livery.paths import python_path
from livery.progress import show_seconds
from livery.temporary import Scratch

# All checks together, whatever the limits of each add up to: ten minutes less the start and the
# report, which take a while on a busy machine.
TEN_MINUTES = 580.0
NO_TIME = "no time was left"  # how a check's outcome begins that was not reached
_LOOK = 0.5  # seconds between two looks at a check
_STILL = 20.0  # seconds without processor time after which it waits for nothing
BUSY = 4.0  # times its limit after which it hangs, however busy the machine


@dataclass(frozen=True)
class Result:
    """What one check said, and the seconds it took."""

    check: Check
    outcome: Outcome
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        about = {"name": self.check.name, "what": self.check.what, "seconds": self.seconds}
        return {**about, **self.outcome.as_dict()}


def prove(
    only: Sequence[str] = (),
    *,
    checks: Sequence[Check] = CHECKS,
    tell: Callable[[Result, int, int], None] = lambda result, done, total: None,
    room: float = TEN_MINUTES,
) -> list[Result]:
    """Run all checks, or those named in `only`.

    Args:
        tell: called with each result, how many there are by now, and how many there will be.
        room: seconds for all of them.

    Raises:
        UserError: `only` names no check.
    """
    names = [check.name for check in checks]
    for name in only:
        if name not in names:
            raise UserError(f"--only {name}: no such check; there are {', '.join(names)}.")
    chosen = [check for check in checks if not only or check.name in only]
    ends, found = time.monotonic() + room, list[Result]()
    span = f"{room / 60:.0f} minutes" if room >= 60 else show_seconds(room)
    for check in chosen:
        began = time.monotonic()
        left = ends - began
        late = Outcome("skipped", f"{NO_TIME} of the {span} for all checks")
        with Scratch("prove") as folder:
            outcome = late if left < 5 else _in_a_process(check, folder, left) or late
        found.append(Result(check, outcome, round(time.monotonic() - began, 1)))
        tell(found[-1], len(found), len(chosen))
    return found


def _in_a_process(check: Check, folder: Path, left: float) -> Outcome | None:
    """The check's outcome, a crash or a hang being a failure that says so; None where the time that
    is `left` for all checks was over before: it proved nothing either way."""
    log = folder / "stderr"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "commands.prove.child", check.function, str(folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, cwd=folder,
            env=_environment(), start_new_session=True,
        )  # fmt: skip
        try:
            printed, took = _wait(process, check.limit, left)
        finally:
            _end(process)  # and what it started and left
    if printed is None:
        return None if took >= left else Outcome("failed", f"it did not end within {took:.0f} s")
    if (found := _read(printed)) is not None:
        return found
    code = process.returncode
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return Outcome("failed", f"its process ended {how}: {_last_line(log)}")


def _wait(
    process: subprocess.Popen[bytes], limit: float, left: float
) -> tuple[bytes | None, float]:
    """(what it printed, or None where it hangs or no time is left; the seconds that it took).

    On a machine that is busy with other things a check may take many times as long and be well. So
    beyond its limit it hangs only where it used that much processor time, or has used none for a
    while.
    """
    began = moved = time.monotonic()
    used = 0.0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            printed = process.communicate(timeout=_LOOK)[0]
            return printed, time.monotonic() - began
        now, before = time.monotonic(), used
        used = _processor_seconds(process.pid, before)
        if used > before:
            moved = now
        late = now - began >= limit and (
            used >= limit or now - moved >= _STILL or now - began >= BUSY * limit
        )
        if late or now - began >= left:
            return None, now - began


def _processor_seconds(session: int, before: float) -> float:
    """What the processes of a session have used, those that ended and were waited for included;
    never less than `before`, and just that where the system does not tell (it has no /proc)."""
    total, tick = 0, os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session:  # proc_pid_stat(5), counted from the state on
                total += sum(int(ticks) for ticks in fields[11:15])
    return max(before, total / tick)


def _environment() -> dict[str, str]:
    """Ours, with this Livery found from anywhere and no hub asked for anything."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "WANDB_MODE": "disabled"}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "PYTHONFAULTHANDLER": "1"}
    return {**os.environ, **offline, **quiet, "PYTHONPATH": python_path()}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the child and whatever it started; the session has its id."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _read(printed: bytes) -> Outcome | None:
    with contextlib.suppress(ValueError, TypeError, IndexError):
        found = Outcome(**json.loads(printed.splitlines()[-1]))
        if found.verdict in get_args(Verdict):
            return found
    return None


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it printed nothing"
