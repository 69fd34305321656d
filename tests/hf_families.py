"""A tiny random model of every causal language model that transformers can build from one
configuration in all dialects: `tiny("deepseek_v3", folder)`.

Written as transformers itself writes them today (rope nested in rope_parameters), so they are what
people get who save or fine-tune a model with a current version.
"""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import Any

from tests.tiny_models import BOS_ID, EOS_ID, PAD_ID, VOCAB, write_tokenizer

# Each family takes the keys it knows. Two layers, so that the second of a family whose first is
# dense has experts.
COMMON: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"), 128),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 256),
    **dict.fromkeys(
        ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4
    ),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(
        ("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size",
         "moe_shared_expert_intermediate_size", "shared_intermediate_size"), 32,
    ),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "mamba_n_groups", "n_groups"), 1),
    **dict.fromkeys(("head_dim", "kv_channels", "v_head_dim", "linear_key_head_dim",
                     "linear_value_head_dim", "mamba_d_head", "mamba_head_dim"), 16),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    "vocab_size": VOCAB,
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "pad_token_id": PAD_ID,
    "sep_token_id": PAD_ID,
    "first_k_dense_replace": 1,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "rotary_dim": 8,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
    "chunk_size": 16,
    "is_decoder": True,
}  # fmt: skip

# What a family needs otherwise.
_LEAVE_OUT = object()
_MLA: dict[str, Any] = {"num_key_value_heads": 4, "head_dim": 8}
_SLIDING: dict[str, Any] = {
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": 16,
}
_LINEAR: dict[str, Any] = {"layer_types": ["linear_attention", "full_attention"]}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite",
         "glm_moe_dsa", "longcat_flash", "minicpm3", "youtu"), _MLA,
    ),
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "granitemoehybrid"), _LINEAR,
    ),
    "bamba": {"attn_layer_indices": [1]},
    "bailing_hybrid": {**_MLA, **_LINEAR},
    "kimi_linear": {**_MLA, **_LINEAR},
    "falcon": {"head_dim": _LEAVE_OUT, "new_decoder_architecture": True},
    **dict.fromkeys(("afmoe", "cohere2", "exaone4", "olmo3"), _SLIDING),
    "gemma2": {"query_pre_attn_scalar": 16},
    "gemma3_text": {**_SLIDING, "query_pre_attn_scalar": 16},
    "qwen3_moe": {"norm_topk_prob": True},
    "gpt_neox": {"intermediate_size": 256},
    "gptj": {"n_inner": 256},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {"mamba_d_ssm": 128},
    "gemma4_text": {
        "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8, "num_experts": None,
        "layer_types": ["sliding_attention", "full_attention"], "num_global_key_value_heads": 2,
        "global_head_dim": 32,
    },
    "gemma3n_text": {
        "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8,
        "num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"],
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
              "expert_layer_offset": 1, "mamba_dt_rank": 4, "use_mamba_kernels": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "lru_width": 64},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip

# Changes that make gemma4_text the mixture of experts that it is in its 26B size.
GEMMA4_EXPERTS: dict[str, Any] = {
    "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32,
    "hidden_size_per_layer_input": 0,
}  # fmt: skip

