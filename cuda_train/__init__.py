"""The torch backend: CUDA, MPS, CPU.

Imported before torch makes its first array, it lets torch take arrays of 2 MB and more as large
pages of a Linux CPU: glibc leaves fewer holes between them, so the peak is lower at the same speed
(benchmarks/RESULTS.md).
"""

import os
import sys

if sys.platform == "linux":
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
