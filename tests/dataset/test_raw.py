"""Every file format gives the same rows; faults name file and row; bombs are stopped."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livery.dataset import packed, raw
from livery.dataset.conversation import RowError
from livery.dataset.packed import Source
from livery.dataset.raw import raw_rows
from livery.errors import UserError
from tests import takes_less
from tests.dataset import files

ROWS: list[dict[str, Any]] = [
    {"prompt": f"Größe {n}?\nSay, \"it\"; now\t🦊", "completion": f"{n}, of course"}
    for n in range(5)
]  # fmt: skip
TALK = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def read(path: Path, member: str = "") -> list[tuple[str, Any]]:
    return list(raw_rows(Source(path, member)))


def values(path: Path, member: str = "") -> list[Any]:
    return [row for _, row in read(path, member)]


@pytest.mark.parametrize("name", files.FORMATS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    path = files.write(tmp_path, name, ROWS)
    found = read(path)
    assert [row for _, row in found] == ROWS
    by_line = files.FORMATS[name](ROWS[:1]).strip(b"\xef\xbb\xbf")[:1] == b"{"
    if by_line or ".jsonl." in name:
        assert [where for where, _ in found] == [f"{path}:{n}" for n in range(1, 6)]
    else:
        assert [where for where, _ in found] == [f"{path} row {n}" for n in range(1, 6)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.csv", "x.parquet", "x.jsonl.zst"])
def test_every_format_within_a_zip(tmp_path: Path, name: str) -> None:
    path = tmp_path / "data.zip"
    path.write_bytes(files.zipped({name: files.FORMATS[name](ROWS)}))
    assert values(path, name) == ROWS
    assert read(path, name)[0][0].startswith(f"{path}/{name}")


@pytest.mark.slow
def test_parquet_rows_lose_the_nulls_that_a_schema_adds(tmp_path: Path) -> None:
    calls = [{"function": {"name": "f", "arguments": '{"x": 1}'}}]
    rows = [
        {"messages": TALK, "source": "a"},
        {"messages": [TALK[0], {"role": "assistant", "tool_calls": calls}]},
    ]
    assert values(files.write(tmp_path, "x.parquet", rows)) == rows


def test_csv_cells_hold_json_and_indices_without_a_name(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(',prompt,completion\n0,"a\nb",c\n\n1,"d ""e""",\n')
    assert values(path) == [
        {"_0": "0", "prompt": "a\nb", "completion": "c"},
        {"_0": "1", "prompt": 'd "e"', "completion": ""},
    ]


def lines_of(*texts: str) -> bytes:
    return "\n".join(texts).encode()


GOOD = '{"text": "a"}'


