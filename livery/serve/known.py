"""What was read of files, kept until they change: hundreds of runs are listed by looking, not by
reading."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from livery.errors import UserError
from livery.reading import read_object

T = TypeVar("T")
_LARGEST = 4 << 20  # bytes of a file of facts
Mark = tuple[int, int, int] | None


class Known:
    """Values by key, each with what its files looked like."""

    def __init__(self, most: int = 8192) -> None:
        self._found: dict[Hashable, tuple[Any, Any]] = {}
        self._most = most

    def __call__(self, kind: str, path: Path, read: Callable[[Path], T], default: T) -> T:
        """`read(path)`, or what it gave before; `default` where there is no such file, or it cannot
        be read."""
        seen = mark(path)
        if seen is None:
            return default

        def value() -> T:
            try:
                return read(path)
            except UserError:
                return default

        return self._kept((kind, path), seen, value)

    def of(
        self, key: Hashable, places: Sequence[str | Path], make: Callable[[], T], also: Any = None
    ) -> T:
        """`make()`, or what it gave before: while all the places look as they did then (folders
        change when something in them comes or goes) and `also` is the same."""
        return self._kept(key, (tuple(map(mark, places)), also), make)

    def _kept(self, key: Hashable, seen: Any, make: Callable[[], T]) -> T:
        found = self._found.get(key)
        if found is not None and found[0] == seen:
            return found[1]
        value = make()
        if len(self._found) >= self._most:
            self._found.clear()
        self._found[key] = (seen, value)
        return value


known = Known()


def mark(path: str | Path) -> Mark:
    """What changes when a file does; None where there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116  (thousands of times a second)
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def fingerprint(paths: Iterable[Path], *also: object) -> str:
    """16 hexadecimal digits that change when one of the files does, or what else is named."""
    seen = [(path.name, mark(path)) for path in paths]
    return hashlib.sha256(repr((seen, also)).encode()).hexdigest()[:16]


def open_own(path: Path) -> IO[bytes]:
    """A file to be read that is no link. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    return os.fdopen(handle, "rb")


def facts(path: Path) -> dict[str, Any]:
    """A small JSON file of ours; {} where there is none, or a link, which may lead out of the
    folder that is served."""
    if path.is_symlink():
        return {}
    return known("facts", path, lambda p: read_object(p, limit=_LARGEST), {})
