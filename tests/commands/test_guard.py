"""`livery guard`: text, JSON, lines, policies, and exit codes by level."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from livery.cli import cli


def run(*words: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(cli, ["guard", *words], input=given, standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["git status"], 0), (["npm test"], 0), (["rm x"], 20), (["rm -rf /"], 30),
        (["npm test", "--allow", "low"], 10), (["rm x", "--allow", "high"], 0),
        (["Remove-Item x", "--shell", "powershell"], 20),
    ],
)  # fmt: skip
def test_the_exit_code_is_the_level(words: list[str], code: int) -> None:
    assert run(*words).return_value == code


def test_people_read_the_level_and_the_reasons_programs_read_json() -> None:
    text = run("rm -rf ~ \u202e").output
    assert text.startswith("critical: rm -rf ~ \\u202e\n")
    assert "deletes with everything in it" in text
    made = json.loads(run("rm -rf ~", "--json").output)
    assert made["level"] == "critical"
    assert made["effects"][0] == {"kind": "delete", "scope": "home", "what": "~"}


def test_standard_input_is_a_script_or_a_command_a_line() -> None:
    assert run(given="ls\nrm -rf /\n").return_value == 30
    lines = '"ls"\n{"command": "Remove-Item x", "shell": "powershell"}\n\n"npm test"\n'
    result = run("--jsonl", given=lines)
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [(row["line"], row["level"]) for row in rows] == [(1, "low"), (2, "high"), (4, "medium")]
    assert result.return_value == 20
    assert run(given=b"echo \xff\n").return_value == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ls", "not JSON"),
        ("[1]", "with `command`"),
        ('{"command": "x", "shell": "fish"}', "choose auto"),
    ],
)
def test_a_faulty_line_is_named(line: str, said: str) -> None:
    result = run("--jsonl", given=f'"ls"\n{line}\n')
    assert said in str(result.exception)
    assert "line 2" in str(result.exception)


def test_an_answer_and_a_policy(tmp_path: Path) -> None:
    answer = "Yes.\n[SHELL]git push[/SHELL]"
    made = json.loads(run("--answer", "--json", given=answer).output)
    assert [len(made[key]) for key in ("allowed", "to_confirm", "blocked")] == [0, 1, 0]
    policy = tmp_path / "policy.yaml"
    policy.write_text("commands:\n- match: git push\n  level: low\n")
    assert run("git push", "--policy", str(policy)).return_value == 0
    assert run("--answer", "--policy", str(policy), given=answer).return_value == 0
