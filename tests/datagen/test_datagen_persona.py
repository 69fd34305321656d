"""The generator of persona: shares, right answers, computed sums, nothing leaked, same bytes."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datagen.make import make_data
from datagen.persona import SETS, SHARES, by_hand, generate, sums, words
from datagen.persona.tables import families
from eval.scorers import persona as scorer
from livery.dataset.leaks import count_leaks
from livery.dataset.rows import read_row
from livery.errors import UserError
from livery.skills import persona
from livery.skills.persona import style


@pytest.fixture(scope="module")
def splits():
    return generate(7, 1200, 120)


def answers(rows: Any) -> list[str]:
    return [m["content"] for row in rows for m in row["messages"] if m["role"] == "assistant"]


@pytest.mark.slow
def test_every_answer_is_right_by_the_scorer(splits: Any) -> None:
    for split in ("train", "valid", "test"):
        for case in scorer.cases(splits[split]):
            found = scorer.score_case(case, case.expected_text)
            assert found.correct, (case.text, case.expected_text, found.error)
    for row in splits["train"]:
        read_row(row, "row")


def test_the_seven_categories_have_their_shares(splits: Any) -> None:
    assert sum(SHARES.values()) == 400
    exact = generate(3, 400, 20)["train"]
    assert Counter(row["meta"]["scenario"] for row in exact) == SHARES
    assert len(splits["train"]) == 1200
    forms = Counter(row["meta"]["form"] for row in splits["train"])
    assert {"chat", "statement", "multi_turn"} == forms.keys()
    assert 0.15 < forms["multi_turn"] / 1200 < 0.5


def test_the_form_of_address_is_the_prompts_in_every_turn(splits: Any) -> None:
    seen: Counter[str] = Counter()
    for row in splits["train"]:
        address = persona.read_address(row["messages"][0]["content"])
        assert address is not None
        assert address == row["meta"]["address"]
        seen[address if address in ("sir", "madam", "") else "name"] += 1
        for message in row["messages"]:
            if message["role"] == "assistant":
                forms = {v.form for v in persona.vocatives(message["content"], address)}
                assert forms <= {address}, row
    assert min(seen.values()) > 100
    assert len(seen) == 4


def test_our_own_voice(splits: Any) -> None:
    for answer in answers([*splits["train"], *splits["valid"], *splits["test"]]):
        assert not style.american(answer), answer
        assert not style.banned(answer), answer
        assert not style.EMOJI.search(answer)
        assert "{" not in answer
        assert persona.finish(answer, "", tone="error") == persona.finish(answer, "", tone="chat")


@pytest.mark.parametrize("seed", range(3))
def test_sums_are_computed(seed: int) -> None:
    rng = random.Random(seed)
    checks = {
        "add": lambda m, n, o: m + n,
        "subtract": lambda m, n, o: m - n,
        "multiply": lambda m, n, o: m * n,
        "divide": lambda m, n, o: m / n,
        "percent": lambda m, n, o: m * n / 100,
        "square": lambda m, n, o: m * m,
        "root": lambda m, n, o: m**0.5,
        "average": lambda m, n, o: (m + n + o) / 3,
        "remainder": lambda m, n, o: m % n,
        "minutes": lambda m, n, o: 60 * m + n,
        "tip": lambda m, n, o: n * (100 + m) / 100,
        "price": lambda m, n, o: m * n,
    }
    assert set(checks) == {f.name for f in families() if f.category == "maths"}
    for name, check in checks.items():
        for _ in range(40):
            drawn = sums.draw(name, rng)
            numbers = [float(drawn.get(key, "0")) for key in "mno"]
            assert float(drawn["v"]) == pytest.approx(check(*numbers)), (name, drawn)


def test_facts_wordings_and_names_of_held_out_rows_are_not_trained_on(splits: Any) -> None:
    second = by_hand(SETS / "second.jsonl")
    train, valid, test = splits["train"], splits["valid"], splits["test"]
    for held in (valid, test, second):
        assert count_leaks(train, held) == 0
    assert count_leaks(valid, test) == count_leaks(valid, second) == count_leaks(test, second) == 0
    assert not set(words.NAMES) & set(words.NAMES_HELD_OUT)
    for family in families():
        assert all((family.asked, family.held_out, family.answers))
        assert not set(family.asked) & set(family.held_out)
        if family.facts:
            assert not set(family.fills(True)) & set(family.fills(False))
            assert family.fills(True)
            assert len(dict(family.facts)) == len(family.facts), family.name
        marks = [re.findall(r"\{a\}", answer) for answer in family.answers]
        assert all(len(m) == (family.tone == "chat") for m in marks), family.name


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    one = make_data("persona", tmp_path / "one", seed=5, count=200)
    two = make_data("persona", tmp_path / "two", seed=5, count=200)
    other = make_data("persona", tmp_path / "other", seed=6, count=200)
    assert one == two
    assert one["splits"]["train"]["sha256"] != other["splits"]["train"]["sha256"]
    assert one["splits"]["train"]["rows"] == 200
    rows = [json.loads(line) for line in (tmp_path / "one/train.jsonl").open(encoding="utf-8")]
    assert len({json.dumps(row["messages"][:-1]) for row in rows}) == 200
    assert {"id", "split", "scenario", "source", "provenance"} <= rows[0]["meta"].keys()


def test_more_than_there_is_is_said() -> None:
    from datagen import persona as generator

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "STALL", 0)
        with pytest.raises(UserError, match=r"distinct rows of greetings for .*--count"):
            generate(7, 10, 10)


def test_the_hand_written_sets_hold_what_they_say() -> None:
    for name, least in (("validation", 150), ("second", 100)):
        rows = by_hand(SETS / f"{name}.jsonl")
        assert len(rows) >= least
        found = Counter(row["meta"]["scenario"] for row in rows)
        assert {*SHARES, "drift"} == found.keys()
        forms = Counter(row["meta"]["address"] for row in rows)
        assert {"sir", "madam", ""} < forms.keys()
        assert min(forms.values()) >= 8
        for row in rows:
            if row["meta"]["scenario"] == "drift":
                assert sum(m["role"] == "user" for m in row["messages"]) == 20
        drift = [r for r in rows if r["meta"]["scenario"] == "drift"]
        for case in scorer.cases(drift):
            assert scorer.score_case(case, case.expected_text).metrics["late_turns"] is True
    assert len(scorer.cases(SETS / "general.jsonl")) == 200
