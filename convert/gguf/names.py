"""llama.cpp's architectures: what tensors are called there, and how q and k are laid out."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.unwritable import Unwritable
from livery.adapter_names import MULTIMODAL
from livery.errors import UserError

_LAYER = re.compile(r"^blk\.(\d+)\.([\w.]+)$")
_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
_EXPERTS = ("mlp.gate", "mlp.experts.gate_proj", "mlp.experts.up_proj", "mlp.experts.down_proj")
_PHI2 = (*_ATTENTION[:3], "self_attn.dense", "mlp.fc1", "mlp.fc2")
_PHI3 = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
_LINEAR = tuple(
    f"linear_attn.{n}" for n in ("in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj")
)
_LFM2 = (
    *_ATTENTION[:3],
    "self_attn.out_proj",
    "conv.in_proj",
    "conv.out_proj",
    "feed_forward.w1",
    "feed_forward.w2",
    "feed_forward.w3",
)
_GLM4 = (*_ATTENTION, "mlp.gate_up_proj", "mlp.down_proj")
_SHARED = tuple(f"mlp.shared_expert.{n}_proj" for n in ("gate", "up", "down"))
_QWEN3NEXT = tuple(f"linear_attn.{name}" for name in ("in_proj_qkvz", "in_proj_ba", "out_proj"))
_MLA = tuple(
    f"self_attn.{name}"
    for name in ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj")
)
_DEEPSEEK = (
    *_MLA,
    *_GATED,
    *_EXPERTS,
    *(f"mlp.shared_experts.{n}_proj" for n in ("gate", "up", "down")),
)
_GEMMA4 = (
    *_ATTENTION,
    *_GATED,
    "per_layer_input_gate",
    "per_layer_projection",
    "router.proj",
    "experts.gate_up_proj",
    "experts.down_proj",
)
_OUTER = ("model.embed_tokens", "lm_head")


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's.

    Attributes:
        name: general.architecture.
        constant: its name in the gguf package's MODEL_ARCH.
        modules: what a layer holds, as Hugging Face names it.
        permuted: q and k are stored in the other order of rope's pairs.
        value_heads: linear attention's value heads are stored in another order
            (`convert.gguf.layout`).
        passed_over: modules whose weight llama.cpp (b11549) multiplies by without looking for an
            adapter: it loads LoRA on them, and answers as without.
        scaled: experts whose products llama.cpp (b11549) multiplies by a number for each expert
            before it adds LoRA's, where transformers multiplies the sum.
        joined: gate and up of all experts are one tensor, as transformers has them.
        model_types: the config.json model types that become it; the first is what a file of this
            architecture is taken for where nothing says more.
    """

    name: str
    constant: str
    modules: tuple[str, ...]
    permuted: bool
    model_types: tuple[str, ...]
    value_heads: bool = False
    passed_over: frozenset[str] = frozenset()
    scaled: frozenset[str] = frozenset()
    joined: bool = False


