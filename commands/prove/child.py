"""One check in a process of its own: `python -m commands.prove.child MODULE:FUNCTION FOLDER`.

The last line of stdout is its outcome as JSON; whatever else is printed there goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from commands.prove.outcome import Outcome, Skip


def outcome(where: str, folder: Path) -> Outcome:
    """What a check says; what it raises is a failure in one line."""
    module, _, function = where.partition(":")
    try:
        return getattr(importlib.import_module(module), function)(folder)
    except Skip as why:
        return Outcome("skipped", str(why))
    except Exception as error:  # whatever a library makes of this machine
        lines = (str(error).strip() or "-").splitlines()
        return Outcome("failed", f"{type(error).__name__}: {lines[0][:300]}")


def main() -> None:
    """Keep the channel for the outcome: libraries print to stdout."""
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    where, folder = sys.argv[1:3]
    found = outcome(where, Path(folder))
    print(json.dumps(found.as_dict()), file=channel, flush=True)


if __name__ == "__main__":
    main()
