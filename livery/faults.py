"""The last safety net of a command: errors of the system, and faults of Livery's own."""

from __future__ import annotations

import errno
import os
import platform
import sys
import tempfile
import traceback
from pathlib import Path

from livery import __version__
from livery.errors import UserError, shown

# sysexits.h: an internal software error. No other exit code of ours means it.
FAULT = 70
_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


def understood(error: Exception) -> str | None:
    """What an unforeseen error says of the user's machine; None where it is a fault of ours."""
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY)
    ):
        said = str(error).strip().splitlines()
        detail = f" ({shown(said[0])})" if said else ""
        return (
            f"Out of memory{detail}. Close other programs, or take smaller batches "
            "(--batch-size), shorter rows (--max-length) or a smaller model."
        )
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        return _system(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        return f"{shown(str(error))}: a symbolic link leads back to itself."  # Path.resolve()'s
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"{error.name} is not installed. `livery doctor` says how to install what is missing."
        )
    return None


def _system(error: OSError) -> str | None:
    said = error.strerror or str(error)
    if error.errno is None and not error.filename:
        return None
    if error.filename is None:
        if isinstance(error, FileNotFoundError):
            return "The current folder no longer exists. Change to another one (cd)."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "The disk is full. Free some space and give the same command again."
        return f"The system refused: {said}. LIVERY_DEBUG=1 shows where."
    name = error.filename if isinstance(error.filename, str) else os.fsdecode(error.filename)
    remedy = {
        errno.EACCES: " Change its permissions, or choose another place.",
        errno.EPERM: " Change its permissions, or choose another place.",
        errno.EROFS: " Choose another place.",
        errno.ENOSPC: " Free some space and give the same command again.",
        errno.ENOTDIR: " A part of this path is a file: choose another name.",
        errno.EISDIR: " There is a folder where a file is expected: choose another name.",
        errno.EEXIST: " Something is already there: choose another name.",
        errno.ENAMETOOLONG: " Choose a shorter name.",
        errno.ELOOP: " A symbolic link leads back to itself.",
    }.get(error.errno or 0, "")
    return f"{shown(name)}: {said}.{remedy}"


def report(arguments: list[str], error: Exception) -> str:
    """Say that it is our fault; the traceback goes to a file, or to stderr with LIVERY_DEBUG."""
    trace = "".join(traceback.format_exception(error))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f[0]]
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    said = shown(str(error).strip().split("\n")[0])
    message = (
        f"This is a bug in Livery, not a mistake of yours: {type(error).__name__}: {said}{place}."
    )
    if os.environ.get("LIVERY_DEBUG", "0") not in ("", "0"):
        print(trace, file=sys.stderr)
        return message
    try:
        handle, name = tempfile.mkstemp(prefix="livery-fault-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"livery {__version__}, Python {platform.python_version()}, ")
            file.write(f"{platform.platform()}\nlivery {arguments!r}\n\n{trace}")
    except OSError:
        print(trace, file=sys.stderr)
        return f"{message}\nPlease report it with the text above."
    return (
        f"{message}\nPlease report it with the file {name} (the command and where it failed); "
        "LIVERY_DEBUG=1 shows the same here."
    )
