"""Flex attention for trees on a GPU: blocks of the mask in which nobody looks are never computed.

Under sdpa a tree of N places costs N x N scores, and most of them are masked: suffixes of different
rows do not see each other. Flex attention is told by a function who may look at whom, and leaves
whole blocks out. What that is worth depends on the card, the widths and the tree, so a run tries
both on its largest tree and keeps the faster; before that it holds the gradients against the
plainest ones there are.

Its backward pass exists on CUDA alone (torch 2.13). Models that mask by sdpa take it; those whose
scores are capped keep the eager attention they have.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cuda_train.check import compare
from livery.errors import UserError
from livery.plan import Example, MicroBatch, Plan, make_batch
from livery.settings import TrainSettings

if TYPE_CHECKING:
    from cuda_train.backend import TorchBackend
    from cuda_train.route import Route

# Shorter trees are not worth the compilation, half a minute and more.
WORTH_TRYING = 1024
# Under this name transformers finds an attention that takes sdpa's masks and block masks alike.
_NAME = "livery_flex"
_TIMED = 3
# Every shape that is met first may compile; beyond torch's own 8 it would fall back, and be slower.
_SHAPES = 256


@dataclass(frozen=True)
class Trial:
    """What came of trying.

    Attributes:
        faster: flex is right and the faster of the two.
        note: for the user.
    """

    faster: bool
    note: str


def install(model: Any) -> str:
    """Let `model` take block masks where it is given them; returns why it cannot, or ""."""
    config = model.config.get_text_config()
    if model.config._attn_implementation == _NAME:
        return ""
    if model.config._attn_implementation != "sdpa":
        return f"{config.model_type} runs {model.config._attn_implementation} attention"
    try:
        from transformers import AttentionInterface, AttentionMaskInterface
        from transformers.masking_utils import sdpa_mask
    except ImportError as error:
        return f"this version of transformers does not offer it ({error})"
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    model.set_attn_implementation(_NAME)
    torch._dynamo.config.recompile_limit = max(_SHAPES, torch._dynamo.config.recompile_limit)
    return ""


def largest_tree(examples: Sequence[Example], settings: TrainSettings) -> MicroBatch | None:
    """The micro-batch of the first epoch whose tree has most places; None where nothing is shared.

    A tree has places for the prefix and every row's own tokens.
    """
    kept = [e for e in examples if len(e.tokens) <= settings.max_length]
    if not kept or not settings.share_prefix:
        return None
    plan = Plan(kept, settings.batch_size, settings.grad_accum, settings.seed, share_prefix=True)
    batches = (make_batch(chunk, kept) for step in plan.epoch(0) for chunk in step)
    shared = [b for b in batches if len(b.prefix) and len(b.tokens) > 1]
    return max(shared, key=places, default=None)


def places(batch: MicroBatch) -> int:
    """Places of a micro-batch's tree."""
    return len(batch.prefix) + int(batch.lengths.sum())


def try_out(backend: TorchBackend, batch: MicroBatch) -> Trial:
    """Hold flex against the plain gradients and against sdpa's clock; changes no state."""
    size = f"a tree of {places(batch):,} places"
    try:
        right = compare(backend, batch, "flex")
        if not right.ok:
            apart = f"{right.gradient_difference:.1e} from the plain gradients"
            return Trial(False, f"Flex attention is {apart} on {size}: sdpa is used.")
        taken = {route: _seconds(backend, batch, route) for route in ("tree", "flex")}
    except UserError:
        raise
    except Exception as error:  # whatever torch's compiler makes of this card
        line = str(error).strip().splitlines()
        why = f"{type(error).__name__}: {line[0] if line else ''}"
        return Trial(False, f"Flex attention could not be tried on {size} ({why}): sdpa is used.")
    flex, sdpa = 1e3 * taken["flex"], 1e3 * taken["tree"]
    chosen = "flex attention" if flex < sdpa else "sdpa"
    text = f"On {size} flex attention takes {flex:.1f} ms and sdpa {sdpa:.1f} ms: {chosen} is used."
    return Trial(flex < sdpa, text)


def _seconds(backend: TorchBackend, batch: MicroBatch, route: Route) -> float:
    """The fastest of a few forward and backward passes, behind one that warms up."""
    taken: list[float] = []
    for _ in range(1 + _TIMED):
        _wait(backend.device)
        began = time.perf_counter()
        backend.gradient([batch], route)
        _wait(backend.device)
        taken.append(time.perf_counter() - began)
    backend.flat.message.zero_()
    return min(taken[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: Any, **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """Attention under the kind of mask that is given."""
    from torch.nn.attention.flex_attention import BlockMask
    from transformers.integrations.flex_attention import flex_attention_forward
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if isinstance(attention_mask, BlockMask):
        return flex_attention_forward(module, query, key, value, attention_mask, **options)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
