"""llama.cpp's architectures: what tensors are called there, and how q and k are laid out."""

from __future__ import annotations

import functools
import re

from convert.unwritable import Unwritable
from livery.adapter_names import MULTIMODAL
from livery.errors import UserError
from livery.gguf_base.architectures import OUTER, TABLE, Architecture, package_map

_LAYER = re.compile(r"^blk\.(\d+)\.([\w.]+)$")


def for_model_type(model_type: str) -> Architecture:
    """The architecture of a config.json model type.

    Raises:
        UserError: it is none of those whose layout is known here.
    """
    for architecture in TABLE:
        if model_type in architecture.model_types:
            return architecture
    known = ", ".join(known_model_types())
    raise UserError(
        f"model type {model_type!r}: Livery does not know how llama.cpp lays it out (it knows "
        f"{known}). Merge the adapter into the base, and convert that with llama.cpp's own script "
        "(livery gguf does, where LLAMA_CPP_DIR names a checkout)."
    )


def known_model_types() -> list[str]:
    """The config.json model types whose layout in llama.cpp is known here."""
    return [model_type for a in TABLE for model_type in a.model_types]


def multimodal(model_type: str) -> bool:
    """Whether a known model type has a vision part, which is no part of a GGUF model."""
    return model_type in MULTIMODAL


def to_gguf(module: str, architecture: Architecture) -> str:
    """`model.layers.3.self_attn.q_proj` -> `blk.3.attn_q`.

    Raises:
        UserError: the architecture has no tensor for the module.
    """
    path = module.replace("model.language_model.", "model.", 1)
    layer = re.match(r"^model\.layers\.(\d+)\.(.+)$", path)
    inner = layer[2] if layer else path
    if architecture.joined and inner in ("experts.gate_proj", "experts.up_proj"):
        inner = "experts.gate_up_proj"
    name = _names(architecture).get(inner)
    if inner in architecture.passed_over:
        raise UserError(
            f"{module}: llama.cpp runs {architecture.name} models without looking for LoRA on it: "
            "it would load the adapter and answer as if this module had none. Merge the adapter "
            "into the base instead (livery merge), or train without it (--lora-targets)."
        )
    if inner in architecture.scaled:
        raise UserError(
            f"{module}: llama.cpp runs {architecture.name} models with LoRA on it unscaled: it "
            "would load the adapter and leave out the experts' own scales (per_expert_scale), by "
            "which only the weight's part is multiplied. Merge the adapter into the base instead "
            "(livery merge), or train without it (--lora-targets)."
        )
    if inner == "self_attn.kv_b_proj" and architecture.name == "deepseek2":
        raise UserError(
            f"{module}: llama.cpp splits it into attn_k_b and attn_v_b, each with a matrix for "
            "every head, which take no LoRA. Merge the adapter into the base instead (livery "
            "merge), or train without it (--lora-targets)."
        )
    if name is None:
        raise Unwritable(
            f"{module}: architecture {architecture.name} of llama.cpp has no tensor for it.",
            "this module",
        )
    return f"blk.{layer[1]}.{name}" if layer else name


def passes_over(name: str, architecture: Architecture) -> bool:
    """Whether llama.cpp loads LoRA on this tensor (`blk.3.attn_q_a`) and then leaves it out."""
    return _among(name, architecture, architecture.passed_over)


def leaves_unscaled(name: str, architecture: Architecture) -> bool:
    """Whether llama.cpp loads LoRA on this tensor and then leaves the experts' scales out of it."""
    return _among(name, architecture, architecture.scaled)


def _among(name: str, architecture: Architecture, modules: frozenset[str]) -> bool:
    layer = _LAYER.match(name)
    names = _names(architecture)
    return any(names.get(inner) == (layer[2] if layer else name) for inner in modules)


def from_gguf(name: str, architecture: Architecture, model_type: str) -> str | None:
    """`blk.3.attn_q` -> `model.layers.3.self_attn.q_proj`; None if the name is unknown."""
    layer = _LAYER.match(name)
    back = {gguf: inner for inner, gguf in _names(architecture).items()}
    inner = back.get(layer[2] if layer else name)
    if inner is None or (layer is None) != (inner in OUTER):
        return None
    path = f"model.layers.{int(layer[1])}.{inner}" if layer else inner
    if model_type in MULTIMODAL and path.startswith("model."):
        path = "model.language_model." + path.removeprefix("model.")
    return path


def model_tensor(module: str, architecture: Architecture) -> str | None:
    """Like `to_gguf` for any module of the base, norms included; None where there is none."""
    layer = re.match(r"^model\.layers\.(\d+)\.(.+)$", module)
    found = package_map(architecture).get_name(f"model.layers.0.{layer[2]}" if layer else module)
    if found is None and module == "lm_head":
        found = "output"
    return found.replace("blk.0.", f"blk.{layer[1]}.", 1) if found and layer else found


@functools.cache
def _names(architecture: Architecture) -> dict[str, str]:
    """Module within a layer -> tensor name without `blk.N.`, from the gguf package's own map."""
    names = package_map(architecture)
    made: dict[str, str] = {}
    for module in architecture.modules:
        found = names.get_name(f"model.layers.0.{module}")
        if found:
            made[module] = found.removeprefix("blk.0.")
    for module in OUTER:
        found = names.get_name(module)
        if found:
            made[module] = found
    return made
