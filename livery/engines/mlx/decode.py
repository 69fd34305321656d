"""Batched decoding on shared prefixes: what the MLX engine and the trainer's samples both run.

The tokens that all prompts begin with run once; the rest of each prompt runs right-padded on top,
with the head on its last position alone; then every row continues at its own position. Rows that
have ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from livery.engines.answers import common_prefix, gumbel, nucleus
from livery.engines.mlx import cache as mlx_cache
from livery.engines.mlx.head import Head, find_head, largest


@dataclass(frozen=True)
class Decoder:
    """A model with what is known about decoding it.

    Attributes:
        model: mlx-lm's module.
        head: see `mlx_head`; None where it was not found.
        own_positions: rows may be at positions of their own; else only prompts of one length
            are decoded together.
    """

    model: nn.Module
    head: Head | None
    own_positions: bool

    def groups(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """See `livery.engines.answers.Decoder`."""
        together: dict[int, list[int]] = {}
        for row, prompt in enumerate(prompts):
            together.setdefault(0 if self.own_positions else len(prompt), []).append(row)
        return [*together.values()]

    def start(self, prompts: Sequence[Sequence[int]], prefix: Prefix | None) -> _Rows:
        """See `livery.engines.answers.Decoder`."""
        logits, caches = prefill(self, prompts, prefix)
        return _Rows(self.model, caches, logits)


@dataclass(frozen=True)
class Prefix:
    """Tokens that every prompt to come begins with, run once.

    Attributes:
        length: how many.
        caches: of one row that holds them; never written to again.
    """

    length: int
    caches: list[Any]


def decoder(model: nn.Module) -> Decoder:
    """Find out, by trying on a few tokens, how `model` can be decoded in batches."""
    head = find_head(model)
    return Decoder(model, head, _takes_own_positions(model))


@dataclass
class _Rows:
    """See `livery.engines.answers.Rows`."""

    model: nn.Module
    caches: list[Any]
    logits: mx.array

    @property
    def width(self) -> int:
        return self.logits.shape[-1]

    def forbid(self, allowed: np.ndarray) -> None:
        self.logits = mx.where(mx.array(allowed), self.logits, -mx.inf)

    def wait(self) -> None:
        mx.eval(self.logits)

    def likeliest(self) -> list[int]:
        return _ints(mx.argmax(self.logits, axis=-1))

    def draw(self, keys: np.ndarray, temperature: float, top_p: float) -> list[int]:
        scaled = self.logits.astype(mx.float32) / temperature
        if top_p < 1:
            kept = nucleus(np.asarray(scaled), top_p)
            scaled = mx.where(mx.array(kept), scaled, -mx.inf)
        ids = mx.arange(self.width, dtype=mx.int32)
        return _ints(mx.argmax(scaled + gumbel(ids, mx.array(keys), mx.log), axis=-1))

    def select(self, places: Sequence[int]) -> None:
        mlx_cache.select(self.caches, mx.array(list(places)))

    def advance(self, tokens: Sequence[int]) -> None:
        self.logits = self.model(mx.array(list(tokens))[:, None], cache=self.caches)[:, -1]


def run_prefix(decoder: Decoder, tokens: Sequence[int], after: Prefix | None = None) -> Prefix:
    """Run tokens that many prompts begin with, on top of a shorter prefix if there is one."""
    caches = mlx_cache.share(after.caches, 1) if after else mlx_cache.make_caches(decoder.model)
    if tokens:
        decoder.model(mx.array(np.asarray(tokens, np.int32))[None], cache=caches)
        mx.eval(mlx_cache.arrays_of(caches))
    return Prefix(len(tokens) + (after.length if after else 0), caches)


def prefill(
    decoder: Decoder, prompts: Sequence[Sequence[int]], prefix: Prefix | None = None
) -> tuple[mx.array, list[Any]]:
    """Run prompts: (logits of the token after each (B, vocab), caches to go on from)."""
    shared = max(common_prefix(prompts), prefix.length if prefix else 0)
    whole = run_prefix(decoder, prompts[0][prefix.length if prefix else 0 : shared], prefix)
    caches = mlx_cache.share(whole.caches, len(prompts))
    lengths = np.asarray([len(prompt) - shared for prompt in prompts], np.int32)
    width = int(lengths.max())
    suffixes = np.zeros((len(prompts), width), np.int32)
    for row, prompt in enumerate(prompts):
        suffixes[row, : lengths[row]] = prompt[shared:]
    last = mx.array(np.arange(len(prompts), dtype=np.int32) * width + lengths - 1)
    if decoder.head is None:
        full = decoder.model(mx.array(suffixes), cache=caches)
        logits = full.reshape(-1, full.shape[-1])[last]
    else:
        with decoder.head.rows(last):
            logits = decoder.model(mx.array(suffixes), cache=caches)[0]
    if (lengths < width).any():
        mlx_cache.settle(caches, mx.array(lengths), width)
    mx.eval(logits, mlx_cache.arrays_of(caches))
    return logits, caches


def _takes_own_positions(model: nn.Module) -> bool:
    """Whether rows of one batch can be at different positions: tried against single rows."""
    prompts = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 7]]
    probe = Decoder(model, None, own_positions=True)
    after = mx.array([[8], [9]])
    try:
        if mlx_cache.is_recurrent(mlx_cache.make_caches(model)):
            return False
        _, caches = prefill(probe, prompts)
        got = model(after, cache=caches)[:, -1].astype(mx.float32)
        for row, prompt in enumerate(prompts):
            want = model(mx.array([[*prompt, after[row].item()]]))[0, -1].astype(mx.float32)
            if largest(got[row] - want) > 0.05 * (largest(want) + 1e-6):
                return False
    except (ValueError, TypeError, IndexError, mlx_cache.CannotShare):
        return False
    return True


def _ints(tokens: mx.array) -> list[int]:
    return [int(token) for token in np.asarray(tokens.astype(mx.int32))]
