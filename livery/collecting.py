"""Python's search for reference cycles, made rarer while hundreds of thousands of rows come in.

    with few_collections():
        ...

Every 700 new objects Python looks for cycles among them, and now and then among all there are. Rows
make objects by the million and hardly a cycle, so the search takes a tenth of the time and finds
nothing. It is made rarer, not stopped: what templates and errors tie into cycles still goes.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager

# New objects between two searches; at a hundred bytes each, some megabytes.
_NEW = 50_000


@contextmanager
def few_collections() -> Generator[None]:
    """Within the block Python looks for cycles rarely; where somebody turned the search off, or
    made it rarer still, that stays."""
    before = gc.get_threshold()
    if 0 < before[0] < _NEW:
        gc.set_threshold(_NEW, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
