"""`livery jobs`, its commands and their JSON, in a folder without a worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dbos", reason="needs the extra serve")

from livery import cli
from livery.serve.jobs.jobs import Jobs

Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`livery jobs WORDS`: what it prints, with --json as JSON; `code` is its exit code."""
    monkeypatch.chdir(tmp_path)

    def jobs(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert cli.run(["jobs", *words]) == code
        said = capsys.readouterr()
        return json.loads(said.out) if "--json" in words else said.out + said.err

    return jobs


@pytest.mark.slow
def test_a_job_from_submission_to_retry(run: Run, tmp_path: Path) -> None:
    assert "There are no jobs" in run("list")
    words = ("submit", "date-keys", "--max-steps", "500", "--lora-r", "4", "--fine-tune-type",
             "dora", "--target", "0.9", "--key", "nightly")  # fmt: skip
    said = run(*words)
    assert "livery jobs worker" in said  # none runs
    job = run(*words, "--json")
    assert job["id"] in said
    assert job["request"]["settings"] == {"lora.dora": "dora", "lora.rank": 4, "max_steps": 500}
    assert (job["state"], job["request"]["target"]) == ("queued", 0.9)
    assert run("list", "--json")["jobs"] == [job]
    assert run("show", job["id"], "--json") == job
    assert str(tmp_path / "adapters" / "date-keys") in run("show", job["id"])
    assert run("log", job["id"]) == ""
    Path(job["log"]).write_text("one\n10%\r100%\nlast \x1b[31m\n")
    assert run("log", job["id"], "--tail", "2") == "100%\nlast \\x1b[31m\n"
    for command, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled"),
                           ("retry", "queued")):  # fmt: skip
        assert run(command, job["id"], "--json")["state"] == state
    assert job["id"] in run("list", "--state", "queued")
    assert job["id"] not in run("list", "--state", "failed")


def test_who_looks_at_jobs_makes_no_folders(run: Run, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "mistyped"):
        for command in ("show", "log", "cancel", "pause", "resume", "retry"):
            assert "no jobs in this folder" in run(command, "x", "--root", str(root), code=1)
    assert "no jobs in this folder" in run("list", "--root", str(tmp_path / "mistyped"), code=1)
    assert "There are no jobs" in run("list")
    for words in (("worker", "--drain"), ("submit", "date-keys")):
        said = run(*words, "--root", str(tmp_path / "mistyped"), code=1)
        assert "mistyped: is not a folder. Make it, or name another --root." in said
    assert list(tmp_path.iterdir()) == []


def test_the_tail_of_a_log_is_counted_in_lines_that_are_shown(run: Run, tmp_path: Path) -> None:
    job = run("submit", "date-keys", "--json")
    Path(job["log"]).write_text("one\ntwo\n10%\r50%\r100%\nlast\x0b\x85line\n")
    assert run("log", job["id"], "--tail", "3").startswith("two\n100%\nlast")


def test_rows_of_ones_own_are_found_by_name_and_by_path(run: Run, tmp_path: Path) -> None:
    for folder in ("data/named", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    assert run("submit", "--data", "named", "--json")["request"]["data"] == "named"
    other = run("submit", "--data", "elsewhere", "--json")
    assert other["request"]["data"] == str(tmp_path / "elsewhere")
    assert (other["name"], other["request"]["steps"]) == ("elsewhere", ["train", "convert", "pack"])


def test_what_failed_is_shown_with_its_cause(run: Run, tmp_path: Path) -> None:
    job = run("submit", "date-keys", "--json")["id"]
    from livery.serve.jobs import store

    cause = {"kind": "signal", "detail": "train was ended by SIGKILL", "last_lines": ["step 9"]}
    engine = Jobs(tmp_path).engine
    store.change(engine, job, {"state": "failed", "cause": store.as_json(cause), "step": "train"})
    said = run("show", job)
    assert "signal: train was ended by SIGKILL" in said
    assert "step 9" in said
    assert run("show", job, "--json")["cause"] == cause


def test_mistakes_are_told_before_anything_is_queued(run: Run) -> None:
    assert "a skill, or data" in run("submit", code=1)
    assert "Did you mean date-keys?" in run("submit", "date-key", code=1)
    assert "there is no such data" in run("submit", "--data", "none", code=1)
    assert "no job 'x'" in run("cancel", "x", code=1)
    assert "postgresql://" in run("list", "--database", "mysql://x/y", code=1)
    assert "--output-dir" in run("submit", "date-keys", "--output-dir", "x", code=2)
    assert run("list", "--json") == {"jobs": []}
