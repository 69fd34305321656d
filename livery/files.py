"""Files that are either whole or not there. Reading what others wrote: `livery.reading`."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from livery.errors import UserError
from livery.reading import read_json as read_json
from livery.reading import read_jsonl as read_jsonl


@contextlib.contextmanager
def explain_os_errors(path: Path, doing: str) -> Generator[None]:
    """Turn the system's refusals (disk full, no permission) into a UserError on `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"{path}: the disk is full while {doing}; nothing was replaced. "
                "Free some space and run the same command again."
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise UserError(
                f"{path}: not allowed to write here while {doing}. "
                "Choose another folder or change its permissions."
            ) from error
        raise


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Generator[IO[Any]]:
    """Open a file beside `path`; rename it over `path` when the block ends well, else remove it.

    The data is flushed to the disk before the rename, so after a crash `path` holds either all of
    the old or all of the new bytes.

    Raises:
        UserError: the disk is full or the folder may not be written.
    """
    path = Path(path)
    with explain_os_errors(path, "saving"):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            encoding = None if "b" in mode else "utf-8"
            with os.fdopen(handle, mode, encoding=encoding) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Generator[Path]:
    """Yield a new folder beside `path`; it takes `path`'s place when the block ends well.

    An older folder at `path` is kept until the new one is complete.
    """
    path = Path(path)
    with explain_os_errors(path, "saving"):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield fresh
            os.chmod(fresh, 0o777 & ~_umask())
            if path.exists():
                # A rename cannot replace a folder that holds files: set the old one aside first.
                aside = fresh.with_suffix(".old")
                os.rename(path, aside)
                os.rename(fresh, path)
                shutil.rmtree(aside, ignore_errors=True)
            else:
                os.rename(fresh, path)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


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


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raises UserError where `path` is there already and may not be replaced."""
    if path.exists() and not overwrite:
        raise UserError(f"{path}: exists. Add --overwrite to replace it.")


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
