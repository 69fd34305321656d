"""Batched decoding on shared prefixes: what the MLX engine and the trainer's samples both run.

The tokens that all prompts begin with run once; the rest of each prompt runs right-padded on top,
with the head on its last position alone; then every row goes on at its own position. Rows that have
ended leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx import nn

from livery.engines.answers import Answer, OnToken, common_prefix, take
from livery.engines.mlx import cache as mlx_cache
from livery.engines.mlx.head import Head, find_head, largest

# (rows (B',), answers so far by row, logits (B', vocab)) -> logits. Rows count within the call.
Adjust = Callable[[Sequence[int], Sequence[Sequence[int]], mx.array], mx.array]
# (rows (B',), answers so far by row, logits (B', vocab)) -> tokens (B',).
Choose = Callable[[Sequence[int], Sequence[Sequence[int]], mx.array], mx.array]


@dataclass(frozen=True)
class Decoder:
    """A model with what is known about decoding it.

    Attributes:
        model: mlx-lm's module.
        head: see `mlx_head`; None where it was not found.
        own_positions: rows may stand at positions of their own; else only prompts of one length
            are decoded together.
    """

    model: nn.Module
    head: Head | None
    own_positions: bool


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


def decode(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    stop: Collection[int],
    prefix: Prefix | None = None,
    adjust: Adjust | None = None,
    choose: Choose | None = None,
    on_token: OnToken | None = None,
) -> list[Answer]:
    """Answer every prompt; greedy unless `choose` says otherwise.

    Args:
        prompts: token ids, none empty.
        max_tokens: longest answer.
        stop: tokens that end an answer.
        prefix: from `run_prefix`, where these prompts begin like those of other calls; what they
            share beyond it is run once here.
        adjust: changes the logits before a token is chosen (a grammar's mask, say).
        choose: draws the tokens; the likeliest where it is None.
        on_token: hears of every token.
    """
    answers = [Answer() for _ in prompts]
    for rows in _groups(decoder, prompts):
        _decode_group(decoder, prompts, rows, answers, max_tokens, set(stop), prefix, adjust,
                      choose, on_token)  # fmt: skip
    return answers


def _groups(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    if decoder.own_positions:
        if prompts:
            yield list(range(len(prompts)))
        return
    by_length: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(row)
    yield from by_length.values()


def _decode_group(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    rows: list[int],
    answers: list[Answer],
    max_tokens: int,
    stop: set[int],
    prefix: Prefix | None,
    adjust: Adjust | None,
    choose: Choose | None,
    on_token: OnToken | None,
) -> None:
    logits, caches = prefill(decoder, [prompts[row] for row in rows], prefix)
    active = rows
    for step in range(max_tokens):
        so_far = [answers[row].tokens for row in active]
        if adjust is not None:
            logits = adjust(active, so_far, logits)
        tokens = choose(active, so_far, logits) if choose else mx.argmax(logits, axis=-1)
        keep = take(answers, active, _ints(tokens), stop, on_token)
        if not keep or step == max_tokens - 1:
            return
        if len(keep) < len(active):
            chosen = mx.array(keep)
            mlx_cache.select(caches, chosen)
            tokens = tokens[chosen]
            active = [active[place] for place in keep]
        logits = decoder.model(tokens[:, None], cache=caches)[:, -1]


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
    """Run the prompts: (logits of the token after each (B, vocab), caches to go on from)."""
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
    """Whether rows of one batch can stand at different positions: tried against single rows."""
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
