"""Livery's own short commands, each a process of its own: what needs a framework or a library that
the server does not load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from livery.errors import UserError, shown
from livery.paths import python_path
from livery.serve.errors import Unavailable

SECONDS = 300.0
_KEPT = 20  # files made for export


def livery(*words: str, cwd: Path, seconds: float = SECONDS) -> Any:
    """What `livery WORDS --json` prints. The words are arguments, and no shell sees them.

    Raises:
        UserError: with the command's own message.
        Unavailable: it took longer than `seconds`, and was ended.
    """
    return run("livery", *words, "--json", cwd=cwd, seconds=seconds)


def run(module: str, *words: str, cwd: Path, seconds: float = SECONDS) -> Any:
    """The JSON that a module of ours prints when it is run; see `livery`."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise Unavailable(f"livery {words[0]} took longer than {seconds:g} s.") from None
    try:
        said = json.loads(output)
    except ValueError:
        lines = errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise UserError(f"livery {words[0]}: {shown(lines[-1], 500)}") from None
    if isinstance(said, dict) and isinstance(error := said.get("error"), dict):
        raise UserError(str(error.get("message")))
    return said


def make_room(folder: Path, keep: Collection[Path]) -> None:
    """Delete the oldest of the files made for export, but none of `keep`."""
    made = [path for path in folder.iterdir() if path not in keep]
    for old in sorted(made, key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        old.unlink(missing_ok=True)
