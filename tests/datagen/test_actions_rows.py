"""Rows of actions checked by field and policy, line and rule named; a user's written as chat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datagen.actions import SEED, from_rows
from datagen.check import Findings, check
from datagen.make import data_is_made
from livery import cli
from livery.errors import UserError
from livery.files import read_jsonl, write_jsonl
from livery.skills.actions.rows import row_schema

OK: dict[str, Any] = next(row for _, row in read_jsonl(SEED))
ASKED = "User: rm old\nAssistant: It is lost then. Shall I run: rm -r old?\nUser: "
HIGH: dict[str, Any] = {
    "action_tags": [], "risk_level": "high", "expected_outcome": "confirmed",
}  # fmt: skip
RELEASE = {**HIGH, "user_input": f"{ASKED}yes", "shell_tags": ["rm -r old"], "num_turns": 2}


def checked(tmp_path: Path, *rows: dict[str, Any]) -> Findings:
    path = tmp_path / "mine.jsonl"
    others = [{**OK, "id": f"r{n}", "user_input": f"please begin {n} {'x' * n}"} for n in range(3)]
    write_jsonl(path, [*others, *({**OK, **row} for row in rows)])
    return check(path)


@pytest.mark.parametrize(
    ("row", "rule", "message"),
    [
        (
            {"risk_level": "critical", "should_block": True, "expected_outcome": "blocked"},
            "critical-tag",
            "risk_level is critical, and the answer carries [ACTION]launch_app: Firefox[/ACTION]",
        ),
        ({"risk_levl": "low"}, "field", "'risk_levl' is no field of a row; did you mean"),
        ({"should_block": "no"}, "field", "should_block is 'no'; it must be true or false"),
        ({"split": "training"}, "field", "split is 'training'; it must be train, val, valid, test"),
        ({"num_turns": 0}, "field", "num_turns is 0; it must be a whole number from 1"),
        ({"action_tags": ["fly: home"]}, "field", "action_tags: unknown verb 'fly'"),
        ({"action_tags": [3]}, "field", "action_tags[0] is 3; it must be a text"),
        ({"shell_tags": ["ls [SHELL]x[/SHELL]"]}, "field", "[SHELL] stands inside [SHELL]"),
        ({"shell_tags": ["ls [/SHELL"]}, "field", "'[/SHELL' within a tag"),
        ({"shell_tags": ["ls[/SHELL][SHELL]df"]}, "field", "more than the content of one tag"),
        ({"shell_tags": ["```bash\nls\n```"]}, "fence", "is in a code fence; write ls"),
        ({"shell_tags": ["ls\x07"]}, "field", "control character (U+0007)"),
        ({"user_input": "open it\x1b[2J"}, "character", "the control character U+001B"),
        ({"assistant_text": "Sure\u202e."}, "character", "the hidden character U+202E at 4"),
        ({"assistant_text": "Ok [ACTION]mute[/ACTION]"}, "field", "tags go into action_tags"),
        ({"assistant_text": "Ok [SHELL]ls"}, "field", "[SHELL] is not closed"),
        ({"expected_outcome": "conversational"}, "chat-tag", "the outcome is conversational"),
        ({"action_tags": []}, "no-tag", "the outcome executed, and there is no tag"),
        ({"should_block": True}, "flags", "should_block is true at low risk; only critical blocks"),
        ({"requires_confirmation": True}, "flags", "only a high risk that carries no tag yet asks"),
        ({"shell_tags": ["rm -r old"]}, "risk-level", "the guard takes rm -r old for high"),
        ({**HIGH, "shell_tags": ["rm -r old"]}, "high-tag", "the answer carries [SHELL]rm -r old"),
        (
            {**HIGH, "requires_confirmation": True, "assistant_text": "That is risky."},
            "high-ask",
            "the answer does not ask",
        ),
        (
            {**HIGH, "requires_confirmation": True, "assistant_text": "Ok? Shall I run: ls?"},
            "risk-level",
            "the guard takes ls for low",
        ),
        ({**RELEASE, "shell_tags": ["rm -r older"]}, "release", "is not what the assistant asked"),
        ({**RELEASE, "user_input": f"{ASKED}no, stop"}, "release", "the user said no ('no, stop')"),
        ({**RELEASE, "user_input": f"{ASKED}Do it?"}, "release", "the user asked back ('Do it?')"),
        (
            {**RELEASE, "user_input": f"{ASKED}why old"},
            "release",
            "the user asked back ('why old')",
        ),
        ({**RELEASE, "user_input": f"{ASKED}yes, but later"}, "release", "hedges ('but')"),
        ({**RELEASE, "user_input": f"{ASKED}tell me a joke"}, "release", "is no yes to"),
        ({**RELEASE, "user_input": f"{ASKED}absolutely not"}, "release", "is no yes to"),
        ({**RELEASE, "user_input": f"{ASKED}I changed my mind"}, "release", "is no yes to"),
        ({**RELEASE, "user_input": f"{ASKED}yes, delete b.txt"}, "release", "is no yes to"),
        ({**RELEASE, "user_input": f"{ASKED}delete everything"}, "release", "is no yes to"),
        ({**RELEASE, "user_input": f"{ASKED}go for it tomorrow"}, "release", "hedges ('tomorrow')"),
        ({**RELEASE, "num_turns": 3}, "field", "num_turns is 3, and user_input holds 2 turns"),
        ({"user_input": "User: a\nUser: b"}, "field", "turn 2 of user_input is the"),
        ({"user_input": "User: a\nAssistant: b"}, "field", "the user speaks last"),
    ],
)
def test_what_a_row_breaks_is_named_with_line_and_rule(
    tmp_path: Path, row: dict[str, Any], rule: str, message: str
):
    found = checked(tmp_path, row)
    (problem,) = [p for p in found.problems if p.serious]
    assert problem.where.endswith("mine.jsonl:4")
    assert message in problem.message
    assert problem.message.endswith(f"(rule {rule})")
    assert not found.ok


def test_a_row_that_keeps_the_policy_is_taken(tmp_path: Path):
    found = checked(tmp_path, {"id": "ok"}, {"id": "yes", **RELEASE})
    assert found.ok
    assert found.problems == []
    assert found.rows == {"train": 5}
    assert "livery data actions --rows FILE" in found.notes[0]


def test_style_and_repeats_are_told_of(tmp_path: Path):
    words = {"assistant_text": "**Sure**. One. Two.", "action_tags": ["open: Firefox"]}
    found = checked(tmp_path, words, {"id": "again", **words})
    said = [p.message for p in found.problems]
    assert found.ok
    assert any("3 sentences; at most two are spoken" in text for text in said)
    assert any("markdown ('**')" in text for text in said)
    assert any("is written 'launch_app: Firefox'" in text for text in said)
    assert any("asks what" in text for text in said)


def test_two_rows_of_one_id_are_named(tmp_path: Path):
    found = checked(tmp_path, {"id": "r1", "user_input": "start something else"})
    (problem,) = found.problems
    assert problem.where.endswith("mine.jsonl:4")
    assert "has the id 'r1' of" in problem.message
    assert "mine.jsonl:2; give each row its own" in problem.message
    assert not found.ok


def test_a_missing_field_and_a_broken_line(tmp_path: Path):
    path = tmp_path / "mine.jsonl"
    short = {key: value for key, value in OK.items() if key != "should_block"}
    path.write_text(f"{json.dumps(short)}\n{{broken\n", encoding="utf-8")
    messages = [f"{p.where}: {p.message}" for p in check(path).problems]
    assert any("mine.jsonl:1: no 'should_block'" in text for text in messages)
    assert any("mine.jsonl:2: not valid JSON" in text for text in messages)


def test_chat_rows_of_the_skill_are_held_to_the_policy_too(tmp_path: Path):
    rows = from_rows(SEED)["train"]
    rows[3]["meta"] |= {
        "risk_level": "critical", "should_block": True, "expected_outcome": "blocked",
    }  # fmt: skip
    rows[5]["messages"][-1]["content"] = "Sure.\n```\n[ACTION]mute[/ACTION]\n```"
    rows[6]["messages"][-1]["content"] = "Sure.\n[ACTION]mute"
    write_jsonl(tmp_path / "rows.jsonl", rows)
    found = {p.where.rpartition(":")[2]: p.message for p in check(tmp_path / "rows.jsonl").problems}
    assert set(found) == {"4", "6", "7"}
    assert "(rule critical-tag)" in found["4"]
    assert "(rule fence)" in found["6"]
    assert "[ACTION] is not closed" in found["7"]


def test_a_users_rows_are_written_as_chat(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    mine = tmp_path / "mine.jsonl"
    held = {**OK, "id": "v", "split": "val", "user_input": "the zebra crossing program, start it"}
    write_jsonl(mine, [row for _, row in read_jsonl(SEED)] + [held])
    out = tmp_path / "data"
    assert cli.run(["data", "actions", "--rows", str(mine), "--out", str(out)]) == 0
    assert len(list(read_jsonl(out / "train.jsonl"))) == len(list(read_jsonl(SEED)))
    ((_, row),) = read_jsonl(out / "valid.jsonl")
    assert (
        row["messages"][-1]["content"] == "Opening Firefox.\n[ACTION]launch_app: Firefox[/ACTION]"
    )
    assert cli.run(["data", "check", str(out)]) == 0
    assert not data_is_made("actions", out, 7)
    write_jsonl(mine, [{**OK, "risk_level": "critical"}])
    with pytest.raises(UserError, match=r"mine\.jsonl:1: risk_level is critical.*critical-tag"):
        from_rows(mine)
    assert cli.run(["data", "actions", "--rows", str(mine), "--count", "3"]) == 2
    assert cli.run(["data", "date-keys", "--rows", str(mine)]) == 2
    capsys.readouterr()


def test_the_schema_takes_the_rows_of_the_seed_file():
    import jsonschema

    for _, row in read_jsonl(SEED):
        jsonschema.Draft7Validator(row_schema()).validate(row)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(row_schema()).validate({**OK, "more": 1})
