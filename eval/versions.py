"""The adapter in use and those it had before: replaced in one step, kept, and given back.

    adapters/persona              in use
    adapters/persona.kept/0001    what it replaced, whole

A promotion copies the new adapter to its number under `.kept` and exchanges the two folders in one
call of the system, so that a program which opens the adapter finds the old one or the new one. The
copy's promotion.json says what it replaced and by which figures. Rolling back exchanges them again.
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import errno
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from livery.errors import UserError, shown
from livery.files import atomic_directory, explain_os_errors, one_at_a_time, write_json
from livery.paths import LOCK, RUN_CONFIG
from livery.reading import read_object
from livery.training.run_folder import locked

RECORD = "promotion.json"
_NUMBER = re.compile(r"\d{4,}")
_ASIDE = ".exchanged"  # behind the name of the place that what is set aside goes to
_AT_HERE = -100 if sys.platform.startswith("linux") else -2  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def put(new: Path, current: Path, figures: dict[str, Any]) -> Path:
    """Put a copy of the adapter `new` in the place of `current`; returns where the old one is kept.

    Checkpoints stay behind: the copy is for use.

    Raises:
        UserError: another process works in one of them, or the disk is full; nothing is replaced.
    """
    kept = _kept(current)
    with one_at_a_time(kept / RECORD, "promoting an adapter"):
        _finish_exchange(current)
        with locked(current, "promoting an adapter"):
            pass  # nobody trains or evaluates in it
        number = max((int(p.name) for p in kept.iterdir() if _NUMBER.fullmatch(p.name)), default=0)
        place = kept / f"{number + 1:04}"
        run = (new / RUN_CONFIG).is_file()
        held = locked(new, "being promoted") if run else contextlib.nullcontext()
        with held, atomic_directory(place) as fresh:
            left = shutil.ignore_patterns("checkpoints", LOCK)
            shutil.copytree(new, fresh, dirs_exist_ok=True, ignore=left)
            write_json(
                fresh / RECORD,
                {
                    "replaced": place.name,
                    "from": str(new),
                    "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    "figures": figures,
                },
            )
        with explain_os_errors(current, "promoting an adapter"):
            exchange(place, current)
    return place


def roll_back(current: str | Path) -> Path:
    """Give `current` back what it replaced; returns where the other one is kept now.

    Raises:
        UserError: nothing was promoted there, or what it replaced is gone.
    """
    current = Path(current).resolve()
    kept = _kept(current)
    if not kept.is_dir():
        raise UserError(f"{shown(current)}: nothing was promoted here ({shown(kept)} is missing).")
    with one_at_a_time(kept / RECORD, "promoting an adapter"):
        _finish_exchange(current)
        if not (current / RECORD).is_file():
            raise UserError(f"{shown(current)}: is not a promoted adapter; nothing to roll back.")
        number = str(read_object(current / RECORD).get("replaced"))
        place = kept / number
        if not _NUMBER.fullmatch(number) or not place.is_dir():
            raise UserError(
                f"{shown(place)}: what {shown(current)} replaced is not there any more."
            )
        with locked(current, "rolling back an adapter"):
            pass
        with explain_os_errors(current, "rolling back an adapter"):
            exchange(place, current)
    return place


def exchange(one: Path, other: Path) -> None:
    """Exchange two folders of one file system in a single step.

    Where the system or file system cannot, in three renames: between them `other` is missing for a
    moment, and `_finish_exchange` mends what a kill leaves beside `one`.

    Raises:
        OSError: they cannot be renamed; both are as they were.
    """
    if (error := _exchange(one, other)) == 0:
        return
    if error not in _UNKNOWN:
        raise OSError(error, os.strerror(error), str(other))
    aside = one.with_name(one.name + _ASIDE)
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def _exchange(one: Path, other: Path) -> int:
    """The system's own call; its error number, 0 where it worked."""
    name = "renameat2" if sys.platform.startswith("linux") else "renameatx_np"
    call = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if call is None:
        return errno.ENOSYS
    paths = [ctypes.c_char_p(os.fsencode(path)) for path in (one, other)]
    done = call(_AT_HERE, paths[0], _AT_HERE, paths[1], ctypes.c_uint(_EXCHANGE))
    return ctypes.get_errno() if done else 0


def _finish_exchange(current: Path) -> None:
    """Complete, or take back, an exchange by renames that was killed."""
    for aside in _kept(current).glob(f"*{_ASIDE}"):
        place = aside.with_name(aside.name.removesuffix(_ASIDE))
        if not current.exists():
            aside.rename(current)
        elif not place.exists():
            aside.rename(place)


def _kept(current: Path) -> Path:
    return current.with_name(f"{current.name}.kept")
