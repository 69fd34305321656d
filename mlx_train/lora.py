"""LoRA, rsLoRA and DoRA on an mlx-lm model, in mlx-lm's own layers, so its loader takes the result.

Which modules are adapted, where their initial numbers come from, and how their parameters are
called and laid out for the other backend.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np
from mlx import nn
from mlx.utils import tree_unflatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.dora import DoRALinear
from mlx_lm.tuner.lora import LoRALinear, LoRASwitchLinear

from livery import peft_rules
from livery.adapter_names import is_router, mlx_to_hf, mlx_to_portable, swap_layout
from livery.config.settings import LoraSettings
from livery.errors import UserError
from livery.training.numerics import initial_a

_DENSE = (nn.Linear, nn.QuantizedLinear)
_EXPERTS = (SwitchLinear, QuantizedSwitchLinear)


@dataclass(frozen=True)
class Parameter:
    """One trained array.

    Attributes:
        module: the adapted layer that holds it.
        key: "lora_a", "lora_b" or "m".
        name: portable name, e.g. "model.layers.0.self_attn.q_proj.lora_A".
        shape: in MLX's layout.
    """

    module: nn.Module
    key: str
    name: str
    shape: tuple[int, ...]

    def get(self) -> mx.array:
        return self.module[self.key]

    def put(self, value: mx.array) -> None:
        self.module[self.key] = value

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def add_lora(
    model: nn.Module, settings: LoraSettings, *, model_type: str, seed: int
) -> list[Parameter]:
    """Freeze `model` and put LoRA on it; returns the trained parameters in order of their paths.

    Raises:
        UserError: a target fits no module, or asks for what MLX has no layer for.
    """
    model.freeze()
    chosen = _choose(model, settings, model_type)
    layers: dict[str, nn.Module] = {}
    for path, module in sorted(chosen.items()):
        layers[path] = _adapted(path, module, settings)
    model.update_modules(tree_unflatten(list(layers.items())))
    parameters: list[Parameter] = []
    for path, layer in layers.items():
        _draw_a(layer, mlx_to_hf(path, model_type), seed)
        for key in ("lora_a", "lora_b", "m"):
            if key in layer:
                name = mlx_to_portable(f"{path}.{key}", model_type)
                parameters.append(Parameter(layer, key, name, tuple(layer[key].shape)))
    mx.eval([parameter.get() for parameter in parameters])
    return parameters


def to_portable(parameter: Parameter, value: mx.array) -> np.ndarray:
    """`value` in Hugging Face's layout, float32, a copy."""
    return swap_layout(np.array(value.astype(mx.float32)))


def from_portable(parameter: Parameter, value: np.ndarray) -> mx.array:
    """A portable array as `parameter` is laid out here.

    Raises:
        UserError: the shape does not fit this run's adapter.
    """
    array = swap_layout(np.asarray(value, np.float32))
    if array.shape != parameter.shape:
        raise UserError(
            f"{parameter.name}: has shape {tuple(value.shape)}, this run's needs "
            f"{tuple(swap_layout(np.empty(parameter.shape, np.int8)).shape)}. Was it trained with "
            "another rank or on another base?"
        )
    return mx.array(array)


def dropouts(model: nn.Module) -> list[nn.Dropout]:
    """The dropout layers of the adapter."""
    return [m for _, m in _modules(model) if isinstance(m, nn.Dropout)]


