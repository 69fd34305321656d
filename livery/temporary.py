"""What is not finished yet, under names that tell a living process's from a dead one's.

    .NAME.XXXXXXXX.livery.tmp           will take NAME's place
    .NAME.XXXXXXXX.livery.old           stood in NAME's place until the exchange
    livery-WHAT.XXXXXXXX.livery.tmp     scratch, in the system's temporary folder

Whoever makes one holds a lock (flock) on it for as long as it has that name, and the system drops
the lock with the process, however that ends. So what can be locked belongs to nobody any more, on
any machine that shares the folder, and whatever its process number is used for now.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import weakref
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

_NEW, _OLD = ".livery.tmp", ".livery.old"
_BESIDE = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.livery\.(?P<kind>tmp|old)", re.DOTALL)
_SCRATCH = re.compile(r"livery-[a-z]+\.[a-z0-9_]{8}\.livery\.tmp")


@dataclass(frozen=True)
class Leftover:
    """What a process left that has ended; `size` in bytes, all that is in a folder counted."""

    path: Path
    size: int


def is_unfinished(path: Path) -> bool:
    """Whether a path has a name that is given here: its maker holds the lock, and nobody else
    writes to it."""
    return bool(_BESIDE.fullmatch(path.name) or _SCRATCH.fullmatch(path.name))


def new_file(place: Path) -> tuple[Path, int]:
    """A new empty file beside `place`, and its descriptor, which holds the lock."""
    while True:
        lock, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=_NEW, dir=place.parent)
        if _hold(lock, name):
            return Path(name), lock


def new_folder(place: Path) -> tuple[Path, int]:
    """A new folder beside `place`, and a descriptor that holds its lock; close it at the end."""
    return _folder(f".{place.name}.", place.parent)


def set_aside(place: Path, fresh: Path) -> tuple[Path, int]:
    """Give the folder at `place` the name that belongs to `fresh`, locked."""
    lock = os.open(place, os.O_RDONLY)
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    aside = fresh.with_suffix(".old")
    try:
        os.rename(place, aside)
    except BaseException:
        os.close(lock)
        raise
    return aside, lock


class Scratch:
    """A temporary folder, removed when the block or the process ends, or by the next command."""

    def __init__(self, what: str, beside: Path | None = None) -> None:
        """In the system's temporary folder for `what` ([a-z]+), or beside a path."""
        if beside is None:
            parent, prefix = Path(tempfile.gettempdir()), f"livery-{what}."
        else:
            parent, prefix = beside.parent, f".{beside.name}."
        sweep(parent)
        self.path, lock = _folder(prefix, parent)
        self._remove = weakref.finalize(self, _remove, self.path, lock)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Remove it now."""
        self._remove()


def sweep(folder: Path) -> None:
    """Remove what killed processes left in this folder, and give back what they had set aside."""
    for leftover in find(folder, sizes=False):
        remove(leftover.path)


def find(folder: Path, *, sizes: bool = True) -> list[Leftover]:
    """What processes that have ended left in this folder (not below it)."""
    try:
        with os.scandir(folder) as entries:
            names = [
                e.name for e in entries if _BESIDE.fullmatch(e.name) or _SCRATCH.fullmatch(e.name)
            ]
    except OSError:
        return []
    found: list[Leftover] = []
    for name in sorted(names):
        with _nobodys(folder / name) as ours:
            if ours:
                found.append(Leftover(folder / name, size_of(folder / name) if sizes else 0))
    return found


def find_below(top: Path) -> list[Leftover]:
    """`find` in a folder and in all below it; links are not followed."""
    found: list[Leftover] = []
    for parent, folders, _ in os.walk(top):
        here = find(Path(parent))
        found += here
        held = {leftover.path.name for leftover in here}
        folders[:] = [name for name in folders if name not in held]
    return found


def remove(path: Path) -> bool:
    """Remove a leftover, if it still is one; True where it is gone.

    A folder that was set aside for one that never came takes its place again.
    """
    with _nobodys(path) as ours:
        if not ours:
            return False
        match = _BESIDE.fullmatch(path.name)
        if match and match["kind"] == "old":
            place = path.with_name(match["name"])
            if not os.path.lexists(place):
                with contextlib.suppress(OSError):
                    os.rename(path, place)
                return not os.path.lexists(path)
        return _delete(path)


def discard(path: Path) -> None:
    """Remove a folder so that a kill on the way leaves nothing that looks whole."""
    aside, lock = new_folder(path)
    with contextlib.suppress(OSError):
        os.rename(path, aside / path.name)
    _remove(aside, lock)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if not path.is_dir() or path.is_symlink():
        with contextlib.suppress(OSError):
            return path.lstat().st_size
        return 0
    total = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{parent}/{name}").st_size
    return total


def _folder(prefix: str, parent: Path) -> tuple[Path, int]:
    while True:
        name = tempfile.mkdtemp(prefix=prefix, suffix=_NEW, dir=parent)
        try:
            lock = os.open(name, os.O_RDONLY)
        except FileNotFoundError:  # taken for a leftover before it was locked
            continue
        if _hold(lock, name):
            return Path(name), lock


def _hold(lock: int, name: str) -> bool:
    """Lock what was just made; False where somebody took it for a leftover first.

    Where the file system knows no locks nothing is held, and nothing is ever removed either.
    """
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        if os.path.samestat(os.lstat(name), os.fstat(lock)):
            return True
    except FileNotFoundError:
        pass
    os.close(lock)
    return False


@contextlib.contextmanager
def _nobodys(path: Path) -> Generator[bool]:
    """Whether this is a file or folder of ours that no living process holds; held meanwhile."""
    lock = -1
    ours = False
    try:
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(lock)
            plain = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
            ours = (
                plain
                and found.st_uid == os.geteuid()
                and os.path.samestat(os.lstat(path), found)
            )  # fmt: skip
        yield ours
    finally:
        if lock >= 0:
            os.close(lock)


def _remove(path: Path, lock: int) -> None:
    _delete(path)
    os.close(lock)


def _delete(path: Path) -> bool:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    return not os.path.lexists(path)
