"""Files of rows -> what a run trains on, and what it leaves out.

`livery train` and `livery data check` both take their verdict on a row from `judge`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from livery.dataset.conversation import Dropped, Row, RowError
from livery.dataset.encode import encode
from livery.dataset.length import too_long
from livery.dataset.raw import Source
from livery.dataset.reader import Reader
from livery.dataset.rows import question
from livery.errors import UserError
from livery.plan import Example


@dataclass(frozen=True)
class Encoded:
    """A row and its examples; a row may give several (see `livery.dataset.encode`)."""

    row: Row
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Dataset:
    """Encoded rows of one split, in the order of its files.

    Attributes:
        examples: what is trained on; a row may give several.
        dropped: what was left out.
        digest: hex SHA-256 over all tokens and masks.
        asked: what each row asks, by its place, where that was wanted.
        more: there were more rows than those taken.
    """

    examples: tuple[Example, ...]
    dropped: tuple[Dropped, ...] = ()
    digest: str = ""
    asked: Mapping[str, str] = field(default_factory=dict[str, str])
    more: bool = False


def judge(
    rows: Iterable[Row | Dropped | RowError],
    tokenizer: Any,
    *,
    max_length: int,
    mask_prompt: bool = True,
) -> Iterator[Encoded | Dropped | RowError]:
    """What becomes of each row; of one that gives several examples, too long ones are dropped."""
    for row in rows:
        if isinstance(row, Dropped | RowError):
            yield row
            continue
        if reason := too_long(row, tokenizer, max_length):
            yield Dropped(row.where, reason)
            continue
        kept: list[Example] = []
        for example in encode(row, tokenizer, mask_prompt=mask_prompt):
            if len(example.tokens) > max_length:
                reason = f"{len(example.tokens)} tokens, over the limit of {max_length}"
                yield Dropped(row.where, reason)
            else:
                kept.append(example)
        if kept:
            yield Encoded(row, tuple(kept))


def load_dataset(
    data: str | Path | Sequence[Source],
    tokenizer: Any,
    *,
    max_length: int,
    mask_prompt: bool = True,
    reader: Reader | None = None,
    first: int = 0,
    with_questions: bool = False,
) -> Dataset:
    """Encode the rows of a file or of a split's files.

    Rows with nothing to learn, and rows longer than `max_length` tokens (whose answer would be
    cut), are dropped and listed.

    Args:
        reader: knows the columns, and is told what the user must be told.
        first: how many rows are taken, from the first; 0 for all.
        with_questions: fill `Dataset.asked`.

    Raises:
        UserError: a file is missing, empty or malformed (file and line named), or no row is left.
    """
    sources = [Source(Path(data))] if isinstance(data, str | Path) else list(data)
    name = str(sources[0]) + (f" and {len(sources) - 1} more" if sources[1:] else "")
    reader = reader or Reader()
    examples: list[Example] = []
    dropped: list[Dropped] = []
    asked: dict[str, str] = {}
    rows = reader.read(sources)
    taken = islice(rows, first) if first else rows
    for found in judge(taken, tokenizer, max_length=max_length, mask_prompt=mask_prompt):
        if isinstance(found, RowError):
            raise found
        if isinstance(found, Dropped):
            dropped.append(found)
            continue
        examples += found.examples
        if with_questions:
            asked[found.row.where] = question(found.row)
    reader.check_columns()
    more = bool(first) and next(rows, None) is not None
    if not examples:
        if not dropped:
            raise UserError(f"{name}: holds no rows.")
        raise UserError(
            f"{name}: none of {'the' if more else 'its'} {len(dropped)} rows"
            f"{' taken' if more else ''} can be trained on; the first, "
            f"{dropped[0].where}: {dropped[0].reason}."
        )
    return Dataset(tuple(examples), tuple(dropped), digest(examples), asked, more)


def digest(examples: Iterable[Example]) -> str:
    """Hex SHA-256 over tokens and masks, in order."""
    total = hashlib.sha256()
    for example in examples:
        total.update(len(example.tokens).to_bytes(8, "little"))
        total.update(np.ascontiguousarray(example.tokens, "<i4").tobytes())
        total.update(np.packbits(example.supervised).tobytes())
    return total.hexdigest()
