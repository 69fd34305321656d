"""Tiny GGUF models of families of which only adapters are converted: `gpt_oss(base, file)`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from convert.base import load_base
from convert.gguf import tokenizer as gguf_tokenizer
from convert.gguf.file import Value, write_gguf
from tests.convert.convert_cases import torch_base


def gpt_oss(folder: Path, file: Path) -> None:
    """Experts are kept input first in transformers, with gate and up in turns."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    weights = {name: w.numpy() for name, w in torch_base(folder).state_dict().items()}
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
    metadata: dict[str, Value] = {
        "general.architecture": "gpt-oss",
        "general.type": "model",
        **{f"gpt-oss.{name}": value for name, value in numbers.items()},
        **gguf_tokenizer.metadata(load_base(folder), config["vocab_size"]),
    }
    write_gguf(file, metadata, tensors, dict.fromkeys(tensors, "float32"))
