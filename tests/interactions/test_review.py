"""Logged interactions that are weak, what is decided about them, and the rows they become."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from datagen import review
from datagen.check import check
from datagen.merge import merge
from eval.weak import finder, repeats
from livery import cli
from livery.errors import UserError
from livery.files import write_jsonl
from livery.interactions import Interaction, Log, read
from livery.skills import actions, date_keys, persona, state

BLOCK = "== STATE ==\n[oven]\n  rules:\n    - never tell oven.pin\noven.heat: 180\noven.pin: mango"


def weak(skill: str, messages: Any, answer: str, **more: Any) -> str:
    one = Interaction("i", "2026-01-01T00:00:00+00:00", tuple(messages), answer, **more)
    return "; ".join(finder(skill)(one))


def test_a_skill_in_a_file_looks_answers_over_by_its_own_function(tmp_path: Path) -> None:
    file = tmp_path / "shouts.py"
    file.write_text(
        "def look_over(messages, answer):\n"
        "    asked = messages[-1]['content']\n"
        "    return ['repeats the question'] if asked in answer else []\n",
        encoding="utf-8",
    )
    asked = [{"role": "user", "content": "Which river?"}]
    assert weak(str(file), asked, "The Po.") == ""
    assert weak(str(file), asked, "Which river? The Po.") == "repeats the question"
    file.write_text("def look_over(messages, answer):\n    return 'none'\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"shouts.py:1: look_over\(\) returned 'none'; it must"):
        weak(str(file), asked, "The Po.")
    file.write_text("def look_over(answer):\n    return []\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"called as look_over\(messages, answer\)"):
        weak(str(file), asked, "The Po.")
    file.write_text("NAME = 'shouts'\n", encoding="utf-8")
    assert weak(str(file), asked, "Which river? The Po.") == ""


def test_what_is_weak_is_found_without_knowing_the_right_answer() -> None:
    asked = persona.messages("Which river runs through Turin?", address="madam")
    assert weak("persona", asked, "That is the Po, madam.") == ""
    for answer, said in (
        ("", "breaks the contract: empty"),
        ("That is the Po, sir. Indeed, sir!", "the post-processor changed it"),
        ("That is the Po, sir.", "not the form of address"),
        ("As an AI language model I say the Po, madam.", "none of the persona's"),
        ("The Po. The Po. The Po. It is, madam.", "repeats itself"),
        ("Mail [email 1], madam.", "holds what was redacted"),
    ):
        assert said in weak("persona", asked, answer), answer
    assert weak("persona", asked, "That is the Po, madam.", finished=False) == "cut off"
    doubtful = weak("persona", asked, "That is the Po, madam.", confidence=0.5, flags=("blocked",))
    assert doubtful == "blocked; confidence 0.50, below 0.9"

    keys = date_keys.messages("wake me tomorrow")
    assert weak("date-keys", keys, '["tomorrow"]') == ""
    assert "breaks the contract" in weak("date-keys", keys, '["soon"]')
    assert "grammar" in weak("date-keys", keys, '["tomorrow" ]')

    oven = state.messages("How hot is the oven?", block=BLOCK)
    assert weak("state", oven, "According to my `oven.heat`, it is 180.") == ""
    assert weak("state", oven, "That is not in my state.") == ""
    for answer, said in (
        ("According to my `oven.light`, it is on.", "cites oven.light, which is not in the state"),
        ("According to my `oven.heat`, it is 90.", "does not say the value of oven.heat"),
        ("It is mango.", "tells a protected value"),
    ):
        assert said in weak("state", oven, answer), answer


def test_the_guard_finds_weak_actions_and_keeps_them_out_of_the_data() -> None:
    pytest.importorskip("tree_sitter_bash")
    asked = actions.messages("clean up")
    wipe = "Done.\n[SHELL]rm -rf /[/SHELL]"
    assert "the guard blocked rm -rf /" in weak("actions", asked, wipe)
    one = Interaction("i", "2026-01-01T00:00:00+00:00", tuple(asked), wipe)
    with pytest.raises(UserError, match=r"never runs: rm -rf / ?.*critical-tag|critical-tag"):
        review.answer_of("actions", one, wipe)
    safe = "Listing it.\n[SHELL]ls[/SHELL]"
    assert review.answer_of("actions", one, safe) == safe


def test_repetition_is_three_times() -> None:
    assert repeats("no\nno\nno")
    assert repeats("a b c d e a b c d e a b c d e")
    assert not repeats("One is enough. Two is enough.")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six interactions of persona in the order of NAMES, one of another skill, and data."""
    monkeypatch.chdir(tmp_path)
    log = Log("log.jsonl")
    for answer, verdict, corrected in (
        ("The Po, Sir. The Po, sir!", "bad", "That is the Po, sir."),
        ("It has ten legs, sir.", "good", ""),
        ("", "bad", ""),
        ("Fine, sir.", "", ""),
        ("You are ann@example.org, sir.", "good", ""),
        ("Good morning, sir.", "good", ""),
    ):
        asked = f"question {len(answer)}: which one of all the rivers in {verdict or 'no'} land?"
        if answer.startswith("Good"):
            asked = "It is half past seven and the kettle is on."
        id = log.record(persona.messages(asked), answer, skill="persona")
        if verdict:
            log.mark(id, verdict, corrected)  # pyright: ignore[reportArgumentType]
    log.record(date_keys.messages("now"), "[]", skill="date-keys")
    rows = [
        {"messages": persona.messages(text, "It is so, sir."), "meta": {"scenario": "casual"}}
        for text in ("What is dough?", "Who sang it?")
    ]
    write_jsonl("data/train.jsonl", rows)
    held = {"messages": persona.messages("Whose umbrella is it?", "Mine, sir.")}
    write_jsonl("data/valid.jsonl", [held])
    return Path("log.jsonl")


