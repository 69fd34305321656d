"""The rows of a split by their number: of a file of JSON lines as it lies, of any other once a
process of its own has converted it."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

from livery.dataset.packed import Source
from livery.dataset.sources import Splits, find
from livery.errors import quoted
from livery.files import explain_os_errors
from livery.serve.commands import run
from livery.serve.errors import NotFound
from livery.serve.known import fingerprint, known
from livery.serve.settings import ServeSettings, inside

_converting = threading.Lock()
_GROWTH = 50  # times its size that a packed file may take as JSON lines


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


def lines_of(settings: ServeSettings, name: str, split: str) -> Lines:
    """The rows of a split. Files that are no JSON lines are read as such once they are converted.

    Raises:
        NotFound: there is no such dataset or split.
    """
    sources = sources_of(settings, name, split)
    path = plain_file(sources) or _converted(settings, name, split, sources)
    found = known("lines", path, Lines, None)
    if found is None:
        raise NotFound(f"The dataset {name} has no rows in {quoted(split)}.", key="split")
    return found


def known_rows(
    settings: ServeSettings, name: str, split: str, sources: tuple[Source, ...]
) -> int | None:
    """How many rows a split has; None where it would have to be converted to know."""
    path = plain_file(sources) or _converted_file(settings, name, split, sources)
    found = known("lines", path, Lines, None)
    return None if found is None else len(found)


def digest(raw: bytes) -> str:
    """What a row is known by: its line, without the space around it."""
    return hashlib.blake2b(raw.strip(), digest_size=8).hexdigest()


def place_of(settings: ServeSettings, name: str) -> Path:
    """The dataset's folder, or its file. Raises NotFound."""
    return inside(settings.data, name, what="dataset")


def splits_of(settings: ServeSettings, name: str) -> Splits:
    """The files of each split. Raises NotFound."""
    return find(place_of(settings, name))


def sources_of(settings: ServeSettings, name: str, split: str) -> tuple[Source, ...]:
    """The files of one split. Raises NotFound where it has none, or one outside the root."""
    sources = dict(splits_of(settings, name).items()).get(split, ())
    for source in sources:
        if not source.path.resolve().is_relative_to(settings.root):
            raise NotFound(f"{name}: {split} is a link that leads out of the root.", key="split")
    if not sources:
        raise NotFound(f"The dataset {name} has no split {quoted(split)}.", key="split")
    return sources


def plain_file(sources: tuple[Source, ...]) -> Path | None:
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
            place = place_of(settings, name)
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
    mark = fingerprint([one.path for one in sources], *(one.member for one in sources))
    return settings.state / "rows" / f"{name}-{split}-{mark}.jsonl"
