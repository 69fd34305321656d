"""What somebody else wrote is read whole, or refused in one line that says where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from livery import weights
from livery.errors import UserError, printable, shown
from livery.reading import (
    parse_json,
    parse_row,
    read_bytes,
    read_json,
    read_jsonl,
    read_text,
)

P = Path("made/x.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^made/x\.json: empty"),
        (b" \n\t", r"^made/x\.json: empty"),
        (b"{", r"^made/x\.json:1: not valid JSON: Expecting property name"),
        (b'{"a": 1,\n\n"b" 2}', r"^made/x\.json:3: not valid JSON"),
        (b'{"a": "\0"}', r"x\.json:1: not valid JSON: Invalid control character \(a NUL byte\)"),
        ('{"a": 1}'.encode("utf-16"), r"x\.json: UTF-16 text\. Save the file as UTF-8"),
        ('{"a": 1}'.encode("utf-32"), r"x\.json: UTF-32 text\. Save the file as UTF-8"),
        (b'{"a":\n"\xff"}', r"x\.json:2: not UTF-8 text .* at byte 7"),
        (b'{"a": "\xed\xa0\xbd"}', r"x\.json:1: not UTF-8 text"),
        (b"[" * 200_000, "nested deeper than 100 levels"),
        (b'{"a":' * 200_000, "nested deeper than 100 levels"),
        (b"[" * 101 + b"]" * 101, "nested deeper than 100 levels"),
        (b'{"a": [1,\n' + b"9" * 5000 + b"]}", r"x\.json:2: a: 9+… .* a number of 5,000 digits"),
        (b'{"r":\n-' + b"1" * 400 + b"}", r"x\.json:2: r: -1+… .* a number of 401 digits"),
        (
            rb'{"a":' + b"\n" + rb'[{"b": "x\ud83d"}]}',
            r"x\.json:2: a\[0\]\.b: 'x\\ud83d' holds half",
        ),
        (rb'{"a": "\ude00\ud83d"}', r"x\.json:1: a: '\\ude00\\ud83d' holds half"),
        (rb'{"a": {"\ud83d": 1}}', r"x\.json:1: a\.a key: '\\ud83d' holds half"),
        ('{"a": "\ud83d"}', r"x\.json:1: a: '\\ud83d' holds half"),
        (b'{"r": 8,\n"r": 16}', r"x\.json:2: the key 'r' appears twice"),
        (b'{"r": 1, "r": true}', "the key 'r' appears twice"),
        (b'[{"x": {"r": 1, "r": 1.0}}]', "the key 'r' appears twice"),
    ],
)
def test_json_that_is_refused(data: bytes | str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        parse_json(data, P)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (rb'"\ud83d\ude00"', "😀"),
        (b"[" * 100 + b"]" * 100, None),
        (b'{"r": 8, "r": 8}', {"r": 8}),
        (b"9" * 300, int("9" * 300)),
        (b"Infinity", float("inf")),  # falcon_h1's time_step_limit
        (b"1e400", float("inf")),
    ],
)
def test_json_that_is_read(data: bytes, value: Any) -> None:
    found = parse_json(data, P)
    assert value is None or found == value


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400", "-1e999"])
def test_numbers_without_end_are_refused_in_rows(number: str) -> None:
    with pytest.raises(UserError, match=rf"^rows\.jsonl:7: score: {number} is "):
        parse_row(f'{{"text": "a", "score": {number}}}'.encode(), "rows.jsonl", 7)


def test_a_row_names_its_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": "\\ud83d"}\n')
    rows = read_jsonl(file)
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(UserError, match=r"train\.jsonl:3: a: '\\ud83d' holds half of a character"):
        next(rows)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    fifo, loop, locked = tmp_path / "fifo", tmp_path / "loop", tmp_path / "file"
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    locked.write_text("{}")
    for path, message in {
        str(fifo): "a pipe, socket or device, not a file",
        "/dev/zero": "a pipe, socket or device, not a file",
        str(tmp_path): "is a folder, not a file",
        str(tmp_path / "none"): "no such file",
        str(locked / "x"): "a part of the path is a file",
        str(loop): "cannot be read",
        "a" * 5000: r"^a+… \(5,000 characters\): cannot be read",
        "x\0y": r"x\\x00y: no file can have this name",
    }.items():
        for read in (read_json, read_text, read_bytes, lambda path: next(read_jsonl(path))):
            with pytest.raises(UserError, match=message):
                read(path)


def test_a_size_beyond_any_such_file_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with file.open("wb") as opened:
        opened.truncate(1 << 40)
    with pytest.raises(UserError, match=r"config\.json: more than 1 MB"):
        read_json(file, limit=1 << 20)


def test_names_from_files_are_printed_escaped() -> None:
    assert shown("model.layers.0.größe 層") == "model.layers.0.größe 層"
    assert shown("a\x1b[31m\nb\u202e\ud83d\u200b\x9b") == r"a\x1b[31m\nb\u202e\ud83d\u200b\x9b"
    assert shown("x" * 100_000) == "x" * 200 + "… (100,000 characters)"
    assert printable("one\n\ttwo\x1b\r") == "one\n\ttwo\\x1b\\r"


def test_a_recorded_run_with_values_no_run_has_is_refused(tmp_path: Path) -> None:
    from livery.config.layers import resolve

    record = tmp_path / "run_config.json"
    for settings, message in (
        ("[]", "damaged: it holds no settings"),
        ('{"lora": []}', "damaged: it holds no settings"),
        ('{"max_steps": "x"}', "max_steps: 'x' is not a value that a run can have"),
        ('{"batch_size": true}', "batch_size: True is not a value"),
        ('{"learning_rate": NaN}', "learning_rate: nan is not a value"),
        ('{"schedule": ["cosine"]}', "schedule: .* is not a value"),
        ('{"lora": {"rank": -1}}', "lora.rank: -1 is not a value"),
        ('{"lora": {"targets": [1]}}', r"lora.targets: \(1,\) is not a value"),
    ):
        record.write_text(f'{{"settings": {settings}}}')
        with pytest.raises(UserError, match=rf"run_config\.json: {message}"):
            resolve(recorded=record)
    record.write_text('{"settings": {"max_steps": null, "epochs": 2, "lora": {"rank": 4}}}')
    assert resolve(recorded=record).settings.lora.rank == 4


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[]", "its header is not a JSON object"),
        (b'{"a": 1}', "the entry of a is not one of a known tensor"),
        (b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', "a: shape"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', "a ends at byte"),
        (b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', "a: shape"),
        (b'{"a": {"dtype": "I8", "shape": [2], "data_offsets": [1, 3]}}', "a leaves a hole"),
        (b'{"a": {"dtype": "I8", "shape": [3], "data_offsets": [0, 3]}}', "1 bytes belong to no"),
        (
            b'{"a": {"dtype": "I8", "shape": [3], "data_offsets": [0, 3]}, '
            b'"b": {"dtype": "I8", "shape": [2], "data_offsets": [2, 4]}}',
            "b leaves a hole or",
        ),
        (b'{"a": {"dtype": "X9", "shape": [4], "data_offsets": [0, 4]}}', "the entry of a"),
        (b'{"a": {"dtype": "F32", "shape": [1e9], "data_offsets": [0, 4]}}', "a: shape"),
        (b'{"a\x1b": null}', "its header: not valid JSON"),
        (b"[" * 5000, "nested deeper than 100 levels"),
        (b"version https://git-lfs.github.com/spec/v1", "git-lfs pointer"),
    ],
)
def test_the_header_of_a_weights_file_is_checked(
    header: bytes, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"
    size = len(header).to_bytes(8, "little")
    pointer = header.startswith(b"version")
    file.write_bytes(header if pointer else size + header + b"\0" * 4)
    with pytest.raises(UserError, match=message):
        weights.read_header(file)


def test_every_type_of_the_format_is_read(tmp_path: Path) -> None:
    """Also what no adapter is stored in: the scales and the four-bit values of quantized bases."""
    header = (
        b'{"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}, '
        b'"b": {"dtype": "F8_E8M0", "shape": [2], "data_offsets": [2, 4]}}'
    )
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    found = weights.read_header(file)
    assert (found["a"].nbytes, found["b"].tag) == (2, "F8_E8M0")
