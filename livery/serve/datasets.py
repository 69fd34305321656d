"""Datasets in root/data: their rows, and what a reviewer thinks of each.

A status is kept in data/.approval/NAME.json by a digest of the row, so the file of rows is never
touched, and a row keeps its status when rows before it come or go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import threading
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from livery.dataset.packed import FORMATS, Source
from livery.dataset.sources import Splits, find
from livery.errors import UserError, quoted
from livery.files import atomic_write, explain_os_errors, write_json
from livery.reading import parse_row, read_object
from livery.serve.commands import make_room, run
from livery.serve.errors import Conflict, NotFound
from livery.serve.known import facts, known
from livery.serve.settings import ServeSettings, inside, is_name

Status = Literal["new", "approved", "rejected"]
_reviewing = threading.Lock()
_converting = threading.RLock()
_LARGEST = 1 << 20  # bytes of a row that is shown
_GROWTH = 50  # times its size that a packed file may take as JSON lines


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
    """

    name: str
    skill: str | None
    splits: dict[str, Split]
    problem: str
    changed: float
    review: dict[str, int]


@dataclass(frozen=True)
class Row:
    """A row: its number from 1, its digest, and what a reviewer thinks of it."""

    n: int
    id: str
    status: Status
    row: dict[str, Any]


class Lines:
    """The rows of one file of JSON lines by their number, from 0; blank lines are none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places = array("Q")
        place = 0
        with path.open("rb") as file:
            for raw in file:
                if not raw.isspace():
                    self.places.append(place)
                place += len(raw)

    def __len__(self) -> int:
        return len(self.places)

    def some(self, numbers: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """(number, line) of the rows asked for."""
        with self.path.open("rb") as file:
            for number in numbers:
                file.seek(self.places[number])
                yield number, file.readline().strip()


def names(settings: ServeSettings) -> list[str]:
    """Datasets that can be named in a request: folders, and files of rows."""
    found: list[str] = []
    with contextlib.suppress(OSError), os.scandir(settings.data) as entries:
        for entry in entries:
            plain = is_name(entry.name) and not entry.is_symlink()
            if plain and (entry.is_dir() or Path(entry.name).suffix.lower() in FORMATS):
                found.append(entry.name)
    return sorted(found)


def describe(settings: ServeSettings, name: str) -> Dataset:
    """A dataset at a glance. Raises NotFound."""
    place = _place(settings, name)
    splits: dict[str, Split] = {}
    problem = ""
    try:
        for split, sources in find(place).items():
            rows = _known_rows(settings, name, split, sources)
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
) -> tuple[list[Row], int]:
    """(some rows of a split, how many there are in all).

    Args:
        query: only rows that hold this text in a value, whatever the case.
        status: only rows that have one of these.
    """
    lines = lines_of(settings, name, split)
    said = review(settings, name)
    if not query and not status:
        numbers = range(offset, min(len(lines), offset + limit))
        return [_row(number, raw, said) for number, raw in lines.some(numbers)], len(lines)
    found: list[Row] = []
    total = 0
    for number, raw in lines.some(range(len(lines))):
        if (status and said.get(digest(raw), "new") not in status) or not _holds(raw, query):
            continue
        if offset <= total < offset + limit:
            found.append(_row(number, raw, said))
        total += 1
    return found, total


def lines_of(settings: ServeSettings, name: str, split: str) -> Lines:
    """The rows of a split. Files that are no JSON lines are read as such once they are converted.

    Raises:
        NotFound: there is no such dataset or split.
    """
    sources = _sources(settings, name, split)
    path = _plain(sources) or _converted(settings, name, split, sources)
    found = known("lines", path, Lines, None)
    if found is None:
        raise NotFound(f"The dataset {name} has no rows in {quoted(split)}.", key="split")
    return found


def digest(raw: bytes) -> str:
    """What a row is known by: its line, without the space around it."""
    return hashlib.blake2b(raw.strip(), digest_size=8).hexdigest()


# -- review --------------------------------------------------------------------------------------


def review(settings: ServeSettings, name: str) -> dict[str, str]:
    """Digest -> status of the rows that somebody looked at.

    Raises:
        UserError: the file is damaged. It is not taken for an empty one, which the next status
            would be written over.
    """
    path = _review_file(settings, name)
    return known.of(("review", path), [path], lambda: read_object(path) if path.exists() else {})


def set_status(
    settings: ServeSettings,
    name: str,
    split: str,
    status: Status,
    *,
    n: int | None = None,
    expected: str | None = None,
    ids: Collection[str] | None = None,
) -> int:
    """Say what somebody thinks of rows; returns how many.

    Args:
        n: number of one row, from 1.
        expected: its digest, where the caller has seen it.
        ids: digests of rows; neither `n` nor `ids` means every row that is new.

    Raises:
        NotFound: there is no such row.
        Conflict: row `n` is not the one that was seen.
    """
    lines = lines_of(settings, name, split)
    with _reviewing:
        said = dict(review(settings, name))
        if n is not None:
            if not 1 <= n <= len(lines):
                raise NotFound(f"The dataset {name} has no row {n} in {split}.", key="n")
            chosen = {digest(raw) for _, raw in lines.some([n - 1])}
            if expected is not None and expected not in chosen:
                raise Conflict(f"Row {n} has changed since it was shown. Load it again.", key="id")
        else:
            every = {digest(raw) for _, raw in lines.some(range(len(lines)))}
            chosen = every - said.keys() if ids is None else every & {*ids}
            if ids is not None and (missing := {*ids} - every):
                raise NotFound(f"There is no row {quoted(min(missing))} in {split}.", key="ids")
        for one in chosen:
            if status == "new":
                said.pop(one, None)
            else:
                said[one] = status
        place = _review_file(settings, name)
        with explain_os_errors(place, "keeping what was approved"):
            place.parent.mkdir(exist_ok=True)
        write_json(place, said)
    return len(chosen)


# -- new datasets, and exports ---------------------------------------------------------------------


def add(settings: ServeSettings, name: str, fill: Callable[[Path], None]) -> Path:
    """Make a dataset whole or not at all.

    Args:
        fill: writes its files into a new folder.

    Raises:
        Conflict: there is one of that name.
    """
    if not is_name(name):
        raise UserError(
            f"name is {quoted(name)}: use letters, digits, dots, dashes and underscores."
        )
    place = settings.data / name
    if os.path.lexists(place):
        raise Conflict(f"There is a dataset named {name} already.", key="name")
    with explain_os_errors(place, "adding a dataset"):
        settings.uploads.mkdir(parents=True, exist_ok=True)
        settings.data.mkdir(exist_ok=True)
        fresh = settings.uploads / secrets.token_hex(8)
        fresh.mkdir()
        try:
            fill(fresh)
            if os.path.lexists(place):
                raise Conflict(f"There is a dataset named {name} already.", key="name")
            os.rename(fresh, place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return place


def copy(settings: ServeSettings, name: str, new: str, leave_out: Collection[str]) -> Path:
    """A new dataset of the rows whose status is none of `leave_out`."""
    splits = _splits(settings, name)
    chosen = [status for status in ("new", "approved", "rejected") if status not in leave_out]

    def fill(folder: Path) -> None:
        for split, _ in splits.items():
            if write_rows(settings, name, split, folder / f"{split}.jsonl", chosen) == 0:
                if split == "train":
                    raise UserError(f"No row of {name} would be left to train on.")
                (folder / f"{split}.jsonl").unlink()

    return add(settings, new, fill)


def write_rows(
    settings: ServeSettings, name: str, split: str, out: Path, status: Collection[str]
) -> int:
    """Write the rows that have one of these statuses as JSON lines; returns how many."""
    lines = lines_of(settings, name, split)
    said = review(settings, name)
    count = 0
    with atomic_write(out, "wb") as file:
        for _, raw in lines.some(range(len(lines))):
            if said.get(digest(raw), "new") in status:
                file.write(raw + b"\n")
                count += 1
    return count


def export(
    settings: ServeSettings, name: str, split: str, form: str, status: Collection[str]
) -> Path:
    """A file of a split's rows, made where it is not there yet."""
    sources = _sources(settings, name, split)
    plain = _plain(sources)
    if plain is not None and form == "jsonl" and not status:
        return plain
    lines = lines_of(settings, name, split)
    mark = _mark([Source(lines.path), Source(_review_file(settings, name))])
    key = hashlib.sha256(f"{name}/{split}/{sorted(status)}/{mark}".encode()).hexdigest()[:24]
    folder = settings.state / "exports" / "rows"
    with explain_os_errors(folder, "exporting"), _converting:
        folder.mkdir(parents=True, exist_ok=True)
        chosen = folder / f"{key}.jsonl"
        if not chosen.exists():
            write_rows(settings, name, split, chosen, status or ("new", "approved", "rejected"))
        out = chosen if form == "jsonl" else folder / f"{key}.parquet"
        if not out.exists():
            run("livery.serve.rows", "parquet", str(chosen), str(out), cwd=settings.root)
        make_room(folder, {chosen, out})
        return out


