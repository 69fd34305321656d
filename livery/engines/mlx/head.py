"""The head of a model, computed for chosen positions only, and exact sums over its logits.

Of a prompt's logits nobody needs more than the last, of a training example's none but those before
its supervised tokens; in small models the head is most of the work. The rows are picked inside the
head module while the model itself is called unchanged, so what a family does after its head
(softcap, logit scale) still applies.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx import nn

from livery.training.self_check import FAMILY_ERRORS, broken

_BLOCK = 64


def sum_last(x: mx.array) -> mx.array:
    """Sum over the last axis, (…, n) -> (…), in blocks of 64 and then blocks of their sums.

    On a CPU MLX adds a row up in one running float32: over a million squares that is 5e-4 short,
    over a vocabulary of 262,144 it moves a log-probability by 1e-4. Blocks stay within 1e-7.
    """
    while x.shape[-1] > _BLOCK:
        rest = x.shape[-1] % _BLOCK
        whole = x if not rest else x[..., :-rest]
        sums = whole.reshape(*x.shape[:-1], -1, _BLOCK).sum(axis=-1)
        if rest:
            sums = mx.concatenate([sums, x[..., -rest:].sum(axis=-1, keepdims=True)], axis=-1)
        x = sums
    return x.sum(axis=-1)


class Head:
    """The module (and its method) that turns hidden states into logits.

    Attributes:
        module: the output projection, or the embedding where the two are tied.
        method: "__call__" of a projection, "as_linear" of an embedding.
        width: logits a row.
    """

    def __init__(self, module: nn.Module, method: str, width: int) -> None:
        self.module, self.method, self.width = module, method, width

    def rows(self, index: mx.array) -> contextlib.AbstractContextManager[None]:
        """Inside, the model's logits are those of flat positions `index` (N,): (1, N, vocab)."""
        return self._given(lambda x: x.reshape(-1, x.shape[-1])[index][None])

    def hidden(
        self, model: nn.Module, tokens: mx.array, index: mx.array, cache: list[Any] | None
    ) -> mx.array:
        """The head's own input (N, D) at flat positions `index` of tokens (B, S)."""
        seen: list[mx.array] = []

        def note(x: mx.array) -> mx.array:
            seen.append(x.reshape(-1, x.shape[-1])[index])
            return seen[-1][None]

        with self._given(note):
            cast(Any, model)(tokens, cache=cache)
        return seen[-1]

    def logits(self, model: nn.Module, hidden: mx.array) -> mx.array:
        """What the model makes of the head's input: hidden (N, D) -> (N, vocab)."""
        # The body's own result is set aside before anything computes it: MLX is lazy.
        with self._given(lambda _: hidden[None]):
            return cast(Any, model)(mx.zeros((1, 1), mx.int32))[0]

    @contextlib.contextmanager
    def _given(self, change: Callable[[mx.array], mx.array]) -> Generator[None]:
        """Inside, the head gets `change(x)` for its input x."""
        kind = type(self.module)
        original = getattr(kind, self.method)

        def changed(module: nn.Module, x: mx.array) -> mx.array:
            return original(module, change(x))

        # Python looks `__call__` up on the class, so for the time being the module gets one of
        # its own; names and parameters stay as they are.
        self.module.__class__ = type(kind.__name__, (kind,), {self.method: changed})
        try:
            yield
        finally:
            self.module.__class__ = kind


def find_head(model: nn.Module) -> Head | None:
    """The head of `model`, found by trying: the module for which picking rows gives those rows of
    the logits. None where no module does (the family multiplies by a weight of its own).

    Raises:
        UserError: mlx-lm cannot compute this model at all.
    """
    tokens = mx.array(np.arange(1, 6, dtype=np.int32)[None])
    index = mx.array([1, 3, 4])
    try:
        full = model(tokens)
        mx.eval(full)
    except FAMILY_ERRORS as error:
        raise broken(f"mlx-lm ({type(model).__module__.rpartition('.')[2]})", error) from error
    want = full[:, index].astype(mx.float32)
    for module, method in _candidates(model, full.shape[-1]):
        head = Head(module, method, full.shape[-1])
        with head.rows(index):
            try:
                got: Any = model(tokens)
            except (ValueError, IndexError, TypeError):  # the wrong module: shapes do not fit
                continue
        if got.shape != want.shape:
            continue
        if largest(got.astype(mx.float32) - want) <= 0.02 * (1e-6 + largest(want)):
            return head
    return None


def largest(array: mx.array) -> float:
    """The largest absolute value in `array`."""
    return float(np.asarray(mx.abs(array).max()))


def _candidates(model: nn.Module, vocabulary: int) -> Iterator[tuple[nn.Module, str]]:
    """Modules whose output is as wide as the logits, the likeliest first."""
    ties: list[nn.Module] = []
    for module in reversed([cast(nn.Module, m) for _, m in model.named_modules()]):
        low_rank = module.get("lora_b")
        if low_rank is not None and low_rank.ndim == 2 and low_rank.shape[1] == vocabulary:
            yield module, "__call__"  # an adapted head: rows go into all of it
        weight = module.get("weight")
        if weight is None or weight.ndim != 2 or weight.shape[0] != vocabulary:
            continue
        if hasattr(module, "as_linear"):
            ties.append(module)
        else:
            yield module, "__call__"
    for module in ties:
        yield module, "as_linear"
