"""What a run needs in memory, and what to change where that is too much."""

from __future__ import annotations


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch's or MLX's says that a device's memory was not enough."""
    # Only CUDA has an exception of its own for it; the others are told by their text.
    text = str(error).lower()
    said = (
        "out of memory", "can't allocate memory", "buffer size", "unable to allocate",
        "insufficient memory",
    )  # fmt: skip
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in said)
    )
