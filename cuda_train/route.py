"""Which way a micro-batch runs, by its numbers alone: training and the memory estimate ask this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from livery.config.settings import TrainSettings
from livery.training.plan import MicroBatch

# branches and flex are the tree with other attention
Route = Literal["branches", "tree", "flex", "cache", "plain"]

# A mask over more places than this takes more memory than it saves work.
LONGEST_TREE = 8192


@dataclass(frozen=True)
class Shape:
    """The numbers of a micro-batch.

    Attributes:
        prefix: P, tokens that all rows share.
        rows: B.
        width: S, inputs of the longest row behind the prefix, padding included.
        suffixes: inputs of all rows behind the prefix, padding left out.
        supervised: positions that carry loss.
    """

    prefix: int
    rows: int
    width: int
    suffixes: int
    supervised: int

    @property
    def places(self) -> int:
        """Of its tree: the prefix, and every row's own inputs."""
        return self.prefix + self.suffixes


def shape_of(batch: MicroBatch) -> Shape:
    """The numbers of `batch`."""
    rows, width = batch.tokens.shape
    return Shape(len(batch.prefix), rows, width, int(batch.lengths.sum()), batch.supervised)


def no_cache(settings: TrainSettings) -> bool:
    """Whether a prefix's cache may not carry gradients: under gradient checkpointing transformers
    drops it silently; of a sharded base, every pass forward is followed by its pass back."""
    return settings.grad_checkpoint or settings.shard_base


def cheaper(shape: Shape, *, branches: bool, weight: int, hidden: int, recomputes: bool) -> Route:
    """The cheapest way; plain where there is nothing to share.

    Args:
        branches: the model's attention can be exchanged (`cuda_train.branches`).
        weight: parameters of a block.
        hidden: its width.
        recomputes: no cache may carry gradients (see `no_cache`).
    """
    start, rows, width = shape.prefix, shape.rows, shape.width
    if branches and rows > 1:
        return "branches"  # without a prefix, it still saves the padding
    if start == 0 or rows == 1:
        return "plain"
    if recomputes:
        return "tree"
    places = shape.places
    if places > LONGEST_TREE:
        return "cache"
    # Multiplications a block: the weights, and two of each pair of places.
    in_tree = places * weight + 2 * hidden * places**2
    pairs = start**2 + rows * width * (start + width)
    in_cache = (start + rows * width) * weight + 2 * hidden * pairs
    # A second pass and the copied keys cost more than arithmetic shows: where both compute as much,
    # the cache was measured at half as long again.
    return "tree" if in_tree <= 1.5 * in_cache else "cache"
