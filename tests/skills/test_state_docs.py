"""docs/state.md says what is true, and the example teaches fields of somebody's own."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from eval.scorers import get_scorer
from eval.scorers import state as scorer
from livery import cli
from livery.paths import HOME
from livery.reading import read_jsonl
from livery.skills import state

PAGE = (HOME / "docs" / "state.md").read_text(encoding="utf-8")
EXAMPLE = HOME / "examples" / "state_fields.py"


def test_the_page_runs() -> None:
    failed, tried = doctest.testfile(str(HOME / "docs" / "state.md"), module_relative=False)
    assert tried >= 8
    assert not failed


def test_the_answers_it_shows_are_answers_of_the_skill() -> None:
    (table,) = re.findall(r"```text\n(.*?)```", PAGE, re.S)
    for line in table.splitlines():
        answer = re.split(r" {2,}", line, maxsplit=1)[1]
        assert state.parse(answer).text == answer


def test_the_cases_it_shows_are_cases(tmp_path: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    path = tmp_path / "cases.jsonl"
    path.write_text(block, encoding="utf-8")
    cases = scorer.cases(path)
    assert len(cases) == 4
    for case in cases:
        assert scorer.score_case(case, case.expected_text).correct


def test_it_names_every_metric_and_file() -> None:
    for metric in scorer.METRICS:
        assert f"`{metric.name}`" in PAGE
    for name in ("aios_finetune_data", "aios_finetune_adversarial", "aios_combined"):
        assert f"`{name}.jsonl`" in PAGE


@pytest.mark.slow
def test_the_example_makes_rows_that_its_own_score_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["data", str(EXAMPLE), "--out", "data"]) == 0
    rows = [row for _, row in read_jsonl("data/train.jsonl")]
    assert {row["meta"]["scenario"] for row in rows} == {
        "known", "unknown", "attack", "secret", "twin",
    }  # fmt: skip
    own = get_scorer(str(EXAMPLE))
    cases = own.cases("data/test.jsonl")
    assert len(cases) > 10
    for case in cases:
        assert own.score_case(case, case.expected_text).correct
        assert case.grammar is not None
        assert not own.score_case(case, "According to my `pump.pressure`, it is 99 bar.").correct