_TABLE = (
    Architecture(
        "llama",
        "LLAMA",
        (*_ATTENTION, *_GATED, *_EXPERTS),
        True,
        ("llama", "mistral", "mixtral"),
    ),
    Architecture("qwen2", "QWEN2", (*_ATTENTION, *_GATED), False, ("qwen2",)),
    Architecture("qwen3", "QWEN3", (*_ATTENTION, *_GATED), False, ("qwen3",)),
    Architecture("qwen3moe", "QWEN3MOE", (*_ATTENTION, *_EXPERTS), False, ("qwen3_moe",)),
    Architecture("gemma", "GEMMA", (*_ATTENTION, *_GATED), False, ("gemma",)),
    Architecture("gemma2", "GEMMA2", (*_ATTENTION, *_GATED), False, ("gemma2",)),
    Architecture("gemma3", "GEMMA3", (*_ATTENTION, *_GATED), False, ("gemma3_text", "gemma3")),
    Architecture("phi2", "PHI2", _PHI2, False, ("phi",)),
    Architecture("phi3", "PHI3", _PHI3, False, ("phi3",)),
    Architecture("smollm3", "SMOLLM3", (*_ATTENTION, *_GATED), True, ("smollm3",)),
    Architecture("granite", "GRANITE", (*_ATTENTION, *_GATED), True, ("granite",)),
    Architecture("olmo2", "OLMO2", (*_ATTENTION, *_GATED), False, ("olmo2", "olmo3")),
    Architecture("mistral3", "MISTRAL3", (*_ATTENTION, *_GATED), True, ("ministral3", "mistral3")),
    Architecture("glm4", "GLM4", _GLM4, False, ("glm4",)),
    Architecture("lfm2", "LFM2", _LFM2, False, ("lfm2",)),
    Architecture(
        "gemma4",
        "GEMMA4",
        _GEMMA4,
        False,
        ("gemma4_text", "gemma4"),
        scaled=frozenset({"experts.down_proj"}),
        joined=True,
    ),
    Architecture(
        "qwen3next",
        "QWEN3NEXT",
        (*_ATTENTION, *_QWEN3NEXT, *_EXPERTS, *_SHARED, "mlp.shared_expert_gate"),
        False,
        ("qwen3_next",),
    ),
    Architecture(
        "deepseek2",
        "DEEPSEEK2",
        _DEEPSEEK,
        False,
        ("deepseek_v3", "deepseek_v2"),
        passed_over=frozenset({*_MLA[:4], "lm_head"}),
    ),
    Architecture(
        "gpt-oss", "GPT_OSS", (*_ATTENTION, "mlp.router", *_EXPERTS[1:]), False, ("gpt_oss",)
    ),
    Architecture(
        "qwen35",
        "QWEN35",
        (*_ATTENTION, *_GATED, *_LINEAR),
        False,
        ("qwen3_5_text", "qwen3_5"),
        value_heads=True,
    ),
    Architecture(
        "qwen35moe",
        "QWEN35MOE",
        (*_ATTENTION, *_LINEAR, *_EXPERTS, *_SHARED),
        False,
        ("qwen3_5_moe_text", "qwen3_5_moe"),
        value_heads=True,
    ),
)


def for_model_type(model_type: str) -> Architecture:
    """The architecture of a config.json model type.

    Raises:
        UserError: it is none of those whose layout is known here.
    """
    for architecture in _TABLE:
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
    return [model_type for a in _TABLE for model_type in a.model_types]


def multimodal(model_type: str) -> bool:
    """Whether a known model type has a vision part, which is no part of a GGUF model."""
    return model_type in MULTIMODAL


def by_name(name: str) -> Architecture:
    """The architecture of a file's general.architecture. Raises UserError if unknown."""
    for architecture in _TABLE:
        if architecture.name == name:
            return architecture
    known = ", ".join(a.name for a in _TABLE)
    raise UserError(f"general.architecture is {name!r}; Livery knows {known}.")


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
    if inner is None or (layer is None) != (inner in _OUTER):
        return None
    path = f"model.layers.{int(layer[1])}.{inner}" if layer else inner
    if model_type in MULTIMODAL and path.startswith("model."):
        path = "model.language_model." + path.removeprefix("model.")
    return path


def model_tensor(module: str, architecture: Architecture) -> str | None:
    """Like `to_gguf` for any module of the base, norms included; None where there is none."""
    layer = re.match(r"^model\.layers\.(\d+)\.(.+)$", module)
    found = _package_map(architecture).get_name(f"model.layers.0.{layer[2]}" if layer else module)
    if found is None and module == "lm_head":
        found = "output"
    return found.replace("blk.0.", f"blk.{layer[1]}.", 1) if found and layer else found


@functools.cache
def _package_map(architecture: Architecture) -> Any:
    from gguf import MODEL_ARCH, get_tensor_name_map

    return get_tensor_name_map(MODEL_ARCH[architecture.constant], 1)


@functools.cache
def _names(architecture: Architecture) -> dict[str, str]:
    """Module within a layer -> tensor name without `blk.N.`, from the gguf package's own map."""
    names = _package_map(architecture)
    made: dict[str, str] = {}
    for module in architecture.modules:
        found = names.get_name(f"model.layers.0.{module}")
        if found:
            made[module] = found.removeprefix("blk.0.")
    for module in _OUTER:
        found = names.get_name(module)
        if found:
            made[module] = found
    return made


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads * d, …) from Hugging Face's rope order to llama.cpp's."""
    split = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    """`permute` backwards."""
    split = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)
