"""Training data for the skill persona: a butler's answers, with the address that the prompt sets.

    splits = generate(seed=7)          # {"train": [...], "valid": [...], "test": [...]}

The seven categories have the shares of the described system (SHARES); statements of the butler
about himself count as casual. `valid` has wordings, facts and names that training never sees;
`test` is the hand-written validation set. Results of maths are computed. The same seed gives the
same rows.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen.folder import apportion, index, refuse_leaks
from datagen.persona.rows import Composer, Draft
from datagen.persona.words import NAMES, NAMES_HELD_OUT
from livery.dataset.leaks import row_text
from livery.errors import UserError
from livery.files import read_jsonl
from livery.skills import persona

NAME = "datagen.persona"
VERSION = "1"
TRAIN_ROWS, VALID_ROWS = 4_000, 160
# Of 400 rows, as the described system has them.
SHARES: Mapping[str, int] = {
    "greetings": 50,
    "technical": 100,
    "maths": 50,
    "general_knowledge": 100,
    "casual": 50,
    "error_handling": 30,
    "proactive": 20,
}
# Draws in a row that bring nothing new, after which a category has no more.
STALL = 4_000

SETS = Path(persona.__file__).parent

Row = dict[str, Any]


def generate(
    seed: int, count: int = TRAIN_ROWS, valid_count: int = VALID_ROWS
) -> dict[str, list[Row]]:
    """Rows by split: `count` for training, `valid_count` held out, and the hand-written test.

    Raises:
        UserError: there are not so many distinct rows, or a split gives another away.
    """
    test = by_hand(SETS / "validation.jsonl")
    closed = [row_text(row) for row in (*test, *by_hand(SETS / "second.jsonl"))]
    valid = _make(seed, "valid", valid_count, closed)
    closed += [row_text(row) for row in valid]
    train = _make(seed, "train", count, closed)
    splits = {"train": train, "valid": valid, "test": test}
    refuse_leaks(splits, _names())
    return splits


def by_hand(path: Path) -> list[Row]:
    """The cases of a hand-written set as rows of the test split."""
    return [
        {
            "messages": persona.messages(
                case.get("turns") or case["text"], case["answer"], address=case["address"]
            ),
            "meta": {
                "id": case["id"], "split": "test", "scenario": case["category"],
                "source": "hand-written", "provenance": path.name,
                "address": case["address"], "tone": case.get("tone", "chat"),
                "facts": case.get("facts", []),
            },
        }
        for _, case in read_jsonl(path)
    ]  # fmt: skip


def _make(seed: int, split: str, count: int, closed: Sequence[str]) -> list[Row]:
    """`count` different rows, none close to a `closed` text, shuffled."""
    rng = random.Random(f"{NAME} {VERSION} {split} {seed}")
    composer = Composer(rng, held_out=split == "valid")
    near = index(closed, _names()).closest
    seen: set[tuple[str, ...]] = set()
    drafts: list[Draft] = []
    for category, wanted in apportion(SHARES, count).items():
        got = idle = 0
        while got < wanted:
            draft = composer.draft(category)
            idle += 1
            if idle > STALL:
                raise UserError(
                    f"The skill persona has {got:,} distinct rows of {category} for {split}, and "
                    f"{count:,} rows need {wanted:,}. Ask for fewer with --count."
                )
            key = (draft.address, *(turn["content"] for turn in draft.turns))
            if key in seen or near(draft.asked) is not None:
                continue
            seen.add(key)
            drafts.append(draft)
            got, idle = got + 1, 0
    rng.shuffle(drafts)
    made = {"source": "generated", "provenance": f"{NAME} {VERSION} seed {seed}"}
    return [_row(d, id=f"{split}-{n:05}", split=split, **made) for n, d in enumerate(drafts, 1)]


def _row(draft: Draft, **meta: str) -> Row:
    return {
        "messages": persona.messages(draft.turns, draft.answer, address=draft.address),
        "meta": {
            **meta, "scenario": draft.category, "family": draft.family, "form": draft.form,
            "address": draft.address, "tone": draft.tone, "facts": list(draft.facts),
        },
    }  # fmt: skip


def _names() -> list[str]:
    return [word.lower() for name in (*NAMES, *NAMES_HELD_OUT) for word in name.split()]
