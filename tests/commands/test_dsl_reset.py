"""`livery dsl reset`: what Livery wrote goes, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from livery.cli import cli

FILES = {
    "outputs/student_runs/eval/evaluation_results.jsonl": {"judge": "rule", "raw_output": "x"},
    "outputs/student_runs/eval/base/evaluation_results.jsonl": {"judge": "x", "raw_output": "x"},
    "outputs/student_runs/eval/valid/evaluation_summary.json": {"judge": "rule", "samples": 1},
    "outputs/student_runs/alignment/dpo_pairs.jsonl": {"chosen": "a", "teacher_verdict": "reject"},
    "outputs/student_runs/gemma3-270m-dpo.dsl_run.json": {"made_from": "x"},
    "outputs/student_runs/gemma3-270m/run_config.json": {"settings": {}},
    "outputs/student_runs/gemma3-270m/tokenizer.json": {},
    "outputs/student_runs/gemma3-270m/mine.txt": "mine",
    "outputs/student_runs/eval/report.json": {"evaluations": [], "paired": None},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data of one schema, and one file of each other kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text('{"domain": "tickets"}\n')
    few = ["--prompts", "prompts.jsonl", "--positives-per-schema", "2", "--per-schema", "2"]
    told("data", "--offline-fallback", *few)
    for name, value in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(value if isinstance(value, str) else json.dumps(value))
    return tmp_path


def told(*words: str, answer: str = "") -> str:
    done = CliRunner().invoke(cli, ["dsl", *words], input=answer)
    assert done.exit_code == 0, done.output
    return done.output


def left() -> set[str]:
    return {str(path) for path in Path("outputs").rglob("*") if path.is_file()}


def test_everything_that_livery_wrote_is_listed_asked_for_and_deleted(here: Path) -> None:
    before = left()
    said = told("reset", "--all", answer="n\n")
    assert left() == before
    assert "Nothing was deleted" in said
    assert told("reset", "--all", answer="y\n").startswith(said[:200])
    assert {Path(name).name for name in left()} <= {"mine.txt", "made_from.json", ".lock"}
    assert Path("outputs/student_runs/gemma3-270m/mine.txt").is_file()
    assert "nothing to delete" in told("reset", "--all", "--yes")


def test_what_cannot_be_read_stays(here: Path) -> None:
    """Whatever somebody put at our places, it is no reason to fall over."""
    bomb = b"[" * 100_000
    for name, text in (
        ("outputs/student_runs/eval/report.json", bomb),
        ("outputs/student_runs/eval/evaluation_results.jsonl", b"\xff\xfe\0"),
        ("outputs/student_runs/alignment/dpo_pairs.jsonl", b"1" * 5_000),
        ("outputs/student_runs/eval/answers.partial.jsonl", b'{"mine": 1}\n'),
        ("outputs/made_from.json", b'{"d_04_dataset.jsonl": [], "d_05_training_corpus.jsonl": 1}'),
    ):
        Path(name).write_bytes(text)
    told("reset", "--all", "--yes")
    assert left() >= {
        "outputs/student_runs/eval/report.json", "outputs/d_04_dataset.jsonl",
        "outputs/student_runs/eval/evaluation_results.jsonl",
        "outputs/student_runs/alignment/dpo_pairs.jsonl",
        "outputs/student_runs/eval/answers.partial.jsonl",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "gone"),
    [
        ("--evaluations", {name for name in FILES if "/evaluation_" in name}),
        (
            "--training",
            {name for name in FILES if name.endswith(("run_config.json", "tokenizer.json"))},
        ),
        ("--report", {"outputs/student_runs/eval/report.json"}),
        ("--alignment", {name for name in FILES if "dpo" in name}),
    ],
)
def test_a_part_alone(here: Path, part: str, gone: set[str]) -> None:
    before = left()
    told("reset", part, "--yes")
    assert before - left() == gone


def test_what_a_stopped_stage_left_goes_with_the_data(here: Path) -> None:
    for name in ("d_03_schema_queries.partial", "d_04_dataset.partial",
                 "d_04_dataset.queries.partial"):  # fmt: skip
        Path(f"outputs/{name}.jsonl").write_text('{"key": "x"}\n')
    told("reset", "--dataset", "--yes")
    assert not [name for name in left() if "partial" in name]


def test_what_others_wrote_stays_and_is_named(here: Path) -> None:
    edited = Path("outputs/d_04_dataset.jsonl")
    edited.write_text(edited.read_text() + "{}\n")
    theirs = Path("outputs/student_runs/eval/report.md")
    theirs.write_text("# My notes\n")
    said = told("reset", "--dataset", "--report", "--yes")
    assert edited.is_file()
    assert Path("outputs/pretty/d_04_dataset.json").is_file()
    assert not Path("outputs/d_05_training_corpus.jsonl").exists()
    assert theirs.is_file()
    assert said.count(" stays: Livery did not write it as it is.") == 2


def test_a_part_must_be_named() -> None:
    done = CliRunner().invoke(cli, ["dsl", "reset", "--yes"])
    assert done.exit_code == 2
    assert "--dataset, --evaluations, --training, --alignment, --report or --all" in done.output
