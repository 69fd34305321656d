"""kill -9 at twenty moments: nothing that was answered is lost, nothing of it is asked again."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from livery.teacher import ask
from tests import ROOT
from tests.teacher.endpoint import GOOD, chat, endpoint, question, teacher

COUNT, KILLS, AT_ONCE = 700, 20, 8


def recorded(records: Path) -> set[str]:
    if not records.exists():
        return set()
    with sqlite3.connect(records) as file:
        return {name for (name,) in file.execute("select name from answers")}


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_nothing_is_asked_twice(tmp_path: Path):
    records = tmp_path / "teacher" / "records.sqlite"
    moments = random.Random(5)
    with endpoint(lambda *_: chat(GOOD)) as (url, seen), subprocess.Popen(
        [sys.executable, "-m", "tests.teacher.killed", url, str(records), str(COUNT)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as children:  # fmt: skip
        assert children.stdin is not None
        assert children.stdout is not None
        for _ in range(KILLS):
            safe, before = recorded(records), len(seen)
            # The moment is counted in results taken, so that a slow machine changes nothing; nor
            # does the child run far ahead of whoever counts them.
            old, taken = len(safe), 0
            moment = old + moments.randrange(1, 25)
            children.stdin.write(f"{moment + AT_ONCE}\n")
            children.stdin.flush()
            said = iter(children.stdout.readline, "over\n")
            child = int(next(said))
            for line in said:
                taken += line == "taken\n"
                if taken == moment:
                    os.kill(child, signal.SIGKILL)
            assert taken > old
            assert recorded(records) >= safe
            asked = {body["messages"][0]["content"] for body in seen[before:]}
            assert not asked & {f"question {name[1:]}" for name in safe}
        many = [question(f"q{n}", f"question {n}") for n in range(COUNT)]
        results = ask(many, teacher(url, concurrency=AT_ONCE), records)
    assert all(result.fault is None for result in results)
    assert sum(result.reused for result in results) >= KILLS
    times: dict[str, int] = {}
    for body in seen:
        name = body["messages"][0]["content"]
        times[name] = times.get(name, 0) + 1
    assert len(times) == COUNT
    # What was under way at a kill is asked again, and nothing else: at most 8 questions a kill.
    assert len(seen) - COUNT <= KILLS * AT_ONCE


def test_the_check_of_a_kill_would_see_an_answer_that_is_lost(tmp_path: Path):
    """The negative control: without its record a question is asked again."""
    records = tmp_path / "teacher" / "records.sqlite"
    with endpoint(lambda *_: chat(GOOD)) as (url, seen):
        many: list[Any] = [question(f"q{n}", f"question {n}") for n in range(5)]
        ask(many, teacher(url), records)
        with sqlite3.connect(records) as file:
            file.execute("delete from answers where name = 'q3'")
        ask(many, teacher(url), records)
    assert [body["messages"][0]["content"] for body in seen[5:]] == ["question 3"]
