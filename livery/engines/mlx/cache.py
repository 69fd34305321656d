"""Key-value caches that run a prefix once at batch 1 and are then shared by all rows of a batch.

They speak mlx-lm's cache protocol (`update_and_fetch`, `offset`, `make_mask`, `state`), so its
models run unchanged; they hold nothing but what was put in, so gradients flow through them exactly.

    caches = make_caches(model)                  # batch 1
    model(prefix[None], cache=caches)            # the shared tokens, once
    caches = share(caches, rows=B)               # B rows share the same prefix
    model(suffixes, cache=caches)                # (B, S), right-padded

Decoding continues from right-padded suffixes after `settle(caches, lengths)`: every row then has
its own position, and the padding between a suffix and what follows it is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import mlx.core as mx
from mlx import nn
from mlx_lm.models import cache as mlx_lm_cache
from mlx_lm.models.base import create_causal_mask


class CannotShare(Exception):
    """This model's cache is of a kind that a prefix cannot be shared through; says which."""


class ConcatCache:
    """Keys and values as they come, one concatenation a call.

    Attributes:
        keys: (B, heads, K, dim) or None before the first tokens.
        values: (B, heads, K, dim_v) or None.
        offset: position of the next token: an int, or (B,) once rows have their own.
        window: how many positions a query sees, itself included; None for all. Applies where the
            model does not name a window itself, as in mlx-lm's rotating cache.
    """

    # llama4 trims chunked caches from the front and asks how far; this one keeps what it is given.
    start_position = 0

    def __init__(self, window: int | None = None) -> None:
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.offset: Any = 0
        self.window = window
        self._padding: _Padding | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Append keys (B, heads, N, dim) and values (B, heads, N, dim_v); return all of them."""
        if self.keys is None or self.values is None:
            self.keys, self.values = keys, values
        else:
            self.keys = mx.concatenate([self.keys, keys], axis=2)
            self.values = mx.concatenate([self.values, values], axis=2)
        self.offset = self.offset + keys.shape[2]
        return self.keys, self.values

    def keys_and_values(self) -> tuple[mx.array | None, mx.array | None]:
        """What is held, for layers that read another layer's cache."""
        return self.keys, self.values

    def make_mask(
        self, N: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str | None:
        """The attention mask for N tokens that are about to be appended.

        Returns:
            None or "causal" where the kernel needs no array, else bool (N, K + N), or
            (B, 1, N, K + N) once rows have their own positions.
        """
        held = self.size()
        window = window_size or self.window
        if window is not None and held + N <= window:
            window = None
        if self._padding is not None:
            return self._padding.mask(held, N, window)
        if window is None and not return_array:
            return None if N == 1 else "causal"
        return create_causal_mask(N, held, window_size=window)

    def size(self) -> int:
        """Keys held (K)."""
        return 0 if self.keys is None else self.keys.shape[2]

    def empty(self) -> bool:
        return self.keys is None

    def maybe_trim_front(self) -> None:
        """Nothing: the chunk mask that llama4 makes hides what it would have trimmed."""

    @property
    def nbytes(self) -> int:
        if self.keys is None or self.values is None:
            return 0
        return self.keys.nbytes + self.values.nbytes

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None]:
        return self.keys, self.values

    @state.setter
    def state(self, value: tuple[mx.array | None, mx.array | None]) -> None:
        self.keys, self.values = value

    def copy(self) -> ConcatCache:
        """A second cache on the same arrays; appending to one leaves the other alone."""
        twin = ConcatCache(self.window)
        twin.keys, twin.values, twin.offset = self.keys, self.values, self.offset
        twin._padding = self._padding
        return twin

    def select(self, rows: mx.array) -> None:
        """Keep only `rows`: (B',) int."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]
        if isinstance(self.offset, mx.array):
            self.offset = self.offset[rows]
        if self._padding is not None:
            self._padding = self._padding.select(rows)

    def settle(self, lengths: mx.array, padded: int) -> None:
        """Declare the last `padded` keys right-padded suffixes of `lengths` (B,) tokens."""
        excess = padded - lengths
        self._padding = _Padding(self.size() - padded, padded, lengths)
        self.offset = self.offset - excess


class _Padding:
    """Where the padding of right-padded suffixes is among the keys.

    Key indices [start + lengths[b], start + padded) are row b's padding; keys after them are
    `padded - lengths[b]` positions earlier than their index.
    """

    def __init__(self, start: int, padded: int, lengths: mx.array) -> None:
        self.start, self.padded, self.lengths = start, padded, lengths

    def mask(self, held: int, count: int, window: int | None) -> mx.array:
        """bool (B, 1, count, held + count) for `count` queries after `held` keys."""
        index = mx.arange(held + count)[None]
        lengths = self.lengths[:, None]
        end = self.start + self.padded
        seen = (index < self.start + lengths) | (index >= end)
        seen = seen[:, None, None, :]
        if count > 1:
            seen = seen & create_causal_mask(count, held)
        if window is not None:
            place = index - mx.where(index >= end, self.padded - lengths, 0)
            seen = seen & (place[:, None, -count:, None] - place[:, None, None, :] < window)
        return seen

    def select(self, rows: mx.array) -> _Padding:
        return _Padding(self.start, self.padded, self.lengths[rows])


def make_caches(model: nn.Module) -> list[Any]:
    """Empty caches for `model`, one a block, in the model's own order.

    Raises:
        CannotShare: the model brings a cache of a kind that is not known here.
    """
    return [_like(cache) for cache in mlx_lm_cache.make_prompt_cache(model)]


def _like(cache: Any) -> Any:
    kind = type(cache)
    if kind is mlx_lm_cache.KVCache or kind is mlx_lm_cache.ConcatenateKVCache:
        return ConcatCache()
    if kind is mlx_lm_cache.ChunkedKVCache:
        return ConcatCache()
    if kind is mlx_lm_cache.RotatingKVCache and cache.keep == 0:
        return ConcatCache(window=cache.max_size)
    if kind is mlx_lm_cache.ArraysCache:
        return mlx_lm_cache.ArraysCache(len(cache.cache))
    if kind is mlx_lm_cache.CacheList:
        return mlx_lm_cache.CacheList(*(_like(part) for part in cache.caches))
    raise CannotShare(f"its cache is a {kind.__name__}, which cannot be shared by several rows")


def share(caches: Sequence[Any], rows: int) -> list[Any]:
    """Caches for `rows` rows that all continue the one row held by `caches`, which stay as they
    are. Keys that no later query can see (outside the window) are left behind."""
    return [_shared(cache, rows) for cache in caches]


def _shared(cache: Any, rows: int) -> Any:
    if isinstance(cache, mlx_lm_cache.CacheList):
        return mlx_lm_cache.CacheList(*(_shared(part, rows) for part in cache.caches))
    if isinstance(cache, mlx_lm_cache.ArraysCache):
        twin = mlx_lm_cache.ArraysCache(len(cache.cache))
        twin.cache = [None if a is None else _broadcast(a, rows) for a in cache.cache]
        return twin
    twin = cast(ConcatCache, cache).copy()
    if twin.keys is None or twin.values is None:
        return twin
    keep = twin.size() if twin.window is None else min(twin.size(), twin.window - 1)
    start = twin.size() - keep
    twin.keys = _broadcast(twin.keys[:, :, start:], rows)
    twin.values = _broadcast(twin.values[:, :, start:], rows)
    return twin


def _broadcast(array: mx.array, rows: int) -> mx.array:
    return mx.broadcast_to(array, (rows, *array.shape[1:]))


def settle(caches: Sequence[Any], lengths: mx.array, padded: int) -> None:
    """Give every row its own position after right-padded suffixes.

    Args:
        caches: those that the suffixes just ran through.
        lengths: (B,) int32, tokens of each suffix.
        padded: S, their common padded length.

    Raises:
        CannotShare: a recurrent state ran over the padding and cannot be taken back.
    """
    for cache in caches:
        if isinstance(cache, mlx_lm_cache.ArraysCache):
            raise CannotShare("it has a recurrent state, which padding would have changed")
        if isinstance(cache, mlx_lm_cache.CacheList):
            settle(cast(Sequence[Any], cache.caches), lengths, padded)
        else:
            cast(ConcatCache, cache).settle(lengths, padded)


def select(caches: Sequence[Any], rows: mx.array) -> None:
    """Keep only `rows` (B',) of every cache, in place: finished answers leave the batch."""
    for cache in caches:
        if isinstance(cache, mlx_lm_cache.CacheList):
            select(cast(Sequence[Any], cache.caches), rows)
        elif isinstance(cache, mlx_lm_cache.ArraysCache):
            cache.filter(rows)
        else:
            cast(ConcatCache, cache).select(rows)


def arrays_of(caches: Sequence[Any]) -> list[mx.array]:
    """Every array the caches hold, in a fixed order (for `mx.eval` and for checkpointing)."""
    found: list[mx.array] = []
    for cache in caches:
        if isinstance(cache, mlx_lm_cache.CacheList):
            found += arrays_of(cast(Sequence[Any], cache.caches))
        elif isinstance(cache, mlx_lm_cache.ArraysCache):
            found += [a for a in cache.cache if a is not None]
        else:
            found += [a for a in cache.state if a is not None]
    return found


def is_recurrent(caches: Sequence[Any]) -> bool:
    """Whether a layer carries a state that every token changes (state-space, linear attention)."""
    return any(
        is_recurrent(cast(Sequence[Any], cache.caches))
        if isinstance(cache, mlx_lm_cache.CacheList)
        else isinstance(cache, mlx_lm_cache.ArraysCache)
        for cache in caches
    )


def is_cache(value: Any) -> bool:
    """Whether `value` is one of the caches of this module."""
    return isinstance(value, (ConcatCache, mlx_lm_cache.ArraysCache, mlx_lm_cache.CacheList))


def with_arrays(cache: Any, arrays: Sequence[mx.array]) -> Any:
    """A copy of `cache` that holds `arrays` (as `arrays_of` lists them) in place of its own."""
    return _rebuilt(cache, list(arrays))


def _rebuilt(cache: Any, arrays: list[mx.array]) -> Any:
    if isinstance(cache, mlx_lm_cache.CacheList):
        return mlx_lm_cache.CacheList(*(_rebuilt(part, arrays) for part in cache.caches))
    if isinstance(cache, mlx_lm_cache.ArraysCache):
        twin = mlx_lm_cache.ArraysCache(len(cache.cache))
        twin.cache = [None if a is None else arrays.pop(0) for a in cache.cache]
        twin.lengths, twin.left_padding = cache.lengths, cache.left_padding
        return twin
    twin = cast(ConcatCache, cache).copy()
    if twin.keys is not None:
        twin.keys = arrays.pop(0)
    if twin.values is not None:
        twin.values = arrays.pop(0)
    return twin


def adopt(cache: Any, other: Any) -> None:
    """Let `cache` hold what `other`, of the same kind, holds."""
    if isinstance(cache, mlx_lm_cache.CacheList):
        for mine, theirs in zip(cache.caches, other.caches, strict=True):
            adopt(mine, theirs)
    else:
        cache.__dict__.update(other.__dict__)
