"""docs/dsl.md says what is true."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

from datagen.dsl.negatives import KINDS
from eval.scorers import dsl as scorer
from livery.paths import HOME
from livery.skills import dsl

PAGE = (HOME / "docs" / "dsl.md").read_text(encoding="utf-8")


def test_the_page_runs() -> None:
    failed, tried = doctest.testfile(str(HOME / "docs" / "dsl.md"), module_relative=False)
    assert tried >= 12
    assert not failed


def test_the_answers_it_shows_are_compact_asts() -> None:
    (table,) = re.findall(r"```text\n(.*?)```", PAGE, re.S)
    for line in table.splitlines():
        query, answer = re.split(r" {2,}", line, maxsplit=1)
        ast = dsl.parse(answer)
        assert ast["prompt"] == query
        assert dsl.render(ast) == answer


def test_the_case_it_shows_is_a_case(tmp_path: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    path = tmp_path / "cases.jsonl"
    path.write_text(block, encoding="utf-8")
    (case,) = scorer.cases(path)
    assert scorer.score_case(case, '{"sort": "up"}').correct
    assert not scorer.score_case(case, '{"sort": "down"}').correct
    assert not scorer.score_case(case, json.dumps({"sort": "left"})).metrics["schema_valid"]


def test_it_names_every_metric_category_kind_and_script() -> None:
    for name in (*(m.name for m in scorer.METRICS), *scorer.CATEGORIES, *KINDS):
        assert f"`{name}`" in PAGE
    for script in re.findall(r"`(scripts/\S+\.py)`", PAGE):
        assert (HOME / script).is_file()
    assert len(dsl.hand_written("validation")) == len(dsl.hand_written("second")) == 108
