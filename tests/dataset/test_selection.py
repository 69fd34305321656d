"""Which rows a run takes: caps, and a share held out that asks nothing the others ask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.training.data import describe_dropped, load_data
from livery.config.settings import TrainSettings
from livery.dataset import leaks
from livery.dataset.selection import hold_out
from livery.errors import UserError

PLACES = ("kitchen", "cellar", "attic", "garage", "hall", "garden", "office", "nursery")
VERBS = ("light", "lock", "sweep", "heat", "clean", "paint")
TEXTS = [
    f"could you please {verb} the {place} at {n}"
    for verb in VERBS
    for place in PLACES
    for n in (3, 7)
]


def rows(texts: list[str]) -> list[dict[str, Any]]:
    return [{"prompt": text, "completion": text.split()[-1]} for text in texts]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n\n" for row in rows(TEXTS)))  # blank lines, too
    return file


def settings(data: Path, **more: Any) -> TrainSettings:
    return TrainSettings(model="base_model", data=str(data), **more)


@given(st.lists(st.sampled_from(TEXTS), min_size=2, max_size=60), st.floats(0.01, 0.99))
def test_no_row_held_out_is_also_trained_on(texts: list[str], share: float) -> None:
    held = hold_out(texts, share, seed=0)
    trained = [text for at, text in enumerate(texts) if at not in held]
    if len(set(texts)) == 1:
        assert held == []
        return
    assert held
    assert trained
    masked = leaks.normalise if len({leaks.normalise(t) for t in texts}) > 1 else str
    assert not {masked(texts[at]) for at in held} & {masked(text) for text in trained}


@pytest.mark.parametrize("seed", range(20))
def test_a_large_group_is_not_held_out_where_smaller_ones_do(seed: int) -> None:
    """900 of 1,000 rows ask the same but for a number."""
    texts = [f"wake me at {n}" for n in range(900)] + [f"{'so ' * n}stop" for n in range(100)]
    assert len(hold_out(texts, 0.05, seed)) == 50
    assert hold_out(["play"] * 6 + ["stop"] * 4, 0.1, seed) == [6, 7, 8, 9], "the smaller of two"


def test_rows_that_differ_in_numbers_alone_are_split_by_their_letters() -> None:
    held = hold_out([f"what is {n} + 1?" for n in range(100)], 0.1, seed=0)
    assert len(held) == 10


def test_the_share_is_kept_and_follows_texts_and_seed_not_order() -> None:
    held = hold_out(TEXTS, 0.25, seed=0)
    assert len(held) == len(TEXTS) // 4
    chosen = {TEXTS[at] for at in held}
    turned = TEXTS[::-1]
    assert {turned[at] for at in hold_out(turned, 0.25, seed=0)} == chosen
    assert {TEXTS[at] for at in hold_out(TEXTS, 0.25, seed=1)} != chosen


@pytest.mark.slow
def test_a_run_trains_on_one_part_and_evaluates_the_other(data: Path) -> None:
    found = load_data(settings(data, val_split=0.25, eval_max_samples=10))
    assert (len(found.train.examples), len(found.valid.examples)) == (72, 10)
    assert not {e.where for e in found.train.examples} & {e.where for e in found.valid.examples}
    said = " ".join(describe_dropped(found))
    assert "24 of 96 rows are held out" in said
    assert "are close to a row that is trained on" in said, "these rows are all of one kind"
    assert "10 of 24 rows are evaluated" in said
    whole = load_data(settings(data))
    assert (len(whole.train.examples), len(whole.valid.examples)) == (96, 0)
    assert found.train.digest != whole.train.digest


def test_the_first_rows_are_taken(data: Path) -> None:
    found = load_data(settings(data, max_samples=5))
    assert [e.where.rpartition(":")[2] for e in found.train.examples] == ["1", "3", "5", "7", "9"]
    assert "the first 5 rows are read, no more" in found.notes[0]


def test_a_validation_file_is_evaluated_at_even_distances(data: Path) -> None:
    valid = data.with_name("valid.jsonl")
    valid.write_text("".join(json.dumps(row) + "\n" for row in rows(TEXTS[:9])))
    found = load_data(settings(data.parent, eval_max_samples=3))
    assert [e.where.rpartition(":")[2] for e in found.valid.examples] == ["1", "4", "7"]
    assert len(found.train.examples) == 96
    with pytest.raises(UserError, match=r"val_split is 0.1, but .*valid.jsonl is there"):
        load_data(settings(data.parent, val_split=0.1))


def test_rows_that_cannot_be_trained_on_are_never_held_out(tmp_path: Path) -> None:
    """Five rows of which one has no answer: whichever is held out, it is another."""
    good = rows([f"{word} the lamp" for word in ("dim", "light", "move", "sell")])
    file = tmp_path / "train.jsonl"
    text = "".join(json.dumps(row) + "\n" for row in [{"prompt": "hm", "completion": ""}, *good])
    file.write_text(text)
    for seed in range(12):
        found = load_data(settings(file, val_split=0.2, seed=seed))
        assert (len(found.train.examples), len(found.valid.examples)) == (3, 1)
        assert sum("left out" in note for note in describe_dropped(found)) == 1, "told once"


@pytest.mark.parametrize(
    "bad", ['{"messages": "hi"}', '{"messages": [{"role": "user"}]}', '{"prompt": "a"}', "{", ""]
)
def test_malformed_rows_are_named_as_without_a_split(data: Path, bad: str) -> None:
    data.write_text((data.read_text() if bad else "") + bad + "\n")

    def complaint(**more: Any) -> str:
        with pytest.raises(UserError) as caught:
            load_data(settings(data, **more))
        return str(caught.value)

    assert complaint(val_split=0.1) == complaint()
    assert "train.jsonl" in complaint()


def test_what_cannot_be_split_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(["wake me up at 3"] * 4)))
    with pytest.raises(UserError, match="it holds 4 rows that ask the same, so"):
        load_data(settings(file, val_split=0.1))
    for share in (-0.1, 1.0):
        with pytest.raises(UserError, match="val_split is"):
            settings(file, val_split=share)
