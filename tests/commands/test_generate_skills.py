"""`livery generate --skill`: what a skill's prompt needs besides the request reaches the model."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from eval import asking
from livery import cli
from livery.skills import actions, get_skill, persona, state
from tests.engines.test_engine_http import completion, server

BLOCK = "== STATE ==\n[watch]\nwatch.name: Ilse\n"


def prompted(
    capsys: pytest.CaptureFixture[str], skill: str, *options: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(messages that an endpoint is sent, what is printed)."""
    with server(lambda *_: (200, completion("According to my `watch.name`, it is Ilse."))) as there:
        command = ["generate", "--engine", "http", "--url", there[0], "--model", "m"]
        command += ["--skill", skill, "--unconstrained", "--json", *options, "who is on watch"]
        assert cli.run(command) == 0
        (answer,) = json.loads(capsys.readouterr().out)["answers"]
        return there[1][-1]["messages"], answer


@pytest.mark.parametrize("given", ["--state", "--system"])
def test_a_state_is_put_into_the_system_message(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "ship.txt").write_text(BLOCK, encoding="utf-8")
    value = str(file) if given == "--state" else state.system_message(BLOCK)
    messages, answer = prompted(capsys, "state", given, value)
    assert messages == state.messages("who is on watch", block=BLOCK)
    # The value was an object that JSON lacks, and --json ended in a traceback.
    assert answer["value"] == {"text": answer["answer"], "cited": ["watch.name"]}


def test_a_states_answers_are_held_to_its_own_names(tmp_path: Path) -> None:
    (file := tmp_path / "ship.txt").write_text(BLOCK, encoding="utf-8")
    found = asking.find_asking(get_skill("state"), {"state": str(file)})
    assert found.grammar is not None
    assert found.grammar.text == state.grammar(BLOCK)


def test_the_shell_is_the_one_named_else_the_machines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def system(*options: str) -> str:
        return str(prompted(capsys, "actions", *options)[0][0]["content"])

    assert system("--shell", "powershell") == actions.system_prompt("powershell")
    assert system("--shell", "bash") == actions.system_prompt("bash")
    assert system() == actions.system_prompt("bash")
    monkeypatch.setattr(sys, "platform", "win32")
    assert actions.own_shell() == "powershell"


def test_the_form_of_address_is_the_one_named(capsys: pytest.CaptureFixture[str]) -> None:
    for options, address in (([], "sir"), (["--address", "Ada"], "Ada"), (["--address", ""], "")):
        messages, _ = prompted(capsys, "persona", *options)
        assert messages[0]["content"] == persona.system_message(address)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--skill", "state"], "name the file that holds it with --state FILE"),
        (["--skill", "state", "--state", "FILE", "--system", "x"], "give one of them"),
        (["--skill", "state", "--state", "NONE"], "no such file"),
        (["--skill", "state", "--state", "EMPTY"], "no line"),
        (["--skill", "state", "--state", "CUT"], "CUT:2: "),
        (["--skill", "state", "--system", "Be brief."], "--system: "),
        (["--skill", "actions", "--state", "FILE"], "--state is for --skill state"),
        (["--skill", "state", "--state", "FILE", "--shell", "bash"], "is for --skill actions"),
        (["--shell", "bash"], "--shell needs --skill actions"),
        (["--skill", "date-keys", "--address", "Ada"], "--address is for --skill persona"),
        (["--skill", "persona", "--address", "A\nB"], "--address: "),
    ],
)
def test_what_a_user_can_get_wrong_costs_no_model(
    options: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text(BLOCK, encoding="utf-8")
    Path("EMPTY").write_text("Be brief.\n", encoding="utf-8")
    Path("CUT").write_text("== STATE ==\n| a | b |\n| 1 | 2 |\n", encoding="utf-8")
    # A model that is not there: it would be named if it were looked for first.
    assert cli.run(["generate", *options, "--model", "nowhere", "hello"]) == 1
    assert complaint in capsys.readouterr().err
