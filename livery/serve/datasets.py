"""Datasets in root/data: each at a glance, and its rows by page with their status."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.dataset.packed import FORMATS
from livery.dataset.sources import find
from livery.errors import UserError
from livery.reading import parse_row
from livery.serve.known import facts
from livery.serve.lines import digest, known_rows, lines_of, place_of
from livery.serve.review import Status, review
from livery.serve.settings import ServeSettings, is_name
from livery.serve.switches import MADE, is_on, section_of

_LARGEST = 1 << 20  # bytes of a row that is shown


@dataclass(frozen=True)
class Split:
    """A part of a dataset: rows, None before somebody looked, and bytes on disk."""

    rows: int | None
    bytes: int
    files: list[str]


@dataclass(frozen=True)
class Dataset:
    """A dataset at a glance.

    Attributes:
        splits: train, valid, test: those there are.
        problem: why it cannot be read; "" where it can.
        changed: seconds since the epoch.
        review: how many rows have which status; others are new.
        enabled: whether an export of all datasets has its rows.
        exported: whether it is such an export itself.
    """

    name: str
    skill: str | None
    splits: dict[str, Split]
    problem: str
    changed: float
    review: dict[str, int]
    enabled: bool
    exported: bool


@dataclass(frozen=True)
class Row:
    """A row: its number from 1, its digest, and what a reviewer thinks of it."""

    n: int
    id: str
    status: Status
    row: dict[str, Any]


def names(settings: ServeSettings) -> list[str]:
    """Datasets that can be named in a request: folders, and files of rows."""
    found: list[str] = []
    with contextlib.suppress(OSError), os.scandir(settings.data) as entries:
        for entry in entries:
            plain = is_name(entry.name) and not entry.is_symlink()
            if plain and (entry.is_dir() or Path(entry.name).suffix.lower() in FORMATS):
                found.append(entry.name)
    return sorted(found)


def every(settings: ServeSettings) -> list[Dataset]:
    """Each at a glance, by name."""
    return [describe(settings, name) for name in names(settings)]


def describe(settings: ServeSettings, name: str) -> Dataset:
    """A dataset at a glance. Raises NotFound."""
    place = place_of(settings, name)
    splits: dict[str, Split] = {}
    problem = ""
    try:
        for split, sources in find(place).items():
            rows = known_rows(settings, name, split, sources)
            files = [os.path.relpath(source.path, place.parent) for source in sources]
            splits[split] = Split(rows, sum(source.size() for source in sources), files)
    except (UserError, OSError) as error:
        problem = str(error).replace(f"{settings.root}{os.sep}", "")
    said: list[str] = []
    try:
        said = list(review(settings, name).values())
    except UserError as error:
        problem = problem or str(error).replace(f"{settings.root}{os.sep}", "")
    return Dataset(
        name=name,
        skill=skill
        if isinstance(skill := facts(place / "manifest.json").get("skill"), str)
        else None,
        splits=splits,
        problem=problem,
        changed=place.stat().st_mtime,
        review={status: said.count(status) for status in sorted(set(said))},
        enabled=is_on(settings, name),
        exported=(place / MADE).exists(),
    )


def rows(
    settings: ServeSettings,
    name: str,
    split: str,
    *,
    offset: int = 0,
    limit: int = 50,
    query: str = "",
    status: Collection[str] = (),
    section: str | None = None,
) -> tuple[list[Row], int]:
    """(some rows of a split, how many there are in all).

    Args:
        query: only rows that hold this text in a value, whatever the case.
        status: only rows that have one of these.
        section: only rows of this kind; "" for those that say none.
    """
    lines = lines_of(settings, name, split)
    said = review(settings, name)
    if not query and not status and section is None:
        numbers = range(offset, min(len(lines), offset + limit))
        return [_row(number, raw, said) for number, raw in lines.some(numbers)], len(lines)
    found: list[Row] = []
    total = 0
    for number, raw in lines.some(range(len(lines))):
        if (status and said.get(digest(raw), "new") not in status) or not _holds(raw, query):
            continue
        if section is not None and section_in(raw, number) != section:
            continue
        if offset <= total < offset + limit:
            found.append(_row(number, raw, said))
        total += 1
    return found, total


def values(raw: bytes, number: int) -> dict[str, Any]:
    """What row `number`, from 0, holds; {"error": why} where it cannot be shown."""
    if len(raw) > _LARGEST:
        return {"error": f"a row of {len(raw):,} bytes: export it"}
    try:
        return parse_row(raw, "the row", number + 1, finite=False)
    except UserError as error:
        return {"error": str(error)}


def section_in(raw: bytes, number: int) -> str:
    """What kind of row it is, also of one too large to be shown; "" where it cannot be read."""
    try:
        return section_of(parse_row(raw, "the row", number + 1, finite=False))
    except UserError:
        return ""


def with_sections(settings: ServeSettings, name: str, split: str) -> Iterator[tuple[Row, str]]:
    """All rows of a split, each with its section."""
    lines, said = lines_of(settings, name, split), review(settings, name)
    for number, raw in lines.some(range(len(lines))):
        yield _row(number, raw, said), section_in(raw, number)


def _row(number: int, raw: bytes, said: Mapping[str, str]) -> Row:
    mark = digest(raw)
    status: Any = said.get(mark, "new")
    return Row(number + 1, mark, status, values(raw, number))


def _holds(raw: bytes, query: str) -> bool:
    """Whether a value of the row holds the text."""
    if not query:
        return True
    wanted = query.casefold()
    plain = wanted.isascii() and wanted.isalnum() and raw.isascii() and b"\\u" not in raw
    if plain and wanted.encode() not in raw.lower():
        return False  # most rows: not worth parsing
    try:
        row = parse_row(raw, "the row", 1, finite=False)
    except UserError:
        return False
    return any(wanted in text.casefold() for text in _texts(row))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    else:
        yield value if isinstance(value, str) else json.dumps(value)
