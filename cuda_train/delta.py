"""What LoRA adds to a linear layer, as one operation.

PEFT casts a layer's input to float32, where A and B are kept, and takes four passes over arrays as
wide as the layer: a product, its scaling, a sum and a cast back; autograd keeps the float32 input.
Here y = W x + s B A x adds the product to what the layer gave, in place and in the base's dtype, as
mixed precision does; the kernels sum in float32, and A, B, their gradients and their moments stay
float32. With h = A x and g = dL/dy:

    dL/dB = s g h^T        dL/dh = s B^T g        dL/dA = dL/dh x^T        dL/dx += A^T dL/dh

PEFT's own forward is the plain twin, which a run's self-check compares it with.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional


class Deltas:
    """The LoRA layers of a model that compute this way; the others keep PEFT's.

    Attributes:
        count: how many they are.
        used: False while they, too, compute PEFT's way.
    """

    def __init__(self, model: nn.Module) -> None:
        self.used = True
        peft: Any = sys.modules.get("peft.tuners.lora")  # not imported, it made no layer
        layers = [m for m in model.modules() if peft and type(m) is peft.Linear and _is_plain(m)]
        for layer in layers:
            layer.forward = _Forward(self, layer)
        self.count = len(layers)

    @contextlib.contextmanager
    def off(self) -> Generator[None]:
        """PEFT's way in between."""
        before, self.used = self.used, False
        try:
            yield
        finally:
            self.used = before


def _is_plain(layer: Any) -> bool:
    """LoRA alone on a dense layer: no DoRA, no dropout, no quantized weights, no Conv1D."""
    (name,) = layer.active_adapters
    drops = not isinstance(layer.lora_dropout[name], nn.Identity)
    return type(layer.base_layer) is nn.Linear and not layer.lora_variant and not drops


class _Forward:
    """The forward of one of PEFT's layers; the layer's own stands behind it."""

    def __init__(self, deltas: Deltas, layer: Any) -> None:
        (name,) = layer.active_adapters
        self._deltas, self._peft, self._base = deltas, layer.forward, layer.base_layer
        self._a, self._b, self._scale = layer.lora_A[name], layer.lora_B[name], layer.scaling[name]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if not self._deltas.used:
            return self._peft(x)
        added = LoraDelta.apply(self._base(x), x, self._a.weight, self._b.weight, self._scale)
        return cast(torch.Tensor, added)


class LoraDelta(torch.autograd.Function):
    """y (…, out), to which s B A x is added in place, from x (…, in), A (r, in), B (out, r)."""

    @staticmethod
    def forward(
        ctx: Any, y: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scale: float
    ) -> torch.Tensor:
        h = functional.linear(x, a.to(x.dtype)).flatten(0, -2)
        y.view(-1, y.shape[-1]).addmm_(h, b.to(x.dtype).T, alpha=scale)
        ctx.mark_dirty(y)
        ctx.save_for_backward(x, h, a, b)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, h, a, b = ctx.saved_tensors
        g = gradients[0].flatten(0, -2)
        d_h = (g @ b.to(g.dtype)).mul_(ctx.scale)
        d_b = (g.T @ h).to(b.dtype).mul_(ctx.scale)
        d_a = (d_h.T @ x.flatten(0, -2)).to(a.dtype)
        d_x = (d_h @ a.to(g.dtype)).view_as(x) if ctx.needs_input_grad[1] else None
        return gradients[0], d_x, d_a, d_b, None
