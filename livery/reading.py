"""Reading a file that somebody else made: whole or refused, with its path, line and key.

Everything here returns or raises `UserError`; nothing waits on a pipe, reads a device, or takes
more memory than the bound for its kind of file.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

from livery.errors import UserError, shown

# Bounds in bytes. The largest tokenizer.json in use is some 35 MB, the largest index some 10 MB.
LARGEST_JSON = 512 << 20
LARGEST_TEXT = 64 << 20
# One row of a data file.
LONGEST_LINE = 256 << 20
LARGEST_HEADER = 100_000_000  # safetensors' own bound
# JSON within JSON: no schema, tool call or configuration comes near it.
DEEPEST = 100
# More digits than any float has before its point; longer whole numbers fit nothing we compute.
MOST_DIGITS = 308

_KIND: dict[type, str] = {list: "list", str: "text", int: "number", float: "number",
                          bool: "truth value", type(None): "null"}  # fmt: skip
_BOMS = ((b"\xff\xfe\x00\x00", "UTF-32"), (b"\x00\x00\xfe\xff", "UTF-32"),
         (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))  # fmt: skip
# An escape of one half of a surrogate pair without its other half.
_HALF = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}|[\ud800-\udfff]"
)
_NAMED = re.compile(r'"((?:[^"\\]|\\.){1,200})"\s*:[-\s\[{+0-9.,eE]*$')


def open_file(path: str | Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        UserError: there is none, it is a folder, a pipe or a device, or it may not be read.
    """
    path = Path(path)
    try:
        # A pipe nobody writes to would hold open() for ever: look before opening.
        _check_regular(path, path.stat().st_mode)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        file = os.fdopen(handle, "rb")  # refuses a folder
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    return file


def read_bytes(path: str | Path, limit: int = LARGEST_JSON) -> bytes:
    """All bytes of a regular file of at most `limit` bytes. Raises UserError, as `open_file`."""
    try:
        with open_file(path) as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise _unreadable(Path(path), error) from None
    if len(data) > limit:
        raise UserError(f"{shown(path)}: more than {_size(limit)}; no such file is that large.")
    return data


def read_text(path: str | Path, limit: int = LARGEST_TEXT) -> str:
    """A UTF-8 file as text, without a byte-order mark; line breaks as they are.

    Raises:
        UserError: as `open_file`, too large, or not UTF-8.
    """
    return decode(read_bytes(path, limit), Path(path))


def decode(data: bytes, where: object, line: int | None = None) -> str:
    """UTF-8 bytes as text, without a byte-order mark. Raises UserError, named after `where`."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            raise UserError(f"{_at(where, line)}: {name} text. Save the file as UTF-8.")
    try:
        return data.decode("utf-8-sig").lstrip("\ufeff")  # some tools write it twice
    except UnicodeDecodeError as error:
        counted = 1 + data.count(b"\n", 0, error.start) if isinstance(where, Path) else None
        at = _at(where, line or counted)
        raise UserError(
            f"{at}: not UTF-8 text ({error.reason} at byte {error.start}). Save the file as UTF-8."
        ) from None


def parse_json(
    data: bytes | str, where: object, *, line: int | None = None, finite: bool = False
) -> Any:
    """Parse one JSON value that somebody else wrote.

    Args:
        data: UTF-8 bytes (a byte-order mark is allowed) or text.
        where: what it was read from, for messages; after a path the line is named.
        line: the line of `where` that `data` is on; left out, lines are counted in `data`.
        finite: refuse NaN, Infinity and numbers beyond a float's range. They are no JSON, but
            Python and the configurations of some models (an endless time limit) hold them.

    A key that occurs twice in an object is refused unless both values are the same: readers differ
    in which one they take.

    Raises:
        UserError: not UTF-8, not JSON, nested deeper than DEEPEST, a whole number of more than
            MOST_DIGITS digits, half of a surrogate pair in a text, or one key with two values.
    """
    text = decode(data, where, line) if isinstance(data, bytes | bytearray) else data
    parse = _FINITE if finite else _ANY
    try:
        value = parse.decode(text)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise UserError(f"{_at(where, line)}: empty; JSON was expected.") from None
        at = _at(where, _line_in(text, error.pos, where) if line is None else line)
        fault = error.msg.removesuffix(" at").removesuffix(" starting")
        nul = " (a NUL byte)" if text[error.pos : error.pos + 1] == "\0" else ""
        raise UserError(f"{at}: not valid JSON: {fault}{nul}.") from None
    except RecursionError:
        raise _too_deep(where, line) from None
    except _RepeatedKeyError as error:
        at, _ = _place(text, f'"{error.args[0]}"', where, line, last=True)
        raise UserError(
            f"{at}: the key '{shown(error.args[0])}' appears twice in one object, with two values; "
            "keep one of them."
        ) from None
    except _NumberError as error:
        token, fault = error.args
        at, key = _place(text, token, where, line)
        raise UserError(f"{at}: {key}{shown(token, 40)} is {fault}.") from None
    # Only what may hold a fault is walked: most files cannot.
    if text.count("[") + text.count("{") > DEEPEST and isinstance(value, dict | list):
        _check_depth(value, where, line)
    escaped = "\\ud" in text or "\\uD" in text
    if escaped or (isinstance(data, str) and not data.isascii()):
        broken = _half_character(value) if isinstance(value, str | dict | list) else None
        if broken:
            half = _HALF.search(text)
            at, _ = _place(text, half.group() if half else "", where, line)
            key = f"{broken[0]}: " if broken[0] else ""
            raise UserError(
                f"{at}: {key}'{shown(broken[1], 60)}' holds half of a character (a "
                "cut-off emoji: one half of a surrogate pair), which is not text. Remove it."
            )
    return value


def read_json(path: str | Path, *, limit: int = LARGEST_JSON, finite: bool = False) -> Any:
    """Read one JSON file. Raises UserError as `open_file` and `parse_json`."""
    return parse_json(read_bytes(path, limit), Path(path), finite=finite)


def read_object(path: str | Path, *, limit: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON file that holds one object. Raises UserError, also where it holds another."""
    value = read_json(path, limit=limit)
    if not isinstance(value, dict):
        raise UserError(f"{shown(path, 1000)}: {kind_of(value)} where a JSON object was expected.")
    return value


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) for each non-blank line.

    Raises:
        UserError: as `open_file`, or a line is not a JSON object (file and line named).
    """
    path = Path(path)
    with open_file(path) as file:
        for number, raw in enumerate(lines(file, path), start=1):
            if raw.strip():
                yield number, parse_row(raw, path, number)


def lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The lines of an open file. Raises UserError for one of more than LONGEST_LINE bytes."""
    number = 1
    while raw := file.readline(LONGEST_LINE + 1):
        if len(raw) > LONGEST_LINE:
            raise UserError(f"{shown(path)}:{number}: a line of more than {_size(LONGEST_LINE)}.")
        yield raw
        number += 1


