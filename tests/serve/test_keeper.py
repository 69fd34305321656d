"""A worker that dies at every start is started again, ever later, and the reason is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("dbos", reason="needs the extra serve")

from livery.serve.jobs import worker
from livery.serve.jobs.keeper import LONGEST, QUICK, Keeper
from livery.serve.jobs.layout import Layout
from livery.serve.jobs.process import executor, taken
from tests.serve.jobs_run import wait_for


def keeper(root: Path, database: str | None = None) -> tuple[Keeper, list[str]]:
    layout, told = Layout(root), list[str]()
    layout.make()
    return Keeper(layout, database, told.append), told


@pytest.mark.slow
def test_a_worker_that_ends_at_once_is_tried_ever_later(tmp_path: Path) -> None:
    """Here for want of a database; the clock is the test's."""
    one, told = keeper(tmp_path, "postgresql://livery@127.0.0.1:1/livery")

    def ended() -> None:
        pid = int(told[-1].rpartition("kill ")[2])
        wait_for(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG))

    one.look(0.0)
    assert "started a worker" in told[0]
    assert one.problem is None
    ended()
    one.look(10.0)
    assert "exited with 1" in told[1]
    assert "The next one starts in 2 s" in told[1]
    assert one.problem is not None
    assert "127.0.0.1" in one.problem  # what its log ends in
    one.look(11.9)
    assert len(told) == 2
    one.look(12.1)
    ended()
    one.look(13.0)
    assert "starts in 4 s" in told[3]
    assert "2 such in a row" in one.problem
    one.look(16.0)
    assert len(told) == 4


def test_a_server_that_can_tell_nobody_starts_the_next_worker_all_the_same(tmp_path: Path) -> None:
    """Its standard error is gone with the terminal that it was started from."""
    one, _ = keeper(tmp_path)

    def say(_: str) -> None:
        raise BrokenPipeError

    one.say = say
    one._process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    one._process.wait()
    with pytest.raises(BrokenPipeError):
        one.look(1.0)
    assert one.problem is not None
    assert "exited with 3" in one.problem
    assert one._process is None  # it was told of once, and the next look goes on


def test_a_worker_of_somebody_else_is_enough(tmp_path: Path) -> None:
    one, told = keeper(tmp_path)
    with taken(one.layout.lock("worker", executor("cuda:1"))):
        assert worker.how_many_live(one.layout) == 1
        one.look()
        assert told == []


def test_a_worker_that_cannot_be_started_is_tried_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, told = keeper(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    one.look(0.0)
    one.look(1.0)
    one.look(2.1)
    assert [said.partition("; ")[0].rpartition(". ")[2] for said in told] == [
        "The next one starts in 2 s", "The next one starts in 4 s",
    ]  # fmt: skip
    assert one.problem is not None
    assert "no-python" in one.problem


def test_the_wait_is_bounded_and_ends_with_a_worker_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that only sleeps stands for the worker: what is looked at is when it ends."""
    one, told = keeper(tmp_path)

    def start(*_: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])

    monkeypatch.setattr(worker, "start", start)

    def kill() -> None:
        pid = int(told[-1].rpartition("kill ")[2])
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    now = 0.0
    for _ in range(12):
        one.look(now)
        kill()
        one.look(now)
        now += LONGEST
    assert f"starts in {LONGEST:g} s" in told[-1]
    one.look(now)
    one.look(now + QUICK)  # it lives
    assert one.problem is None
    kill()
    one.look(now + QUICK)
    assert "starts at once" in told[-2]
    kill()
