"""A dsl corpus as training reads it: wrong rows are left out, leaks are found by the query."""

from __future__ import annotations

import json
from pathlib import Path

from commands.training.data import load_data
from livery.config.settings import TrainSettings
from livery.config.values import Columns
from livery.dataset.leaks import count_leaks, row_text
from livery.dataset.rows import question, read_row
from livery.skills import dsl
from tests.tiny_models import tiny_model

QUERY = "open repairs of my blue bicycle"
REQUEST = dsl.Request({"type": "object", "title": "bicycle repairs"}, QUERY, "2026-06-14")
AST = {"prompt": QUERY, "refusal": {"reason": "a", "suggestion": "b"}}
MESSAGES = {"messages": dsl.SKILL.messages(REQUEST, AST)}
PAIR = {
    "schema_id": "x", "domain": "repairs", "prompt": dsl.prompt_text(REQUEST),
    "completion": dsl.render(AST), "is_valid": True,
}  # fmt: skip
WRONG = {**PAIR, "completion": '{"prompt":"x"}', "is_valid": False}


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_row_that_is_marked_as_wrong_is_never_trained_on(tmp_path: Path) -> None:
    data = write(tmp_path / "d_05.jsonl", PAIR, WRONG, WRONG)
    model = str(tiny_model("llama", tmp_path / "model"))
    found = load_data(TrainSettings(model=model, data=data, max_length=4096))
    assert [example.where for example in found.train.examples] == [f"{data}:1"]
    assert any(
        note.startswith(f"2 rows, {data}:2 first: left out, since `is_valid` says")
        for note in found.notes
    )
    # Who names the column decides.
    for words, rows in (("keep=is_valid", 1), ("ignore=is_valid", 3)):
        columns = Columns().read(words)
        named = TrainSettings(model=model, data=data, max_length=4096, columns=columns)
        assert len(load_data(named).train.examples) == rows


def test_a_corpus_and_rows_of_messages_are_the_same_tokens(tmp_path: Path) -> None:
    model = str(tiny_model("llama", tmp_path / "model"))
    pair, messages = (
        load_data(TrainSettings(model=model, data=write(tmp_path / name, row), max_length=4096))
        for name, row in (("pair.jsonl", PAIR), ("messages.jsonl", MESSAGES))
    )
    ours, theirs = (data.train.examples[0] for data in (pair, messages))
    assert list(ours.tokens) == list(theirs.tokens)


def test_what_is_asked_is_the_query_and_not_the_schema() -> None:
    for row in (PAIR, MESSAGES):
        assert row_text(row) == question(read_row(row, "row")) == QUERY
    other = dsl.Request(REQUEST.schema, "all tandems that were sold in Lyon", "2026-06-14")
    beside = {"messages": dsl.SKILL.messages(other, AST)}
    assert count_leaks([beside], [QUERY]) == 0
    assert count_leaks([beside, PAIR], [QUERY]) == 1
    for text in ("[QUERY]\nx\n[/QUERY]", "what does [QUERY] mean?"):
        assert row_text({"prompt": text}) == text
