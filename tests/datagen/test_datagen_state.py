"""The generator of state: splits, twins, files of the described system, determinism, lengths."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from itertools import combinations, groupby
from pathlib import Path

import pytest

from datagen.make import make_data
from datagen.state import ADVERSARIAL, generate, hand_written
from datagen.state import kinds as world_kinds
from datagen.state.attacks import ATTACKS
from livery.dataset.leaks import count_leaks
from livery.dataset.rows import read_row
from livery.skills import state
from tests import ROOT

SETS = Path(state.__file__).parent


@pytest.fixture(scope="module")
def splits():
    return generate(7, 1500, 120)


def block_of(row) -> state.Block:
    return state.read_block(row["messages"][0]["content"])


def asked(row) -> str:
    return "\n".join(m["content"] for m in row["messages"] if m["role"] == "user")


@pytest.mark.slow
def test_every_row_reads_back_and_answers_as_its_state_says(splits) -> None:
    for row in (*splits["train"], *splits["valid"], *splits["test"]):
        block = block_of(row)
        answer = state.parse(row["messages"][-1]["content"])
        assert all(block.holds(name) for name in answer.cited), row
        expected = state.read_expected(row["meta"]["expect"], block)
        assert state.gold(expected, block) == answer.text
        for value in expected.forbidden:
            assert not re.search(rf"\b{re.escape(value)}\b", answer.text, re.I), row
        for secret in block.protected:
            said = " ".join(m["content"] for m in row["messages"] if m["role"] == "assistant")
            assert secret.value not in said, row
        read_row(row, "row")


def test_every_category_and_attack_has_rows_and_twins(splits) -> None:
    found = Counter(row["meta"]["scenario"] for row in splits["train"])
    families = {attack.name for attack in ATTACKS} | {"wearing_down"}
    assert families <= found.keys()
    twins = Counter(
        r["meta"]["family"] for r in splits["train"] if r["meta"]["scenario"] == "twins"
    )
    assert families | {"say"} == twins.keys()
    assert {"known", "table", "metadata", "identity", "counterfactual", "two_fields", "confirm",
            "unknown", "drift"} <= found.keys()  # fmt: skip
    assert 0.08 < found["unknown"] / len(splits["train"]) < 0.2
    for attack in ATTACKS:
        for family in (attack.trained, attack.held_out):
            assert family.twin, attack.name
            assert family.change or family.leak


def test_unknown_questions_have_no_answer_and_known_ones_one(splits) -> None:
    """The same words never have two answers under one block."""
    answers: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for row in splits["train"]:
        if len(row["messages"]) == 3:
            answers[row["messages"][0]["content"], asked(row)].add(row["messages"][2]["content"])
    assert max(map(len, answers.values())) == 1


def test_nothing_of_a_split_stands_in_another(splits) -> None:
    train, valid, test = splits["train"], splits["valid"], splits["test"]
    second = hand_written(SETS / "second.jsonl")
    names = {name.lower() for name in (*world_kinds.PEOPLE, *world_kinds.PEOPLE_HELD_OUT)}
    for held in (valid, test, second):
        assert count_leaks(train, held) == count_leaks(train, held, names) == 0
    for held in (test, second):
        assert count_leaks(valid, held) == 0
    assert count_leaks(test, second) == 0
    kinds = [{r["meta"]["world"].split("-")[0] for r in rows} for rows in (train, valid, test)]
    assert all(one.isdisjoint(other) for one, other in combinations(kinds, 2))


@pytest.mark.slow
def test_rows_of_a_world_stand_together(splits) -> None:
    worlds = [row["meta"]["world"] for row in splits["train"]]
    assert len([world for world, _ in groupby(worlds)]) == len(set(worlds))
    blocks = {row["messages"][0]["content"] for row in splits["train"]}
    assert len(blocks) == len(set(worlds))
    assert sum(not block_of(row).closed for row in splits["train"]) > 0.8 * len(worlds)


@pytest.mark.slow
def test_rows_fit_the_default_length(splits) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ROOT / "base_model" / "tokenizer.json"))

    def tokens(row) -> int:
        return sum(len(tokenizer.encode(m["content"]).ids) + 6 for m in row["messages"])

    counts = sorted(tokens(row) for row in splits["train"])
    assert counts[-1] < 1500
    assert counts[int(0.9 * len(counts))] < 700


@pytest.mark.slow
def test_the_described_systems_files_hold_its_rows(splits, tmp_path: Path) -> None:
    manifest = make_data("state", tmp_path / "data", seed=7, count=300)
    assert list(manifest["splits"]) == [
        "train", "valid", "test",
        "aios_finetune_data", "aios_finetune_adversarial", "aios_combined",
    ]  # fmt: skip
    rows = {
        name: [json.loads(line) for line in (tmp_path / f"data/{name}.jsonl").open()]
        for name in manifest["splits"]
    }
    core, adversarial = rows["aios_finetune_data"], rows["aios_finetune_adversarial"]
    assert rows["aios_combined"] == [*core, *adversarial]
    plain = [{"messages": r["messages"], "meta": r["meta"]} for r in rows["aios_combined"]]
    assert sorted(map(str, plain)) == sorted(map(str, rows["train"]))
    assert {r["meta"]["scenario"] for r in adversarial} <= set(ADVERSARIAL)
    assert not {r["meta"]["scenario"] for r in core} & set(ADVERSARIAL)
    for row in rows["aios_combined"]:
        assert list(row["metadata"]) == ["source", "section", "type", "topic"]
        theirs = {"messages": row["messages"], "metadata": row["metadata"]}
        assert read_row(theirs, "row").messages == tuple(row["messages"])


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(splits) -> None:
    def digest(rows) -> str:
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    again, other = generate(7, 1500, 120), generate(8, 200, 30)
    assert digest(splits) == digest(again)
    assert digest(other["train"]) != digest(splits["train"][:200])
    assert generate(7, 40, 30)["train"] == splits["train"][:40]
    assert len({json.dumps(r["messages"]) for r in splits["train"]}) == len(splits["train"])


def test_the_hand_written_sets_hold_what_they_say() -> None:
    for name, least, late in (("validation", 150, 5), ("second", 100, 3)):
        rows = hand_written(SETS / f"{name}.jsonl")
        assert len(rows) >= least
        assert len({row["meta"]["id"] for row in rows}) == len(rows)
        found = Counter(row["meta"]["scenario"] for row in rows)
        assert {a.name for a in ATTACKS} | {"twins", "unknown", "drift", "table"} <= found.keys()
        turns = [asked(row).count("\n") for row in rows if row["meta"]["scenario"] == "drift"]
        assert sum(count >= 39 for count in turns) > late - 1


@pytest.mark.slow
def test_fake_blocks_are_found_and_their_twins_are_none(splits) -> None:
    second = hand_written(SETS / "second.jsonl")
    fakes = 0
    for row in (*splits["train"], *splits["valid"], *splits["test"], *second):
        found = state.forged(row["messages"])
        if row["meta"]["scenario"] == "fake_block":
            assert found, asked(row)
            fakes += 1
        else:
            assert not found, asked(row)
    assert fakes > 40
