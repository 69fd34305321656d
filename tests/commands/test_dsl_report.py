"""`livery dsl report`: a training log and an evaluation as one Markdown file, and plots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from livery.cli import cli
from tests.commands.test_dsl_scripts import ran

SUMMARY = {
    "judge": "rule", "samples": 1, "dataset": "d", "adapter": "a", "model": "m", "cut_off": 0,
    "failures": {"no_json": 1},
    "intervals": {"parsed_rate": {"rate": 0.0, "count": 0, "of": 1, "interval": [0.0, 0.8]}},
}  # fmt: skip
ROW = {
    "failure": "no_json", "query": "open | tickets", "raw_output": "no\nidea",
    "target_canonical": "{}", "parse_error": "no JSON", "schema_error": None,
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    place = Path("outputs/student_runs/eval")
    place.mkdir(parents=True)
    (place / "evaluation_summary.json").write_text(json.dumps(SUMMARY))
    (place / "evaluation_results.jsonl").write_text(json.dumps(ROW) + "\n")
    return tmp_path


def log(name: str) -> Path:
    place = Path("outputs/student_runs") / name / "training_metrics.jsonl"
    place.parent.mkdir()
    rows = [
        {"step": step, "loss": 1 / step, "grad_norm": 0.5, "learning_rate": 1e-4}
        for step in range(1, 100)
    ]
    rows.append({"step": 99, "eval_loss": 0.25, "eval_rewards/margins": 1.5})
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def told(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["dsl", "report", *words])
    assert done.exit_code == code or (code and done.exception), done.output
    return done.output + str(done.exception or "")


@pytest.mark.slow
def test_training_and_evaluation_are_in_one_report(here: Path) -> None:
    pytest.importorskip("matplotlib")
    log("gemma3-270m")
    told("--report-name", "mine", "--out-dir", "reports")
    text = Path("reports/mine.md").read_text()
    assert "| parsed_rate | 0.0% [0.0%, 80.0%] |" in text
    assert "- no_json: 1\n    - `open \\| tickets` → `no idea`\n      `no JSON`" in text
    assert "learning_rate | grad_norm" in text
    assert "0.25" in text
    assert 20 <= text.split("## Training")[1].count("\n| ") <= 24, "spread over the log"
    assert "Loss over optimizer steps" in Path("reports/mine/report.html").read_text()
    told("--report-name", "mine", "--out-dir", "reports")
    told()
    theirs = Path("outputs/reports/report/report.txt")
    theirs.write_text("my notes on it")
    reset = CliRunner().invoke(cli, ["dsl", "reset", "--report", "--yes"])
    assert reset.output.count(" stays") == 1
    assert [path for path in Path("outputs/reports").rglob("*") if path.is_file()] == [theirs]


def test_files_are_named_and_what_is_not_there_is_told(here: Path) -> None:
    assert "no training in the report" in told()
    assert "## Training" not in Path("outputs/reports/report.md").read_text()
    assert "no such file" in told("--training-metrics", "nowhere", code=1)
    one, other = log("one"), log("other").with_name("run_config.json")
    other.write_text("{}")
    both = ["--training-metrics", str(one), "--run-config", str(other)]
    assert "of two runs" in told(*both, code=1)
    other.write_text('{"samples": 1}\n')
    assert "run_config.json: no adapter; it is not" in told("--eval-summary", str(other), code=1)
    assert "run_config.json:1: no failure; it is" in told("--eval-results", str(other), code=1)
    Path("outputs/reports/report.md").write_text("# Mine\n")
    assert "is not such a report" in told(code=1)
    assert "without a folder" in told("--report-name", "../x", code=1)


def test_the_runner_evaluates_and_reports(tmp_path: Path) -> None:
    program = tmp_path / "livery"
    program.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    program.chmod(0o755)
    said = ran("runEvals.sh", tmp_path, "--adapter", "a b", "--teacher-model", "t").stdout
    assert said == "dsl|evaluate|--report|--adapter|a b|--teacher-model|t|"
