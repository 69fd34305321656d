"""LoRA on experts kept in stacks by transformers: gate_up_proj (E, 2I, d), down_proj (E, d, I).

Gate, up and down are adapted each by itself, as MLX does, under the names of the neutral adapter:
`model.layers.0.mlp.experts.gate_proj.lora_A` (E, r, d), `….lora_B` (E, I, r). The family's own
forward runs on the stacks with `scale * B @ A` added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from livery.config.settings import LoraSettings
from livery.errors import UserError

# Stacked parameter -> what stands in it, along the axis of its outputs.
_STACKS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
LEAVES = frozenset(part for parts in _STACKS.values() for part in parts)


class Delta(nn.Module):
    """A (E, r, in) and B (E, out, r) of one projection of all experts; B is 0."""

    def __init__(self, experts: int, out: int, width: int, rank: int, device: Any) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.zeros(experts, rank, width, device=device))
        self.lora_B = nn.Parameter(torch.zeros(experts, out, rank, device=device))

    def weight(self) -> torch.Tensor:
        """(E, out, in) float32."""
        return torch.bmm(self.lora_B, self.lora_A)


class AdaptedExperts(nn.Module):
    """Experts whose stacks are changed by what their adapted projections learn."""

    def __init__(self, base: nn.Module, parts: set[str], lora: LoraSettings) -> None:
        super().__init__()
        self.base, self._scale = base, lora.scale
        for stack, members in _STACKS.items():
            weight: torch.Tensor = getattr(base, stack)
            experts, out, width = weight.shape
            for part in members:
                if part in parts:
                    made = Delta(experts, out // len(members), width, lora.rank, weight.device)
                    self.add_module(part, made)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        changed = {stack: self._stack(stack) for stack in _STACKS}
        return functional_call(self.base, changed, arguments, options)

    def _stack(self, name: str) -> torch.Tensor:
        weight: torch.Tensor = getattr(self.base, name)
        size = weight.shape[1] // len(_STACKS[name])
        for place, part in enumerate(_STACKS[name]):
            if isinstance(delta := self._modules.get(part), Delta):
                change = (self._scale * delta.weight()).to(weight.dtype)
                room = (0, 0, place * size, weight.shape[1] - (place + 1) * size)
                weight = weight + nn.functional.pad(change, room)
        return weight


def find_experts(model: nn.Module) -> dict[str, nn.Module]:
    """Path of a projection (`….experts.gate_proj`) -> the module that keeps it in a stack."""
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        stacks: Mapping[str, Any] = {name: getattr(module, name, None) for name in _STACKS}
        usual = all(isinstance(w, nn.Parameter) and w.ndim == 3 for w in stacks.values())
        # Others keep them transposed, gate and up interleaved.
        if usual and not getattr(module, "is_transposed", False):
            found |= {f"{path}.{leaf}": module for leaf in sorted(LEAVES)}
    return found


def adapt(model: nn.Module, chosen: list[str], lora: LoraSettings) -> None:
    """Put LoRA on these projections, in place.

    Raises:
        UserError: DoRA or dropout, which a stack's forward has no place for.
    """
    if not chosen:
        return
    for on, word, way in (
        (lora.dora, "DoRA", "--fine-tune-type lora"),
        (lora.dropout > 0, "dropout", "--lora-dropout 0"),
    ):
        if on:
            raise UserError(
                f"{chosen[0]}: experts kept in one stack take no {word}. Train with {way}, or "
                "leave the experts out of the targets."
            )
    found = find_experts(model)
    for owner in dict.fromkeys(path.rpartition(".")[0] for path in chosen):
        parts = {p.rpartition(".")[2] for p in chosen if p.rpartition(".")[0] == owner}
        made = AdaptedExperts(found[f"{owner}.down_proj"], parts, lora)
        parent, _, name = owner.rpartition(".")
        setattr(model.get_submodule(parent), name, made)
