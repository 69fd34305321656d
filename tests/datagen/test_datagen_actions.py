"""The generator of actions: distinct rows, shares, splits, the policy on every row, the seeds."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datagen import actions as generator
from datagen.actions.compose import SCENARIOS
from datagen.actions.intents import INTENTS, POOLS, part
from datagen.actions.names import RULES, open_word
from datagen.actions.texts import mistyped
from datagen.make import make_data
from livery.dataset.leaks import index
from livery.errors import UserError
from livery.files import read_jsonl
from livery.skills import actions
from livery.skills.actions.policy import check_row
from livery.skills.actions.rows import FIELDS, OPTIONAL, ActionRow, from_chat

Row = dict[str, Any]
ISSUE = (
    "app_launch url_open shell_safe shell_dangerous shell_critical system_info conversational "
    "mixed malformed_recovery multi_action multi_turn hindi_hinglish"
).split()


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Row]]:
    return generator.generate(7, 1_500)


def _asked(row: Row) -> str:
    return "\n".join(m["content"] for m in row["messages"][1:-1])


@pytest.mark.slow
def test_there_are_as_many_distinct_rows_as_asked_for(splits: dict[str, list[Row]]):
    for count in (1, 5, 33, 500, 1_500):
        rows = generator.generate(7, count)["train"] if count < 1_500 else splits["train"]
        assert len(rows) == len({_asked(row) for row in rows}) == count
        assert max(generator.counts(rows).values()) <= max(1, count * 0.2)
    assert set(generator.counts(splits["train"])) == set(SCENARIOS) >= set(ISSUE)


@pytest.mark.slow
def test_no_generator_looks_at_the_hashes_of_its_process():
    """An original of this system cut its splits by hash(), which each process salts anew."""
    code = (
        "import importlib, json, sys\n"
        "for name in ('actions', 'persona', 'state', 'date_keys'):\n"
        "    rows = importlib.import_module(f'datagen.{name}').generate(3, 40, 20)\n"
        "    sys.stdout.write(json.dumps(rows) + '\\n')\n"
    )
    one, two = (
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": salt},
        ).stdout
        for salt in ("1", "2")
    )  # fmt: skip
    assert one.count(b"\n") == 4
    assert one == two


@pytest.mark.slow
def test_the_same_seed_gives_the_same_rows_and_another_one_others(splits: dict[str, list[Row]]):
    again = generator.generate(7, 1_500)
    assert json.dumps(again) == json.dumps(splits)
    other = {_asked(row) for row in generator.generate(8, 1_500)["train"]}
    assert len(other & {_asked(row) for row in splits["train"]}) < 500


@pytest.mark.slow
def test_every_row_keeps_to_the_policy_and_its_style(splits: dict[str, list[Row]]):
    for rows in splits.values():
        for row in rows:
            assert check_row(from_chat(row)) == [], row


def test_splits_share_no_family_and_no_word_held_out(splits: dict[str, list[Row]]):
    of = {
        name: {row["meta"]["family"] for row in splits[name] if "family" in row["meta"]}
        for name in ("train", "valid")
    }
    shared = of["train"] & of["valid"]
    # Of three wordings and fewer every split has all: the yes to an aside, the three voices of one.
    assert len(shared) <= 3, shared
    apps = {word.written for word in part(POOLS["app"], held_out=True)}
    said = json.dumps([row for row in splits["train"] if "family" in row["meta"]])
    assert not [app for app in apps if f"launch_app: {app}[" in said]
    assert splits["test"]
    assert all(row["meta"]["source"] == "hand-written" for row in splits["test"])


@pytest.mark.slow
def test_names_are_too_many_to_be_learned_and_of_one_split():
    rng = random.Random(1)
    for slot in "app file text folder dir branch process service program site music topic".split():
        made = {
            held_out: {
                word.written.casefold()
                for _ in range(2_000)
                if (word := open_word(slot, rng, held_out=held_out))
            }
            for held_out in (False, True)
        }
        assert len(made[False]) > 900, slot
        assert len(made[True]) > 150, slot
        assert not made[False] & made[True], slot
    assert open_word("drive", rng, held_out=False) is None
    assert RULES.keys() <= POOLS.keys()


def test_a_name_in_a_tag_is_the_one_that_was_said(splits: dict[str, list[Row]]):
    apps = Counter[str]()
    for row in splits["train"]:
        if (
            row["meta"]["scenario"] not in ("app_launch", "benign_twin")
            or "family" not in row["meta"]
        ):
            continue
        for tag in actions.parse_answer(row["messages"][-1]["content"]).tags:
            if tag.verb == "launch_app":
                assert tag.argument[:1].isupper()
                apps[tag.argument] += tag.argument.lower() in _asked(row).lower()
    assert len(+apps) > 50
    assert apps.most_common(1)[0][1] < 10


def test_a_slip_of_the_fingers_never_changes_a_name():
    rng = random.Random(5)
    slots, changed = re.compile(r"\{\w+\}"), 0
    for intents in INTENTS.values():
        for wording in (w for i in intents for w in i.orders):
            typed = mistyped(wording, rng)
            assert slots.findall(typed) == slots.findall(wording)
            changed += typed != wording
    assert changed > 80


def test_no_wording_is_one_of_the_hand_written_sets_with_other_names():
    """Whatever their names: what a tag says is masked in both."""

    def masked(row: ActionRow) -> str:
        said = "\n".join(row.turns[::2])
        for word in re.findall(r"[\w.-]{3,}", " ".join(tag.argument for tag in row.answer.tags)):
            said = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "Xx", said, flags=re.I)
        return said

    rows = [
        row
        for name in ("validation", "second")
        for row in generator.by_hand(generator.SETS / f"{name}.jsonl", "test")
    ]
    near = index(map(masked, rows)).closest
    wordings = [w for of in INTENTS.values() for i in of for w in (*sum(i.wordings.values(), ()),)]
    found = {w for w in wordings if near(re.sub(r"\{\w+\}", "Xx", w))}
    # Two words say nothing of where they come from.
    assert {w for w in found if len(re.sub(r"\{\w+\}", "", w).split()) > 2} <= {
        "go to the next desktop"
    }
    assert near("could the velvet lamp program come up".replace("velvet lamp", "Xx"))


def test_more_than_there_is_is_refused_with_the_number(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(generator, "STALL", 40)
    monkeypatch.setattr(generator, "SCENARIOS", {"ambiguous": 1.0})
    with pytest.raises(UserError, match=r"has [\d,]+ distinct rows for train.*--count \d+"):
        generator.generate(7, 9_000, 4)


def test_both_shells_and_both_answers_to_a_question_are_taught(splits: dict[str, list[Row]]):
    kinds = Counter[str]()
    for row in splits["train"]:
        meta, answer = row["meta"], row["messages"][-1]["content"]
        kinds["powershell" if "PowerShell" in row["messages"][0]["content"] else "bash"] += 1
        kinds[meta["language"]] += 1
        if meta["scenario"] == "confirmation":
            kinds[meta["expected_outcome"]] += 1
        if meta["risk_level"] == "critical":
            assert "[" not in answer
    assert kinds["powershell"] > 300 < kinds["bash"]
    assert kinds["confirmed"] > 40
    assert kinds["denied"] > 15
    assert kinds["executed"] > 5 < kinds["conversational"]
    assert kinds["hinglish"] > 50 > 5 < kinds["hi"]


def test_a_yes_releases_exactly_what_was_asked(splits: dict[str, list[Row]]):
    released = 0
    for row in splits["train"]:
        said = [m["content"] for m in row["messages"]]
        tags = actions.parse_answer(said[-1]).tags
        if row["meta"]["risk_level"] == "high" and tags:
            assert said[-3].endswith(f": {tags[0].argument}?")
            assert len(tags) == 1
            released += 1
            assert "?" not in row["messages"][-2]["content"]
    assert released > 50


def test_a_broken_answer_is_read_and_not_learned(splits: dict[str, list[Row]]):
    broken = [r for r in splits["train"] if r["meta"]["scenario"] == "malformed_recovery"]
    # JSON and bare words parse as talk, and must not be learned either.
    earlier = [m for row in broken for m in row["messages"][:-1] if m["role"] == "assistant"]
    assert len(earlier) > len(broken) / 3
    assert {m.get("weight") for m in earlier} == {0}
    assert all(row["messages"][-1].get("weight") is None for row in broken)


@pytest.mark.slow
def test_the_seed_file_is_by_hand_and_covers_the_scenarios():
    rows = [row for _, row in read_jsonl(generator.SEED)]
    assert len(rows) >= 60
    assert {row["scenario"] for row in rows} >= set(ISSUE)
    assert {tuple(row) for row in rows} == {(*FIELDS, *OPTIONAL)}
    for row in rows:
        assert check_row(row) == [], row
    trained = {row["meta"]["id"] for row in generator.generate(7, 2_000)["train"]}
    assert len({row["id"] for row in rows} & trained) > 50


def test_the_sets_are_by_hand_and_keep_to_the_policy():
    for name, least in (("validation", 150), ("second", 100)):
        rows = [row for _, row in read_jsonl(generator.SETS / f"{name}.jsonl")]
        assert len(rows) >= least
        assert {row["scenario"] for row in rows} == set(SCENARIOS)
        for row in rows:
            assert check_row(row) == [], row


def test_every_slot_has_words_and_every_tag_can_be_written():
    for intents in INTENTS.values():
        for intent in intents:
            assert set(intent.slots) <= POOLS.keys()
            assert intent.risk != "high" or set(intent.commands) == set(actions.SHELLS)
            assert intent.risk != "critical" or not (intent.action or intent.commands)


@pytest.mark.slow
def test_the_folder_has_a_manifest_and_the_same_bytes(tmp_path: Path):
    one = make_data("actions", tmp_path / "a", 3, 200)
    other = make_data("actions", tmp_path / "b", 3, 200)
    assert one == other
    assert one["splits"]["train"]["rows"] == 200
    assert one["generator"] == "datagen.actions"
    assert (tmp_path / "a/train.jsonl").read_bytes() == (tmp_path / "b/train.jsonl").read_bytes()
