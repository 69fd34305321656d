"""Log-probabilities of a micro-batch's rows: prefix once, head on supervised positions only.

    row: sum over its supervised positions of log p(target), float32, with exact gradients

The prefix runs at batch 1 through caches whose keys and values the rows then share; the gradient
reaches the prefix from every row. Padding is on the right, where no supervised position sees
it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx import nn

from livery.engines.mlx import cache as mlx_cache
from livery.engines.mlx.head import Head, sum_last
from livery.training.numerics import row_arrays
from livery.training.plan import MicroBatch, bucket
from mlx_train.deal import deal, stretches

# Logits (rows times vocabulary) held at a time: 32 M are 128 MB in float32, a few times over.
LOGITS = 32_000_000


@dataclass(frozen=True)
class Part:
    """Rows of a micro-batch that run together.

    Attributes:
        tokens: (B, S) int32, right-padded.
        index: (N,) int32, flat positions in (B, S) that are supervised.
        targets: (N,) int32, the tokens they predict; N may be padded.
        places: (B, L) int32, where in (N,) each row's own are; N for none.
    """

    tokens: mx.array
    index: mx.array
    targets: mx.array
    places: mx.array


@dataclass(frozen=True)
class Inputs:
    """A micro-batch as the loss takes it.

    Attributes:
        prefix: (1, P) int32, or None where nothing runs ahead of the rows.
        parts: the rows; several parts where they run side by side.
        order: (B,) int32, where each of the batch's rows stands in the parts; None: as they are.
        arrays: (B,) float32 by name, see `livery.training.numerics.row_arrays`.
    """

    prefix: mx.array | None
    parts: tuple[Part, ...]
    order: mx.array | None
    arrays: Mapping[str, mx.array]


def make_inputs(batch: MicroBatch, *, share: bool, few_shapes: bool, parts: int = 1) -> Inputs:
    """Args:
    share: run the prefix once; else every row carries it itself.
    few_shapes: round N up to few lengths, for a compiled step.
    parts: deal the rows to so many parts, shorter rows to the first, each as wide as it needs.
    """
    prefix, tokens, targets, lengths = batch.prefix, batch.tokens, batch.targets, batch.lengths
    if len(prefix) and not (share and len(tokens) > 1):
        tokens = np.concatenate([np.broadcast_to(prefix, (len(tokens), len(prefix))), tokens], 1)
        unsupervised = np.full((len(targets), len(prefix)), -1, np.int32)
        targets = np.concatenate([unsupervised, targets], axis=1)
        lengths = lengths + len(prefix)
        prefix = prefix[:0]
    arrays = {name: mx.array(values) for name, values in row_arrays(batch).items()}
    order = None
    if parts == 1:
        made = (_part(tokens, targets, few_shapes),)
    else:
        order = np.argsort(lengths, kind="stable")
        made = tuple(
            _part(tokens[rows, : lengths[rows].max()], targets[rows, : lengths[rows].max()], False)
            for rows in np.split(order, deal(lengths[order], parts, len(prefix)))
        )
    return Inputs(
        mx.array(prefix[None]) if len(prefix) else None,
        made,
        None if order is None else mx.array(np.argsort(order).astype(np.int32)),
        arrays,
    )


def _part(tokens: np.ndarray, targets: np.ndarray, few_shapes: bool) -> Part:
    supervised = targets >= 0
    index = np.flatnonzero(supervised).astype(np.int32)
    picked = targets.reshape(-1)[index]
    counts = supervised.sum(axis=1)
    longest = max(1, int(counts.max()))
    if few_shapes or not len(index):
        count = bucket(max(1, len(index)))
        index = np.pad(index, (0, count - len(index)))
        picked = np.pad(picked, (0, count - len(picked)))
        longest = bucket(longest)
    places = np.full((len(tokens), longest), len(index), np.int32)
    places[np.arange(longest) < counts[:, None]] = np.arange(counts.sum())
    return Part(mx.array(tokens), mx.array(index), mx.array(picked), mx.array(places))


def row_logprobs(
    model: nn.Module, head: Head | None, inputs: Inputs, streams: Sequence[Any] = ()
) -> mx.array:
    """(B,) float32: the summed log-probability of each row's supervised tokens.

    Args:
        streams: one for each part, to run them side by side; none runs all in the default one.
    """
    caches = None
    if inputs.prefix is not None:
        caches = mlx_cache.make_caches(model)
        with _on(streams, 0):
            # The prefix's own logits are never computed: MLX is lazy.
            for start, stop in stretches(inputs.prefix.shape[1]):
                cast(Any, model)(inputs.prefix[:, start:stop], cache=caches)
    sums: list[mx.array] = []
    for number, part in enumerate(inputs.parts):
        with _on(streams, number):
            losses = _token_losses(model, head, part, caches)
            sums.append(sum_last(mx.concatenate([losses, mx.zeros((1,))])[part.places]))
    rows = sums[0] if len(sums) == 1 else mx.concatenate(sums)
    return -(rows if inputs.order is None else rows[inputs.order])


def _on(streams: Sequence[Any], number: int) -> Any:
    return mx.stream(streams[number]) if streams else contextlib.nullcontext()


def _token_losses(
    model: nn.Module, head: Head | None, part: Part, prefix: list[Any] | None
) -> mx.array:
    """(N,) float32: -log p of every target."""
    forward: Any = model
    caches = None if prefix is None else mlx_cache.share(prefix, part.tokens.shape[0])
    if head is None:
        logits = forward(part.tokens, cache=caches)
        logits = logits.reshape(-1, logits.shape[-1])[part.index]
        return cross_entropy(logits, part.targets)
    chunk = max(1, LOGITS // head.width)
    # A trained head needs its own gradient, which the chunks do not give.
    if len(part.index) > chunk and not head.module.trainable_parameters():
        hidden = head.hidden(model, part.tokens, part.index, caches)
        return chunked_cross_entropy(model, head, hidden, part.targets, chunk)
    with head.rows(part.index):
        logits = forward(part.tokens, cache=caches)[0]
    return cross_entropy(logits, part.targets)


def chunked_cross_entropy(
    model: nn.Module, head: Head, hidden: mx.array, targets: mx.array, chunk: int
) -> mx.array:
    """`cross_entropy` of the head's input (N, D), never holding more than `chunk` rows of logits.

    Loss and derivative of a chunk are taken together, one chunk after the other, so nothing is
    computed twice. Each loss depends on its own row alone, so the sum's gradient has them all.
    """

    def loss(rows: mx.array, start: int) -> tuple[mx.array, mx.array]:
        losses = cross_entropy(head.logits(model, rows), targets[start : start + chunk])
        return losses.sum(), losses

    def walk(rows: mx.array, gradients: bool) -> tuple[mx.array, mx.array]:
        losses, found = list[mx.array](), list[mx.array]()
        for start in range(0, rows.shape[0], chunk):
            # The next chunk waits for this one, or all their logits would be alive at once.
            piece = mx.depends(rows[start : start + chunk], [*losses[-1:], *found[-1:]])
            if gradients:
                (_, values), gradient = mx.value_and_grad(loss)(piece, start)
                found.append(gradient)
            else:
                values = loss(piece, start)[1]
            losses.append(values)
        return mx.concatenate(losses), mx.concatenate(found) if found else rows

    if not model.training:
        return walk(hidden, False)[0]

    @mx.custom_function
    def whole(rows: mx.array) -> tuple[mx.array, mx.array]:
        return walk(rows, True)

    @whole.vjp  # pyright: ignore[reportUntypedFunctionDecorator]
    def _(primals: Any, cotangents: Any, outputs: Any) -> Any:
        return (outputs[1] * cotangents[0][:, None]).astype(primals.dtype)

    computed: Any = whole(hidden)
    return computed[0]


def cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """-log softmax(logits)[targets] in float32: logits (N, V), targets (N,) -> (N,)."""
    computed: Any = _cross_entropy(logits.astype(mx.float32), targets)
    return computed[0]


# The derivative is written out: softmax - onehot, from the probabilities of the forward pass. Left
# to itself MLX takes the exponentials a second time and scatters into an (N, V) array of zeros.
@mx.custom_function
def _cross_entropy(logits: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    top = logits.max(axis=-1, keepdims=True)
    exponentials = _exp(logits - top)
    total = sum_last(exponentials)[:, None]
    picked = mx.take_along_axis(logits, targets[:, None], axis=-1)
    return (mx.log(total) + top - picked)[:, 0], exponentials / total


@_cross_entropy.vjp  # pyright: ignore[reportUntypedFunctionDecorator]
def _cross_entropy_vjp(primals: Any, cotangents: Any, outputs: Any) -> Any:
    logits, targets = primals
    row = cotangents[0]
    gradient = outputs[1] * row[:, None]
    gradient = gradient.at[mx.arange(logits.shape[0]), targets].add(-row)
    return gradient, mx.zeros_like(targets)


def _exp(x: mx.array) -> mx.array:
    # On a CPU, MLX's own exp takes 2.5 times as long as its power.
    if mx.default_device() == mx.Device(mx.cpu):
        return mx.power(2.718281828459045, x)
    return mx.exp(x)
