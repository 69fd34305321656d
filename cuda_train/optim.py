"""AdamW over one flat vector, with moments that other frameworks can read.

All LoRA parameters are views into one float32 vector, and their gradients into another, so a step
is a handful of operations and an all-reduce is one call.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import nn

from livery.config.settings import TrainSettings


class Flat:
    """Parameters and gradients of an adapter, each in one vector of float32.

    Attributes:
        names: portable names, in the vectors' order.
        values: (n,) the parameters.
        grads: (n,) their gradients, which backward adds into.
        message: (n + 2,) the gradients, and two places for the sums that travel with them.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self.names = tuple(parameters)
        first = next(iter(parameters.values()))
        count = sum(p.numel() for p in parameters.values())
        self.values = torch.empty(count, dtype=torch.float32, device=first.device)
        self.message = torch.zeros(count + 2, dtype=torch.float32, device=first.device)
        self.grads = self.message[:count]
        for name, value in self.split(self.values).items():
            value.copy_(parameters[name].data)
            parameters[name].data = value
        for name, grad in self.split(self.grads).items():
            parameters[name].grad = grad

    def split(self, vector: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views of a vector (n,) in the parameters' shapes, by name."""
        shapes = [p.shape for p in self.parameters.values()]
        parts = vector.split([shape.numel() for shape in shapes])
        return {
            name: part.view(shape)
            for name, part, shape in zip(self.names, parts, shapes, strict=True)
        }


def norm_of(vector: torch.Tensor) -> float:
    """L2 norm of a float32 vector (n,), as exact as float32 can say it.

    Adding up in float32 is 1e-4 short over a million numbers and 1e-3 over twenty million. MPS has
    no float64: there the norms of pieces are added up on the CPU.
    """
    if vector.device.type != "mps":
        return float(torch.linalg.vector_norm(vector, dtype=torch.float64))
    pieces = torch.stack([torch.linalg.vector_norm(piece) for piece in vector.split(1 << 16)])
    return float(torch.linalg.vector_norm(pieces.cpu(), dtype=torch.float64))


class Optimizer(Protocol):
    """What the backend asks of an optimizer."""

    note: str  # what its state loses on the way to another optimizer; "" where nothing

    def step(self, learning_rate: float, step: int) -> None:
        """Update the parameters by their gradients; `step` counts from 1."""
        ...

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """First and second moment, (n,) float32 each."""
        ...

    def set_moments(self, first: torch.Tensor, second: torch.Tensor, step: int) -> None:
        """Take over the moments after `step` steps."""
        ...


class AdamW:
    """AdamW with bias correction and decoupled weight decay (Loshchilov and Hutter, 2019)."""

    note = ""

    def __init__(self, flat: Flat, settings: TrainSettings) -> None:
        self.flat, self.settings = flat, settings
        self.first = torch.zeros_like(flat.values)
        self.second = torch.zeros_like(flat.values)

    @torch.no_grad()
    def step(self, learning_rate: float, step: int) -> None:
        s, grads = self.settings, self.flat.grads
        self.flat.values.mul_(1.0 - learning_rate * s.weight_decay)
        self.first.lerp_(grads, 1.0 - s.beta1)
        self.second.mul_(s.beta2).addcmul_(grads, grads, value=1.0 - s.beta2)
        bias_correction = math.sqrt(1.0 - s.beta2**step)  # of the second moment's root
        denominator = (self.second.sqrt() / bias_correction).add_(s.eps)
        rate = learning_rate / (1.0 - s.beta1**step)
        self.flat.values.addcdiv_(self.first, denominator, value=-rate)

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.first, self.second

    def set_moments(self, first: torch.Tensor, second: torch.Tensor, step: int) -> None:
        self.first.copy_(first)
        self.second.copy_(second)


class AdamW8bit:
    """bitsandbytes' AdamW, whose moments take a byte each in blocks of 256 (Dettmers et al., 2022).

    Parameters of fewer than 4,096 numbers keep float32 moments, as bitsandbytes does by itself.
    """

    note = (
        "The optimizer kept its moments in 8 bits; they were widened to float32, and storing them "
        "in 8 bits again loses up to 1 % of them."
    )

    def __init__(self, flat: Flat, settings: TrainSettings) -> None:
        from bitsandbytes.optim.adamw import AdamW8bit as Inner

        self.flat = flat
        self._inner: Any = Inner(
            flat.parameters.values(),
            lr=settings.learning_rate,
            betas=(settings.beta1, settings.beta2),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
        )

    def step(self, learning_rate: float, step: int) -> None:
        for group in self._inner.param_groups:
            group["lr"] = learning_rate
        self._inner.step()

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self._gather(1), self._gather(2)

    def set_moments(self, first: torch.Tensor, second: torch.Tensor, step: int) -> None:
        from bitsandbytes.functional import quantize_blockwise

        firsts, seconds = self.flat.split(first), self.flat.split(second)
        self._inner.check_overrides()
        for index, (name, parameter) in enumerate(self.flat.parameters.items()):
            self._inner.init_state(self._inner.param_groups[0], parameter, 0, index)
            state = self._inner.state[parameter]
            state["step"] = step
            for number, moment in ((1, firsts[name]), (2, seconds[name])):
                target = state[f"state{number}"]
                if target.dtype == torch.float32:
                    target.copy_(moment)
                    continue
                codes, quantized = quantize_blockwise(
                    moment.contiguous(), code=state[f"qmap{number}"], blocksize=256
                )
                target.copy_(codes.view_as(target))
                state[f"absmax{number}"].copy_(quantized.absmax)
        self._inner.initialized = True

    def _gather(self, number: int) -> torch.Tensor:
        from bitsandbytes.functional import dequantize_blockwise

        out = torch.zeros_like(self.flat.values)
        for name, view in self.flat.split(out).items():
            state = self._inner.state.get(self.flat.parameters[name], {})
            if f"state{number}" not in state:
                continue
            moment = state[f"state{number}"]
            if moment.dtype != torch.float32:
                moment = dequantize_blockwise(
                    moment,
                    absmax=state[f"absmax{number}"],
                    code=state[f"qmap{number}"],
                    blocksize=256,
                )
            view.copy_(moment.view_as(view))
        return out
