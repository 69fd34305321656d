"""One process at a time in a run's folder. Light: the server holds it, too."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator
from pathlib import Path

from livery.errors import UserError
from livery.files import explain_os_errors
from livery.paths import LOCK


@contextlib.contextmanager
def locked(folder: Path, doing: str = "training") -> Generator[None]:
    """Hold the folder, made where it is missing, against every other process.

    The lock ends with the process. Its file is removed by its holder alone, and whoever
    locks a file that has been removed meanwhile tries again, so that there are never two holders.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose another --output-dir.")
    new = not folder.exists()
    place = folder / LOCK
    with explain_os_errors(folder, "making the run's folder"):
        handle = _take(place)
    os.truncate(handle, 0)
    os.write(handle, doing.encode())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            # The holder may have moved the folder away: then this is the next one's lock.
            if os.path.samestat(place.stat(), os.fstat(handle)):
                place.unlink()
        os.close(handle)
        if new:
            with contextlib.suppress(OSError):  # nothing came of it
                folder.rmdir()


def _take(place: Path) -> int:
    while True:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # its last holder has removed the folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(place.stat(), os.fstat(handle)):
                return handle
        except BlockingIOError:
            doing = os.read(handle, 100).decode(errors="replace") or "training"
            os.close(handle)
            raise UserError(
                f"{place.parent}: another process is {doing} in this folder. Wait until it has "
                "finished, or choose another folder."
            ) from None
        except FileNotFoundError:
            pass
        os.close(handle)
