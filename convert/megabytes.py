"""Progress in megabytes for work that learns its size only when it starts to write."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

from livery.progress import Progress

Moved = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


@contextlib.contextmanager
def megabytes(what: str, *, shown: bool = True) -> Generator[Moved | None]:
    """Yield a callback; its first call opens the progress that the block's end closes.

    Nothing is `shown`: yields None, for a program that reads the output.
    """
    if not shown:
        yield None
        return
    with contextlib.ExitStack() as stack:
        bar: Progress | None = None

        def moved(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                bar = stack.enter_context(Progress(what, total // 1_000_000, "MB"))
            bar.update(done // 1_000_000)

        yield moved
