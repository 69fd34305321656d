"""Cross-entropy at chosen positions, a few rows of logits at a time.

Tokens x vocabulary is the largest array of a training step, and no more than `LOGITS_BYTES` of it
is ever held: each chunk's logits give its losses and their gradients, and are dropped.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cuda_train.estimate import LOGITS_BYTES


class Head:
    """A causal model from hidden states (n, d) to logits (n, V).

    The family's own forward is run on a copy of the model object whose body hands through what it
    is given, so soft caps and scales apply as the family applies them.
    """

    def __init__(self, model: Any) -> None:
        view = copy.copy(model)
        handing_through = _HandThrough()
        view.__dict__["_modules"] = {**model._modules, model.base_model_prefix: handing_through}
        self._view = view
        self.vocabulary = int(model.get_output_embeddings().weight.shape[0])
        self._trained = [
            p for name, p in view.named_parameters() if p.requires_grad and "lora_" in name
        ]

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(1, n, V) of hidden states (n, d)."""
        return self._view(inputs_embeds=hidden[None], use_cache=False).logits

    def losses(
        self, hidden: torch.Tensor, targets: torch.Tensor, *, rows: int | None = None
    ) -> torch.Tensor:
        """(n,) float32: -log p of each target (n,) int64 under hidden states (n, d).

        Args:
            rows: rows of a chunk; as many as `LOGITS_BYTES` hold where it is None.
        """
        size = rows or max(1, LOGITS_BYTES // (4 * self.vocabulary))
        if not torch.is_grad_enabled() or not (hidden.requires_grad or self._trained):
            chunks = zip(hidden.split(size), targets.split(size), strict=True)
            return _joined([self.chunk(h, t) for h, t in chunks], hidden)
        if self._trained:  # then logits lead to parameters, too: recompute them in the backward
            chunks = zip(hidden.split(size), targets.split(size), strict=True)
            again = [checkpoint(self.chunk, h, t, use_reentrant=False) for h, t in chunks]
            return _joined(again, hidden)
        return _Losses.apply(hidden, targets, self, size)  # type: ignore[no-any-return]

    def chunk(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(self.logits(hidden)[0].float(), targets, reduction="none")


class _HandThrough(nn.Module):
    def forward(self, inputs_embeds: torch.Tensor, **options: Any) -> Any:
        from transformers.modeling_outputs import MoeModelOutputWithPast

        return MoeModelOutputWithPast(last_hidden_state=inputs_embeds)


class _Losses(torch.autograd.Function):
    """Losses of all rows; a row's gradient is made with its logits, which are then dropped."""

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, targets: torch.Tensor, head: Head, size: int
    ) -> torch.Tensor:
        losses: list[torch.Tensor] = []
        slopes = torch.empty_like(hidden)
        for start in range(0, len(targets), size):
            part = slice(start, start + size)
            with torch.enable_grad():
                leaf = hidden[part].detach().requires_grad_()
                logits = head.logits(leaf)
            loss, slope = _differentiate(logits.detach()[0], targets[part])
            # Each loss depends on its own row alone, so the sum's gradient has them all.
            (slopes[part],) = torch.autograd.grad(logits, leaf, slope[None])
            losses.append(loss)
        ctx.save_for_backward(slopes)
        return _joined(losses, hidden)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (slopes,) = ctx.saved_tensors
        return (grads[0][:, None] * slopes).to(slopes.dtype), None, None, None


def _differentiate(
    logits: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(losses (n,) float32, their derivative by the logits (n, V)): softmax less the target's 1.

    Written over the logits where they are float32, so that one such array is held and not three.
    """
    scores = logits.float()
    rows = torch.arange(len(targets), device=targets.device)
    top = scores.amax(-1)
    picked = scores[rows, targets] - top
    scores.sub_(top[:, None]).exp_()
    total = scores.sum(-1)
    scores.div_(total[:, None])
    scores[rows, targets] -= 1.0
    return total.log() - picked, scores.to(logits.dtype)


def _joined(parts: list[torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)