# All that can be built so; what is missing needs a large model, or two models, or no decoder.
FAMILIES = """
    afmoe apertus arcee aria_text axk1 axk2 bailing_hybrid bamba beam biogpt bitnet bloom
    codegen cohere cohere2 cohere2_moe cpmant ctrl cwm deepseek_v2 deepseek_v3 deepseek_v32
    deepseek_v4 diffllama doge dots1 ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon falcon_h1
    falcon_mamba flex_olmo flint gemma gemma2 gemma3_text gemma3n_text gemma4_text
    gemma4_unified_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt-sw3 gpt2 gpt_bigcode
    gpt_neo gpt_neox gpt_neox_japanese gpt_oss gptj granite granite_swa granitemoe
    granitemoe_swa granitemoehybrid granitemoeshared helium hrm_text hunyuan_v1_dense
    hunyuan_v1_moe hy_v3 hy_v4 hyperclovax inkling2_text inkling_text internlm3 iquestcoder
    jais2 jamba jetmoe kimi_linear kolibri1 laguna lfm2 lfm2_moe llama llama4_text longcat_flash
    mamba mamba2 mellum mimo_v2_flash minicpm3 minimax minimax_m2 minimax_m3_vl_text ministral
    ministral3 mistral mixtral modernbert-decoder mpt nanochat nemotron nemotron_h olmo olmo2
    olmo3 olmo_hybrid olmoe openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3
    qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next recurrent_gemma rwkv seed_oss smollm3
    solar_open stablelm starcoder2 vaultgemma xglm youtu zaya
""".split()

# Those of them that mlx-lm has, too.
ON_MLX = """
    mistral
    afmoe apertus bailing_hybrid bitnet cohere cohere2 deepseek_v2 deepseek_v3 deepseek_v32
    dots1 ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon_h1 falcon_mamba gemma gemma2
    gemma3_text gemma4_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt2 gpt_bigcode
    gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid helium hunyuan_v1_dense internlm3
    iquestcoder jamba kimi_linear laguna lfm2 lfm2_moe llama llama4_text longcat_flash mamba
    mamba2 mellum mimo_v2_flash minicpm3 minimax minimax_m2 ministral3 mixtral nanochat nemotron
    nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe phi phi3 phimoe qwen2 qwen2_moe qwen3
    qwen3_moe qwen3_next recurrent_gemma seed_oss smollm3 solar_open stablelm starcoder2
""".split()


def config_of(family: str, **changes: Any) -> Any:
    """Its configuration of transformers."""
    from transformers import CONFIG_MAPPING

    kind: Any = CONFIG_MAPPING[family]
    known = {field.name for field in dataclasses.fields(kind)} | set(kind.attribute_map)
    # Keys of other families' dialects would be written to config.json, and mean nothing there.
    values = {key: value for key, value in COMMON.items() if key in known}
    values |= OWN.get(family, {}) | changes
    return kind(**{key: value for key, value in values.items() if value is not _LEAVE_OUT})


def tiny(family: str, folder: Path, **changes: Any) -> Path:
    """Write the model's folder, once."""
    if (folder / "config.json").exists():
        return folder
    import torch
    from transformers import AutoModelForCausalLM

    config = config_of(family, **changes)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    draw(model)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


_MISTRAL3_YARN: dict[str, Any] = {
    "type": "yarn", "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
    "original_max_position_embeddings": 64, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0,
    "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1,
}  # fmt: skip


def mistral3(folder: Path, text: str = "ministral3", **changes: Any) -> Any:
    """Write the multimodal model with a language model of type `text`, and return it.

    Its configuration ties the head for the whole and not for the language model, as transformers
    writes it where nobody says otherwise; `changes` are of the whole.
    """
    import torch
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    rope = {"rope_parameters": _MISTRAL3_YARN} if text == "ministral3" else {}
    known = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
             "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings",
             "bos_token_id", "eos_token_id", "pad_token_id")  # fmt: skip
    inner = {"model_type": text, **{key: COMMON[key] for key in known}, **rope}
    vision = {
        "model_type": "pixtral", "hidden_size": 32, "intermediate_size": 64, "head_dim": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config: Any = Mistral3Config(text_config=inner, vision_config=vision, **changes)
    torch.manual_seed(0)
    model: Any = Mistral3ForConditionalGeneration(config).eval()
    draw(model)
    model.save_pretrained(folder)
    write_tokenizer(folder)
    return model


def draw(model: Any) -> None:
    """Weights with enough variance that a wrong adapter shows in the logits."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                weight.copy_(noise * 0.12)
            elif "norm" in name or "ln_" in name:
                weight.add_(noise * 0.1)


def load(folder: Path) -> Any:
    """The model of a folder in float32, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
