"""Checks that go wrong in every way that a process of its own can."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from commands.prove.outcome import Outcome, Skip, judged


def holds(folder: Path) -> Outcome:
    print("a library prints to stdout, too")
    return judged((folder / "..").is_dir(), "it holds", figure=1.23456789)


def crashes(folder: Path) -> Outcome:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def leaves(folder: Path) -> Outcome:
    sys.exit("the driver is too old")


def hangs(folder: Path) -> Outcome:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(os.environ["LEFT"]) / "number").write_text(str(child.pid))
    (Path(os.environ["LEFT"]) / "number").rename(Path(os.environ["LEFT"]) / "child")
    time.sleep(600)
    raise AssertionError


def crawls(folder: Path) -> Outcome:
    """As a machine that is busy with other things lets it: a little now and then."""
    for _ in range(12):
        ends = time.process_time() + 0.05
        while time.process_time() < ends:
            pass
        time.sleep(0.4)
    return judged(True, "it took its time")


def spins(folder: Path) -> Outcome:
    while True:
        pass


def sleeps(folder: Path) -> Outcome:
    time.sleep(30)
    raise AssertionError


def raises(folder: Path) -> Outcome:
    raise RuntimeError(f"CUDA error: no kernel image\nin {folder}")


def skips(folder: Path) -> Outcome:
    raise Skip("there is no card here")
