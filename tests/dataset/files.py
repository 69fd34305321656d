"""Writes the same rows in every format that Livery reads."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Rows = Sequence[dict[str, Any]]


def as_lines(rows: Rows, end: str = "\n") -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows).encode()


def as_array(rows: Rows) -> bytes:
    return json.dumps(list(rows), indent=1).encode()


def as_table(rows: Rows, mark: str = ",") -> bytes:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = csv.writer(text, delimiter=mark)
    table.writerow(names)
    for row in rows:
        cells = [row.get(name, "") for name in names]
        table.writerow([c if isinstance(c, str) else json.dumps(c) for c in cells])
    return text.getvalue().encode()


def as_parquet(rows: Rows) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows)), out, row_group_size=2)
    return out.getvalue()


def zstd(data: bytes) -> bytes:
    import pyarrow as pa

    return pa.compress(data, codec="zstd", asbytes=True)


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


# File name -> how rows are written into it.
FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "x.jsonl": as_lines,
    "x.ndjson": as_lines,
    "x.txt": as_lines,
    "mac.jsonl": lambda rows: as_lines(rows, "\r"),
    "dos.jsonl": lambda rows: b"\xef\xbb\xbf" + as_lines(rows, "\r\n"),
    "x.json": as_array,
    "lines.json": as_lines,
    "array.jsonl": as_array,
    "x.csv": as_table,
    "semicolons.csv": lambda rows: as_table(rows, ";"),
    "bom.csv": lambda rows: b"\xef\xbb\xbf" + as_table(rows),
    "x.tsv": lambda rows: as_table(rows, "\t"),
    "x.parquet": as_parquet,
    "x.jsonl.gz": lambda rows: gzip.compress(as_lines(rows)),
    "x.json.gz": lambda rows: gzip.compress(as_array(rows)),
    "x.csv.gz": lambda rows: gzip.compress(as_table(rows)),
    "x.jsonl.zst": lambda rows: zstd(as_lines(rows)),
    "two-frames.jsonl.zst": lambda rows: zstd(as_lines(rows[:2])) + zstd(as_lines(rows[2:])),
    "x.jsonl.bz2": lambda rows: bz2.compress(as_lines(rows)),
    "x.jsonl.xz": lambda rows: lzma.compress(as_lines(rows)),
}  # fmt: skip


def write(folder: Path, name: str, rows: Rows) -> Path:
    """Write `rows` as the format of FORMATS that `name` is listed under, or ends like."""
    make = FORMATS.get(name) or next(
        make for known, make in FORMATS.items()
        if known.startswith("x.") and name.endswith(known[1:])
    )  # fmt: skip
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(make(rows))
    return path
