"""Which rows of the data a run takes: all of them, unless the settings ask for fewer.

Three settings leave rows out: `max_samples` trains on the first N, `val_split` holds a share of the
training rows out where there is no valid.jsonl, and `eval_max_samples` evaluates on N validation
rows. Lines are counted from 1, as `livery.files.read_jsonl` does.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery import leaks
from livery.errors import UserError
from livery.files import read_jsonl
from livery.settings import TrainSettings

Lines = frozenset[int]


@dataclass(frozen=True)
class Selection:
    """The files a run reads, and which of their lines.

    Attributes:
        train, valid: the files; valid is None where nothing is evaluated.
        train_lines, valid_lines: None for every line.
        notes: what the user must be told.
    """

    train: Path
    valid: Path | None
    train_lines: Lines | None = None
    valid_lines: Lines | None = None
    notes: tuple[str, ...] = ()


def select(settings: TrainSettings, train: Path, valid: Path | None) -> Selection:
    """Apply the three settings to a run's files.

    Raises:
        UserError: val_split beside a valid.jsonl, or so that nothing is left to train on.
    """
    if settings.val_split and valid is not None:
        raise UserError(
            f"val_split is {settings.val_split:g}, but {valid} is there to be evaluated. Remove "
            "one of them: --val-split 0, or the file."
        )
    if not (settings.max_samples or settings.val_split or settings.eval_max_samples):
        return Selection(train, valid)
    rows = list(read_jsonl(train))
    kept = rows[: settings.max_samples or None]
    notes: list[str] = []
    if len(kept) < len(rows):
        notes.append(f"max_samples: the first {len(kept)} of {len(rows)} rows are taken.")
    train_lines = frozenset(line for line, _ in kept)
    held: Sequence[int] = ()
    if settings.val_split:
        held = hold_out([row for _, row in kept], settings.val_split, settings.seed)
        if len(held) == len(kept):
            raise UserError(
                f"{train}: val_split {settings.val_split:g} would hold out all of its {len(kept)} "
                "rows. Give more rows, or a smaller share."
            )
        valid, candidates = train, [kept[at][0] for at in held]
        train_lines -= frozenset(candidates)
        notes.append(_describe(kept, held))
    else:
        candidates = [line for line, _ in read_jsonl(valid)] if valid is not None else []
    taken = _evenly(candidates, settings.eval_max_samples)
    if len(taken) < len(candidates):
        notes.append(f"eval_max_samples: {len(taken)} of {len(candidates)} rows are evaluated.")
    return Selection(train, valid, train_lines, frozenset(taken), tuple(notes))


def hold_out(rows: Sequence[dict[str, Any]], share: float, seed: int) -> list[int]:
    """Positions of the rows held out, in order: about `share` of them, at least one.

    Rows that ask the same but for numbers and names stay on one side, or the held-out loss would be
    that of rows learnt by heart. Which go depends on the texts and the seed, not on their order.
    """
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        groups[leaks.normalise(_text(row))].append(at)
    wanted = max(1, round(share * len(rows)))
    order = sorted(groups, key=lambda text: hashlib.sha256(f"{seed}\n{text}".encode()).digest())
    held: list[int] = []
    for text in order:
        if len(held) >= wanted:
            break
        # A group that is larger than what is still wanted by more than as much again stays whole.
        if len(held) + len(groups[text]) <= 2 * wanted or not held:
            held += groups[text]
    return sorted(held)


def _describe(kept: Sequence[tuple[int, dict[str, Any]]], held: Sequence[int]) -> str:
    inside = set(held)
    trained = [_text(row) for at, (_, row) in enumerate(kept) if at not in inside]
    near = leaks.count_leaks(trained, [_text(kept[at][1]) for at in held])
    text = f"val_split: {len(held)} of {len(kept)} rows are held out of training and evaluated."
    if near:
        text += (
            f" {near} of them are close to a row that is trained on, so eval_loss will look better "
            "than it is: a valid.jsonl of sentences written for it tells more."
        )
    return text


def _text(row: dict[str, Any]) -> str:
    """What a row asks; a row of plain text is its own question."""
    return leaks.row_text(row) or str(row)


def _evenly(lines: Sequence[int], count: int) -> Sequence[int]:
    """`count` of the lines at even distances; all of them where it is 0."""
    if not count or count >= len(lines):
        return lines
    return [lines[at * len(lines) // count] for at in range(count)]