def parse_row(raw: bytes, path: object, number: int, *, finite: bool = True) -> dict[str, Any]:
    """One line of a JSON-lines file. Raises UserError naming file and line."""
    try:
        row = parse_json(raw, path, line=number, finite=finite)
    except UserError as error:
        if ": not valid JSON" not in str(error):
            raise
        raise UserError(f"{error} Each line must be one JSON object.") from None
    if not isinstance(row, dict):
        raise UserError(f"{_at(path, number)}: {kind_of(row)} where a JSON object was expected.")
    return row


def kind_of(value: Any) -> str:
    """What a JSON value is, with its article."""
    return "null" if value is None else f"a {_KIND[type(value)]}"


class _NumberError(ValueError):
    """A number that we do not take: its token, and what is wrong with it."""


class _RepeatedKeyError(ValueError):
    """A key that appears twice in an object with different values."""


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _NumberError(digits, f"a number of {len(digits):,} digits")
    return int(digits)


def _finite(token: str) -> float:
    value = float(token)
    if value in (float("inf"), float("-inf")):
        raise _NumberError(token, "beyond a float's range")
    return value


def _no_constant(token: str) -> float:
    raise _NumberError(token, "not a JSON value; write null or a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        first: dict[str, Any] = {}
        for key, child in pairs:
            if key in first and not _same(first[key], child):
                raise _RepeatedKeyError(key)
            first.setdefault(key, child)
    return value


def _same(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and one == other
    except RecursionError:
        return False


_ANY = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole)
_FINITE = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_whole, parse_float=_finite, parse_constant=_no_constant
)


def _check_depth(value: Any, where: object, line: int | None) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise _too_deep(where, line)


def _half_character(value: Any) -> tuple[str, str] | None:
    """The first text that holds half of a surrogate pair, with the keys that lead to it."""
    if isinstance(value, str):
        return None if _whole_characters(value) else ("", value)
    entries: Iterable[tuple[object, Any]] = (
        value.items() if isinstance(value, dict) else enumerate(value)
    )
    for key, child in entries:
        if isinstance(key, str) and not _whole_characters(key):
            return "a key", key
        found = _half_character(child) if isinstance(child, str | dict | list) else None
        if found:
            step = f"[{key}]" if isinstance(key, int) else shown(key)
            dot = "." if found[0] and not found[0].startswith("[") else ""
            return step + dot + found[0], found[1]
    return None


def _whole_characters(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _place(
    text: str, token: str, where: object, line: int | None, *, last: bool = False
) -> tuple[str, str]:
    """Where a token is (file and line), and the key before it with a colon, or ""."""
    at = text.rfind(token) if last else text.find(token)
    if at < 0 or not token:
        return _at(where, line), ""
    named = _NAMED.search(text, max(0, at - 400), at)
    key = f"{shown(named.group(1))}: " if named else ""
    return _at(where, _line_in(text, at, where) if line is None else line), key


def _line_in(text: str, at: int, where: object) -> int | None:
    """The line of a position; None in one line that is not a file's."""
    return text.count("\n", 0, at) + 1 if isinstance(where, Path) or "\n" in text else None


def _at(where: object, line: int | None) -> str:
    """`where`, with the line behind a path or where one was given."""
    return shown(where, 1000) + (f":{line}" if line is not None else "")


def _too_deep(where: object, line: int | None) -> UserError:
    return UserError(f"{_at(where, line)}: JSON nested deeper than {DEEPEST} levels.")


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    if not stat.S_ISREG(mode):
        raise UserError(f"{shown(path, 1000)}: a pipe, socket or device, not a file.")


def _unreadable(path: Path, error: OSError | ValueError) -> UserError:
    name = shown(path, 1000)
    if isinstance(error, FileNotFoundError):
        return UserError(f"{name}: no such file.")
    if isinstance(error, IsADirectoryError):
        return UserError(f"{name}: is a folder, not a file.")
    if isinstance(error, NotADirectoryError):
        return UserError(f"{name}: no such file; a part of the path is a file, not a folder.")
    if isinstance(error, PermissionError):
        return UserError(f"{name}: may not be read; change its permissions.")
    if isinstance(error, ValueError):
        return UserError(f"{name}: no file can have this name.")
    return UserError(f"{name}: cannot be read: {error.strerror or error}.")


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count >> 10} KB"
