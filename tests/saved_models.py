"""Tiny random models as transformers 5 saves them, config.json too: `saved_model("phi", root)`.

`tests.tiny_models` writes config.json as published models have it; here it stays as
`save_pretrained` leaves it: rope in `rope_parameters`, layers in `layer_types`.
"""

from __future__ import annotations

import copy
import zlib
from pathlib import Path
from typing import Any

VOCAB = 512
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# Thetas that are nobody's default: a model built with another one computes something else.
_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 777.0}
_PARTIAL = {**_ROPE, "partial_rotary_factor": 0.5}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 777.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 777.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
}
_LOCAL = {"full_attention": _ROPE, "sliding_attention": {**_ROPE, "rope_theta": 99.0}}
_MOE: dict[str, Any] = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    **dict.fromkeys(("n_group", "topk_group"), 1),
    "num_experts_per_tok": 2,
}
_SLIDING: dict[str, Any] = {
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
_RECURRENT: dict[str, Any] = {
    "layer_types": ["linear_attention", "full_attention"] * 2,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
_CONV = {"layer_types": ["conv", "full_attention"] * 2}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 32, "mamba_d_state": 8}

# name -> model type, and what its configuration says besides `_COMMON`.
SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    "apertus": ("apertus", {"rope_parameters": _LLAMA3}),
    "exaone_moe": (
        "exaone_moe",
        {
            **_SLIDING, **_MOE, "rope_parameters": _ROPE,
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        },
    ),
    "gemma3_text": ("gemma3_text", {**_SLIDING, "head_dim": 16, "rope_parameters": _LOCAL}),
    "gemma3_text linear": (
        "gemma3_text",
        {
            **_SLIDING, "head_dim": 16,
            "rope_parameters": {
                **_LOCAL, "full_attention": {**_ROPE, "rope_type": "linear", "factor": 8.0},
            },
        },
    ),
    "glm4": ("glm4", {"head_dim": 16, "rope_parameters": _PARTIAL}),
    "glm4_moe": ("glm4_moe", {**_MOE, "head_dim": 16, "rope_parameters": _PARTIAL}),
    "granite": ("granite", {"rope_parameters": _ROPE}),
    "granitemoehybrid": (
        "granitemoehybrid",
        {
            **_MOE, **_MAMBA, "layer_types": ["linear_attention", "full_attention"] * 2,
            "shared_intermediate_size": 32, "position_embedding_type": "rope",
            "rope_parameters": _ROPE,
        },
    ),
    "lfm2": (
        "lfm2",
        {**_CONV, "block_multiple_of": 16, "rope_parameters": _ROPE},
    ),
    "lfm2_moe": ("lfm2_moe", {**_CONV, **_MOE, "num_dense_layers": 1, "rope_parameters": _ROPE}),
    "llama": ("llama", {"rope_parameters": _ROPE, "head_dim": 32}),
    "llama llama3": ("llama", {"rope_parameters": _LLAMA3}),
    "mamba2": (
        "mamba2",
        {"num_heads": 4, "head_dim": 32, "state_size": 8, "n_groups": 1},
    ),
    "mellum": ("mellum", {**_SLIDING, **_MOE, "head_dim": 16, "rope_parameters": _LOCAL}),
    "mistral": ("mistral", {"rope_parameters": _ROPE, "sliding_window": None}),
    "mixtral": ("mixtral", {**_MOE, "rope_parameters": _ROPE, "sliding_window": None}),
    "olmo2": ("olmo2", {"rope_parameters": _ROPE}),
    "olmo3": (
        "olmo3",
        {
            **_SLIDING,
            "rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), _ROPE),
        },
    ),
    "phi": ("phi", {"rope_parameters": _PARTIAL, "num_key_value_heads": 4}),
    "phi3": ("phi3", {"rope_parameters": _ROPE}),
    "phi3 longrope": (
        "phi3",
        {
            "max_position_embeddings": 256, "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope", "rope_theta": 777.0, "short_factor": [1.1] * 8,
                "long_factor": [4.0] * 8, "original_max_position_embeddings": 64,
            },
        },
    ),
    "phi3 partial": ("phi3", {"rope_parameters": _PARTIAL}),
    "qwen2": ("qwen2", {"rope_parameters": _ROPE}),
    "qwen2 yarn": ("qwen2", {"rope_parameters": _YARN}),
    "qwen2_moe": ("qwen2_moe", {**_MOE, "rope_parameters": _ROPE}),
    "qwen3": ("qwen3", {"rope_parameters": _ROPE, "head_dim": 32}),
    "qwen3_moe": ("qwen3_moe", {**_MOE, "rope_parameters": _ROPE}),
    "qwen3_next": (
        "qwen3_next",
        {**_RECURRENT, **_MOE, "head_dim": 16, "rope_parameters": _PARTIAL},
    ),
    "stablelm": ("stablelm", {"rope_parameters": _PARTIAL}),
}  # fmt: skip


def saved_model(name: str, root: Path, **overrides: Any) -> Path:
    """The folder that transformers saves of the tiny model `name`, a key of `SAVED`, below `root`.

    Args:
        overrides: configuration keys to change.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind, own = SAVED[name]
    values = copy.deepcopy({**_COMMON, **own, **overrides})  # transformers writes into them
    config = CONFIG_MAPPING[kind](**values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            draw_weight(path, weight)
    folder = root / name.replace(" ", "-")
    model.save_pretrained(folder)
    return folder


def draw_weight(path: str, weight: Any) -> None:
    """Fill a parameter with numbers of its own name, wide enough for a fault to show."""
    import torch

    generator = torch.Generator().manual_seed(zlib.crc32(path.encode()))
    noise = torch.randn(weight.shape, generator=generator)
    if weight.ndim > 1:
        weight.copy_(noise * (0.25 if "embed" in path else 0.12))
    elif path.endswith(("norm.weight", "bias")):
        weight.add_(noise * 0.1)