def _choose(model: nn.Module, settings: LoraSettings, model_type: str) -> dict[str, nn.Module]:
    """Module path -> layer to adapt."""
    everything = dict(_modules(model))
    allowed: dict[str, nn.Module] = {
        path: module
        for path, module in everything.items()
        # A layer that brings LoRA of its own (afm7's fused projections) has no portable names.
        if isinstance(module, (*_DENSE, *_EXPERTS)) and not hasattr(module, "to_lora")
    }
    blocks = cast(Any, model).layers
    kept = blocks[-settings.num_layers :] if settings.num_layers > 0 else blocks
    inside = {id(m) for block in kept for _, m in _modules(block)}
    outside = {id(m) for block in blocks for _, m in _modules(block)} - inside
    if not settings.targets:
        routers = _routers(everything)
        return {
            path: module
            for path, module in allowed.items()
            if id(module) in inside and isinstance(module, _DENSE) and path not in routers
            if not peft_rules.refused(model_type, path)
        }
    chosen: dict[str, nn.Module] = {}
    names = {path: mlx_to_hf(path, model_type) for path in allowed}  # torch's, for the same targets
    for target in settings.targets:
        fitting = {
            path: module
            for path, module in allowed.items()
            if any(f".{name}".endswith(f".{target}") for name in (path, names[path]))
        }
        if not fitting:
            raise UserError(_no_such_target(target, everything, allowed))
        if refused := [why for p in fitting if (why := peft_rules.refused(model_type, p))]:
            raise UserError(f"{refused[0]}. Leave it out of the targets.")
        chosen.update({p: m for p, m in fitting.items() if id(m) not in outside})
    if not chosen:
        raise UserError(
            f"targets {', '.join(settings.targets)}: none of them is in the last "
            f"{settings.num_layers} blocks. Raise num_layers, or leave it out."
        )
    return chosen


def _routers(modules: dict[str, nn.Module]) -> set[str]:
    """Paths of the linear layers that choose experts: found by their width, else by name."""
    found = {path for path in modules if path.rpartition(".")[0].endswith(".router")}
    for path, module in modules.items():
        if not isinstance(module, _EXPERTS):
            continue
        owner = path.rpartition(".")[0].rpartition(".")[0]  # …mlp.switch_mlp.up_proj -> …mlp
        experts = int(cast(Any, module).num_experts)
        for other, candidate in modules.items():
            if not other.startswith(owner + ".") or not isinstance(candidate, _DENSE):
                continue
            if is_router(other) or candidate.weight.shape[0] in (experts, 1):
                found.add(other)
    return found


def _adapted(path: str, layer: nn.Module, settings: LoraSettings) -> nn.Module:
    shape: dict[str, Any] = {"r": settings.rank, "scale": settings.scale}
    if isinstance(layer, _EXPERTS):
        if settings.dora:
            raise UserError(
                f"{path}: MLX has no DoRA for experts. Leave the experts out of the targets, or "
                "train plain LoRA."
            )
        experts: Any = LoRASwitchLinear.from_base(layer, dropout=settings.dropout, **shape)
        # mlx-lm draws the base layer's place anew; only LoRA's own arrays may train.
        experts.linear.freeze()
        return experts
    weight = cast(Any, layer).weight
    out, width = weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        width = width * 32 // layer.bits
    kind = DoRALinear if settings.dora else LoRALinear
    adapted: Any = kind(width, out, dropout=settings.dropout, **shape)
    if settings.dora:
        adapted.set_linear(layer)
    else:
        adapted.linear = layer
    adapted.linear.freeze()
    return adapted


def _draw_a(layer: nn.Module, path: str, seed: int) -> None:
    """Give `layer` the initial A that every backend gives it."""
    a: mx.array = layer["lora_a"]
    if a.ndim == 3:
        count, rank, width = a.shape
        drawn = [initial_a(seed, f"{path}.{e}", rank, width) for e in range(count)]
        layer["lora_a"] = mx.array(np.stack(drawn))
    else:
        width, rank = a.shape
        layer["lora_a"] = mx.array(np.ascontiguousarray(initial_a(seed, path, rank, width).T))


def _modules(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    yield from cast(Any, module.named_modules())


def _no_such_target(
    target: str, everything: dict[str, nn.Module], allowed: dict[str, nn.Module]
) -> str:
    known = sorted({path.rpartition(".")[2] for path in allowed})
    for path, module in everything.items():
        if path.endswith("." + target) or path == target:
            return (
                f"target '{target}': {path} is a {type(module).__name__}; LoRA goes on linear "
                f"layers of the usual kinds. Choose from: {', '.join(known)}."
            )
    near = difflib.get_close_matches(target.rpartition(".")[2], known, 1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"target '{target}' fits no layer of this model.{hint} Choose from: {', '.join(known)}."
