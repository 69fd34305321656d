"""LoRA on a transformers model through PEFT's modules, under the portable names.

A portable name is the module's path and a leaf: `model.layers.0.self_attn.q_proj.lora_A` (r, in),
`….lora_B` (out, r), and with DoRA `….lora_magnitude` (out,). Of experts kept in stacks, such as
gate_up_proj (E, 2I, d), gate, up and down are adapted each by itself, as MLX does:
`model.layers.0.mlp.experts.gate_proj.lora_A` (E, r, d), `….lora_B` (E, I, r); the family's own
forward then runs on the stacks with `scale * B @ A` added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from livery import peft_rules
from livery.adapter_names import is_router
from livery.config.settings import LoraSettings
from livery.errors import UserError
from livery.training.numerics import initial_a
from livery.training.self_check import FAMILY_ERRORS, broken

_ADAPTER = "default"
# PEFT's parameter, behind the module's path -> our leaf.
_LEAVES = {
    f"lora_A.{_ADAPTER}.weight": "lora_A",
    f"lora_B.{_ADAPTER}.weight": "lora_B",
    f"lora_magnitude_vector.{_ADAPTER}.weight": "lora_magnitude",
}
_BLOCK = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
_EXPERT = re.compile(r"(?:^|\.)experts\.\d+\.")


def add_lora(model: Any, lora: LoraSettings, seed: int) -> dict[str, nn.Parameter]:
    """Put LoRA modules into `model` in place; returns its parameters by portable name, sorted.

    They are float32 whatever the base's dtype; A is drawn by `livery.training.numerics`, B is 0.

    Raises:
        UserError: a target names nothing that can be adapted.
    """
    from peft import LoraConfig, inject_adapter_in_model

    chosen = _without_uncalled(model, find_targets(model, lora), lora)
    stacked = find_experts(model)
    modules = [path for path in chosen if path not in stacked]
    config = LoraConfig(
        r=lora.rank,
        # PEFT takes a whole alpha by its type, and any number by its arithmetic.
        lora_alpha=lora.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        # One expression rather than a list, of which PEFT makes suffixes where it is long.
        target_modules="|".join(re.escape(f"{_Shell.NAME}.{path}") for path in modules),
        bias="none",
    )
    if modules:
        inject_adapter_in_model(config, _Shell(model), adapter_name=_ADAPTER)
    adapt(model, [path for path in chosen if path in stacked], lora)
    found: dict[str, nn.Parameter] = {}
    for path, parameter in model.named_parameters():
        name = portable_name(path)
        parameter.requires_grad_(name is not None)
        if name is None:
            continue
        parameter.data = parameter.data.float()
        module, _, leaf = name.rpartition(".")
        if leaf == "lora_A":
            parameter.data.copy_(torch.from_numpy(_start(seed, module, tuple(parameter.shape))))
        found[name] = parameter
    return dict(sorted(found.items()))


class _Shell(nn.Module):
    """A model of which PEFT sees nothing but the modules.

    PEFT reads `config.model_type`, and on some fifteen mixture-of-experts models takes every target
    that ends in gate_proj, up_proj or down_proj for the experts, whatever path it names (see
    `livery.peft_rules`). The paths here are those of linear layers, and mean what they say.
    """

    NAME = "model"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.add_module(self.NAME, model)


def _start(seed: int, module: str, shape: tuple[int, ...]) -> np.ndarray:
    """The initial A; of each expert by itself, where there is a stack of them."""
    if len(shape) == 2:
        return initial_a(seed, module, *shape)
    return np.stack([initial_a(seed, f"{module}.{e}", *shape[1:]) for e in range(shape[0])])


def portable_name(parameter: str) -> str | None:
    """The portable name of a parameter of PEFT's; None where it is the base's own."""
    for leaf, ours in _LEAVES.items():
        if parameter.endswith(f".{leaf}"):
            return f"{parameter.removesuffix(leaf)}{ours}"
    module, _, leaf = parameter.rpartition(".")
    ours = leaf in ("lora_A", "lora_B") and module.rpartition(".")[2] in LEAVES
    return parameter if ours else None


def find_targets(model: nn.Module, lora: LoraSettings) -> list[str]:
    """Paths of the modules that `lora` adapts, in the model's order.

    Raises:
        UserError: nothing matches.
    """
    linear = {path: module for path, module in model.named_modules() if _is_linear(module)}
    dense = set(linear)
    linear |= find_experts(model)
    model_type = str(getattr(getattr(model, "config", None), "model_type", ""))
    if lora.targets:
        chosen = [p for p in linear if any(_names(p, target) for target in lora.targets)]
        if refused := [why for p in chosen if (why := peft_rules.refused(model_type, p))]:
            raise UserError(f"{refused[0]}. Leave it out of the targets.")
        for target in lora.targets:
            if not any(_names(path, target) for path in chosen):
                raise UserError(_no_such_target(model, target, linear))
    else:
        # Routers decide by small differences, and experts are trained on few tokens each.
        chosen = [p for p in linear if p in dense and _BLOCK.search(p)]
        chosen = [p for p in chosen if not is_router(p) and not _EXPERT.search(p)]
        chosen = [p for p in chosen if not peft_rules.refused(model_type, p)]
    if lora.num_layers > 0:
        blocks = [int(m.group(1)) for path in linear if (m := _BLOCK.search(path))]
        first = max(blocks, default=-1) + 1 - lora.num_layers
        chosen = [p for p in chosen if not (m := _BLOCK.search(p)) or int(m.group(1)) >= first]
    if not chosen:
        raise UserError(
            "The adapter would adapt no module: this model has no linear layer in its last "
            f"{lora.num_layers} blocks that the targets name."
        )
    return chosen


def block_paths(model: nn.Module) -> list[str]:
    """Paths of the model's blocks, in its order."""
    found = (_BLOCK.search(f"{path}.") for path, _ in model.named_modules())
    return list(dict.fromkeys(m.string[: m.end() - 1] for m in found if m))


