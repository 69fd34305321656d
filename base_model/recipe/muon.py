"""Muon for the hidden matrices, AdamW for embeddings and norms; float32 masters, bf16 weights.

Muon: the momentum's singular values are set to about one by five Newton-Schulz steps with the
coefficients of Keller Jordan's note (2024). Matrices of one shape are stacked and treated at once.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(stack: Tensor, steps: int = 5) -> Tensor:
    """stack: (count, rows, columns) -> the same shape with near-orthonormal rows or columns."""
    a, b, c = NEWTON_SCHULZ
    x = stack.to(torch.bfloat16)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-2, -1)
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(steps):
        gram = x @ x.transpose(-2, -1)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(-2, -1) if tall else x


class Optimizer:
    """Updates float32 masters and copies them into the model's own (bf16) parameters.

    With several processes each orthogonalises its share of the matrices, then all exchange.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        muon_lr: float,
        adam_lr: float,
        momentum: float = 0.95,
        decay: float = 0.01,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.rank, self.world = rank, world
        self.muon_lr, self.adam_lr = muon_lr, adam_lr
        self.momentum, self.decay = momentum, decay
        self.params = dict(model.named_parameters())
        self.master = {name: p.detach().float().clone() for name, p in self.params.items()}
        self.first = {name: torch.zeros_like(m) for name, m in self.master.items()}
        self.groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for name, p in self.params.items():
            if p.ndim == 2 and "embed" not in name:
                self.groups[tuple(p.shape)].append(name)
        stacked = {name for names in self.groups.values() for name in names}
        self.plain = [name for name in self.params if name not in stacked]
        self.second = {name: torch.zeros_like(self.master[name]) for name in self.plain}
        self.count = 0

    @torch.no_grad()
    def step(self, scale: float) -> float:
        """One update at `scale` times the base rates; returns the gradient norm before clipping."""
        self.count += 1
        grads = self._gradients()
        norm = float(torch.stack([g.norm() for g in grads.values()]).norm())
        for name, direction in self._directions(grads).items():
            rows, columns = direction.shape
            lr = self.muon_lr * scale * max(1.0, rows / columns) ** 0.5
            self.master[name].mul_(1 - lr * self.decay).add_(direction, alpha=-lr)
        for name in self.plain:
            self._adam(name, grads[name] * min(1.0, 1.0 / (norm + 1e-6)), self.adam_lr * scale)
        for name, p in self.params.items():
            p.copy_(self.master[name])
            p.grad = None
        return norm

    def _gradients(self) -> dict[str, Tensor]:
        """The float32 gradients, summed over the processes."""
        grads = {name: _grad(p).float() for name, p in self.params.items()}
        return self._summed(grads)

    def _directions(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """Orthogonalised momenta of the hidden matrices."""
        out: dict[str, Tensor] = {}
        for names in self.groups.values():
            for name in names:
                self.first[name].mul_(self.momentum).add_(grads[name])
            mine = names[self.rank :: self.world]
            if mine:
                nesterov = torch.stack([grads[n] + self.momentum * self.first[n] for n in mine])
                out.update(zip(mine, orthogonalise(nesterov).float(), strict=True))
        if self.world == 1:
            return out
        zeros = {n: torch.zeros_like(grads[n]) for names in self.groups.values() for n in names}
        return self._summed(zeros | out)

    def _summed(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.world == 1:
            return parts
        flat = torch.cat([part.flatten() for part in parts.values()])
        dist.all_reduce(flat)
        pieces = flat.split([part.numel() for part in parts.values()])
        return {n: piece.view_as(parts[n]) for n, piece in zip(parts, pieces, strict=True)}

    def _adam(self, name: str, grad: Tensor, lr: float) -> None:
        beta1, beta2 = 0.9, 0.98
        self.first[name].lerp_(grad, 1 - beta1)
        self.second[name].lerp_(grad * grad, 1 - beta2)
        mean = self.first[name] / (1 - beta1**self.count)
        spread = (self.second[name] / (1 - beta2**self.count)).sqrt()
        self.master[name].sub_(lr * mean / (spread + 1e-8))

    def state(self) -> dict[str, Any]:
        return {
            "master": self.master,
            "first": self.first,
            "second": self.second,
            "count": self.count,
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        for part in ("master", "first", "second"):
            own: dict[str, Tensor] = getattr(self, part)
            for name, value in own.items():
                value.copy_(state[part][name])
        self.count = int(state["count"])
        for name, p in self.params.items():
            p.copy_(self.master[name])


def _grad(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError("a parameter took no part in the loss; the model definition is wrong")
    return parameter.grad
