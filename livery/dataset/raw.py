"""Files of rows, whatever their format: JSON lines, JSON arrays, CSV and TSV, Parquet.

Rows are read as a stream: of a file of any size one chunk and one row are held. A row that cannot
be read is a `RowError` in its place; where no more rows can be found after a fault, the file ends
with a `UserError`.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from livery.dataset.conversation import RowError
from livery.dataset.packed import (
    ReadSoFar,
    Source,
    bomb,
    explained,
    import_pyarrow,
    most_bytes,
    read_chunks,
    seekable,
)
from livery.errors import UserError, counted, quoted
from livery.reading import LONGEST_LINE, decode, kind_of, parse_json, parse_row

RawRow = tuple[str, dict[str, Any] | RowError]

_BATCH = 256  # rows of a Parquet file held at a time, if they cannot take more than
_HELD = 1 << 30  # so many bytes
_SPACE = re.compile(r"[ \t\r\n]*")
# How files begin that are often called something else: (bytes, what they are, their ending).
_DISGUISES = (
    (b"\x1f\x8b", "a gzip file", "*.jsonl.gz, or as it was packed"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "*.jsonl.zst, or as it was packed"),
    (b"PAR1", "a Parquet file", "*.parquet"), (b"ARROW1", "an Arrow file", ""),
    (b"PK\x03\x04", "a zip file or a spreadsheet", ""), (b"SQLite format 3", "a database", ""),
    (b"%PDF-", "a PDF", ""), (b"\x89PNG", "a picture", ""),
)  # fmt: skip


def raw_rows(source: Source, read: ReadSoFar = lambda size: None) -> Iterator[RawRow]:
    """("file:line" or "file row N", row or what is wrong with it) of each row.

    Rows of JSON lines are named by their line, others by their number, from 1.

    Args:
        read: told now and then how many bytes of the file, as it is there, are read.

    Raises:
        UserError: the file cannot be read, or not beyond some place, which is named.
    """
    if source.format == "parquet":
        yield from _parquet(source, read)
        return
    chunks = read_chunks(source, read)
    first = next(chunks, b"")
    _check_text(first, source)
    chunks = _chain(first, chunks)
    if source.format == "table":
        yield from _table(chunks, source)
        return
    # Many a .json holds JSON lines, and the reverse: the first bytes tell.
    if re.match(rb"(\xef\xbb\xbf)?\s*\[\s*([\]{]|$)", first):
        yield from _array(chunks, source)
    else:
        yield from _json_lines(chunks, source)


def _check_text(first: bytes, source: Source) -> None:
    """Raises UserError where a file's first bytes are those of no text, or of text in UTF-16."""
    for mark, what, ending in _DISGUISES:
        if first.startswith(mark):
            raise UserError(
                f"{source}: not text but {what}, whatever its name says. "
                + (f"Call it {ending}." if ending else "Write its rows as JSON lines.")
            )
    head = first[:200]
    zeros = head.count(0)
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")) or (
        # Without a byte-order mark every second byte of Latin text is zero.
        len(head) > 8 and min(head[::2].count(0), head[1::2].count(0)) == 0
        and zeros > len(head) // 4
    ) or zeros > 0.7 * len(head) > 6  # fmt: skip
    if wide:
        name = "UTF-32" if zeros > 0.6 * len(head) else "UTF-16"
        raise UserError(f"{source}: {name} text. Save the file as UTF-8.")


def _json_lines(chunks: Iterable[bytes], source: Source) -> Iterator[RawRow]:
    for number, raw in _lines(chunks, source):
        if not raw.strip(b"\xef\xbb\xbf \t\r\n\x0b\f"):
            continue
        where = f"{source}:{number}"
        try:
            yield where, parse_row(raw, source, number)
        except UserError as error:
            if number == 1 and raw.strip(b"\xef\xbb\xbf \r\n") == b"{":
                raise UserError(
                    f"{source}: one JSON object over several lines; a list of rows was expected, "
                    "or one row a line."
                ) from None
            yield _fault(where, where, error)