# -- inside ----------------------------------------------------------------------------------------


def _row(number: int, raw: bytes, said: Mapping[str, str]) -> Row:
    mark = digest(raw)
    status: Any = said.get(mark, "new")
    if len(raw) > _LARGEST:
        return Row(number + 1, mark, status, {"error": f"a row of {len(raw):,} bytes: export it"})
    try:
        row = parse_row(raw, "the row", number + 1, finite=False)
    except UserError as error:
        row = {"error": str(error)}
    return Row(number + 1, mark, status, row)


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


def _place(settings: ServeSettings, name: str) -> Path:
    return inside(settings.data, name, what="dataset")


def _splits(settings: ServeSettings, name: str) -> Splits:
    return find(_place(settings, name))


def _sources(settings: ServeSettings, name: str, split: str) -> tuple[Source, ...]:
    sources = dict(_splits(settings, name).items()).get(split, ())
    for source in sources:
        if not source.path.resolve().is_relative_to(settings.root):
            raise NotFound(f"{name}: {split} is a link that leads out of the root.", key="split")
    if not sources:
        raise NotFound(f"The dataset {name} has no split {quoted(split)}.", key="split")
    return sources


def _plain(sources: tuple[Source, ...]) -> Path | None:
    """The file, where a split is one file of JSON lines."""
    one = sources[0]
    if len(sources) > 1 or one.member or one.packing or one.format not in ("lines", "json"):
        return None
    with one.path.open("rb") as file:
        first = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return None if first == b"[" or (one.format == "json" and first != b"{") else one.path