@pytest.mark.parametrize(
    ("name", "data", "place", "message"),
    [
        ("x.jsonl", lines_of(GOOD, "", "{oops"), "{p}:3", "not valid JSON"),
        ("x.jsonl", lines_of(GOOD, "[1]"), "{p}:2", "a list where a JSON object"),
        ("x.jsonl", lines_of(GOOD, "null"), "{p}:2", "null where a JSON object"),
        ("x.jsonl", lines_of(GOOD, '{"text": "a", "n": NaN}'), "{p}:2", "NaN is not a JSON value"),
        ("x.jsonl", lines_of(GOOD, "[" * 5000), "{p}:2", "nested deeper"),
        ("x.jsonl", lines_of(GOOD, '{"text": ' + "1" * 5000 + "}"), "{p}:2", "5,000 digits"),
        ("x.jsonl", lines_of(GOOD, '{"text": "cut \\ud83d"}'), "{p}:2", "half of a character"),
        ("x.jsonl", lines_of(GOOD, '{"text": "a", "text": "b"}'), "{p}:2", "appears twice"),
        ("x.jsonl", b'{"text": "a"}\r{"text": "\xff"}\r', "{p}:2", "not UTF-8"),
        ("x.json", lines_of("[", GOOD, ', {"text": "cut \\ud83d"}]'), "{p} row 2", "half of a"),
        ("x.json", lines_of("[{}", ", 3]"), "{p} row 2", "a number where"),
        ("x.csv", lines_of("text,b", "a,b", "c"), "{p} row 2", "1 cell where"),
        ("x.csv", lines_of("text,b", "a,b", "c,d,e"), "{p} row 2", "3 cells where"),
    ],
)  # fmt: skip
def test_a_broken_row_is_named_and_others_are_read(
    tmp_path: Path, name: str, data: bytes, place: str, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    found = read(path)
    assert isinstance(found[0][1], dict)
    where, fault = found[1]
    assert where == place.format(p=path)
    assert isinstance(fault, RowError)
    assert fault.where == where
    assert message in fault.reason
    assert str(path) not in fault.reason


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.json", lines_of("{", '"data": []', "}"), "one JSON object over several lines"),
        ("x.json", lines_of("[", GOOD, GOOD), r"x\.json:3: not valid JSON: ']' expected, not '{'"),
        ("x.json", lines_of("[", GOOD), "']' expected, not the end of the file"),
        ("x.json", lines_of("[", GOOD + ',{"text": "b'), r"x\.json:2: row 2 .*file ends within"),
        ("x.json", lines_of("[", "{oops" + " " * 99 + "}]"), r"x\.json:2: row 1 is not valid JSON"),
        ("x.json", lines_of("[" + "{\"a\":" * 100_000), "nested too deep"),
        ("x.json", lines_of("[" + GOOD + "] more"), "more after the list's end"),
        ("x.json", b'[{"text": "\xff"}]', "not UTF-8"),
        ("x.csv", lines_of("a,a", "1,2"), "'a' occurs twice"),
        ("x.csv", lines_of(",", "1,2"), "names no columns"),
        ("x.csv", lines_of("a,b", '"c,d'), r"x\.csv:2: not a table"),
        ("x.csv", b"a,b\n\xff,d\n", r"x\.csv:2: not UTF-8"),
        ("x.csv", "a,b\nc,d\n".encode("utf-16"), "UTF-16 text. Save"),
        ("x.jsonl", GOOD.encode("utf-16"), r"x\.jsonl: UTF-16 text. Save"),
        ("x.jsonl", GOOD.encode("utf-16-le"), r"x\.jsonl: UTF-16 text. Save"),
        ("x.json", GOOD.encode("utf-32-be"), r"x\.json: UTF-32 text. Save"),
        ("x.csv", b"a,b\nc\nd".decode().encode("utf-16-be"), "UTF-16 text. Save"),
        ("x.jsonl", gzip.compress(b"{}", mtime=0), r"a gzip file, whatever .* Call it \*.jsonl"),
        ("x.csv", b"PAR1\x15", r"not text but a Parquet file.*Call it \*.parquet"),
        ("x.json", b"PK\x03\x04", "a zip file or a spreadsheet.*Write its rows as JSON lines"),
        ("x.jsonl", lines_of("{", '"text": "a"', "}"), "one JSON object over several lines"),
        ("x.parquet", b"PAR1 no", "not a complete parquet file"),
        ("x.parquet", b"", "not a complete parquet file"),
        ("x.jsonl.gz", b"\x1f\x8b no", "not a complete gz file"),
        ("x.jsonl.gz", gzip.compress(b"{}\n" * 99, mtime=0)[:-9], "not a complete gz file"),
        ("x.jsonl.zst", b"no", "not a complete zst file"),
        ("x.jsonl.bz2", b"no", "not a complete bz2 file"),
        ("x.jsonl.xz", b"no", "not a complete xz file"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_on(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.slow
def test_bombs_are_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "FLOOR", 1 << 20)
    flood = b"\n" * (24 << 20)
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(flood))
    (tmp_path / "x.jsonl.zst").write_bytes(files.zstd(flood))
    (tmp_path / "x.zip").write_bytes(files.zipped({"x.jsonl": flood, "y.parquet": flood}))

    def look() -> None:
        for path, member in (
            (tmp_path / "x.jsonl.gz", ""), (tmp_path / "x.jsonl.zst", ""),
            (tmp_path / "x.zip", "x.jsonl"), (tmp_path / "x.zip", "y.parquet"),
        ):  # fmt: skip
            with pytest.raises(UserError, match="bytes, which no data set does: a bomb"):
                read(path, member)

    assert takes_less(3, look)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", ["one value", "plain", "nothing", "list"])
def test_a_parquet_bomb_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, keep: bool
) -> None:
    """A value that a file holds once stands in each of its rows, or is packed a thousandfold.

    Args:
        keep: with the writer's own schema, with which dictionaries are read as such.
    """
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.setattr(packed, "FLOOR", 4 << 20)
    big = arrow.array(["a" * (1 << 20)])
    column = {
        "one value": lambda: arrow.DictionaryArray.from_arrays(
            arrow.array([0] * 200_000, arrow.int32()), big
        ),
        "plain": lambda: arrow.array(["a" * (1 << 20)] * 30),
        "nothing": lambda: arrow.array([[None] * 30_000_000], arrow.list_(arrow.int8())),
        "list": lambda: arrow.array([["a" * (1 << 20)] * 40]),
    }[kind]()
    path = tmp_path / "x.parquet"
    parquet.write_table(
        arrow.table({"text": column}), path, compression="zstd", store_schema=keep,
        use_dictionary=kind != "plain",
    )  # fmt: skip
    assert path.stat().st_size < 40_000
    before = arrow.total_allocated_bytes()
    began = time.process_time()
    with pytest.raises(UserError, match=r"bytes, which no data set does: a bomb.*JSON lines"):
        read(path)
    assert arrow.total_allocated_bytes() - before < 100 << 20
    assert time.process_time() - began < 10  # 0.7 here


