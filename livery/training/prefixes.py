"""Which examples share a prompt, and how much of it is worth running once.

Sorted by prompt, examples form a tree: a node is a run of neighbours that agree on `depth` tokens.
Sharing at a node costs its prefix once a micro-batch; splitting it lets each child share more but
leaves smaller micro-batches. The choice is made bottom-up on an estimate of the tokens computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

# Launching a forward and backward pass costs about as much as this many tokens' arithmetic on the
# smallest models, so a micro-batch must save more than that by existing.
OVERHEAD_TOKENS = 48
# A shorter prefix than this saves less than its own pass costs.
SHORTEST_PREFIX = 8


@dataclass(frozen=True)
class Group:
    """Examples that are trained together.

    Attributes:
        prefix: tokens that all of them share and that run once; 0 for plain batches.
        rows: indices of the examples.
    """

    prefix: int
    rows: tuple[int, ...]


def shared_groups(prompts: Sequence[np.ndarray], batch_size: int) -> list[Group]:
    """Partition examples by the prompt they share.

    Args:
        prompts: per example, the tokens that may be shared, (n_i,) int32; the last prompt token,
            from which the first answer token is predicted, is not among them.
        batch_size: rows that a micro-batch holds at most.

    Returns:
        Groups in a fixed order that depends on the tokens alone.
    """
    if not prompts:
        return []
    # Big-endian bytes sort as the token rows do, in a tenth of the memory of lists; equal ones keep
    # their order.
    order = sorted(range(len(prompts)), key=lambda i: np.asarray(prompts[i], ">u4").tobytes())
    common = [_common(prompts[a], prompts[b]) for a, b in pairwise(order)]
    chosen = _best_split(common, len(order), batch_size)
    groups = [Group(depth, tuple(order[i] for i in members)) for depth, members in chosen]
    return _few_depths(groups)


@dataclass
class _Node:
    """A run of neighbours in sorted order that agree on `depth` tokens."""

    depth: int
    pool: list[int]  # examples that share here and no deeper
    settled: list[tuple[int, list[int]]]  # groups made further down
    saved: float  # by the settled groups, in tokens


def _best_split(common: Sequence[int], count: int, batch_size: int) -> list[tuple[int, list[int]]]:
    """Walk the tree of common prefixes with a stack, closing nodes from the deepest up."""
    stack: list[_Node] = [_Node(0, [], [], 0.0)]

    def close(node: _Node, parent: _Node) -> None:
        # What joining the parent's pool would leave of the saving, against a group of its own.
        here = _saving(node.depth, len(node.pool), batch_size)
        joined = _saving_joined(parent.depth, len(node.pool), batch_size)
        # A few more tokens are not worth a smaller choice of rows and another shape to compile.
        if here - joined > SHORTEST_PREFIX * len(node.pool):
            parent.settled += [*node.settled, (node.depth, node.pool)]
            parent.saved += node.saved + here
        else:
            parent.settled += node.settled
            parent.saved += node.saved
            parent.pool += node.pool

    for index in range(count):
        left = common[index - 1] if index else 0
        right = common[index] if index < count - 1 else 0
        depth = max(left, right)
        while stack[-1].depth > left:
            node = stack.pop()
            if stack[-1].depth < left:
                stack.append(_Node(left, [], [], 0.0))
            close(node, stack[-1])
        if stack[-1].depth < depth:
            stack.append(_Node(depth, [], [], 0.0))
        stack[-1].pool.append(index)
    while len(stack) > 1:
        node = stack.pop()
        close(node, stack[-1])
    root = stack[0]
    return [*root.settled, *([(0, root.pool)] if root.pool else [])]


def _saving(depth: int, rows: int, batch_size: int) -> float:
    """Tokens that a group saves against running each row whole."""
    if depth < SHORTEST_PREFIX:
        return 0.0
    batches = -(-rows // batch_size)
    return (rows - batches) * depth - batches * OVERHEAD_TOKENS


def _saving_joined(depth: int, rows: int, batch_size: int) -> float:
    """The same if the rows joined a larger group, whose batches they fill up."""
    if depth < SHORTEST_PREFIX:
        return 0.0
    return rows * depth * (1 - 1 / batch_size) - rows / batch_size * OVERHEAD_TOKENS


def _few_depths(groups: list[Group]) -> list[Group]:
    """Round prefixes down where there are many lengths, since each new shape is compiled again.

    The tokens cut off run with the suffixes instead: a few more tokens, the same gradients.
    """
    depths = {group.prefix for group in groups}
    if len(depths) <= 4:
        return groups
    return [Group(group.prefix - group.prefix % 16, group.rows) for group in groups]


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common beginning of two token rows."""
    length = min(len(a), len(b))
    differ = np.nonzero(a[:length] != b[:length])[0]
    return int(differ[0]) if len(differ) else length
