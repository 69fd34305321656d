"""What a refusal advises works: the `--columns` that it names read the row."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.training.data import load_data
from livery.cli import run
from livery.config.settings import TrainSettings
from livery.config.values import Columns
from livery.dataset.columns import read_columns
from livery.dataset.conversation import Conversation, RowError
from livery.dataset.rows import asked_and_answered, nothing_to_learn, read_row
from tests.tiny_models import tiny_model

USER, GOOD, BAD = (
    {"role": role, "content": text}
    for role, text in (("user", "Hello"), ("assistant", "Good day"), ("assistant", "What?"))
)
ASKED, SAID = "user: Hello", "Good day"
LONG = "The letter was written by Ada on Monday. " * 9
_ADVISED = re.compile(r"--columns ('[^']*'|\S*[^\s.;])")


def refusal(row: dict[str, Any], *columns: str) -> str:
    with pytest.raises(RowError) as caught:
        read_row(row, "data.jsonl:3", read_columns(columns))
    return caught.value.reason


def advised(reason: str) -> list[str]:
    return [shlex.split(words)[0] for words in _ADVISED.findall(reason)]


def read(row: dict[str, Any], words: str) -> tuple[str, str]:
    found = read_row(row, "x", read_columns(Columns().read(words)))
    assert not nothing_to_learn(found)
    return asked_and_answered(found)


PREFERENCES: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "Hello", "chosen": SAID, "rejected": "What?"}, ASKED),
    ({"prompt": "Hello", "chosen": [GOOD], "rejected": [BAD]}, ASKED),
    ({"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]}, ASKED),
    ({"chosen": [USER, GOOD], "rejected": [USER, BAD]}, ASKED),
    ({"prompt": "Hello", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, ASKED),
    ({"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]}, ASKED),
    ({"prompt": "Hello", "prompt_id": "3", "chosen": [USER, GOOD], "rejected": [USER, BAD],
      "messages": [USER, GOOD], "score_chosen": 8.5, "score_rejected": 2.0}, ASKED),
    ({"chosen": "\n\nHuman: Hello\n\nAssistant: Good day",
      "rejected": "\n\nHuman: Hello\n\nAssistant: What?"}, ASKED),
    ({"conversations": [{"from": "human", "value": "Hello"}],
      "chosen": {"from": "gpt", "value": SAID}, "rejected": {"from": "gpt", "value": "No"}}, ASKED),
    ({"input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
      "preferred_output": [GOOD], "non_preferred_output": [BAD]}, ASKED),
    ({"system": "Be kind.", "question": "Hello", "chosen": SAID, "rejected": "No", "margin": 2},
     f"system: Be kind.\n{ASKED}"),
    ({"frage": "Hello", "chosen": SAID, "rejected": "No"}, ASKED),
    ({"instruction": "Hello", "input": "there", "response_chosen": SAID, "response_rejected": "No"},
     f"{ASKED}\nthere"),
    ({"prompt": "Hello", "accepted": SAID, "rejected": "No"}, ASKED),
    ({"prompt": "Hello", "better_answer": SAID, "worse_answer": "No"}, ASKED),
    ({"chosen": "Good day", "rejected": "What?"}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("row", "asked"), PREFERENCES)
def test_preference_pairs_are_named_and_their_better_answers_can_be_learned(
    row: dict[str, Any], asked: str
) -> None:
    reason = refusal(row)
    assert "a preference pair (" in reason
    assert "livery train learns from single answers; to train on those of" in reason
    (words,) = advised(reason)
    assert read(row, words) == (asked, SAID)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hello", "completion": SAID, "label": True},
        {"prompt": "Hello", "completion": SAID, "label": False},
        {"prompt": [USER], "completion": [GOOD], "label": True},
        {"messages": [USER, GOOD], "kto_tag": True},
        {"prompt": "Hello", "completion": SAID, "label": "True"},
    ],
)
def test_labelled_answers_are_named_and_the_good_ones_can_be_learned(row: dict[str, Any]) -> None:
    reason = refusal(row)
    assert "looks like preference data, and livery train learns from single answers" in reason
    keep, ignore = advised(reason)
    assert keep.startswith("keep=")
    assert read(row, keep) == read(row, ignore) == (ASKED, SAID)


PAIR = {"prompt": "Hello", "completion": SAID}


@pytest.mark.parametrize(
    ("row", "key", "uses"),
    [
        (PAIR, "passage", {"context"}), (PAIR, "persona", {"system"}), (PAIR, "note2", {"context",
         "system"}), (PAIR, "rationale", {"reasoning"}), (PAIR, "answer_2", {"completion"}),
        (PAIR, "model_output", {"completion"}), ({"messages": [USER, GOOD]}, "note2", {"system"}),
        ({"messages": [USER, GOOD]}, "passage", set()),
        ({"messages": [{"role": "system", "content": "s"}, USER, GOOD]}, "persona", set()),
        ({"text": "Once upon a time"}, "note2", set()),
    ],
)  # fmt: skip
def test_advice_fits_the_field(row: dict[str, Any], key: str, uses: set[str]) -> None:
    odd = {**row, key: LONG}
    reason = refusal(odd)
    assert reason.startswith(f"the field '{key}' is not understood. ")
    *others, leave = advised(reason)
    assert leave == f"ignore={key}"
    assert {words.partition("=")[0] for words in others} == uses
    plain = asked_and_answered(read_row(row, "x"))
    assert read(odd, leave) == plain
    for words in others:
        found = read(odd, words)
        assert LONG.strip() in "".join(found)


@pytest.mark.parametrize("value", [3, 0.5, "x", ["a"], {"a": 1}, True])
def test_short_and_other_fields_are_left_out(value: Any) -> None:
    words = advised(refusal({**PAIR, "n": value}))
    assert words[-1] == "ignore=n"
    assert {word.partition("=")[0] for word in words} <= {"ignore", "keep"}


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"frage": "Hello", "antwort": SAID}, SAID),
        ({"instruction": "Hello", "reply": SAID}, SAID),
        ({"dialog": [USER, GOOD]}, SAID), ({"prompt": "Hello", "gold": SAID, "n": 3}, SAID),
        ({"prompt": "Hello", "response_a": SAID, "response_b": "No", "winner": "a"}, SAID),
        ({"title": "Hello", "completion": SAID}, SAID),
    ],
)  # fmt: skip
def test_columns_of_other_names_are_found(row: dict[str, Any], answer: str) -> None:
    (words,) = advised(refusal(row))
    assert read(row, words) == (ASKED, answer)


def test_advice_keeps_the_columns_that_were_named_and_quotes_names() -> None:
    row = {"frage": "Hello", "antwort": SAID, "der Ort": "here"}
    reason = refusal(row, "prompt=frage", "completion=antwort")
    (words,) = advised(reason)
    assert words == "prompt=frage,completion=antwort,ignore=der Ort"
    assert read(row, words) == (ASKED, SAID)
    reason = refusal({**PAIR, "a, b": 1})
    assert 'columns: {ignore: "a, b"} in a configuration file' in reason


@pytest.mark.slow
@settings(max_examples=80)
@given(
    row=st.dictionaries(
        st.sampled_from(["prompt", "chosen", "rejected", "label", "messages", "a b", "its", "x,y",
                         "answer2", "response", "text", "system", "input", "label_1"]),
        st.text(max_size=4) | st.booleans() | st.integers(0, 2) | st.just([USER, GOOD])
        | st.just({"role": "assistant", "content": "b"}) | st.lists(st.text(max_size=2)),
        max_size=6,
    )
)  # fmt: skip
def test_all_that_is_advised_reads_its_row(row: dict[str, Any]) -> None:
    try:
        read_row(row, "x")
        return
    except RowError as error:
        reason = error.reason
    if "such as --columns" in reason or "which of them is" in reason or "two shapes" in reason:
        return
    for words in advised(reason):
        if not all(word.startswith("ignore=") for word in words.split(",")):
            read_row(row, "x", read_columns(Columns().read(words)))


@pytest.mark.parametrize("at", [0, 3, 7, 8, 9])
def test_the_advised_command_runs(tmp_path: Path, at: int) -> None:
    row, _ = PREFERENCES[at]
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n")
    model = str(tiny_model("llama", tmp_path / "model"))
    command = ["data", "check", str(path), "--model", model]
    assert run(command) == 1
    (words,) = advised(refusal(row))
    assert run([*command, "--columns", words]) == 0
    data = load_data(TrainSettings(model=model, data=str(path), columns=Columns().read(words)))
    assert len(data.train.examples) == 1


def test_rows_that_are_not_kept_are_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "kto.jsonl"
    rows = [{**PAIR, "prompt": f"Hello {n}", "label": n % 2 == 0} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = str(tiny_model("llama", tmp_path / "model"))
    data = load_data(TrainSettings(model=model, data=str(path), columns=("keep=label",)))
    assert [e.where for e in data.train.examples] == [f"{path}:1", f"{path}:3"]
    assert data.notes == (
        f"2 rows, {path}:2 first: left out, since the column that `keep` names is false (label).",
    )
    with pytest.raises(RowError, match="label is 'good'; the column that `keep` names must be"):
        read_row({**PAIR, "label": "good"}, "x", read_columns(["keep=label"]))
    with pytest.raises(RowError, match="label is not there"):
        read_row(PAIR, "x", read_columns(["keep=label"]))


def test_a_dialogue_in_a_text_becomes_turns() -> None:
    text = (
        "\n\nHuman: Hello\n\nAssistant: Good day\n\nHuman: I said:\nAssistant: x\n\nAssistant: Oh"
    )
    found = read_row({"dialogue": text}, "x", read_columns(["messages=dialogue"]))
    assert isinstance(found, Conversation)
    assert [m["content"] for m in found.messages] == [
        "Hello", "Good day", "I said:\nAssistant: x", "Oh"
    ]  # fmt: skip
    assert found.learn == (False, True, False, True)


@pytest.mark.parametrize(
    ("first", "data"),
    [
        (["What is 2+2?", "It is 4."], True),
        (["17", "ant"], True),
        (["name the capital city of the country called France", "Paris"], True),
        (["Is this a Good Reply?", "y"], True),
        (["topic", "remark"], False),
        (["My question", "My reply"], False),
    ],
)
def test_a_table_without_a_line_of_names(first: list[str], data: bool) -> None:
    row = dict(zip(first, ["What is 3+3?", "It is 6."], strict=True))
    for where in ("x.csv row 1", "data.zip: train.TSV row 2", "x.csv.gz row 3"):
        with pytest.raises(RowError) as caught:
            read_row(row, where)
        said = caught.value.reason
        assert ("The first line looks like data" in said and "prompt,completion" in said) == data
        assert ("--columns" in said) != data
    with pytest.raises(RowError, match="Name the columns"):
        read_row(row, "x.jsonl:1")
    # What the user says of the columns counts.
    columns = read_columns([f"prompt={first[0]}", f"completion={first[1]}"])
    assert read_row(row, "x.csv row 1", columns).where == "x.csv row 1"


def test_a_question_is_no_answer() -> None:
    """SQuAD's rows: the passage is not what is asked, nor the question what is answered."""
    row = {"context": "Ada wrote it.", "question": "Who?", "answers": {"text": ["Ada"]}}
    assert "completion=question" not in refusal(row)
