"""docs/actions.md says what is true, and the example teaches actions of somebody's own."""

from __future__ import annotations

import doctest
import importlib
import json
import re
from pathlib import Path

import pytest

from datagen import actions as generator
from datagen.check import check
from eval.scorers import actions as scorer
from eval.scorers import get_scorer
from livery import cli
from livery.engines.constrain import checker
from livery.files import read_jsonl
from livery.paths import HOME
from livery.skills import AnswerError, actions, get_skill

PAGE = (HOME / "docs" / "actions.md").read_text(encoding="utf-8")
EXAMPLE = HOME / "examples" / "greenhouse_actions.py"


def test_the_page_runs() -> None:
    failed, tried = doctest.testfile(str(HOME / "docs" / "actions.md"), module_relative=False)
    assert (failed, tried > 4) == (0, True)


def test_the_figures_on_the_page() -> None:
    sets = [len(list(read_jsonl(generator.SETS / f"{n}.jsonl"))) for n in ("validation", "second")]
    seeds = len(list(read_jsonl(generator.SEED)))
    said = [int(n.replace(",", "")) for n in re.findall(r"\b[\d,]+\b", PAGE.split("## Data")[1])]
    assert said[:6] == [generator.TRAIN_ROWS, len(generator.SCENARIOS), generator.VALID_ROWS,
                        seeds, *sets]  # fmt: skip


def test_the_row_on_the_page_keeps_the_policy(tmp_path: Path) -> None:
    (row,) = re.findall(r"```json\n(.*?)\n```", PAGE, re.S)
    (tmp_path / "mine.jsonl").write_text(row + "\n", encoding="utf-8")
    found = check(tmp_path / "mine.jsonl")
    assert (found.ok, found.problems) == (True, [])


def test_the_page_names_every_metric_and_rule() -> None:
    for metric in scorer.METRICS:
        names = (metric.name, metric.name.removesuffix("_guarded"))
        assert any(f"`{name}`" in PAGE for name in names), metric.name
    policy = importlib.import_module("livery.skills.actions.policy")
    source = Path(str(policy.__file__)).read_text(encoding="utf-8")
    rules = set(re.findall(r'Breach\(\s*"([a-z-]+)"', source))
    assert len(rules) > 10
    for rule in rules:
        assert f"`{rule}`" in PAGE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("greenhouse")
    assert cli.run(["data", str(EXAMPLE), "--out", str(folder)]) == 0
    return folder


def test_the_example_teaches_a_table_of_its_own(data: Path) -> None:
    assert EXAMPLE.name == "greenhouse_actions.py"
    skill = get_skill(str(EXAMPLE))
    answer = "Watering the beans.\n[ACTION]irrigate: beans | 10[/ACTION]"
    value = skill.parse(answer)
    assert skill.render(value) == answer.replace("irrigate", "water")
    with pytest.raises(AnswerError, match="unknown verb 'open_url'"):
        skill.parse("Sure.\n[ACTION]open_url: x[/ACTION]")
    grammar = skill.constraint()
    assert grammar is not None
    refused = checker(grammar)
    splits = {name: [row for _, row in read_jsonl(data / f"{name}.jsonl")] for name in
              ("train", "valid", "test")}  # fmt: skip
    assert len(splits["train"]) == 200
    for rows in splits.values():
        for row in rows:
            assert refused(row["messages"][-1]["content"]) == ""
    assert check(data).ok


def test_the_example_is_scored(data: Path) -> None:
    mine = get_scorer(str(EXAMPLE))
    cases = mine.cases(data / "test.jsonl")
    for case in cases:
        assert mine.score_case(case, case.expected_text).correct
    water = next(case for case in cases if case.category == "water")
    wrong = mine.score_case(water, "Ok.\n[ACTION]water: roses | 3[/ACTION]")
    assert (wrong.correct, wrong.metrics) == (False, {"verbs": True})
    talk = next(case for case in cases if case.category == "talk")
    assert mine.score_case(talk, "Ok.\n[ACTION]report[/ACTION]").metrics["chat_tag"] is True


def test_the_vocabulary_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["data", "actions", "--vocabulary"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["tags"] == ["ACTION", "SHELL", "EXEC_CODE"]
    assert list(printed["verbs"]) == list(actions.VERBS.names)
