"""docs/evaluation.md against the code: its keys, its example cases, its Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from eval.scorers import get_scorer
from livery.files import write_jsonl
from tests import ROOT
from tests.eval.test_eval_runner import BASE, TUNED, make_case, make_record, make_run

PAGE = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_key_of_the_record_is_documented():
    cases = [make_case("a"), make_case("b")]
    found = make_record(cases, [make_run(TUNED, cases, "yn"), make_run(BASE, cases, "ny")], 0.5)
    rows = dict(re.findall(r"^\| (.+?) \| (.+) \|$", section("The record"), flags=re.MULTILINE))
    keys = [key for cell in rows for key in re.findall(r"`(\w+)`", cell)]
    assert keys == list(found)
    arm = found["arms"]["tuned_constrained"]
    assert set(re.findall(r"`(\w+)`", rows["`arms`"])) == set(arm)
    assert set(found["comparisons"][0]) == set(re.findall(r"`(\w+)`", rows["`comparisons`"]))
    answer = found["cases"][0]["answers"]["tuned_constrained"]
    assert set(re.findall(r"`(\w+)`", rows["`cases`"])) == set(found["cases"][0]) | set(answer)
    assert set(re.findall(r"\w+", rows["`skill`"])) == set(found["skill"])
    assert set(re.findall(r"\w+", rows["`set`"])) == set(found["set"])
    facts = re.sub(r"\(.*?\)| by file", "", rows["`facts`"])
    assert set(re.findall(r"\w+", facts)) == set(found["facts"])


def test_the_example_cases_are_cases(tmp_path: Path):
    [example] = re.findall(r"```json\n(.+?)```", section("Which cases"), flags=re.DOTALL)
    path = tmp_path / "mine.jsonl"
    write_jsonl(path, map(json.loads, example.splitlines()))
    assert [case.category for case in get_scorer("date-keys").cases(path)] == [
        "uncategorised", "mine"
    ]  # fmt: skip


def test_the_python_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    pytest.importorskip("mlx.core")
    from tests.engines.libraries import mlx_adapter
    from tests.tiny_models import tiny_model

    model = tiny_model("llama", tmp_path / "models")
    adapter = mlx_adapter(model, tmp_path / "adapter")
    [code] = re.findall(r"```python\n(.+?)```", section("From Python"), flags=re.DOTALL)
    code = code.replace('"base_model"', repr(str(model)))
    code = code.replace('"adapters/date-keys"', repr(str(adapter))).replace("=64", "=200")
    exec(compile(code, "docs/evaluation.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(")
