"""The one reader of training data: files -> rows, each used, dropped, or refused.

`livery train` and `livery data check` read through it, so that they never differ over a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from livery.dataset.columns import Columns
from livery.dataset.conversation import Dropped, Row, RowError
from livery.dataset.raw import Source, raw_rows
from livery.dataset.rows import TrainOn, nothing_to_learn, read_row
from livery.errors import UserError


class Reader:
    """Reads files of one data set, and remembers what must be told once.

    Attributes:
        columns: which column holds what.
        train_on: learn every answer of a conversation, or its last one alone.
    """

    def __init__(self, columns: Columns | None = None, train_on: TrainOn = "all") -> None:
        self.columns = columns or Columns()
        self.train_on: TrainOn = train_on
        self._told: dict[str, tuple[int, str]] = {}
        self._seen: set[str] = set()
        self._first: Source | None = None

    def read(self, sources: Sequence[Source]) -> Iterator[Row | Dropped | RowError]:
        """Each row of the files, in order: what it says, or why it is left out or refused.

        Raises:
            UserError: a file cannot be read, or not to its end.
        """
        self._first = self._first or (sources[0] if sources else None)
        for source in sources:
            for where, raw in raw_rows(source):
                if isinstance(raw, RowError):
                    yield raw
                    continue
                self._seen.update(raw)
                yield self._judge(raw, where)

    def _judge(self, raw: dict[str, object], where: str) -> Row | Dropped | RowError:
        remarks: list[str] = []
        try:
            row = read_row(
                raw, where, self.columns, train_on=self.train_on, say=remarks.append
            )  # fmt: skip
        except RowError as error:
            return error
        if reason := nothing_to_learn(row):
            return Dropped(where, reason)
        for remark in dict.fromkeys(remarks):
            self.tell(remark, where)
        return row

    def tell(self, remark: str, where: str) -> None:
        """Count what the user is told once for all rows."""
        count, first = self._told.get(remark, (0, where))
        self._told[remark] = count + 1, first

    def check_columns(self) -> None:
        """After reading: every column that is named was there.

        Raises:
            UserError: no row had one of them.
        """
        missing = self.columns.missing(self._seen)
        if missing and self._seen:
            raise UserError(
                f"{self._first}: no row has the column {missing[0]!r} that columns names; there "
                f"are: {', '.join(sorted(self._seen)[:20])}."
            )

    def notes(self) -> list[str]:
        """What the user is told once, each with how many rows it concerns and the first of them."""
        return [
            f"{count} {'row' if count == 1 else 'rows'}: {remark} (first: {where})."
            for remark, (count, where) in self._told.items()
        ]
