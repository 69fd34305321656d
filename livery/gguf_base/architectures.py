"""llama.cpp's architectures: which modules they have, where a weight is stored in another order or
form than transformers', and what is computed with constants of its own. What writes GGUF
(`convert.gguf`) and what reads a base from it (`livery.gguf_base`) go by the same tables."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from livery.errors import UserError, quoted

LINEAR_ATTENTION = ".linear_attn."
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
OUTER = ("model.embed_tokens", "lm_head")


@dataclass(frozen=True)
class Architecture:
    """One of llama.cpp's.

    Attributes:
        name: general.architecture.
        constant: its name in the gguf package's MODEL_ARCH.
        modules: what a layer holds, as Hugging Face names it.
        permuted: q and k are stored in the other order of rope's pairs.
        value_heads: linear attention's value heads are stored in another order
            (`orders`).
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


TABLE = (
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


def by_name(name: str) -> Architecture:
    """The architecture of a file's general.architecture. Raises UserError if unknown."""
    for architecture in TABLE:
        if architecture.name == name:
            return architecture
    known = ", ".join(a.name for a in TABLE)
    raise UserError(f"general.architecture is {quoted(name)}; Livery knows {known}.")


@functools.cache
def package_map(architecture: Architecture) -> Any:
    """The gguf package's map of tensor names, for one layer."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    return get_tensor_name_map(MODEL_ARCH[architecture.constant], 1)


# Parameters of a layer whose names end in neither .weight nor .bias, on one side or the other:
# architecture -> transformers' name -> llama.cpp's.
PARAMETERS: dict[str, dict[str, str]] = {
    "gemma4": {
        "layer_scalar": "layer_output_scale.weight",
        "router.scale": "ffn_gate_inp.scale",
        "router.per_expert_scale": "ffn_down_exps.scale",
        "experts.gate_up_proj": "ffn_gate_up_exps.weight",
        "experts.down_proj": "ffn_down_exps.weight",
    },
    "qwen35": {"linear_attn.A_log": "ssm_a", "linear_attn.dt_bias": "ssm_dt.bias"},
}
PARAMETERS["qwen35moe"] = PARAMETERS["qwen35"]


def adds_one(module: str, architecture: Architecture) -> bool:
    """Norms that transformers multiplies by 1 + weight, llama.cpp by the weight."""
    if architecture.name in ("qwen35", "qwen35moe"):
        return module.endswith("norm") and not module.endswith("linear_attn.norm")
    return architecture.name in ("gemma", "gemma2", "gemma3") and module.endswith("norm")


def orders(
    module: str, architecture: Architecture, config: Mapping[str, Any] | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(rows, columns) in llama.cpp's order, as indices into transformers'; None: as they are.

    Raises:
        UserError: the module has an order of its own, and the base's config is not known.
    """
    if not architecture.value_heads or LINEAR_ATTENTION not in module:
        return None, None
    if config is None:
        raise UserError(
            f"{module}: llama.cpp keeps its value heads in another order, which takes the base's "
            "head counts. Give --base the base model's folder."
        )
    part = module.rpartition(".")[2]
    keys, values = int(config["linear_num_key_heads"]), int(config["linear_num_value_heads"])
    size = int(config["linear_value_head_dim"])
    heads = np.arange(values).reshape(keys, values // keys).T.reshape(-1)
    whole = (heads[:, None] * size + np.arange(size)).reshape(-1)
    if part in ("in_proj_a", "in_proj_b", "A_log", "dt_bias"):
        return heads, None
    if part == "in_proj_z":
        return whole, None
    if part in ("in_proj_qkv", "conv1d"):  # queries and keys first, which stay
        first = 2 * keys * int(config["linear_key_head_dim"])
        return np.concatenate([np.arange(first), first + whole]), None
    return (None, whole) if part == "out_proj" else (None, None)


def reorder(array: np.ndarray, rows: np.ndarray | None, columns: np.ndarray | None) -> np.ndarray:
    """The array (rows, …, columns) in the order of `orders`."""
    array = array if rows is None else array[rows]
    return array if columns is None else array[..., columns]


def back(order: np.ndarray | None) -> np.ndarray | None:
    """The order that undoes `order`."""
    return None if order is None else np.argsort(order)


def permute(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads * d, …) from Hugging Face's rope order to llama.cpp's."""
    split = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def unpermute(rows: np.ndarray, heads: int) -> np.ndarray:
    """`permute` backwards."""
    split = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


# -- what llama.cpp computes with, whatever a file says ------------------------------------------

# A softcapping that changes no float32: x / cap is so small that tanh leaves it as it is.
NO_CAP = 1e6
# Model types whose windows llama.cpp has: all but every n-th layer slide, where nothing says more.
PERIODS = {"gemma2": 2, "gemma3_text": 6, "olmo3": 4}
_BY_WIDTH = {"gemma2": 46, "gemma3_text": 62}  # layers of the 27B models


def query_scale(config: Mapping[str, Any]) -> int:
    """query_pre_attn_scalar of a gemma2 or gemma3: the head's size, but for the 27B models, known
    by their depth."""
    if config["num_hidden_layers"] == _BY_WIDTH[config["model_type"]]:
        return int(config["hidden_size"]) // int(config["num_attention_heads"])
    return int(config["head_dim"])


def rope_layers(layers: int) -> list[int]:
    """no_rope_layers of a smollm3: 0 for every fourth layer, which has no rope."""
    return [int((layer + 1) % 4 != 0) for layer in range(layers)]
