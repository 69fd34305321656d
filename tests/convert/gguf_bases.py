"""Tiny GGUF models of families of which only adapters are converted: `gpt_oss(base, file)`.

Laid out as llama.cpp's own conversion lays them out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from convert.base import load_base
from convert.gguf import names as gguf_names
from convert.gguf import tokenizer as gguf_tokenizer
from convert.gguf.file import Value, write_gguf
from livery.gguf_base import architectures
from tests.convert.convert_cases import torch_base


def gpt_oss(folder: Path, file: Path) -> None:
    """Experts are kept input first in transformers, with gate and up in turns."""
    config, weights = _read(folder)
    tensors = {
        "token_embd.weight": weights["model.embed_tokens.weight"],
        "output_norm.weight": weights["model.norm.weight"],
        "output.weight": weights["lm_head.weight"],
    }
    for layer in range(config["num_hidden_layers"]):
        old, new = f"model.layers.{layer}.", f"blk.{layer}."
        for theirs, ours in (
            ("input_layernorm.weight", "attn_norm.weight"),
            ("post_attention_layernorm.weight", "post_attention_norm.weight"),
            ("self_attn.sinks", "attn_sinks.weight"),
        ):
            tensors[new + ours] = weights[old + theirs]
        for theirs, ours in (
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.router", "ffn_gate_inp"),
        ):
            for kind in ("weight", "bias"):
                tensors[f"{new}{ours}.{kind}"] = weights[f"{old}{theirs}.{kind}"]
        for theirs, kind in (("_proj", "weight"), ("_proj_bias", "bias")):
            both = weights[f"{old}mlp.experts.gate_up{theirs}"]
            parts = {"gate": both[..., ::2], "up": both[..., 1::2]}
            parts["down"] = weights[f"{old}mlp.experts.down{theirs}"]
            for part, array in parts.items():
                turned = array.swapaxes(-1, -2) if kind == "weight" else array
                tensors[f"{new}ffn_{part}_exps.{kind}"] = np.ascontiguousarray(turned)
    numbers: dict[str, Value] = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "expert_feed_forward_length": config["intermediate_size"],
        "expert_count": config["num_local_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "attention.sliding_window": config["sliding_window"],
        "rope.dimension_count": config["head_dim"],
        "rope.freq_base": float(config["rope_theta"]),
        "vocab_size": config["vocab_size"],
    }
    _write(folder, file, "gpt-oss", numbers, tensors)


def qwen3_next(folder: Path, file: Path) -> None:
    """Queries, keys and values of all heads come after each other, the gates are by themselves."""
    config, weights = _read(folder)
    keys, values = config["linear_num_key_heads"], config["linear_num_value_heads"]
    key, value = config["linear_key_head_dim"], config["linear_value_head_dim"]
    tensors: dict[str, np.ndarray] = {}
    for name, weight in weights.items():
        module, _, kind = name.rpartition(".")
        place = gguf_names.model_tensor(module, architectures.by_name("qwen3next"))
        layer = _layer(name)
        if name.endswith("A_log"):
            tensors[f"blk.{layer}.ssm_a"] = -np.exp(weight)
        elif name.endswith("dt_bias"):
            tensors[f"blk.{layer}.ssm_dt.bias"] = weight
        elif name.endswith("conv1d.weight"):
            tensors[f"blk.{layer}.ssm_conv1d.weight"] = weight[:, 0]
        elif name.endswith("in_proj_qkvz.weight"):
            ends = np.cumsum([key, key, value * values // keys])
            groups = np.split(weight.reshape(keys, -1, weight.shape[1]), ends, axis=1)
            flat = [group.reshape(-1, weight.shape[1]) for group in groups]
            tensors[f"blk.{layer}.attn_qkv.weight"] = np.concatenate(flat[:3])
            tensors[f"blk.{layer}.attn_gate.weight"] = flat[3]
        elif "experts." in name:
            tensors.update(_experts(name, weight))
        elif module.endswith("shared_expert_gate"):
            tensors[f"{place}.weight"] = weight[0]
        else:
            plus = module.endswith("norm") and not module.endswith("linear_attn.norm")
            tensors[f"{place}.{kind}"] = weight + np.float32(plus)
    numbers: dict[str, Value] = {
        **_numbers(config),
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "rope.dimension_count": int(config["head_dim"] * config["partial_rotary_factor"]),
        "expert_count": config["num_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config["moe_intermediate_size"],
        "expert_shared_feed_forward_length": config["shared_expert_intermediate_size"],
        "full_attention_interval": 4,
        "ssm.conv_kernel": config["linear_conv_kernel_dim"],
        "ssm.state_size": key,
        "ssm.group_count": keys,
        "ssm.time_step_rank": values,
        "ssm.inner_size": value * values,
    }
    _write(folder, file, "qwen3next", numbers, tensors)


def deepseek(folder: Path, file: Path) -> None:
    """Keys and values are made from one latent: what makes them is split by heads, keys turned."""
    config, weights = _read(folder)
    third = config["model_type"] == "deepseek_v3"
    heads, nope = config["num_attention_heads"], config["qk_nope_head_dim"]
    latent, rope = config["kv_lora_rank"], config["qk_rope_head_dim"]
    tensors: dict[str, np.ndarray] = {}
    for name, weight in weights.items():
        module, _, kind = name.rpartition(".")
        layer = _layer(name)
        if name.endswith("kv_b_proj.weight"):
            both = weight.reshape(heads, -1, latent)
            tensors[f"blk.{layer}.attn_k_b.weight"] = both[:, :nope].swapaxes(1, 2)
            tensors[f"blk.{layer}.attn_v_b.weight"] = both[:, nope:]
        elif "mlp.experts." in name:
            tensors.update(_experts(name, weight))
        elif name.endswith("e_score_correction_bias"):
            tensors[f"blk.{layer}.exp_probs_b.bias"] = weight
        else:
            place = gguf_names.model_tensor(module, architectures.by_name("deepseek2"))
            tensors[f"{place}.{kind}"] = weight
    numbers: dict[str, Value] = {
        **_numbers(config),
        "attention.head_count_kv": 1,
        "attention.kv_lora_rank": latent,
        "attention.key_length": latent + rope,
        "attention.value_length": latent,
        "attention.key_length_mla": nope + rope,
        "attention.value_length_mla": config["v_head_dim"],
        "rope.dimension_count": rope,
        "leading_dense_block_count": config["first_k_dense_replace"],
        "expert_count": config["n_routed_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_feed_forward_length": config["moe_intermediate_size"],
        "expert_shared_count": config["n_shared_experts"],
        "expert_weights_scale": float(config["routed_scaling_factor"]),
        "expert_weights_norm": third,
        "expert_gating_func": 2 if third else 1,
    }
    if config.get("q_lora_rank"):
        numbers["attention.q_lora_rank"] = config["q_lora_rank"]
    _write(folder, file, "deepseek2", numbers, tensors)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    weights = {name: w.numpy() for name, w in torch_base(folder).state_dict().items()}
    return json.loads((folder / "config.json").read_text()), weights


def _layer(name: str) -> str:
    return name.split(".")[2] if name.startswith("model.layers.") else ""


def _experts(name: str, weight: np.ndarray) -> dict[str, np.ndarray]:
    layer = _layer(name)
    if name.endswith("down_proj"):
        return {f"blk.{layer}.ffn_down_exps.weight": weight}
    gate, up = np.split(weight, 2, axis=1)
    return {f"blk.{layer}.ffn_gate_exps.weight": gate, f"blk.{layer}.ffn_up_exps.weight": up}


def _numbers(config: dict[str, Any]) -> dict[str, Value]:
    return {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.freq_base": float(config["rope_theta"]),
        "vocab_size": config["vocab_size"],
    }


def _write(
    folder: Path,
    file: Path,
    architecture: str,
    numbers: dict[str, Value],
    tensors: dict[str, np.ndarray],
) -> None:
    metadata: dict[str, Value] = {
        "general.architecture": architecture,
        "general.type": "model",
        **{f"{architecture}.{name}": value for name, value in numbers.items()},
        **gguf_tokenizer.metadata(load_base(folder), int(str(numbers["vocab_size"]))),
    }
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    write_gguf(file, metadata, whole, dict.fromkeys(whole, "float32"))