def _without_uncalled(model: nn.Module, chosen: list[str], lora: LoraSettings) -> list[str]:
    """Those of the chosen layers that the model calls; others lend it their weight alone, and LoRA
    on them would do nothing. Routed experts are called for some tokens only, and stay.

    Raises:
        UserError: such a layer was asked for by name.
    """
    called: set[str] = set()
    layers = {path: model.get_submodule(path) for path in chosen if ".experts." not in path}
    hooks = [
        layer.register_forward_hook(lambda *_, path=path: called.add(path))
        for path, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            tokens = torch.arange(1, 6, device=next(model.parameters()).device)[None]
            model(input_ids=tokens, use_cache=False)
    except FAMILY_ERRORS as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise broken(f"transformers ({type(model).__name__})", error) from error
    finally:
        for hook in hooks:
            hook.remove()
    uncalled = [path for path in layers if path not in called]
    if uncalled and lora.targets:
        raise UserError(
            f"{uncalled[0]}: the model reads its weight without calling it, so that LoRA on it "
            "does nothing. Leave it out of the targets."
        )
    return [path for path in chosen if path not in uncalled]


def set_dropout(model: nn.Module, on: bool) -> None:
    """Switch LoRA's own dropout and nothing else: the base stays in the mode it is in."""
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.training = on  # DoRA asks the layer, LoRA asks its dropout
            module.lora_dropout.train(on)


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _names(path: str, target: str) -> bool:
    return path == target or path.endswith(f".{target}")


def _no_such_target(model: nn.Module, target: str, linear: dict[str, nn.Module]) -> str:
    names = sorted({path.rpartition(".")[2] for path in linear})
    if "experts" in target or any(_names(p, target) for p, _ in model.named_modules()):
        return (
            f"target {target}: torch adapts linear layers, and experts' gate_proj, up_proj and "
            "down_proj where they are kept in stacks of the usual layout; this is neither. Here "
            f"are: {', '.join(names)}. --backend mlx may adapt it."
        )
    return f"target {target}: this model has no such module. It has: {', '.join(names)}."


# Stacked parameter -> what is in it, along the axis of its outputs.
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