def _converted(settings: ServeSettings, name: str, split: str, sources: tuple[Source, ...]) -> Path:
    """The same rows as JSON lines, made by a process of its own; kept while they are the same."""
    out = _converted_file(settings, name, split, sources)
    with _converting:
        if not out.exists():
            place = _place(settings, name)
            with explain_os_errors(out, "reading rows"):
                out.parent.mkdir(parents=True, exist_ok=True)
            for old in out.parent.glob(f"{name}-{split}-*.jsonl"):
                old.unlink(missing_ok=True)
            size = sum(source.size() for source in sources)
            most = max(settings.limits.unpacked, _GROWTH * size)
            words = ("jsonl", str(place), split, str(out), str(most))
            run("livery.serve.rows", *words, cwd=settings.root)
    return out


def _converted_file(
    settings: ServeSettings, name: str, split: str, sources: tuple[Source, ...]
) -> Path:
    return settings.state / "rows" / f"{name}-{split}-{_mark(sources)}.jsonl"


def _known_rows(
    settings: ServeSettings, name: str, split: str, sources: tuple[Source, ...]
) -> int | None:
    """How many rows a split has; None where it would have to be converted to know."""
    path = _plain(sources) or _converted_file(settings, name, split, sources)
    found = known("lines", path, Lines, None)
    return None if found is None else len(found)


def _mark(sources: Iterable[Source]) -> str:
    """Changes when one of the files does."""
    told: list[Any] = []
    for source in sources:
        with contextlib.suppress(OSError):
            stat = source.path.stat()
            told.append((source.path.name, source.member, stat.st_size, stat.st_mtime_ns))
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _review_file(settings: ServeSettings, name: str) -> Path:
    return settings.data / ".approval" / f"{name}.json"
