"""A fast BLAS for MLX on a Linux CPU.

MLX's Linux wheel brings a reference BLAS that is some thirty times slower than OpenBLAS. Loading
OpenBLAS into the process's global symbols before MLX gives the same speed as LD_PRELOAD.
"""

from __future__ import annotations

import ctypes
import os
import sys

LIBRARY = "libopenblas.so.0"
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
