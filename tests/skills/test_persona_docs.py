"""docs/persona.md says what is true."""

from __future__ import annotations

import doctest
import json
import re

from datagen.persona import SHARES, TRAIN_ROWS
from eval.scorers import persona as scorer
from livery.paths import HOME

PAGE = (HOME / "docs" / "persona.md").read_text(encoding="utf-8")


def test_the_page_runs() -> None:
    failed, tried = doctest.testfile(str(HOME / "docs" / "persona.md"), module_relative=False)
    assert (failed, tried >= 8) == (0, True)


def test_the_shares_and_metrics_on_the_page() -> None:
    rows = re.findall(r"^\| (\w+) \| (\d+) \|", PAGE, re.MULTILINE)
    assert {name: int(count) for name, count in rows} == SHARES
    assert f"--count {TRAIN_ROWS}" in PAGE
    table = PAGE.split("| metric | meaning |")[1].split("An answer is correct")[0]
    named = [name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line)]
    assert sorted(named) == sorted(metric.name for metric in scorer.METRICS)


def test_the_case_on_the_page_is_one() -> None:
    (line,) = re.findall(r"^```json\n(.*)\n```", PAGE, re.MULTILINE)
    (case,) = scorer.cases([json.loads(line)])
    assert scorer.score_case(case, "From Paris, sir.").correct
    assert not scorer.score_case(case, "From Paris.").correct
