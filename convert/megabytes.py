"""Progress in megabytes for work that learns its size only when it starts to write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

from livery.progress import Progress

Moved = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


@contextlib.contextmanager
def megabytes(what: str) -> Generator[Moved]:
    """Yield a callback; its first call opens the progress that the block's end closes."""
    with contextlib.ExitStack() as stack:
        shown: Progress | None = None

        def moved(done: int, total: int) -> None:
            nonlocal shown
            if shown is None:
                shown = stack.enter_context(Progress(what, total // 1_000_000, "MB"))
            shown.update(done // 1_000_000)

        yield moved
