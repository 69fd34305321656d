"""Attention of a tree, branch by branch: a suffix attends only to the prefix and itself.

Under a mask, a tree of N places costs N x N scores, most of them of pairs that may not see each
other. Here each suffix of at most S places costs S x (P + S), while everything that is not
attention still runs on the packed row, without padding and with the prefix once:

    place     a b c | d e | f g h        scores    abc x abc
                                                   de  x (abc, de)
                                                   fgh x (abc, fgh)

Suffixes run as a batch under torch's kernel, each behind a copy of the prefix. Where they are
short, those copies are most of the memory, and the kernel's backward pass in bfloat16 most of the
time: there the scores and their gradients are written out as matrix products, a few heads and rows
at a time, and nothing is copied. A prefix that is too long for that runs a stretch after the other,
each behind what came before as a suffix is, so that memory grows with its length and not with the
square of it. The derivative is FlashAttention's (Dao et al. 2022, appendix
B.4): with p = exp(s - lse) and D = rowsum(dO * O), it is dS = p * (dO V^T - D).

This is for CPUs. On a GPU, `cuda_train.flex` does the same in one kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from livery.engines.torch.attention import TREE_ATTENTION
from livery.training.plan import MicroBatch

# Scores held at a time, of which three copies are alive in the backward pass: 8 MB each.
SCORES = 1 << 21
# Inputs of a suffix up to which written-out scores were the faster (bfloat16, 135 M parameters), or
# as fast and smaller (float32 behind a prefix).
SHORT = 128


@dataclass(frozen=True)
class Branches:
    """How a micro-batch is packed into one row of N places.

    Attributes:
        prefix: P, places that every branch sees.
        padded: (B, S) int64, the place of each row's j-th input; the row's first where it has none.
        behind: (N - P,) int64, where each place behind the prefix stands in the B * S of `padded`.
        ends: B + 1 numbers, the places behind the prefix before each row, and all of them.
        window: positions that a token sees, itself among them; None where it sees all before it.
    """

    prefix: int
    padded: torch.Tensor
    behind: torch.Tensor
    ends: tuple[int, ...]
    window: int | None

    def allowed(self, query: slice, key: slice) -> torch.Tensor:
        """(n, t) bool: which of these positions attend to which of those, in a row by itself."""
        device = self.padded.device
        queries = torch.arange(query.start, query.stop, device=device)[:, None]
        keys = torch.arange(key.start, key.stop, device=device)[None]
        # Compared, not subtracted: every layer asks anew, and (n, t) distances take 8 bytes each.
        seen = queries >= keys
        return seen if self.window is None else seen & (queries - self.window < keys)


def branch_mask(batch: MicroBatch, window: int | None, device: torch.device) -> torch.Tensor:
    """What stands for a mask: (1, 1, P + S, P + S) bool, with its `Branches` on it.

    transformers hands a tensor of four dimensions to the attention of each layer as it is. Any
    other attention would find that its shape fits no row of N places, and say so. It is one number
    in memory.
    """
    start, width = len(batch.prefix), int(batch.lengths.max())
    ends = np.cumsum(batch.lengths)
    columns = np.arange(width)[None]
    real = columns < batch.lengths[:, None]
    padded = start + (ends - batch.lengths)[:, None] + np.where(real, columns, 0)
    places = start + width
    mask = cast(Any, torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device))
    mask = mask.expand(1, 1, places, places)
    mask.branches = Branches(
        start,
        torch.from_numpy(padded.astype(np.int64)).to(device),
        torch.from_numpy(np.flatnonzero(real)).to(device),
        (0, *ends.tolist()),
        window if window is not None and window < places else None,
    )
    return mask


def install(model: Any) -> str:
    """Let `model` take these masks where it is given them; returns why it cannot, or ""."""
    config = model.config.get_text_config()
    if (running := _running(model)) == TREE_ATTENTION:
        return ""
    if running != "sdpa":
        return f"{config.model_type} runs {running} attention"
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask
    except ImportError as error:
        return f"this version of transformers does not offer it ({error})"
    AttentionInterface.register(TREE_ATTENTION, attend)
    AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
    model.set_attn_implementation(TREE_ATTENTION)
    if _running(model) != TREE_ATTENTION:  # transformers warns and leaves it
        return f"{config.model_type} does not allow its attention to be replaced"
    return ""


def _running(model: Any) -> str:
    return str(model.config._attn_implementation)


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: Any, **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """Attention under the kind of mask that is given; its form is transformers'.

    Args:
        query, key, value: (B, heads, T, d), key and value of as many or fewer heads.
    """
    from torch.nn.attention.flex_attention import BlockMask
    from transformers.integrations.flex_attention import flex_attention_forward
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if isinstance(attention_mask, BlockMask):
        return flex_attention_forward(module, query, key, value, attention_mask, **options)
    branches: Branches | None = getattr(attention_mask, "branches", None)
    if branches is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    short = branches.padded.shape[1] <= SHORT and not options.get("dropout")
    if short and (branches.prefix or query.dtype == torch.bfloat16):
        q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
        return cast(Any, _Attention.apply(q, k, v, branches, scale))[None], None

    def kernel(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, mask: torch.Tensor | None
    ) -> torch.Tensor:
        return sdpa_attention_forward(module, q, k, v, mask, **options)[0]

    return _batched(query, key, value, branches, kernel), None


def _batched(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, branches: Branches,
    kernel: Callable[..., torch.Tensor],
) -> torch.Tensor:  # fmt: skip
    """(1, N, heads, d): the prefix by itself, then all suffixes as a batch behind copies of it.

    Args:
        kernel: (B, heads, T, d) three times and a mask, None for all that came before ->
            (B, T, heads, d).
    """
    start = branches.prefix
    rows, width = branches.padded.shape
    before, behind = slice(0, start), slice(start, start + width)

    def suffixes(packed: torch.Tensor) -> torch.Tensor:  # (1, heads, N, d) -> (B, heads, S, d)
        taken = packed[0].index_select(1, branches.padded.view(-1))
        return taken.unflatten(1, (rows, width)).transpose(0, 1)

    def whole(packed: torch.Tensor) -> torch.Tensor:
        first = packed[:, :, :start].expand(rows, -1, -1, -1)
        return torch.cat([first, suffixes(packed)], dim=2)

    plain = branches.window is None
    everything = slice(0, behind.stop)
    mask = None if plain and not start else branches.allowed(behind, everything)[None, None]
    found = kernel(suffixes(query), whole(key), whole(value), mask=mask)
    found = found.flatten(0, 1)[branches.behind][None]
    if not start:
        return found
    mask = None if plain else branches.allowed(before, before)[None, None]
    first = kernel(query[:, :, :start], key[:, :, :start], value[:, :, :start], mask=mask)
    return torch.cat([first, found], dim=1)


@dataclass(frozen=True)
class _Part:
    """Rows of a tree, or a stretch of its prefix as a row of its own, in some of the heads.

    Inside, arrays are (k, b, n, e): k heads of keys, b rows, n inputs of a row in each head of
    queries that shares a head of keys.

    Attributes:
        places: (b, s) int64, the place of each input.
        real: (r,) int64, those of the b * s that are no padding; None for all.
        span: the r places, which follow one another.
        heads: of keys.
        own, shared: (s, s) and (s, before) bool, what is hidden within the row and before it;
            None for nothing.
        before: places that all of it sees: P, or for a stretch of the prefix those before it.
    """

    places: torch.Tensor
    real: torch.Tensor | None
    span: slice
    heads: slice
    own: torch.Tensor
    shared: torch.Tensor | None
    before: int

    def take(self, packed: torch.Tensor, keys: int, padding: float | None = None) -> torch.Tensor:
        """(k, b, n, e) of (N, heads, e).

        Args:
            keys: heads of keys, among which the heads are dealt out.
            padding: used where a row has no input; else what its first input has.
        """
        here = packed[:, self._heads(packed.shape[1], keys)].index_select(0, self.places.view(-1))
        of_keys = self.heads.stop - self.heads.start
        if padding is not None and self.real is not None:
            filled = torch.full_like(here, padding)
            here = filled.index_copy_(0, self.real, here.index_select(0, self.real))
        rows = here.view(*self.places.shape, of_keys, -1, here.shape[-1])
        return rows.permute(2, 0, 3, 1, 4).flatten(2, 3)

    def prefix(self, packed: torch.Tensor) -> torch.Tensor:
        """(k, 1, before, e) of keys or values (N, heads, e)."""
        return packed[: self.before, self.heads].transpose(0, 1)[:, None]

    def add(self, packed: torch.Tensor, rows: torch.Tensor, keys: int) -> None:
        """Add what `take` would give to (N, heads, e)."""
        size, width = self.places.shape
        found = rows.unflatten(2, (-1, width)).permute(1, 3, 0, 2, 4)
        found = found.reshape(size * width, -1, rows.shape[-1])
        packed[self.span, self._heads(packed.shape[1], keys)] += (
            found if self.real is None else found.index_select(0, self.real)
        )

    def hide(self, scores: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """Scores (k, b, n, t), with the lowest number where `hidden` (s, t) says so."""
        if hidden is not None:
            scores.unflatten(2, (-1, len(hidden))).masked_fill_(hidden, -torch.inf)
        return scores

    def _heads(self, count: int, keys: int) -> slice:
        shared_by = count // keys
        return slice(self.heads.start * shared_by, self.heads.stop * shared_by)


def parts_of(branches: Branches, keys: int, shared_by: int) -> Iterator[_Part]:
    """A tree in parts of at most `SCORES` scores, or of one row in one head of keys.

    Args:
        keys: heads of keys.
        shared_by: heads of queries for each.
    """
    start = branches.prefix
    rows, width = branches.padded.shape

    def hidden(query: slice, stop: int) -> torch.Tensor | None:
        """Of what stands before `stop`."""
        seen = branches.window is None or not stop
        return None if seen else ~branches.allowed(query, slice(0, stop))

    whole = shared_by * start**2 <= SCORES
    for stretch in _slices(start, start if whole else SCORES // (shared_by * start)):
        place = torch.arange(stretch.start, stretch.stop, device=branches.padded.device)[None]
        own, shared = ~branches.allowed(stretch, stretch), hidden(stretch, stretch.start)
        for heads in _slices(keys, SCORES // (shared_by * place.shape[1] * stretch.stop)):
            yield _Part(place, None, stretch, heads, own, shared, stretch.start)
    behind = slice(start, start + width)
    own, shared = ~branches.allowed(behind, behind), hidden(behind, start)
    each = shared_by * width * (start + width)
    for some in _slices(rows, SCORES // each):
        places = branches.padded[some]
        begin, end = branches.ends[some.start], branches.ends[some.stop]
        real = branches.behind[begin:end] - some.start * width
        span = slice(start + begin, start + end)
        for heads in _slices(keys, SCORES // (each * len(places))):
            yield _Part(places, real, span, heads, own, shared, start)


def _slices(count: int, size: int) -> Iterator[slice]:
    """0 to `count` in slices of `size`, at least 1."""
    size = max(1, size)
    for begin in range(0, count, size):
        yield slice(begin, min(begin + size, count))


class _Attention(torch.autograd.Function):
    """(N, heads, e) from query (N, heads, d), key (N, fewer, d), value (N, fewer, e)."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        branches: Branches, scale: float,
    ) -> torch.Tensor:  # fmt: skip
        count, keys = query.shape[1], key.shape[1]
        wide = torch.promote_types(query.dtype, torch.float32)
        found = query.new_zeros(len(query), count, value.shape[2])
        weights = torch.zeros(len(query), count, 1, dtype=wide, device=query.device)
        for part in parts_of(branches, keys, count // keys):
            q, k, v = part.take(query, keys), part.take(key, keys), part.take(value, keys)
            scores = part.hide(_product(q, k, wide).mul_(scale), part.own)
            top = scores.amax(-1, keepdim=True)
            ahead = None
            if part.before:
                ahead = _product(_joined(q), part.prefix(key), wide).mul_(scale)
                ahead = part.hide(ahead.view(*q.shape[:3], -1), part.shared)
                top = torch.maximum(top, ahead.amax(-1, keepdim=True))
            shares = scores.sub_(top).exp_()
            total = shares.sum(-1, keepdim=True)
            out = (shares.to(v.dtype) @ v).to(wide)
            if ahead is not None:
                shares = ahead.sub_(top).exp_()
                total = total + shares.sum(-1, keepdim=True)
                out = out + (_joined(shares.to(v.dtype)) @ part.prefix(value)).view_as(out)
            part.add(found, (out / total).to(found.dtype), keys)
            part.add(weights, total.log_().add_(top), keys)
        ctx.save_for_backward(query, key, value, found, weights)
        ctx.branches, ctx.scale = branches, scale
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, found, weights = ctx.saved_tensors
        gradient, scale, keys = gradients[0], ctx.scale, key.shape[1]
        wide = weights.dtype
        inner = (gradient.to(wide) * found.to(wide)).sum(-1, keepdim=True)
        d_query = torch.zeros_like(query)
        # A prefix hears from every branch: summed in float32.
        d_key, d_value = (torch.zeros_like(each, dtype=wide) for each in (key, value))

        def through(
            part: _Part, q: torch.Tensor, g: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
            hidden: torch.Tensor | None, lse: torch.Tensor, less: torch.Tensor,
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
            """Gradients of q, k and v by the scores of q on k."""
            shares = part.hide(_product(q, k, wide).mul_(scale).sub_(lse), hidden).exp_()
            d_v = shares.to(g.dtype).mT @ g
            d_scores = _product(g, v, wide).sub_(less).mul_(shares).mul_(scale).to(q.dtype)
            return d_scores @ k, d_scores.mT @ q, d_v

        for part in parts_of(ctx.branches, keys, query.shape[1] // keys):
            q, g, less = (part.take(each, keys) for each in (query, gradient, inner))
            k, v = part.take(key, keys), part.take(value, keys)
            # Padding attends to nothing: exp(s - inf) is 0, and so is all that it would pass on.
            lse = part.take(weights, keys, padding=torch.inf)
            d_q, d_k, d_v = through(part, q, g, k, v, part.own, lse, less)
            part.add(d_key, d_k, keys)
            part.add(d_value, d_v, keys)
            if part.before:
                k, v = part.prefix(key), part.prefix(value)
                q, g, lse, less = (_joined(each) for each in (q, g, lse, less))
                more, d_k, d_v = through(part, q, g, k, v, part.shared, lse, less)
                d_q = d_q + more.view_as(d_q)
                for total, change in ((d_key, d_k), (d_value, d_v)):
                    total[: part.before, part.heads] += change[:, 0].transpose(0, 1)
            part.add(d_query, d_q, keys)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None, None


def _product(left: torch.Tensor, right: torch.Tensor, wide: torch.dtype) -> torch.Tensor:
    """left right^T in `wide`: rounded to bfloat16, a score of 20 would be off by a sixteenth."""
    return left.to(wide) @ right.to(wide).mT


def _joined(rows: torch.Tensor) -> torch.Tensor:
    """(k, 1, b * n, e) of (k, b, n, e): all rows as one, before what they share."""
    return rows.flatten(1, 2)[:, None]
