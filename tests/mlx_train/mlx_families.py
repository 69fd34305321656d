"""A tiny random model of every text family that mlx-lm can build here, from its own classes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from livery.engines.mlx.load import Base

_YARN = {
    "rope_type": "yarn",
    "type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 64,
    "llama_4_scaling_beta": 0.1,
}

# One configuration in all dialects: each family takes the keys it knows.
_COMMON: dict[str, Any] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "model_dim", "hidden_dim", "mamba_d_ssm"), 64
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layers", "n_layer", "num_layers", "num_transformer_layers"), 4
    ),
    **dict.fromkeys(("intermediate_size", "ff_intermediate_size", "n_inner"), 128),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "n_kv_heads"), 2),
    **dict.fromkeys(
        ("rms_norm_eps", "norm_eps", "layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon"),
        1e-5,
    ),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "block_size", "model_max_length"), 256
    ),
    **dict.fromkeys(
        ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4
    ),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "num_shared_expert"), 1),
    **dict.fromkeys(
        ("moe_intermediate_size", "shared_expert_intermediate_size", "moe_hidden_size",
         "shared_intermediate_size"), 32,
    ),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "top_k_experts"), 2),
    **dict.fromkeys(("attention_bias", "mlp_bias", "use_bias", "mamba_proj_bias"), False),
    **dict.fromkeys(("use_conv_bias", "conv_bias", "mamba_conv_bias"), True),
    **dict.fromkeys(("ssm_state_size", "state_size", "mamba_d_state"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 4),
    **dict.fromkeys(("head_dim", "mamba_d_head", "mamba_head_dim", "v_head_dim"), 16),
    **dict.fromkeys(("conv_kernel", "mamba_d_conv", "linear_conv_kernel_dim", "conv_L_cache"), 4),
    **dict.fromkeys(("expand", "mamba_expand"), 2),
    **dict.fromkeys(("n_groups", "mamba_n_groups", "n_group", "topk_group"), 1),
    **dict.fromkeys(("partial_rotary_factor", "rotary_pct"), 0.5),
    **dict.fromkeys(
        ("logits_scaling", "attention_multiplier", "embedding_multiplier", "residual_multiplier",
         "scale_emb", "scale_depth"), 0.5,
    ),
    "vocab_size": 512,
    "rope_theta": 10000.0,
    "rotary_dim": 8,
    "rotary_emb_base": 10000,
    "sliding_window": 8,
    "sliding_window_pattern": 2,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "tie_word_embeddings": False,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "query_pre_attn_scalar": 16,
    "use_qk_norm": True,
    "qk_norm": True,
    "post_norm": False,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
    "hidden_act": "silu",
    "logit_scale": 0.5,
    "num_logits_to_keep": 1,
    "time_step_rank": 4,
    "time_step_limit": (0.0, 100.0),
    "time_step_min": 0.001,
    "time_step_max": 0.1,
    "chunk_size": 16,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "full_attention_interval": 2,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "dim_model_base": 64,
    "linear_allow_neg_eigval": False,
}  # fmt: skip

# What a family needs otherwise.
_OWN: dict[str, dict[str, Any]] = {
    "afm7": {"hidden_dim": 64, "num_kv_reuse_layers": 1, "num_kv_heads": 2},
    "baichuan_m1": {"sliding_window_layers": [0, 2], "conv_window": 2},
    "deepseek_v2": {"rope_scaling": _YARN},
    "exaone4": {"rope_scaling": None, "sliding_window_pattern": "LG"},
    "exaone_moe": {"is_moe_layer": [False, True, True, True]},
    "gemma4_text": {
        "num_kv_shared_layers": 2, "hidden_size_per_layer_input": 8, "global_head_dim": 32,
        "vocab_size_per_layer_input": 512, "num_experts": None, "top_k_experts": None,
        "moe_intermediate_size": None,
    },
    "glm4_moe": {"rope_scaling": None},
    "glm_moe_dsa": {
        "index_head_dim": 16, "index_n_heads": 2, "index_topk": 512, "topk_method": "noaux_tc",
        "scoring_func": "sigmoid", "rope_parameters": {"rope_theta": 10000.0},
    },
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "hunyuan": {
        "use_mixed_mlp_moe": True, "use_cla": False, "cla_share_factor": 2,
        "rope_scaling": {"alpha": 1.0, "factor": 1.0, "type": "dynamic"},
    },
    "jamba": {
        "attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1,
        "expert_layer_period": 2,
    },
    "lfm2": {
        "block_multiple_of": 16, "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": False,
        "block_dim": 64, "full_attn_idxs": [1, 3], "layer_types": ["conv", "full_attention"] * 2,
    },
    "lfm2_moe": {
        "use_expert_bias": False, "num_dense_layers": 1,
        "layer_types": ["conv", "full_attention"] * 2,
    },
    "llama4_text": {"intermediate_size_mlp": 128, "no_rope_layers": [1, 1, 1, 0]},
    "mellum": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0}
            for kind in ("sliding_attention", "full_attention")
        }
    },
    "ministral3": {"rope_parameters": _YARN},
    "mistral4": {"rope_parameters": _YARN},
    "nemotron_h": {"layers_block_type": ["mamba", "attention", "mlp", "moe"]},
    "openelm": {
        "ffn_dim_divisor": 8, "num_query_heads": [4] * 4, "num_kv_heads": [2] * 4,
        "ffn_multipliers": [2.0] * 4,
    },
    "phi3small": {"dense_attention_every_n_layers": 2, "gegelu_limit": 20.0},
    "minicpm3": {"rope_scaling": {"short_factor": [1.0] * 4, "long_factor": [1.0] * 4}},
    "plamo": {"n_shared_head": 2},
    "qwen": {"kv_channels": 16},
    "qwen3_next": {"layer_types": None},
    "rwkv7": {
        "a_low_rank_dim": 8, "v_low_rank_dim": 8, "gate_low_rank_dim": 8, "decay_low_rank_dim": 8,
    },
    "stablelm": {"use_qkv_bias": False},
    "step3p5": {"num_attention_groups": 2, "moe_top_k": 2},
}  # fmt: skip


def tiny(family: str) -> Base:
    """A float32 model of mlx-lm's module `family`, weights drawn wide enough to tell errors."""
    module = importlib.import_module(f"mlx_lm.models.{family}")
    config = {**_COMMON, **_OWN.get(family, {}), "model_type": family}
    config["text_config"] = dict(config)
    mx.random.seed(0)
    model = module.Model(module.ModelArgs.from_dict(config))
    rng = np.random.default_rng(0)

    def drawn(array: mx.array) -> mx.array:
        if not mx.issubdtype(array.dtype, mx.floating):
            return array
        if array.ndim < 2:
            return array.astype(mx.float32)
        return mx.array(rng.normal(0, 0.12, array.shape).astype(np.float32))

    model.update(tree_map(drawn, model.parameters()))
    model.eval()
    mx.eval(model.parameters())
    return Base(model, config, Path(family), "float32", None)
