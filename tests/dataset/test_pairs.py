"""Rows of prompt, chosen and rejected: in every shape the tokens that supervised training gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from livery.dataset.columns import read_columns
from livery.dataset.load import Dataset, load_dataset
from livery.dataset.reader import Reader
from livery.dataset.template import ChatTemplate, load_chat
from livery.errors import UserError
from tests.dataset.test_advice import BAD, GOOD, PREFERENCES, USER
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatTemplate:
    return load_chat(str(tiny_model("llama", tmp_path_factory.mktemp("models"))))


def load(
    folder: Path, chat: ChatTemplate, *rows: dict[str, Any], pairs: bool = True, columns: str = "",
    max_length: int = 200,
) -> Dataset:  # fmt: skip
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    reader = Reader(read_columns(filter(None, [columns])), pairs=pairs)
    return load_dataset(path, chat, max_length=max_length, reader=reader)


@pytest.mark.parametrize("row", [row for row, asked in PREFERENCES if asked and "frage" not in row])
def test_every_shape_of_pair_is_read(
    tmp_path: Path, chat: ChatTemplate, row: dict[str, Any]
) -> None:
    chosen, rejected = load(tmp_path, chat, row).examples
    text = chat.tokenizer.decode(chosen.tokens)
    assert "Hello" in text
    assert text.count("<|im_start|>assistant") == 1, "no header of another answer is learned"
    said, worse = (chat.tokenizer.decode(e.tokens[e.supervised]) for e in (chosen, rejected))
    assert said == "Good day<|im_end|>"
    assert worse in ("What?<|im_end|>", "No<|im_end|>")
    start = chosen.prompt_length
    assert start == rejected.prompt_length
    assert chosen.tokens[:start].tolist() == rejected.tokens[:start].tolist()
    assert chosen.supervised[start:].all()
    assert chosen.where == rejected.where == f"{tmp_path / 'pairs.jsonl'}:1"


SYSTEM = {"role": "system", "content": "Be kind."}
PROMPTS: list[dict[str, Any]] = [
    {"prompt": "Hello"},
    {"prompt": "Hello", "system": "Be kind."},
    {"instruction": "Hello", "input": "there"},
    {"prompt": [SYSTEM, USER]},
    {"prompt": [SYSTEM, USER, GOOD, USER]},
    {"prompt": "Hello", "tools": [{"name": "look", "parameters": {}}]},
]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_each_side_is_what_supervised_training_makes_of_it(
    tmp_path: Path, family: str, prompt: dict[str, Any]
) -> None:
    """One rule for the seam between prompt and answer, one for the system prompt."""
    chat = load_chat(str(tiny_model(family, tmp_path / "models")))
    pair = load(tmp_path, chat, {**prompt, "chosen": "Good day", "rejected": "What?"}).examples
    for side, answer in zip(pair, ("Good day", "What?"), strict=True):
        (single,) = load(tmp_path, chat, {**prompt, "completion": answer}, pairs=False).examples
        assert side.tokens.tolist() == single.tokens.tolist()
        assert side.supervised.tolist() == single.supervised.tolist()


def test_a_pair_of_which_a_side_is_left_out_is_left_out_and_counted(
    tmp_path: Path, chat: ChatTemplate
) -> None:
    good = {"prompt": "Hello", "chosen": "Good day", "rejected": "What?"}
    long = "so " * 80
    found = load(
        tmp_path, chat, good, {**good, "rejected": "  "}, {**good, "chosen": ""},
        {**good, "chosen": long}, {**good, "rejected": long}, {**good, "prompt": long},
        {**good, "rejected": "Good day"}, good, max_length=60,
    )  # fmt: skip
    assert len(found.examples) == 4
    reasons = [dropped.reason for dropped in found.dropped]
    assert [reason.partition(":")[0] for reason in reasons] == [
        "rejected", "chosen", "chosen", "rejected", "chosen",
        "chosen and rejected are the same answer",
    ]  # fmt: skip
    assert all("tokens" in reason for reason in reasons[2:5]), "told by length, never cut"
    assert found.dropped[0].where.endswith("pairs.jsonl:2")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "Hello", "completion": "Good day"}, "no chosen and rejected answer among"),
        ({"chosen": "Good day", "rejected": "What?"}, "Name the columns"),
        ({"prompt": "Hello", "chosen": "Good day", "rejected": 7}, "no chosen and rejected"),
        ({"chosen": [USER, GOOD], "rejected": [SYSTEM, BAD]}, "do not begin with the same prompt"),
        ({"prompt": "Bye", "chosen": [USER, GOOD], "rejected": [USER, BAD]}, "do not begin"),
        ({"prompt": "Hello", "chosen": "Good day", "rejected": "No", "odd": "?"}, "'odd'"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_line(
    tmp_path: Path, chat: ChatTemplate, row: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path, chat, row)
    assert f"{tmp_path / 'pairs.jsonl'}:1" in str(caught.value)


def test_what_is_about_a_pair_is_no_part_of_it_and_columns_can_be_named(
    tmp_path: Path, chat: ChatTemplate
) -> None:
    plain = {"prompt": "Hello", "chosen": "Good day", "rejected": "What?"}
    wanted = [e.tokens.tolist() for e in load(tmp_path, chat, plain).examples]
    about = {"schema_id": "s", "teacher_verdict": "no", "score_chosen": 9.0, "score_rejected": 1.0}
    renamed = {"frage": "Hello", "chosen": "Good day", "rejected": "What?"}
    for row, columns in (({**plain, **about}, ""), (renamed, "prompt=frage")):
        found = load(tmp_path, chat, row, columns=columns).examples
        assert [e.tokens.tolist() for e in found] == wanted
