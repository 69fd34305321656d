"""Files that are either whole or not there. Reading what others wrote: `livery.reading`."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from livery import temporary
from livery.errors import UserError, shown
from livery.reading import lines, open_file, parse_row
from livery.reading import read_json as read_json
from livery.reading import read_jsonl as read_jsonl

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What libraries with exceptions of their own (safetensors, tokenizers, MLX, SQLite) say of it.
_FULL_SAID = re.compile(
    r"no space left on device|disk quota exceeded|file too large|\(os error (28|122|27)\)"
    r"|\[write\] unable to write|database or disk is full",
    re.I,
)


class CannotWrite(UserError):
    """The system refused a write: of the whole command, never of one format among several."""


@contextlib.contextmanager
def explain_os_errors(path: Path, doing: str) -> Generator[None]:
    """Turn the system's refusals (disk full, no permission, …) into a UserError on `path`.

    A full disk is recognised in whatever exception a library made of it.
    """
    try:
        yield
    except (UserError, BrokenPipeError):
        raise
    except Exception as error:
        if is_full_disk(error):
            raise disk_full(path, doing) from error
        if not isinstance(error, OSError) or error.errno is None:
            raise
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise CannotWrite(
                f"{path}: not allowed to write here while {doing}. "
                "Choose another folder or change its permissions."
            ) from error
        in_the_way = isinstance(error, (NotADirectoryError, FileExistsError))
        if in_the_way or error.errno == errno.ELOOP:
            found = obstacle(path) or "a part of this path is a file"
            raise CannotWrite(
                f"{path}: cannot be made while {doing}: {found}. Choose another place."
            ) from error
        raise CannotWrite(f"{path}: {error.strerror or error} while {doing}.") from error


def obstacle(path: Path) -> str:
    """What on the way to a folder, or in its place, is no folder; "" where there is nothing."""
    for part in (*reversed(path.parents), path):
        if os.path.lexists(part) and not part.is_dir():
            led = part.is_symlink() and not part.exists()
            return f"{part} is a link that leads nowhere" if led else f"{part} is a file"
    return ""


def is_full_disk(error: BaseException) -> bool:
    """Whether an exception, or one that it came from, says that the disk (or a quota) is full."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if not isinstance(seen, UserError) and says_full_disk(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def says_full_disk(text: str) -> bool:
    """Whether a library's or another program's words mean a full disk or quota."""
    return _FULL_SAID.search(text) is not None


def disk_full(path: Path, doing: str) -> CannotWrite:
    """What to say of a full disk."""
    return CannotWrite(
        f"{path}: the disk is full while {doing}; nothing was replaced. "
        "Free some space and run the same command again."
    )


