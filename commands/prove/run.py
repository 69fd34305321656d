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

# All checks together, whatever the limits of each add up to.
TEN_MINUTES = 600.0


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
    for check in chosen:
        began = time.monotonic()
        left = ends - began
        late = Outcome("skipped", f"the {show_seconds(room)} for all checks were over")
        with Scratch("prove") as folder:
            hung = Outcome("failed", f"it did not end within {check.limit:.0f} s")
            outcome = late if left < 5 else None
            outcome = outcome or _in_a_process(check, folder, min(check.limit, left))
            # Cut short before its own limit, it proved nothing either way.
            outcome = outcome or (hung if left >= check.limit else late)
        found.append(Result(check, outcome, round(time.monotonic() - began, 1)))
        tell(found[-1], len(found), len(chosen))
    return found


def _in_a_process(check: Check, folder: Path, limit: float) -> Outcome | None:
    """The check's outcome, a crash being a failure that says so; None where it did not end."""
    log = folder / "stderr"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "commands.prove.child", check.function, str(folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, cwd=folder,
            env=_environment(), start_new_session=True,
        )  # fmt: skip
        try:
            printed, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            _end(process)
            return None
        except BaseException:
            _end(process)
            raise
    _end(process)  # what it started and left
    if (found := _read(printed)) is not None:
        return found
    code = process.returncode
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return Outcome("failed", f"its process ended {how}: {_last_line(log)}")


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
