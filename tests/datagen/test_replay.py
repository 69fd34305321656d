"""Rows that a base has answered itself, added to a skill's data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from datagen.make import make_data
from datagen.replay import EVERY, Base, Said, draw, replay
from livery import cli
from livery.errors import UserError
from livery.reading import read_jsonl
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay") / "persona"
    make_data("persona", folder, seed=3, count=300)
    return folder


class Parrot:
    """Answers with what it was asked; of every fifth question it finds no end, and to "?" it says
    nothing. Counts the questions, and fails at the one after `breaks_after`."""

    def __init__(self, breaks_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.breaks_after = breaks_after

    def __call__(self, questions: Sequence[str]) -> list[Said]:
        if self.breaks_after is not None and len(self.asked) >= self.breaks_after:
            raise KeyboardInterrupt
        self.asked += questions
        return [Said(f" You said: {q} ", len(q) % 5 > 0) for q in questions]

    def base(self, **made_from: Any) -> Base:
        return Base("parrot", made_from, self)


def rows(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    return [row for _, row in read_jsonl(folder / f"{split}.jsonl")]


def test_rows_are_questions_without_a_system_prompt_and_what_the_base_said(
    data: Path, tmp_path: Path
) -> None:
    parrot = Parrot()
    found = replay(data, tmp_path / "kept", parrot.base(), count=100)
    added = rows(tmp_path / "kept")[300:]
    assert len(added) == found.added == 100 - found.cut
    assert found.cut == sum(len(q) % 5 == 0 for q in parrot.asked)
    assert rows(tmp_path / "kept")[:300] == rows(data)
    for split in ("valid", "test"):
        assert rows(tmp_path / "kept", split) == rows(data, split)
    for row in added:
        question, answer = row["messages"]
        assert (question["role"], answer["role"]) == ("user", "assistant")
        assert answer["content"] == f"You said: {question['content']}"
        assert row["meta"]["provenance"] == "answered by parrot"
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert manifest["splits"]["train"]["categories"]["replay"] == found.added
    assert not (tmp_path / "kept.partial.jsonl").exists()


def test_questions_are_drawn_by_seed_and_none_twice(data: Path) -> None:
    found = draw(rows(data), 80, seed=1)
    assert found == draw(rows(data), 80, seed=1) != draw(rows(data), 80, seed=2)
    assert len(set(found)) == 80
    twice = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A"}]}
    longer = {"messages": twice["messages"] * 2}
    assert draw([twice, twice, longer], 9, seed=1) == ["Hi"]


def test_what_was_stopped_goes_on_and_asks_nothing_twice(data: Path, tmp_path: Path) -> None:
    whole = Parrot()
    replay(data, tmp_path / "whole", whole.base(), count=EVERY + 30)
    first = Parrot(breaks_after=EVERY)
    with pytest.raises(KeyboardInterrupt):
        replay(data, tmp_path / "kept", first.base(), count=EVERY + 30)
    assert not (tmp_path / "kept").exists()
    second = Parrot()
    replay(data, tmp_path / "kept", second.base(), count=EVERY + 30)
    assert first.asked + second.asked == whole.asked
    assert rows(tmp_path / "kept") == rows(tmp_path / "whole")


def test_answers_of_another_base_are_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        replay(data, tmp_path / "kept", Parrot(breaks_after=EVERY).base(of="one"), count=EVERY + 9)
    other = Parrot()
    replay(data, tmp_path / "kept", other.base(of="another"), count=EVERY + 9)
    assert len(other.asked) == EVERY + 9


def test_what_cannot_be_done_is_said(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give a folder that livery data made"):
        replay(tmp_path, tmp_path / "out", Parrot().base())
    with pytest.raises(UserError, match="give --out another folder"):
        replay(data, data, Parrot().base())


@pytest.mark.parametrize(
    "manifest", ["{}", '{"skill": "persona"}', '{"splits": {"../train": {}}}', '{"splits": []}']
)
def test_a_manifest_that_is_none_is_refused(manifest: str, data: Path, tmp_path: Path) -> None:
    whole = json.loads((data / "manifest.json").read_text())
    hostile = json.loads(manifest)
    found = {**whole, **hostile} if "splits" in hostile else hostile
    (tmp_path / "manifest.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match="livery data"):
        replay(tmp_path, tmp_path / "out", Parrot().base())


@pytest.mark.slow
def test_the_command_asks_a_real_model(
    data: Path, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model("llama", root)
    out = tmp_path / "kept"
    words = ["data", "replay", str(data), "--model", str(model), "--engine", "torch"]
    words += ["--out", str(out), "--count", "6", "--max-tokens", "12", "--threads", "1"]
    assert cli.run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["added"] + found["cut"] + found["empty"] == 6
    assert len(rows(out)) == 300 + found["added"]
