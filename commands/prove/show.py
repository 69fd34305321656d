"""Run the checks with their progress on the terminal, and write the two files."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from commands.prove import report
from commands.prove.run import NO_TIME, Result, prove
from livery.errors import UserError, counted


def show(out: Path, only: Sequence[str], *, as_json: bool) -> int:
    """Returns the exit code: 3 where something failed.

    Raises:
        UserError: `out` is not a folder, or `only` names no check.
    """
    if not out.is_dir():
        raise UserError(f"--out {out}: there is no such folder.")

    def tell(result: Result, done: int, total: int) -> None:
        outcome = result.outcome
        print(
            f"{done:>2}/{total} {outcome.verdict:<8} {result.check.what} ({result.seconds:.0f} s): "
            f"{report.clean(outcome.said)}",
            file=sys.stderr,
            flush=True,
        )

    print("Proving what this machine trains, in ten minutes at most.", file=sys.stderr, flush=True)
    began, load = time.monotonic(), round(os.getloadavg()[0], 1)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        results = prove(only, tell=tell)
    finally:
        signal.signal(signal.SIGTERM, before)
    found = report.as_dict(results, time.monotonic() - began, load)
    paths = report.write(found, out)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(report.markdown(found), end="")
    if late := [r.check.name for r in results if r.outcome.said.startswith(NO_TIME)]:
        print(
            f"No time was left for {counted(len(late), 'check')}: this machine is slow, or busy "
            f"with other work. To run the rest: {' '.join(f'--only {name}' for name in late)}",
            file=sys.stderr,
        )
    print(f"Written: {paths[0]} and {paths[1]}. Paste the first into an issue.", file=sys.stderr)
    return 3 if found["counts"]["failed"] else 0


def _stop(number: int, frame: object) -> None:
    """End as by Ctrl-C: the check that runs is a session of its own, and would go on alone."""
    sys.exit(128 + number)
