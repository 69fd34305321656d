"""Files of rows -> what a run trains on, and what it leaves out.

`livery train` and `livery data check` both take their verdict on a row from `judge`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from livery.collecting import few_collections
from livery.dataset.conversation import Dropped, Row, RowError, none_left
from livery.dataset.encode import BATCH, Encoded, encode_batches
from livery.dataset.packed import Source
from livery.dataset.reader import Reader
from livery.dataset.rows import question
from livery.dataset.template import ChatTemplate
from livery.dataset.tokens import too_long
from livery.errors import UserError, sentence
from livery.training.plan import Example


@dataclass(frozen=True)
class Dataset:
    """Encoded rows of one split, in the order of its files.

    Attributes:
        examples: what is trained on; a row may give several. Of pairs two each, the chosen one
            first.
        dropped: what was left out.
        digest: hex SHA-256 over all tokens and masks.
        asked: what each row asks, by its place, where that was wanted.
        more: there were more rows than those taken.
        reasons: some learned answer comes with its reasoning.
    """

    examples: tuple[Example, ...]
    dropped: tuple[Dropped, ...] = ()
    digest: str = ""
    asked: Mapping[str, str] = field(default_factory=dict[str, str])
    more: bool = False
    reasons: bool = False


def judge(
    rows: Iterable[Row | Dropped | RowError],
    chat: ChatTemplate,
    *,
    max_length: int,
    mask_prompt: bool = True,
    tell: Callable[[str, str], None] = lambda remark, where: None,
) -> Iterator[Encoded | Dropped | RowError]:
    """The verdict on each row, in order; of one that gives several examples, too long ones are
    dropped.

    Args:
        tell: called with what is told once for all rows, and the row's place.
    """
    reading = iter(rows)
    batches: deque[list[Row | Dropped | RowError]] = deque()

    def fitting() -> Iterator[list[Row]]:
        """The rows of each batch that are worth tokenizing; the verdict on the others is known."""
        failure: UserError | None = None
        while failure is None:
            batch: list[Row | Dropped | RowError] = []
            try:
                for row in islice(reading, BATCH):
                    batch.append(row)
            except UserError as error:
                failure = error
            if not batch:
                break
            for at, row in enumerate(batch):
                if not isinstance(row, Dropped | RowError) and (
                    reason := too_long(row, chat.tokenizer, max_length)
                ):
                    batch[at] = Dropped(row.where, reason)
            batches.append(batch)
            yield [row for row in batch if not isinstance(row, Dropped | RowError)]
        if failure is not None:
            raise failure  # after the rows that were read before it

    for encoded in encode_batches(fitting(), chat, mask_prompt=mask_prompt, max_length=max_length):
        verdicts = iter(encoded)
        for row in batches.popleft():
            if isinstance(row, Dropped | RowError):
                yield row
                continue
            found = next(verdicts)
            yield from found.dropped
            for note in found.notes:
                tell(note, found.row.where)
            if found.examples:
                yield found


def paired(
    verdicts: Iterable[Encoded | Dropped | RowError],
) -> Iterator[Encoded | Dropped | RowError]:
    """The verdict on each pair, of those on its sides: two examples, the chosen one first, with
    the prompt in common. A pair of which a side is left out is left out."""
    for place, found in groupby(verdicts, key=_place):
        yield _together(place, list(found))


def _place(verdict: Encoded | Dropped | RowError) -> str:
    where = verdict.row.where if isinstance(verdict, Encoded) else verdict.where
    return re.sub(r" \((chosen|rejected)\)$", "", where)


def _together(
    place: str, found: Sequence[Encoded | Dropped | RowError]
) -> Encoded | Dropped | RowError:
    encoded: list[Encoded] = []
    for verdict in found:
        if isinstance(verdict, RowError):
            return verdict
        if isinstance(verdict, Dropped):
            side = verdict.where.removeprefix(f"{place} ").strip("()")
            return Dropped(place, f"{side}: {verdict.reason}")
        encoded.append(verdict)
    examples = [example for each in encoded for example in each.examples]
    if len(examples) != 2 or len(encoded) != 2:
        return Dropped(place, "an answer of several turns, which the chat template lays out singly")
    chosen, rejected = (_prompt(example) for example in examples)
    if chosen != rejected:
        return Dropped(
            place, "the chat template lays the prompt out differently for the two answers"
        )
    if examples[0].tokens.tolist() == examples[1].tokens.tolist():
        return Dropped(place, "chosen and rejected are the same answer")
    pair = tuple(dataclasses.replace(example, where=place) for example in examples)
    row = dataclasses.replace(encoded[0].row, where=place)
    return dataclasses.replace(encoded[0], row=row, examples=pair)


def _prompt(example: Example) -> list[int]:
    return example.tokens[: example.prompt_length].tolist()


@few_collections()
def load_dataset(
    data: str | Path | Sequence[Source],
    chat: ChatTemplate,
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
        reader: knows the columns and whether rows are pairs, and hears what the user must be told.
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
    taken = islice(rows, first * (2 if reader.pairs else 1)) if first else rows
    reasons = False
    verdicts = judge(taken, chat, max_length=max_length, mask_prompt=mask_prompt, tell=reader.tell)
    for found in paired(verdicts) if reader.pairs else verdicts:
        if isinstance(found, RowError):
            raise found
        if isinstance(found, Dropped):
            dropped.append(found)
            continue
        examples += found.examples
        reasons = reasons or found.reasons
        if with_questions:
            asked[found.row.where] = question(found.row)
    reader.check_columns()
    more = bool(first) and next(rows, None) is not None
    if not examples:
        if not dropped:
            raise UserError(f"{name}: holds no rows.")
        raise UserError(
            f"{name}: {none_left(len(dropped), 'taken' if more else '')}; the first, "
            f"{dropped[0].where}: {sentence(dropped[0].reason)}"
        )
    return Dataset(tuple(examples), tuple(dropped), digest(examples), asked, more, reasons)


def digest(examples: Iterable[Example]) -> str:
    """Hex SHA-256 over tokens and masks, in order."""
    total = hashlib.sha256()
    for example in examples:
        total.update(len(example.tokens).to_bytes(8, "little"))
        total.update(np.ascontiguousarray(example.tokens, "<i4").tobytes())
        total.update(np.packbits(example.supervised).tobytes())
    return total.hexdigest()
