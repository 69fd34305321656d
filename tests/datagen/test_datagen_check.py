"""Leak check, data check and the `livery data` commands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.check import check
from datagen.folder import refuse_leaks
from livery.cli import run
from livery.dataset.leaks import count_leaks, find_leaks, index, normalise
from livery.errors import UserError
from livery.skills import date_keys


def row(text: str, *keys: str) -> dict:
    return {"messages": date_keys.messages(text, keys)}


def write(folder: Path, **splits: list) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in splits.items():
        lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("wake me at 7 on Monday", "Wake me at eight on tuesday!"),
        ("ring Anna's office", "ring anna's office"),
        ("add 2 eggs", "add twenty five eggs"),
        ("meet in 3:30", "meet in 12"),
    ],
)
def test_numbers_names_and_case_are_masked(one: str, other: str):
    assert normalise(one, ["anna"]) == normalise(other, ["anna"])


def test_words_that_matter_are_not_masked():
    assert normalise("turn the lamp on tomorrow") != normalise("turn the lamp on yesterday")
    assert normalise("may i go") == "may i go"


def test_planted_leaks_are_found_and_clean_data_are_not_accused():
    cases = ["remind me to oil the gate at 7 pm", "is the ferry late on friday", "stop"]
    clean = [
        "remind me to feed the geese at 7 pm",
        "is the museum free on friday",
        "stop the mixer",
    ]
    assert find_leaks(clean, cases) == []
    planted = [
        "could you um remind me to oil the gate at nine pm please",
        "Is the ferry late on Monday?",
    ]
    found = find_leaks([*clean, *planted], cases)
    assert [(leak.case, leak.train, leak.kind) for leak in found] == [
        (0, 3, "near"),
        (1, 4, "same"),
    ]
    assert count_leaks([row(t) for t in planted], [row(t) for t in cases]) == 2


@pytest.mark.slow
@given(st.lists(st.text("abc d", min_size=1).filter(str.strip), min_size=1, max_size=5))
def test_a_text_leaks_itself(texts: list[str]):
    prepared = index(texts)
    for text in texts:
        found = prepared.closest(text)
        assert found is not None
        assert found[1] == 1.0
    assert count_leaks(texts, texts) == len(texts)


def test_generation_refuses_a_planted_leak():
    splits = {"train": [row("oil the gate today", "today")], "test": [row("Oil the gate today")]}
    with pytest.raises(UserError, match="1 case is also in another split"):
        refuse_leaks(splits)
    refuse_leaks({"train": splits["train"], "test": [row("feed the geese today")]})


def test_sound_data_pass(tmp_path):
    folder = write(
        tmp_path / "d",
        train=[row("oil the gate today", "today"), {"prompt": "hello", "completion": "hi"}],
        valid=[row("feed the geese tonight", "tonight")],
    )
    found = check(folder)
    assert found.ok
    assert found.problems == []
    assert found.rows == {"train": 2, "valid": 1}


@pytest.mark.parametrize(
    ("line", "kind", "says"),
    [
        ('{"messages": [', "form", "not valid JSON"),
        ("[1]", "form", "a list where a JSON object"),
        ('{"question": "x"}', "form", "no messages"),
        ('{"messages": "x"}', "form", "not a list of turns"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "dropped", "no assistant turn"),
        ('{"messages": [{"role": "user", "content": 3}]}', "form", "not a string"),
        ("[" * 100_000, "form", "nested deeper than"),
        ('{"prompt": "a b", "completion": " "}', "dropped", "left out: empty answer"),
        ('{"prompt": "oil the gate ", "completion": "no"}', "contradiction", "keep the right one"),
    ],
)
def test_each_fault_is_named_with_its_line(tmp_path, line: str, kind: str, says: str):
    good = {"prompt": "oil the gate", "completion": "yes"}
    folder = write(tmp_path / "d", train=[good, line])
    found = check(folder)
    assert found.ok == (kind == "dropped")
    assert not check(folder, strict=True).ok
    assert [(p.kind, p.where) for p in found.problems] == [(kind, f"{folder / 'train.jsonl'}:2")]
    assert says in found.problems[0].message


@pytest.mark.parametrize("other", ["Is this a capital? a", "Is this  a capital? A"])
def test_prompts_that_differ_in_case_or_spaces_contradict_nothing(tmp_path, other: str):
    one = {"prompt": "Is this a capital? A", "completion": "yes"}
    assert check(write(tmp_path / "d", train=[one, {**one, "prompt": other}])).problems == []
    no = {"prompt": other, "completion": "no"}
    assert check(write(tmp_path / "d", train=[one, no])).problems == []
    [problem] = check(write(tmp_path / "d", train=[one, {**one, "completion": "no"}])).problems
    assert problem.kind == "contradiction"


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n{\xff\n')
    [problem] = check(path).problems
    assert problem.where == f"{path}:2"
    assert "not UTF-8" in problem.message


def test_duplicates_warn_and_leaks_fail(tmp_path):
    same = row("oil the gate today", "today")
    found = check(write(tmp_path / "d", train=[same, same]))
    assert found.ok
    assert [p.kind for p in found.problems] == ["duplicate"]
    leaky = check(write(tmp_path / "e", train=[same], test=[row("Oil the gate today.", "today")]))
    assert not leaky.ok
    assert [p.kind for p in leaky.problems] == ["leak"]
    assert leaky.problems[0].where.endswith("test.jsonl:1")


def test_answers_of_a_known_skill_are_parsed(tmp_path):
    bad = {"messages": [*date_keys.messages("go"), {"role": "assistant", "content": '["soon"]'}]}
    folder = write(tmp_path / "d", train=[bad])
    assert check(folder).ok
    (folder / "manifest.json").write_text('{"skill": "date-keys"}', encoding="utf-8")
    [problem] = check(folder).problems
    assert problem.kind == "answer"
    assert "unknown key 'soon'" in problem.message


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such folder or file"):
        check(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no train\.jsonl"):
        check(tmp_path)
    assert not check(write(tmp_path / "d", train=[])).ok


@pytest.mark.slow
def test_make_and_check_by_command(tmp_path, capsys):
    out = tmp_path / "data"
    assert run(["data", "date-keys", "--out", str(out), "--seed", "5", "--count", "300"]) == 0
    said = capsys.readouterr().out
    assert "300 rows" in said
    assert "seed 5" in said
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["seed"] == 5
    assert manifest["splits"]["train"]["rows"] == 300
    assert sum(manifest["splits"]["train"]["categories"].values()) == 300
    assert run(["data", "check", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    with (out / "valid.jsonl").open("a") as file:
        file.write((out / "train.jsonl").read_text().splitlines()[0] + "\n")
    assert run(["data", "check", str(out)]) == 1
    captured = capsys.readouterr()
    assert "was changed after it was made" in captured.err
    assert "scores on it would be too high" in captured.err
    assert "1 error, 1 warning." in captured.out


@pytest.mark.slow
def test_refusals_by_command(tmp_path, capsys):
    assert run(["data", "date-keys", "--out", str(tmp_path), "--count", "0"]) == 2
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "manifest.json").write_text('{"skill": "actions"}')
    assert run(["data", "date-keys", "--out", str(tmp_path), "--count", "9"]) == 1
    assert "the data of skill actions" in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("")
    assert run(["data", "date-keys", "--out", str(file), "--count", "9"]) == 1
    assert "is a file" in capsys.readouterr().err
    assert run(["data", "date-keys", "--seed", "x"]) == 2


@pytest.mark.slow
def test_python_m_datagen_and_its_help_import_nothing_heavy():
    probe = (
        "import sys; sys.argv = ['datagen', 'check', '--help']\n"
        "import runpy\n"
        "try: runpy.run_module('datagen', run_name='__main__')\n"
        "finally: print([m for m in ('torch', 'mlx', 'transformers') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "livery data check" in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_one_is_not_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    for text, said in (
        ("prompt,completion\na,b\n", "train: 1 row\n0 errors, 0 warnings.\n"),
        ("prompt,completion\na,\n", "its only row cannot be trained on."),
        ("prompt,completion\na,b\nc\n", "row 2: 1 cell where the first line names 2 columns."),
        ("prompt,completion\na,b\nc\n", "train: 1 row\n1 error, 0 warnings.\n"),
        ("prompt,completion,n\na,b,1\n", "error: {p} row 1: the field 'n' is not understood. "),
        ("prompt,completion,id\na,b,1\n", "note: 1 row, {p} row 1 first: "),
        ("prompt,completion\na,b\nc,d\n", "train: 2 rows\n0 errors, 0 warnings.\n"),
    ):
        path.write_text(text)
        run(["data", "check", str(path)])
        shown = capsys.readouterr()
        assert said.format(p=path) in shown.out + shown.err
        assert not re.search(
            r"\b1 (rows|errors|warnings|cells|columns)|[.!?][.]|\b: :|is are", shown.err
        )


def test_a_place_is_a_file_and_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"prompt,completion\n\xe9,b\n")
    (problem,) = check(path).problems
    assert problem.where == f"{path}:2"
    assert problem.message.startswith("not UTF-8 text")
