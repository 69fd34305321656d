"""A fast BLAS for MLX on a Linux CPU, and a quiet one for numpy.

MLX's Linux wheel brings a reference BLAS that is some thirty times slower than OpenBLAS. Loading
OpenBLAS into the process's global symbols before MLX gives the same speed as LD_PRELOAD, for paths
with spaces too, and leaves the programs that the process starts alone.

numpy's own OpenBLAS starts a thread a core for every product. Under threads that each compute a
product of their own, they wait for each other, busily: twenty times slower on two shared cores.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shlex
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.blas import openblas

# What numpy's wheels call the functions that get and set the number of threads.
_FUNCTIONS = (
    "scipy_openblas_{}_num_threads64_",
    "openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads",
)


_too_late: list[bool] = []  # whether somebody imported MLX before us


@dataclass(frozen=True)
class Blas:
    """The OpenBLAS that MLX's products run through.

    Attributes:
        path: of the library.
        version: as it tells it: "0.3.34".
        kernels: of which processor: "SkylakeX".
        threads: that it may use.
    """

    path: str
    version: str
    kernels: str
    threads: int


@functools.cache
def use_openblas() -> bool:
    """Let MLX compute with OpenBLAS. What imports `mlx.core` after `livery` has called it already
    (see `livery.__init__`); call it for the answer, which stays what it was the first time.

    Returns:
        True where MLX will be fast: OpenBLAS is in place, or this is not Linux.
    """
    if sys.platform != "linux" or preloaded() or loaded():
        return True
    if "mlx.core" in sys.modules:  # and bound to its own
        _too_late.append(True)
        return False
    return any(load(name) for name in openblas.candidates())


def load(name: str) -> bool:
    """Load a library, by its path or by what the loader calls it, for everything that is loaded
    after it."""
    try:
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return loaded()


def preloaded() -> bool:
    """Whether LD_PRELOAD names a BLAS."""
    return "blas" in os.environ.get("LD_PRELOAD", "")


def loaded() -> bool:
    """Whether an OpenBLAS answers for everything in this process, MLX included."""
    return handle() is not None


def handle() -> Any:
    """The process's global symbols, where OpenBLAS is among them; else None."""
    with contextlib.suppress(OSError, AttributeError):
        everything = ctypes.CDLL(None)
        if everything.openblas_get_num_threads and everything.cblas_sgemm:
            return everything
    return None


def running() -> Blas | None:
    """What `handle` stands for; None where it is another BLAS."""
    library = handle()
    if library is None:
        return None
    library.openblas_get_config.restype = ctypes.c_char_p
    library.openblas_get_corename.restype = ctypes.c_char_p
    words = library.openblas_get_config().decode().split()
    return Blas(
        path=_where(library.cblas_sgemm),
        version=words[1] if len(words) > 1 else "",
        kernels=library.openblas_get_corename().decode(),
        threads=int(library.openblas_get_num_threads()),
    )


def remedy() -> str:
    """The commands that bring OpenBLAS, or what else keeps MLX from it."""
    if _too_late:
        return "MLX was imported first: call livery.blas.use_openblas() before importing it."
    python = shlex.quote(sys.executable)
    return (
        f"{python} -m pip install {openblas.WHEEL} {openblas.RENAMER}   (no root needed), or\n"
        "    sudo apt install libopenblas0-pthread   (Fedora: sudo dnf install openblas)"
    )


class _Symbol(ctypes.Structure):
    """dladdr(3)'s answer."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    ]


def _where(function: Any) -> str:
    """The file that a loaded function is in."""
    found = _Symbol()
    address = ctypes.cast(function, ctypes.c_void_p)
    if not ctypes.CDLL(None).dladdr(address, ctypes.byref(found)) or not found.file:
        return ""
    return os.fsdecode(found.file)


@contextlib.contextmanager
def numpy_on_one_thread() -> Generator[None]:
    """Let each of numpy's products run in the thread that asks for it.

    Where numpy has another BLAS than the OpenBLAS of its wheels, nothing happens.
    """
    library = numpy_openblas()
    if library is None:
        yield
        return
    get, set_to = library
    before = get()
    set_to(1)
    try:
        yield
    finally:
        set_to(before)


def numpy_openblas() -> tuple[Any, Any] | None:
    """Its functions that get and set the number of threads."""
    import numpy

    package = Path(numpy.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in folder.glob("*openblas*"):
            with contextlib.suppress(OSError):
                library = ctypes.CDLL(str(path))
                for form in _FUNCTIONS:
                    if hasattr(library, form.format("set")):
                        get, put = (getattr(library, form.format(verb)) for verb in ("get", "set"))
                        return get, put
    return None