def _lines(chunks: Iterable[bytes], source: Source) -> Iterator[tuple[int, bytes]]:
    r"""(number, line with its end). A line ends with \n, \r\n or, as of old, \r; each counts once.

    Of blank lines in great number only one is yielded.

    Raises:
        UserError: a line is longer than LONGEST_LINE bytes.
    """
    number, size = 1, 0
    held: list[bytes] = []
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if size > LONGEST_LINE:
            raise UserError(f"{source}:{number}: a line of more than {LONGEST_LINE >> 20} MB.")
        if b"\n" not in chunk and b"\r" not in chunk:
            continue
        data = b"".join(held)
        # What follows the last line break waits for its rest, and so does \r, for its \n.
        end = max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
        whole, held = data[:end], [data[end:]]
        size = len(held[0])
        if len(whole) > 1 and not whole.strip():
            yield number, b"\n"
            number += whole.count(b"\n") + whole.count(b"\r") - whole.count(b"\r\n")
            continue
        for line in whole.splitlines(keepends=True):
            yield number, line
            number += 1
    for line in b"".join(held).splitlines(keepends=True):
        yield number, line
        number += 1


def _array(chunks: Iterable[bytes], source: Source) -> Iterator[RawRow]:
    """The objects of a JSON array, one after the other."""
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)  # finds an end; parses no number
    text = _Text(chunks, source)
    text.skip("[")
    number = 0
    if text.peek() == "]":
        text.skip("]")
    else:
        while True:
            number += 1
            text.peek()
            line = text.line
            raw = text.value(decoder, number)
            where = f"{source} row {number}"
            try:
                row = parse_json(raw, source, line=line, finite=True)
                if not isinstance(row, dict):
                    said = f"{kind_of(row)} where a JSON object was expected."
                    raise UserError(f"{source}:{line}: {said}")
                yield where, row
            except UserError as error:
                yield _fault(where, f"{source}:{line}", error)
            if text.peek() != ",":
                break
            text.skip(",")
        text.skip("]")
    if text.peek():
        raise UserError(f"{source}:{text.line}: not valid JSON: more after the list's end.")


class _Text:
    """The text of a stream, of which only what is not read yet is held."""

    def __init__(self, chunks: Iterable[bytes], source: Source) -> None:
        self.chunks = iter(chunks)
        self.source = source
        self.decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self.text, self.at, self.line = "", 0, 1

    def more(self) -> bool:
        """Read at least as much again as is held, for a value may be longer than a chunk."""
        parts = [self.text[self.at :]]
        wanted, size = max(1, len(parts[0])), 0
        while size < wanted:
            chunk = next(self.chunks, None)
            try:
                parts.append(self.decoder.decode(chunk or b"", final=chunk is None))
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{self.source}: not UTF-8 text ({error.reason}). Save the file as UTF-8."
                ) from None
            size += len(parts[-1])
            if chunk is None:
                break
        self.text, self.at = "".join(parts), 0
        if len(self.text) > LONGEST_LINE:
            raise UserError(f"{self.source}:{self.line}: a row of more than 256 MB.")
        return size > 0

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            found = _SPACE.match(self.text, self.at)
            end = found.end() if found else self.at
            self.line += self.text.count("\n", self.at, end)
            self.at = end
            if end < len(self.text):
                return self.text[end]
            if not self.more():
                return ""

    def skip(self, wanted: str) -> None:
        """Go past a character. Raises UserError where another one is."""
        found = self.peek()
        if found != wanted:
            got = f"{found!r}" if found else "the end of the file"
            raise UserError(
                f"{self.source}:{self.line}: not valid JSON: {wanted!r} expected, not {got}."
            )
        self.at += 1

    def value(self, decoder: json.JSONDecoder, number: int) -> str:
        """The text of the next JSON value."""
        while True:
            try:
                _, end = decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.text) - 16
                if cut and self.more():
                    continue
                line = self.line + self.text.count("\n", self.at, error.pos)
                fault = "the file ends within it" if cut else error.msg
                raise UserError(
                    f"{self.source}:{line}: row {number} is not valid JSON: {fault}."
                ) from None
            except RecursionError:
                raise UserError(
                    f"{self.source}:{self.line}: row {number} is nested too deep."
                ) from None
            raw = self.text[self.at : end]
            self.line += raw.count("\n")
            self.at = end
            return raw


