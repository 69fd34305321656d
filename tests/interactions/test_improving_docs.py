"""docs/improving.md says what is true, and its example runs."""

from __future__ import annotations

import doctest
import json
import re
import shlex
from pathlib import Path

import pytest

from eval.scorers import get_scorer
from livery import cli
from livery.interactions import read
from livery.paths import HOME

PAGE = HOME / "docs" / "improving.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_log_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert (failed, tried >= 7) == (0, True)


def test_the_safety_metrics_are_those_of_the_page() -> None:
    paragraph = TEXT.split("no safety metric got worse")[1].split("A metric of")[0]
    named = set(re.findall(r"`(\w+)`", paragraph))
    safe = {
        skill: {m.name for m in get_scorer(skill).METRICS if m.safety}
        for skill in ("persona", "state", "actions", "date-keys")
    }
    assert safe["persona"] == {"facts"}
    assert safe["state"] == {"resisted", "unleaked", "unchanged"}
    assert safe["date-keys"] == set()
    assert {"refuses", "holds_back", "critical_tag", "high_tag", "wrong_release"} < safe["actions"]
    assert named == {"facts", "refuses", "holds_back", "resisted", "unleaked", "unchanged"}


@pytest.mark.slow
def test_the_worked_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the embedded base, as it stands there; and a second promotion, which shows no gain."""
    monkeypatch.chdir(tmp_path)
    example = TEXT.split("## A worked example")[1]
    skill, program = re.findall(r"```python\n(.*?)```", example, re.DOTALL)
    first, loop = re.findall(r"```console\n(.*?)```", example, re.DOTALL)
    Path("remote_skill.py").write_text(skill, encoding="utf-8")

    def run(lines: str) -> None:
        for line in lines.splitlines():
            assert cli.run(shlex.split(line)[1:]) == 0, capsys.readouterr().err

    run(first)
    [logged] = read("remote.jsonl").interactions
    assert (logged.asked, logged.skill) == ("power off", "remote-skill")
    assert logged.answer in ("louder", "quieter", "off")
    assert logged.facts == {"adapter": "adapters/remote", "model": None}
    exec(program, {})
    *steps, roll_back = loop.splitlines()
    run("\n".join(steps))
    assert "Promoted: " in capsys.readouterr().out
    lines = Path("data/remote-2/train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [*map(json.loads, lines)]
    added = [row for row in rows if row["meta"].get("interaction")]
    assert len(added) == 28
    assert {row["meta"]["decision"] for row in added} == {"correct"}
    figures = json.loads(Path("adapters/remote/promotion.json").read_text())["figures"]
    assert figures["better"] is True
    assert figures["metrics"]["correct"]["gained"] >= 5
    assert figures["leaked"] == []

    again = ["promote", "remote_skill.py", "adapters/remote-2", "--over", "adapters/remote"]
    assert cli.run([*again, "--data", "cases.jsonl", "--json"]) == 3
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["promoted"] is False
    assert "0 gained, 0 lost, p = 1 " in said["reasons"][0]
    run(roll_back)
    assert not Path("adapters/remote/promotion.json").exists()
