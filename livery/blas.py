"""A fast BLAS for MLX on a Linux CPU, and a quiet one for numpy.

MLX's Linux wheel brings a reference BLAS that is some thirty times slower than OpenBLAS. Loading
OpenBLAS into the process's global symbols before MLX gives the same speed as LD_PRELOAD.

numpy's own OpenBLAS starts a thread a core for every product. Under threads that each compute a
product of their own, they wait for each other, busily: twenty times slower on two shared cores.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

LIBRARY = "libopenblas.so.0"
# What numpy's wheels call the functions that get and set the number of threads.
_FUNCTIONS = (
    "scipy_openblas_{}_num_threads64_",
    "openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads",
)
REMEDY = "sudo apt install libopenblas0-pthread   (Fedora: sudo dnf install openblas)"


def use_openblas() -> bool:
    """Let MLX compute with OpenBLAS; call it before the first `import mlx.core`.

    Returns:
        True where MLX will be fast: OpenBLAS is in place, or this is not Linux.
    """
    if sys.platform != "linux" or preloaded():
        return True
    if "mlx.core" in sys.modules:
        return loaded()  # too late: MLX has bound its own
    try:
        ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def preloaded() -> bool:
    """Whether LD_PRELOAD names a BLAS."""
    return "blas" in os.environ.get("LD_PRELOAD", "")


def loaded() -> bool:
    """Whether an OpenBLAS library is mapped into this process."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            return any("libopenblas" in line for line in maps)
    except OSError:
        return False


@contextlib.contextmanager
def numpy_on_one_thread() -> Generator[None]:
    """Let each of numpy's products run in the thread that asks for it.

    Where numpy has another BLAS than the OpenBLAS of its wheels, nothing happens.
    """
    library = _numpys_openblas()
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


def _numpys_openblas() -> tuple[Any, Any] | None:
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
