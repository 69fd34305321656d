"""What this process holds of the machine's memory, as the system counts it."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from collections.abc import Callable
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int:
    """Bytes that are resident now; 0 where the system does not say."""
    return _status("VmRSS")


def peak_resident() -> int:
    """The most bytes that were ever resident; 0 where the system does not say.

    Linux keeps a mark of the program that runs; getrusage's own, which macOS has alone, is there
    never lower than what the process that started this one held.
    """
    if found := _status("VmHWM"):
        return found
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def give_back() -> None:
    """Hand the free pages of the heap back to the system, where glibc can.

    Arrays of many sizes that come and go leave holes in the heap that stay resident, and later ones
    fit into few of them: without this a run's resident memory grows from step to step.
    """
    if trim := _malloc_trim():
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    if sys.platform != "linux":
        return None
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None
    return trim


def _status(key: str) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith(key + ":"):
                return 1024 * int(line.split()[1])
    return 0
