"""The one reader of training data: files -> rows, each used, dropped, or refused.

`livery train` and `livery data check` read through it, so that they never differ over a row.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livery.dataset.columns import VERDICT, Columns, as_truth
from livery.dataset.conversation import Dropped, Row, RowError
from livery.dataset.packed import Source
from livery.dataset.pairs import sides
from livery.dataset.raw import raw_rows
from livery.dataset.rows import TrainOn, nothing_to_learn, read_row
from livery.errors import UserError, counted, sentence
from livery.progress import Progress

# Seconds after which somebody asks how far it is. A template and a tokenizer may be slow, so the
# size of a file does not tell.
PATIENCE = 2.0
# Files of fewer bytes are counted in kB.
_LARGE = 8_000_000
_ROWS = 64  # between two looks at the clock


class Reader:
    """Reads files of one data set, and remembers what must be told once.

    Attributes:
        columns: which column holds what.
        train_on: learn every answer of a conversation, or its last one alone.
        pairs: rows are pairs of answers, and each gives two (see `livery.dataset.pairs`).
    """

    def __init__(
        self, columns: Columns | None = None, train_on: TrainOn = "all", *, pairs: bool = False
    ) -> None:
        self.columns = columns or Columns()
        self.train_on: TrainOn = train_on
        self.pairs = pairs
        self._told: dict[str, _Remark] = {}
        self._seen: set[str] = set()
        self._before: frozenset[str] = frozenset()
        self._first: Source | None = None

    def read(self, sources: Sequence[Source]) -> Iterator[Row | Dropped | RowError]:
        """Each row of the files, in order: what it says, or why it is left out or refused.

        Raises:
            UserError: a file cannot be read, or not to its end.
        """
        self._first = self._first or (sources[0] if sources else None)
        with _Shown(sources) as shown:
            for source in sources:
                for where, raw in raw_rows(source, shown.read):
                    shown.row()
                    if isinstance(raw, RowError):
                        yield raw
                        continue
                    self._seen.update(raw)
                    found = self._verdicts(raw, where)
                    if isinstance(found[0], RowError) or self._kept(raw, where):
                        yield from found
                shown.ended(source)

    def _kept(self, raw: dict[str, object], where: str) -> bool:
        """Whether the column that `keep` names lets a row in; told where it does not. Without one
        a row that is marked as a wrong answer, as those of a dsl corpus may be, is no example."""
        column = self.columns.named.get("keep")
        judged = column is None and VERDICT not in self.columns.ignored
        if judged and as_truth(raw.get(VERDICT)) is False:
            self.tell(f"left out, since `{VERDICT}` says that their answer is wrong", where)
            return False
        if column is None or as_truth(raw.get(column)):
            return True
        self.tell("left out, since the column that `keep` names is false", where, [column])
        return False

    def _verdicts(self, raw: dict[str, object], where: str) -> list[Row | Dropped | RowError]:
        """What a row says: one thing, or of a pair two."""
        remarks: dict[str, list[str]] = {}

        def say(remark: str, field: str = "") -> None:
            remarks.setdefault(remark, []).append(field)

        found: list[Row | Dropped | RowError] = []
        try:
            parts = [(where, raw, self.columns)]
            for place, part, columns in sides(raw, where, self.columns) if self.pairs else parts:
                row = read_row(part, place, columns, train_on=self.train_on, say=say)
                reason = nothing_to_learn(row)
                found.append(Dropped(place, reason) if reason else row)
        except RowError as error:
            return [error]
        if not any(isinstance(one, Dropped) for one in found):
            for remark, fields in remarks.items():
                self.tell(remark, where, fields)
        return found

    def tell(self, remark: str, where: str, fields: Iterable[str] = ()) -> None:
        """Count what the user is told once for all rows."""
        told = self._told.setdefault(remark, _Remark(where))
        told.rows += 1
        told.fields.update(dict.fromkeys(filter(None, fields)))

    def check_columns(self) -> None:
        """After reading: every column that is named was there.

        Raises:
            UserError: no row had one of them.
        """
        seen = self._seen | self._before
        missing = self.columns.missing(seen)
        if missing and seen:
            raise UserError(
                f"{self._first}: no row has the column {missing[0]!r} that columns names; there "
                f"are: {', '.join(sorted(seen)[:20])}."
            )

    def fork(self) -> Reader:
        """A reader with nothing learned of its own yet, that knows which columns this one saw."""
        other = Reader(self.columns, self.train_on, pairs=self.pairs)
        other._before = self._before | self._seen
        other._first = self._first
        return other

    @property
    def told(self) -> Told:
        """What this reader learned."""
        return Told(
            tuple(
                (remark, told.first, told.rows, tuple(told.fields))
                for remark, told in self._told.items()
            ),
            tuple(sorted(self._seen)),
        )

    def take(self, told: Told, source: Source) -> None:
        """Learn what another reader did, of rows of `source` and perhaps of further files."""
        self._first = self._first or source
        self._seen.update(told.columns)
        for remark, first, rows, fields in told.remarks:
            mine = self._told.setdefault(remark, _Remark(first))
            mine.rows += rows
            mine.fields.update(dict.fromkeys(fields))

    def notes(self) -> list[str]:
        """What the user is told once, each with how many rows it concerns and the first of them."""
        return [
            sentence(
                f"{counted(told.rows, 'row')}, {told.first} first: {remark}"
                + (f" ({', '.join(told.fields)})" if told.fields else "")
            )
            for remark, told in self._told.items()
        ]


@dataclass(frozen=True)
class Told:
    """What a reader learned of all rows together, as plain values.

    Attributes:
        remarks: (remark, place of its first row, number of rows, fields), in order.
        columns: that some row had, sorted.
    """

    remarks: tuple[tuple[str, str, int, tuple[str, ...]], ...] = ()
    columns: tuple[str, ...] = ()


@dataclass
class _Remark:
    """A remark's rows: the first, their number, and the fields that it concerns."""

    first: str
    rows: int = 0
    fields: dict[str, None] = field(default_factory=dict[str, None])


class _Shown:
    """Progress through files, where it takes long enough for somebody to wait."""

    _sizes: Mapping[Source, int] = {}
    _progress: Progress | None = None
    _before = 0
    _bytes = 1
    _rows = 0

    def __init__(self, sources: Sequence[Source]) -> None:
        with contextlib.suppress(OSError, KeyError, zipfile.BadZipFile):  # told when it is opened
            self._sizes = {source: source.size() for source in sources}
            total = sum(self._sizes.values())
            self._bytes, unit = (1_000_000, "MB") if total > _LARGE else (1000, "kB")
            self._progress = Progress(
                "reading data", max(1, total // self._bytes), unit, after=PATIENCE
            )

    def __enter__(self) -> _Shown:
        if self._progress is not None:
            self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._progress is not None:
            self._progress.__exit__(*error)

    def read(self, size: int) -> None:
        """So many bytes of the present file are read."""
        if self._progress is not None:
            self._progress.update((self._before + size) // self._bytes)

    def row(self) -> None:
        """A row is through: time passes between two pieces of a file, too."""
        self._rows += 1
        if self._progress is not None and self._rows % _ROWS == 0:
            self._progress.advance(0)

    def ended(self, source: Source) -> None:
        """The present file is through."""
        self._before += self._sizes.get(source, 0)
        self.read(0)
