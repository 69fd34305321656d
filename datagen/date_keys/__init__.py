"""Training data for the skill date-keys: messy spoken commands with their keys.

    splits = generate(seed=7)          # {"train": [...], "valid": [...], "test": [...]}

`train` and `valid` are put together from disjoint carriers, names and paraphrases (`said.part`);
`test` is the hand-written validation set. The same seed gives the same rows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datagen.date_keys.compose import CATEGORIES, draft
from datagen.date_keys.said import Source
from datagen.date_keys.words import POOLS
from datagen.folder import apportion, index, normalise, refuse_leaks
from livery.files import read_jsonl
from livery.skills import date_keys

NAME = "datagen.date_keys"
VERSION = "4"
TRAIN_ROWS, VALID_ROWS = 44_800, 162
# Spaces of a held-out text. "next monday" is no sentence that training could do without.
_SHORTEST_HELD_OUT = 3

Row = dict[str, Any]

SETS = Path(date_keys.__file__).parent
# Only compared with, never read for anything else: see livery/skills/date_keys/README.md.
_SECOND, _THIRD = SETS / "second.jsonl", SETS / "third.jsonl"
_VALIDATION = SETS / "validation.jsonl"


def generate(
    seed: int, count: int = TRAIN_ROWS, valid_count: int = VALID_ROWS
) -> dict[str, list[Row]]:
    """Rows by split: `count` for training, `valid_count` held out, and the hand-written test.

    Raises:
        UserError: a split gives another away.
    """
    names = sorted({name for name in POOLS["person"] if " " not in name})
    test = hand_written(_VALIDATION)
    second = [row["text"] for _, row in read_jsonl(_SECOND)]
    # A bare "at midnight" is in every sentence that ends with it, so fragments close nothing.
    third = [row for row in hand_written(_THIRD) if row["meta"]["scenario"] != "fragments"]
    closed = [date_row["messages"][1]["content"] for date_row in (*test, *third)] + second
    # Equal shares, so that each category's figure is based on as many rows.
    valid = _make(seed, "valid", dict.fromkeys(CATEGORIES, 1.0), valid_count, closed, names)
    closed += [row["messages"][1]["content"] for row in valid]
    train = _make(seed, "train", CATEGORIES, count, closed, names)
    splits = {"train": train, "valid": valid, "test": test}
    refuse_leaks(splits, names)
    return splits


def hand_written(path: Path) -> list[Row]:
    """The cases of a hand-written set as rows of the test split."""
    return [
        _row(
            row["text"],
            row["date_keys"],
            id=row["id"],
            split="test",
            scenario=row["category"],
            source="hand-written",
            provenance=path.name,
        )
        for _, row in read_jsonl(path)
    ]


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Rows of each category."""
    return dict(sorted(Counter(row["meta"]["scenario"] for row in rows).items()))


def _make(
    seed: int,
    split: str,
    shares: dict[str, float],
    count: int,
    closed: Sequence[str],
    names: Sequence[str],
) -> list[Row]:
    """`count` different rows, none close to a `closed` text, shuffled."""
    source = Source(random.Random(f"{NAME} {VERSION} {split} {seed}"), held_out=split == "valid")
    forbidden = index(closed, names)
    answers: dict[str, tuple[str, ...]] = {}
    drafts: list[tuple[str, str, tuple[str, ...]]] = []
    for category, wanted in apportion(shares, count).items():
        made = 0
        while made < wanted:
            new = draft(source, category)
            text, keys = date_keys.normalise(new.text), new.keys
            # Held-out rows must differ among each other even with names and numbers masked.
            plain = normalise(text, names) if split == "valid" else text
            if source.held_out and text.count(" ") < _SHORTEST_HELD_OUT:
                continue
            if plain in answers or forbidden.closest(text) is not None:
                continue
            answers[plain] = keys
            drafts.append((category, text, keys))
            made += 1
    source.rng.shuffle(drafts)
    return [
        _row(
            text,
            keys,
            id=f"{split}-{n:05}",
            split=split,
            scenario=category,
            source="generated",
            provenance=f"{NAME} {VERSION} seed {seed}",
        )
        for n, (category, text, keys) in enumerate(drafts, start=1)
    ]


def _row(text: str, keys: Sequence[str], **meta: str) -> Row:
    return {"messages": date_keys.messages(text, keys), "meta": meta}
