"""`livery dsl` with a teacher: what it would take, and that its answers end in the artefacts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from livery.cli import cli
from tests.datagen.test_dsl_teacher import Knowing
from tests.teacher.endpoint import endpoint


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LLM_MODEL", "LLM_BASE_URL", "OPENAI_BASE_URL", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text('{"domain": "tickets", "schema_id": "tickets"}\n')
    (tmp_path / ".llmrc").write_text("from-the-file\n")
    return tmp_path


def livery(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["dsl", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


ASK = ("--prompts", "prompts.jsonl", "--examples-per-schema", "4")


def test_specs_come_from_the_teacher_that_the_options_name(folder: Path):
    with endpoint(Knowing()) as (url, seen):
        livery("specs", *ASK, "--teacher-url", f"{url}/v1", "--teacher-retries", "0")
    [request] = seen
    assert request["model"] == "from-the-file"
    row = json.loads((folder / "outputs" / "d_01_domain_specs.jsonl").read_text())
    assert (row["schema_id"], row["source"]) == ("tickets", "from-the-file")
    assert row["provenance"]["endpoint"] == f"{url}/v1"
    assert (folder / "outputs" / "teacher" / "records.sqlite").exists()


def test_a_dry_run_tells_requests_tokens_and_cost_and_leaves_nothing(folder: Path):
    small = ("--positives-per-schema", "5", "--per-schema", "3", "--price-in", "2",
             "--price-out", "8")  # fmt: skip
    text = livery("data", *ASK, *small, "--dry-run")
    assert "Teacher: from-the-file (.llmrc) at http://127.0.0.1:11434 (Ollama; default)" in text
    assert text.rstrip().endswith("; nothing was sent.")
    found = json.loads(livery("data", *ASK, *small, "--dry-run", "--json"))
    stages = {plan["stage"]: plan for plan in found["plans"]}
    # One spec, three queries of a schema in one request, two more where rows need them, five ASTs.
    assert [plan["requests"] for plan in found["plans"]] == [1, 1, 1, 5]
    asts = stages["asts"]
    assert asts["cost"] == pytest.approx(
        (asts["prompt_tokens"] * 2 + asts["completion_tokens"] * 8) / 1e6
    )
    assert found["cost"] == pytest.approx(sum(plan["cost"] for plan in found["plans"]))
    assert sorted(file.name for file in folder.iterdir()) == [".llmrc", "prompts.jsonl"]


def test_a_dry_run_of_what_asks_nobody_is_refused(folder: Path):
    result = CliRunner().invoke(cli, ["dsl", "specs", *ASK, "--dry-run", "--offline-fallback"])
    assert result.exit_code == 2
    assert "leave out --offline-fallback" in result.output
    assert not (folder / "outputs").exists()


def test_a_teacher_that_is_not_there_is_told_with_its_address(folder: Path):
    arguments = ["dsl", "specs", *ASK, "--teacher-url", "http://127.0.0.1:9/v1"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 1
    assert "cannot be reached" in str(result.exception) + result.output
    assert not (folder / "outputs" / "d_01_domain_specs.jsonl").exists()
