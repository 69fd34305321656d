"""How a micro-batch is taken apart, its rows for streams that run side by side and a long prefix
for stretches that run one after the other: numbers alone, no MLX."""

from __future__ import annotations

import numpy as np

# Fewer rows than this in a stream of their own cost more in overhead than the core they win.
ROWS_PER_STREAM = 4
# Tokens of the prefix that run at a time. A gradient of MLX's attention holds all of its scores, so
# that those of a whole prefix would grow with the square of its length.
STRETCH = 1024


def stretches(prefix: int) -> list[tuple[int, int]]:
    """(first, end) of each part of a prefix; it also sees the keys of those before it."""
    return [(at, min(at + STRETCH, prefix)) for at in range(0, prefix, STRETCH)]


def parts_of(cores: int, prefix: int, rows: int, width: int) -> int:
    """Streams for `rows` rows of `width` after `prefix` shared tokens; 1 to leave them whole."""
    parts = min(cores, rows // ROWS_PER_STREAM)
    # The prefix runs in one stream: where it is most of the work, all cores should help there.
    return 1 if parts < 2 or rows * width < 2 * prefix else parts


def dealt(lengths: np.ndarray, parts: int, prefix: int) -> tuple[tuple[int, int], ...]:
    """(rows, width) of each part that rows of these lengths are dealt to."""
    ascending = np.sort(lengths)
    if parts == 1:
        return ((len(ascending), int(ascending[-1])),)
    pieces = np.split(ascending, deal(ascending, parts, prefix))
    return tuple((len(piece), int(piece[-1])) for piece in pieces if len(piece))


def deal(lengths: np.ndarray, parts: int, prefix: int) -> list[int]:
    """Where to cut rows of ascending lengths so that the longest part's work is least.

    A part's work is its rows times its widest; the first one runs the prefix, too.
    """
    rows = len(lengths)

    def cuts(limit: int) -> list[int] | None:
        found: list[int] = []
        stop = rows
        for part in range(parts - 1, 0, -1):  # from the longest rows; each part keeps a row
            fit = int(min(max(1, limit // int(lengths[stop - 1])), stop - part))
            stop -= fit
            found.insert(0, stop)
        return found if prefix + stop * int(lengths[stop - 1]) <= limit else None

    low, high = 0, prefix + rows * int(lengths[-1])
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if cuts(middle) else (middle + 1, high)
    return cuts(high) or [int(i) for i in np.linspace(0, rows, parts + 1)[1:-1]]