@contextlib.contextmanager
def one_at_a_time(place: Path, doing: str = "") -> Generator[None]:
    """Hold a lock on what is made at `place` while the block runs; who comes second waits.

    Where the file system has no locks, it continues: what is renamed into place whole is only made
    twice.

    Args:
        doing: told to whoever has to wait, "fetching a base"; "" waits without a word.
    """
    with explain_os_errors(place, doing or "making it"):
        place.parent.mkdir(parents=True, exist_ok=True)
        held = os.open(place.parent / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if doing:
                    print(f"Another process is {doing}: waiting for it.", file=sys.stderr)
                fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


@contextlib.contextmanager
def atomic_write(
    path: str | Path, mode: str = "wb", *, doing: str = "saving", private: bool = False
) -> Generator[IO[Any]]:
    """Open a file beside `path`; rename it over `path` when the block ends well, else remove it.

    The data is flushed to the disk before the rename, so after a crash `path` holds either all of
    the old or all of the new bytes. A device or pipe (/dev/stdout) is written to as it is.

    Args:
        doing: told where the system refuses it.
        private: the file is its owner's alone, whatever the umask.

    Raises:
        UserError: the disk is full, the folder may not be written, or `path` is a folder.
    """
    path = Path(path)
    encoding = None if "b" in mode else "utf-8"
    with explain_os_errors(path, doing):
        if path.is_dir():
            raise UserError(f"{path}: is a folder; name a file.")
        if path.exists() and not path.is_file():
            with path.open(mode, encoding=encoding) as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.sweep(path.parent)
        fresh, lock = temporary.new_file(path)
        try:
            with os.fdopen(lock, mode, encoding=encoding) as file:  # closing it ends the lock
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not private:  # as it was made
                    os.chmod(fresh, 0o666 & ~_umask())
                os.replace(fresh, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise


@contextlib.contextmanager
def replace_together(folder: Path, *last: str, first: str = "") -> Generator[Path]:
    """Yield an empty folder; its files take their places in `folder` when the block ends well.

    Without those of `last` nobody reads the others. They go first and come back last, in this
    order, and those that the block did not make stay away. So wherever the machine stops, what can
    be read is of one piece: new weights beside an older adapter's configuration would have its
    scale. Two processes that write to one folder do so in turn.

    Args:
        first: the file that takes its place before the others.

    Raises:
        UserError: the disk is full, the folder may not be written, or a folder has a file's name.
    """
    folder = Path(folder)
    made = not folder.exists()
    try:
        with explain_os_errors(folder / last[-1], "saving"):
            folder.mkdir(parents=True, exist_ok=True)
            with temporary.Scratch("files", beside=folder / last[-1]) as fresh:
                try:
                    yield fresh
                except CannotWrite as error:
                    raise CannotWrite(str(error).replace(str(fresh), str(folder))) from error
                _take_places(fresh, folder, (first, *last))
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing is in it
        raise


def _take_places(fresh: Path, folder: Path, order: tuple[str, ...]) -> None:
    first, *last = order
    found = {path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if path.is_file()}
    others = sorted(found.difference(order))
    names = [name for name in (first, *others, *last) if name in found]
    for parent in dict.fromkeys((folder / name).parent for name in (*names, *last)):
        _check_folder(parent)
    for name in names:
        if (folder / name).is_dir():
            raise UserError(f"{folder / name}: is a folder; name a file.")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        # An unfinished folder is locked already, by whoever makes it: by us.
        if not temporary.is_unfinished(folder):
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        for name in reversed(last):
            (folder / name).unlink(missing_ok=True)
        for name in names:
            os.replace(fresh / name, folder / name)
    finally:
        os.close(lock)


def _check_folder(folder: Path) -> None:
    """Find out before anything is replaced that a folder cannot be made or written."""
    with explain_os_errors(folder, "saving"):
        if obstacle(folder):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@contextlib.contextmanager
def atomic_directory(
    path: str | Path, replaceable: Callable[[], None] = lambda: None
) -> Generator[Path]:
    """Yield a new folder beside `path`; it takes `path`'s place when the block ends well.

    An older folder at `path` is kept until the new one is complete, and on the disk. Where `path`
    is a link to a folder, that folder is replaced.

    Args:
        replaceable: asked once more before anything takes the place of an older folder; raises
            UserError where it may not.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()
    with explain_os_errors(path, "saving"):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.sweep(path.parent)
        fresh, lock = temporary.new_folder(path)
        try:
            yield fresh
            _flush(fresh)
            os.chmod(fresh, 0o777 & ~_umask())
            if os.path.lexists(path):
                replaceable()
                if not path.is_dir():
                    raise UserError(f"{path}: is a file; a folder does not take its place.")
                # A rename cannot replace a folder that holds files: set the old one aside first.
                aside, old = temporary.set_aside(path, fresh)
                try:
                    os.rename(fresh, path)
                except BaseException:
                    os.rename(aside, path)
                    os.close(old)
                    raise
                shutil.rmtree(aside, ignore_errors=True)
                os.close(old)
            else:
                os.rename(fresh, path)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        finally:
            os.close(lock)


def _flush(folder: Path) -> None:
    """Have the system write a folder's files to the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            file = os.open(f"{parent}/{name}", os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)


def plain(value: Any) -> Any:
    """A value as JSON has it; one that JSON lacks (a set, a date, an object) as Python shows it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return shown(repr(value))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def write_jsonl(path: str | Path, rows: Any) -> None:
    """Write an iterable of rows as JSON lines, atomically."""
    with atomic_write(path, "w") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def append_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to what `read_kept` reads; they are on the disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_kept(path: str | Path, head: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that a stopped run wrote line by line, behind the line `head`.

    None where there is no file or it begins otherwise; a line that a kill cut off ends them.
    """
    if not Path(path).is_file():
        return []
    path = Path(path)
    found: list[dict[str, Any]] = []
    with open(path, "rb") as file, contextlib.suppress(UserError):
        for number, line in enumerate(lines(file, path), start=1):
            row = parse_row(line, path, number, finite=False)
            if not line.endswith(b"\n") or (not found and row != head):
                break
            found.append(row)
    return found[1:]


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes. Raises UserError as `reading.open_file`."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