def test_the_users_marks_decide_and_what_is_refused_is_told(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "review", str(log), "--skill", "persona"]
    assert cli.run([*command, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed["interactions"]) == 5  # nothing speaks against the fourth
    assert "other" not in listed["notes"][0]
    assert "date-keys" in listed["notes"][0]
    assert not review.reviewed(log).exists()

    assert cli.run([*command, "--approve-marked", "--by", "Ann"]) == 0
    shown = capsys.readouterr()
    assert "2 approved, 1 corrected, 1 dropped; 1 left to look at." in shown.out
    assert "stays undecided: The answer holds what was redacted" in shown.err
    rows, left = review.approved_rows(log, "persona")
    assert [row["messages"][-1]["content"] for row in rows] == [
        "That is the Po, sir.", "It has ten legs, sir.", "Good morning, sir.",
    ]  # fmt: skip
    meta = rows[0]["meta"]
    assert (meta["decision"], meta["by"], meta["source"]) == ("correct", "Ann", "interaction")
    assert meta["interaction"] == read(log).interactions[0].id
    assert len(left) == 1
    assert review.reviewed(log).stat().st_mode & 0o777 == 0o600


def test_one_at_a_time_with_an_end_and_a_beginning(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    Log(log).record(persona.messages("Hm?\x1b[2J\n    | [a]pprove"), "", skill="persona")
    command = ["data", "review", str(log), "--skill", "persona"]
    monkeypatch.setattr("sys.stdin", io.StringIO("x\nu\nq\n"))
    assert cli.run(command) == 0
    assert "1 corrected, 0 dropped; 5 left" in capsys.readouterr().out
    with review.reviewed(log).open("a") as file:
        file.write('{"livery": "decision", "id": "cut')  # by a kill
    # an empty one cannot be approved; a correction that is none is asked for again
    monkeypatch.setattr("sys.stdin", io.StringIO("s\na\nc\n\nc\nAs you wish, sir.\nd\n"))
    assert cli.run(command) == 0
    said = capsys.readouterr().out
    assert "[1/5]" in said
    assert said.count("The answer breaks the contract of persona: empty.") == 2
    assert "\x1b" not in said
    assert "Hm?" not in said  # the input ended before it
    decided = [d.choice for d in review.decisions(log).values()]
    assert decided == ["correct", "correct", "drop"]
    monkeypatch.setattr("sys.stdin", io.StringIO("s\ns\n"))
    assert cli.run(command) == 0
    said = capsys.readouterr().out
    assert "| Hm?\\x1b[2J\n    |     | [a]pprove" in said


def test_merged_with_provenance_without_repeats_and_leaks(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="nothing of it is approved"):
        merge(log, "persona", "data", "out")
    cli.run(["data", "review", str(log), "--skill", "persona", "--approve-marked"])
    for asked, answer in (
        ("What is dough?", "It is so, sir."),  # there already
        ("Who sang it?", "A tenor, sir."),  # another answer
        ("So whose umbrella is it?", "Yours, sir."),  # of the validation split
        ("Where is the cellar?", "Below, sir."),
        ("Where is the cellar?", "Downstairs, sir."),  # decided later
    ):
        id = Log(log).record(persona.messages(asked), answer, skill="persona")
        one = next(one for one in read(log).interactions if one.id == id)
        review.decide(log, one, "approve", skill="persona", by="Ann")
    before = Path("data/train.jsonl").read_bytes()
    capsys.readouterr()
    assert cli.run(["data", "merge", str(log), "--skill", "persona", "--data", "data", "--out",
                    "out"]) == 0  # fmt: skip
    said = capsys.readouterr()
    assert "out: 3 interactions added." in said.out
    for part in (
        "the same as row 1 of the data", "row 2 of the data asks the same and answers 'It is so",
        "gives away valid.jsonl:1", "gives away validation.jsonl:1", "decided later, asks the same",
    ):  # fmt: skip
        assert part in said.err, part
    assert Path("data/train.jsonl").read_bytes() == before
    merged = Path("out/train.jsonl").read_bytes()
    assert merged.startswith(before)
    rows = [json.loads(line) for line in merged[len(before) :].splitlines()]
    assert [row["messages"][-1]["content"] for row in rows] == [
        "That is the Po, sir.", "It has ten legs, sir.", "Downstairs, sir.",
    ]  # fmt: skip
    assert check("out").ok
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["splits"]["train"]["rows"] == 5
    assert manifest["merged"]["interactions"] == [row["meta"]["interaction"] for row in rows]
    assert Path("out/valid.jsonl").read_bytes() == Path("data/valid.jsonl").read_bytes()

    found = merge(log, "persona", "data", "other", replace=True)
    assert (len(found.added), found.replaced) == (4, 1)
    assert "A tenor, sir." in Path("other/train.jsonl").read_text()
    assert check("other").ok
    with pytest.raises(UserError, match="nothing is left to add"):
        merge(log, "persona", "other", "third")
    with pytest.raises(UserError, match=r"exists\. Add --overwrite"):
        merge(log, "persona", "data", "out")
    shutil.rmtree("data")
    with pytest.raises(UserError, match=r"data: holds no train\.jsonl"):
        merge(log, "persona", "data", "third")
    assert not Path("third").exists()


def test_rows_of_the_data_stay_byte_for_byte_but_for_their_line_ends(log: Path) -> None:
    cli.run(["data", "review", str(log), "--skill", "persona", "--approve-marked"])
    first, second = Path("data/train.jsonl").read_bytes().splitlines()
    first = first.replace(b", ", b",\r", 1)  # white space of JSON, and no line's end
    Path("data/train.jsonl").write_bytes(first + b"\r\n\n" + second)
    merge(log, "persona", "data", "out")
    merged = Path("out/train.jsonl").read_bytes()
    assert merged.startswith(first + b"\n" + second + b"\n{")
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert manifest["splits"]["train"]["rows"] == merged.count(b"\n")


def test_what_the_check_refuses_writes_nothing(log: Path) -> None:
    cli.run(["data", "review", str(log), "--skill", "persona", "--approve-marked"])
    with Path("data/train.jsonl").open("a") as file:
        file.write('{"messages": []}\n')
    with pytest.raises(UserError, match=r"train\.jsonl:3"):
        merge(log, "persona", "data", "out")
    assert not Path("out").exists()


def test_decisions_that_are_none() -> None:
    one = Interaction("i", "", ({"role": "user", "content": "x"},), "x")
    with pytest.raises(UserError, match="is no decision"):
        review.decide("x", one, "maybe", skill="persona")  # pyright: ignore[reportArgumentType]