def _table(chunks: Iterable[bytes], source: Source) -> Iterator[RawRow]:
    """Rows of a table in text; the first line names the columns."""

    def texts() -> Iterator[str]:
        for number, raw in _lines(chunks, source):
            yield decode(raw, source, number)

    csv.field_size_limit(LONGEST_LINE)
    feed = texts()
    head = next(feed, "")
    if not head:
        return
    # Spreadsheets of some countries write semicolons, and call it CSV all the same.
    mark = "\t" if source.plain_name.lower().endswith(".tsv") else max(",;\t", key=head.count)
    if told := re.fullmatch(r"sep=(.)\s*", head):  # a line that Excel takes for itself
        mark, head = told[1], next(feed, "")
    reader = csv.reader(_chain(head, feed), delimiter=mark, strict=True)
    number = 0
    try:
        names = [name.strip() for name in next(reader, [])]
        if not any(names):
            raise UserError(f"{source}:1: its first line names no columns.")
        names = [name or f"_{at}" for at, name in enumerate(names)]  # an index without a name
        if len(names) != len(set(names)):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(
                f"{source}:1: the column {quoted(twice)} occurs twice in the first line."
            )
        for cells in reader:
            if not cells:
                continue
            number += 1
            where = f"{source} row {number}"
            if len(cells) != len(names):
                yield (
                    where,
                    RowError(
                        where,
                        f"{counted(len(cells), 'cell')} where the first line names "
                        f"{counted(len(names), 'column')}.",
                    ),
                )
            else:
                yield where, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{source}:{reader.line_num}: not a table: {error}.") from None


def _parquet(source: Source, read: ReadSoFar) -> Iterator[RawRow]:
    arrow = import_pyarrow(source, "Parquet files")
    with seekable(source) as file, explained(source, (arrow.ArrowException,)):
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]

        number = 0
        packed = file.seek(0, io.SEEK_END)
        table = parquet.ParquetFile(file)
        said, largest = _parquet_sizes(table.metadata)
        if said > most_bytes(packed):
            raise bomb(source, packed)
        # A value that the file holds once may be in every row.
        held = min(_HELD, most_bytes(packed))
        count = max(1, min(_BATCH, held // max(1, largest)))
        size, total = source.size(), 0
        for batch in table.iter_batches(batch_size=count):
            if batch.nbytes > most_bytes(packed):  # the metadata may say anything
                raise bomb(source, packed)
            read(size * number // max(1, table.metadata.num_rows))
            for row in batch.to_pylist():
                number += 1
                total += _bytes(row)
                if total > most_bytes(packed):
                    raise bomb(source, packed)
                # A schema gives every row all fields of all others, as null.
                yield f"{source} row {number}", _without_null(row)


def _parquet_sizes(metadata: Any) -> tuple[int, int]:
    """(bytes or values of all columns, unpacked; those of the largest column of a row group)."""
    total = largest = 0
    for group in range(metadata.num_row_groups):
        columns = metadata.row_group(group)
        for at in range(columns.num_columns):
            column = columns.column(at)
            # Runs of one value, or of nothing, take no bytes in the file but some in memory.
            size = max(0, column.total_uncompressed_size, column.num_values)
            total, largest = total + size, max(largest, size)
    return total, largest


def _bytes(value: Any) -> int:
    """About how much a value takes: characters of its texts, and one for whatever else it is."""
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list):
        return len(value) + sum(map(_bytes, value))
    return len(value) if isinstance(value, str | bytes) else 1


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_null(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_null(v) for v in value]
    return value


def _fault(where: str, prefix: str, error: UserError) -> RawRow:
    return where, RowError(where, str(error).removeprefix(f"{prefix}: "))


def _chain(first: Any, rest: Iterable[Any]) -> Iterator[Any]:
    if first:
        yield first
    yield from rest