def test_a_parquet_file_of_one_prompt_in_many_rows_is_read(tmp_path: Path) -> None:
    """What a data set shares may shrink; that is no bomb."""
    pytest.importorskip("pyarrow")
    rows = [{"prompt": "be brief. " * 200, "completion": f"{n * 7919}"} for n in range(999)]
    path = files.write(tmp_path, "x.parquet", rows)
    assert values(path) == rows


def test_a_line_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "LONGEST_LINE", 3 << 20)
    for name in ("x.jsonl", "x.csv", "x.json"):
        path = tmp_path / name
        path.write_bytes(b'[{"text": "' + b"a" * (5 << 20))
        with pytest.raises(UserError, match="more than"):
            read(path)


def test_rows_are_read_as_a_stream(tmp_path: Path) -> None:
    """The first row is there before the file is read; what is behind it may be broken."""
    rows = json.dumps([{"text": "a" * 500}] * 9000)
    for name, data in {
        "x.json": rows.encode()[:-9] + b"oops",
        "x.jsonl": files.as_lines([{"text": "a"}]) + b"\xff" * (2 << 20),
        "x.csv": b"text\na\n" + b"b\n" * (2 << 20) + b'"',
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        where, row = next(raw_rows(Source(path)))
        assert isinstance(row, dict), where


def test_lines_are_counted_whatever_ends_them(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\r\n{"a": 2}\r{"a": 3}\n\n\r{"a": 4}')
    assert [where.rpartition(":")[2] for where, _ in read(path)] == ["1", "3", "4", "7"]


@pytest.mark.slow
@given(
    pieces=st.lists(st.sampled_from(['{"a": 1}', " ", "\n", "\r", "\r\n", "\n\n"]), max_size=30),
    chunk=st.integers(1, 9),
)
def test_lines_do_not_depend_on_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: list[str], chunk: int
) -> None:
    path = tmp_path / "x.jsonl"
    data = "".join(pieces).encode()
    path.write_bytes(data)
    monkeypatch.setattr(packed, "CHUNK", chunk)
    expected = [
        f"{path}:{number}" for number, line in enumerate(data.splitlines(), 1) if line.strip()
    ]
    assert [where for where, _ in read(path)] == expected


@pytest.mark.slow
@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), st.text() | st.floats(-9, 9)), max_size=5),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 0, 3]),
    ascii_only=st.booleans(),
)
def test_arrays_do_not_depend_on_chunks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[dict[str, Any]],
    chunk: int,
    indent: int | None,
    ascii_only: bool,
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii_only), "utf-8", newline="")
    monkeypatch.setattr(packed, "CHUNK", chunk)
    assert values(path) == rows


def test_without_pyarrow_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.write(tmp_path, "x.parquet", ROWS)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'livery\[data\]'"):
        read(path)


@pytest.mark.parametrize(
    ("name", "data", "texts"),
    [
        ("x.csv", b"", []), ("x.jsonl", b"\xef\xbb\xbf", []), ("x.jsonl", b"\xef\xbb\xbf\n\n", []),
        ("x.csv", b"sep=;\r\ntext;n\r\na;1\r\n", ["a"]),
        ("x.csv", "text,n\na\u2028b,1\n".encode(), ["a\u2028b"]),
        ("x.jsonl", '{"text": "a\u2028b\u2029c\x85d"}\n{"text": "e"}'.encode(),
         ["a\u2028b\u2029c\x85d", "e"]),
        ("x.jsonl", b'{"text": "a", "text": "a"}\r\n\r\n{"text": "b"}', ["a", "b"]),
        ("x.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\xef\xbb\xbf{"text": "b"}\r', ["a", "b"]),
        ("x.jsonl", b'\xef\xbb\xbf\xef\xbb\xbf{"text": "a"}', ["a"]),
        ("x.csv", b'text,n\r"a\rb",1\rc,2\r', ["a\nb", "c"]),
    ],
)  # fmt: skip
def test_odd_files_that_are_read(tmp_path: Path, name: str, data: bytes, texts: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    found = [row["text"] for _, row in read(path) if isinstance(row, dict)]
    assert [text.replace("\r", "\n") for text in found] == texts
