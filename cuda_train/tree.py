"""A micro-batch as one row: the prefix once, every suffix after it, and who attends to whom.

    prefix   a b c          suffixes   d e | f g h

    row        a b c d e f g h
    position   0 1 2 3 4 3 4 5
    branch     - - - 0 0 1 1 1

A token sees the prefix and the earlier tokens of its own branch, so each branch computes what it
would by itself. A sliding window is counted in positions, not in places of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from livery.training.plan import MicroBatch, bucket


@dataclass(frozen=True)
class Tree:
    """A micro-batch laid out as one row of N = P + sum of the suffixes' lengths.

    Attributes:
        tokens, positions: (1, N) int64.
        branch: (N,) int64, the row that a token belongs to; -1 in the prefix.
        at: (n,) int64, places that predict a supervised token.
        targets: (n,) int64, those tokens, row by row.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    branch: torch.Tensor
    at: torch.Tensor
    targets: torch.Tensor


def lay_out(batch: MicroBatch, device: torch.device) -> Tree:
    """The tree of a micro-batch, without its padding."""
    start = len(batch.prefix)
    lengths = batch.lengths.tolist()
    kept = np.arange(batch.tokens.shape[1])[None] < batch.lengths[:, None]  # (B, S)
    targets = batch.targets[kept]
    tokens = np.concatenate([batch.prefix, batch.tokens[kept]])
    positions = np.concatenate([np.arange(start), *(np.arange(start, start + n) for n in lengths)])
    branch = np.concatenate([np.full(start, -1), np.repeat(np.arange(len(lengths)), lengths)])
    at = np.nonzero(targets >= 0)[0]

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.int64)).to(device)

    return Tree(
        tensor(tokens)[None],
        tensor(positions)[None],
        tensor(branch),
        tensor(at + start),
        tensor(targets[at]),
    )


def in_few_lengths(batch: MicroBatch) -> MicroBatch:
    """The batch with rows of zeros behind its own, of which nothing is asked: as many as bring its
    tree to one of few lengths."""
    width, places = batch.tokens.shape[1], len(batch.prefix) + int(batch.lengths.sum())
    full, rest = divmod(bucket(places) - places, width)
    more = np.asarray([width] * full + [rest] * bool(rest), np.int32)
    empty = np.zeros((len(more), width), np.int32)
    return MicroBatch(
        batch.prefix,
        np.concatenate([batch.tokens, empty]),
        np.concatenate([batch.targets, empty - 1]),
        np.concatenate([batch.lengths, more]),
    )


def tree_mask(tree: Tree, window: int | None) -> torch.Tensor:
    """(1, 1, N, N) bool: True where a row's token may attend to a column's."""
    place = torch.arange(len(tree.branch), device=tree.branch.device)
    earlier = place[None] <= place[:, None]
    own = tree.branch[None] == tree.branch[:, None]
    allowed = earlier & (own | (tree.branch[None] < 0))
    if window is not None:
        position = tree.positions[0]
        allowed &= position[:, None] - position[None] < window
    return allowed[None, None]


def block_mask(tree: Tree, window: int | None) -> Any:
    """What `tree_mask` says, for flex attention: a function of two places, and its empty blocks."""
    from torch.nn.attention.flex_attention import create_block_mask

    branch, position = tree.branch, tree.positions[0]

    def may_look(_batch: Any, _head: Any, query: Any, key: Any) -> Any:
        own = (branch[query] == branch[key]) | (branch[key] < 0)
        allowed = (key <= query) & own
        if window is not None:
            allowed = allowed & (position[query] - position[key] < window)
        return allowed

    places = len(branch)
    return create_block_mask(may_look, None, None, places, places, device=str(branch.device))


def suffix_mask(prefix: int, width: int, window: int | None, device: torch.device) -> torch.Tensor:
    """(1, 1, S, P + S) bool for right-padded suffixes behind a cache of the prefix.

    It is the same for every row: padding is last, and nothing attends forward.
    """
    query = torch.arange(prefix, prefix + width, device=device)[:, None]
    key = torch.arange(prefix + width, device=device)[None]
    allowed = key <= query
    if window is not None:
        allowed &= query - key < window
    return allowed[None, None]
