"""Training data for the skill state: worlds with state blocks, questions, attacks and their twins.

    splits = generate(seed=7)     # train, valid, test, and the three files of the described system

`train` and `valid` have no kind of world, person, wording or attack in common; `test` is the
hand-written validation set. Rows of one world stand together, so that a step runs their block once.
`aios_finetune_data` are the training rows without attacks, `aios_finetune_adversarial` the attacks
and their twins, `aios_combined` both: the names, and the row {messages, metadata}, of that system.
The same seed gives the same rows.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datagen.folder import index, refuse_leaks
from datagen.state import kinds
from datagen.state.attacks import ATTACKS
from datagen.state.rows import Asker, Draft
from datagen.state.worlds import World, make_world
from livery.dataset.leaks import row_text
from livery.files import read_jsonl
from livery.skills import state
from livery.skills.state import Block, Expected, gold, read_block, read_expected

NAME = "datagen.state"
VERSION = "1"
TRAIN_ROWS, VALID_ROWS = 9_600, 240
# One world in so many has conversations and long stories, the others single questions.
LONG = 6
# Categories of attacks and their twins; all others are core rows.
ADVERSARIAL = (*(attack.name for attack in ATTACKS), "wearing_down", "twins")

Row = dict[str, Any]

SETS = Path(state.__file__).parent
_VALIDATION, _SECOND = SETS / "validation.jsonl", SETS / "second.jsonl"


def generate(
    seed: int, count: int = TRAIN_ROWS, valid_count: int = VALID_ROWS
) -> dict[str, list[Row]]:
    """Rows by split: `count` for training, `valid_count` held out, the hand-written test, and the
    training rows again under the described system's names.

    Raises:
        UserError: a split gives another away.
    """
    names = sorted({n.lower() for n in (*kinds.PEOPLE, *kinds.PEOPLE_HELD_OUT)})
    test = hand_written(_VALIDATION)
    closed = [row_text(row) for row in (*test, *hand_written(_SECOND))]
    valid = _make(seed, "valid", valid_count, closed, names)
    closed += [row_text(row) for row in valid]
    train = _make(seed, "train", count, closed, names)
    splits = {"train": train, "valid": valid, "test": test}
    refuse_leaks(splits, names)
    core = [row for row in train if row["meta"]["scenario"] not in ADVERSARIAL]
    adversarial = [row for row in train if row["meta"]["scenario"] in ADVERSARIAL]
    theirs = [_as_described(row) for row in core], [_as_described(row) for row in adversarial]
    return {
        **splits,
        "aios_finetune_data": theirs[0],
        "aios_finetune_adversarial": theirs[1],
        "aios_combined": [*theirs[0], *theirs[1]],
    }


def _as_described(row: Row) -> Row:
    """The row with the described system's metadata."""
    meta = row["meta"]
    topic = meta["topic"]
    kind = "adversarial" if meta["scenario"] in ADVERSARIAL else "core"
    metadata = {
        "source": meta["source"], "section": topic.partition(".")[0], "type": kind, "topic": topic
    }  # fmt: skip
    return {"messages": row["messages"], "metadata": metadata, "meta": meta}


def hand_written(path: Path) -> list[Row]:
    """The cases of a hand-written set as rows of the test split."""
    rows: list[Row] = []
    for _, case in read_jsonl(path):
        block = read_block(case["state"])
        expected = read_expected(case["expect"], block)
        draft = Draft(case["turns"], expected, case["category"], case.get("family", ""))
        row = _row(
            draft, case["state"], block, id=case["id"], split="test", source="hand-written",
            provenance=path.name, world=case["world"],
        )  # fmt: skip
        rows.append(row)
    return rows


def _make(
    seed: int, split: str, count: int, closed: Sequence[str], names: Sequence[str]
) -> list[Row]:
    """`count` rows, none close to a `closed` text, world after world."""
    forbidden = index(closed, names)
    rows: list[Row] = []
    for number, (world, drafts) in enumerate(_worlds(seed, split), start=1):
        for draft in drafts:
            if forbidden.closest(draft.asked) is None:
                rows.append(
                    _row(
                        draft, world.text, world.block, id=f"{split}-{len(rows) + 1:05}",
                        split=split, source="generated", provenance=f"{NAME} {VERSION} seed {seed}",
                        world=f"{world.kind}-{number:04}",
                    )
                )  # fmt: skip
            if len(rows) == count:
                return rows
    raise AssertionError("worlds never end")


def _worlds(seed: int, split: str) -> Iterator[tuple[World, list[Draft]]]:
    """Worlds with their rows, without end."""
    rng = random.Random(f"{NAME} {VERSION} {split} {seed}")
    held_out = split == "valid"
    for number in itertools.count(1):
        world = make_world(rng, held_out=held_out)
        drafts = Asker(world, rng).rows(long=number % LONG == 0)
        yield world, drafts


def _row(draft: Draft, text: str, block: Block, *, world: str, **meta: str) -> Row:
    expected: Expected = draft.expected
    answer = gold(expected, block)
    return {
        "messages": state.messages(draft.turns, answer, block=text),
        "meta": {
            **meta,
            "scenario": draft.category,
            "family": draft.family,
            "topic": draft.topic,
            "world": world,
            "expect": expected.as_row(),
        },
    }
