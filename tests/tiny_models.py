"""Tiny random Hugging Face models of every family, made on the spot: `tiny_model("llama", folder)`.

Each folder holds what a hub model holds (config.json as published models write it, safetensors, a
byte-level BPE tokenizer, a chat template) and loads in transformers and in mlx-lm unchanged. The
weights have enough variance that a wrong adapter shows in the logits.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

BOS, EOS, PAD, ENDOFTEXT, START = (
    "<|bos|>",
    "<|im_end|>",
    "<|pad|>",
    "<|endoftext|>",
    "<|im_start|>",
)
SPECIALS = (PAD, BOS, EOS, ENDOFTEXT, START)
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
VOCAB = 512
# The variable that names a folder where each model is made once, to be copied from there.
KEPT = "TINY_MODELS"

# One turn renders the same whether or not turns follow, so a prompt's tokens are a prefix of the
# conversation's.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "bos_token_id": BOS_ID,
    "eos_token_id": EOS_ID,
    "pad_token_id": PAD_ID,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
}
_SILU: dict[str, Any] = {"hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
_GEMMA: dict[str, Any] = {
    "head_dim": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
}

# family -> (class name, what its config.json says besides _COMMON)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {**_SILU, "model_type": "llama"}),
    "llama_tied": (
        "LlamaForCausalLM",
        {**_SILU, "model_type": "llama", "tie_word_embeddings": True},
    ),
    "mistral": (
        "MistralForCausalLM",
        {**_SILU, "model_type": "mistral", "head_dim": 32, "sliding_window": None},
    ),
    "mixtral": (
        "MixtralForCausalLM",
        {
            **_SILU,
            "model_type": "mixtral",
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": None,
        },
    ),
    "qwen2": (
        "Qwen2ForCausalLM",
        {**_SILU, "model_type": "qwen2", "tie_word_embeddings": True},
    ),
    "qwen3": (
        "Qwen3ForCausalLM",
        {**_SILU, "model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": True},
    ),
    "qwen3_moe": (
        "Qwen3MoeForCausalLM",
        {
            **_SILU,
            "model_type": "qwen3_moe",
            "head_dim": 32,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 64,
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "norm_topk_prob": True,
        },
    ),
    "gemma": ("GemmaForCausalLM", {**_GEMMA, "model_type": "gemma"}),
    "gemma2": (
        "Gemma2ForCausalLM",
        {
            **_GEMMA,
            "model_type": "gemma2",
            "query_pre_attn_scalar": 32,
            "sliding_window": 4096,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
    ),
    "gemma3": (
        "Gemma3ForCausalLM",
        {
            **_GEMMA,
            "model_type": "gemma3_text",
            "num_hidden_layers": 4,
            "query_pre_attn_scalar": 32,
            "sliding_window": 64,
            "sliding_window_pattern": 2,
            "rope_theta": 1000000.0,
            "rope_local_base_freq": 10000.0,
        },
    ),
    "phi": (
        "PhiForCausalLM",
        {
            "model_type": "phi",
            "num_key_value_heads": 4,
            "hidden_act": "gelu_new",
            "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 0.5,
            "rope_theta": 10000.0,
            "qk_layernorm": False,
        },
    ),
    "phi3": (
        "Phi3ForCausalLM",
        {
            **_SILU,
            "model_type": "phi3",
            "original_max_position_embeddings": 2048,
            "sliding_window": None,
            "rope_scaling": None,
        },
    ),
}

# Further families of llama.cpp, which only the GGUF tests use.
_YARN: dict[str, Any] = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "smollm3": (
        "SmolLM3ForCausalLM",
        {**_SILU, "model_type": "smollm3", "num_hidden_layers": 5, "tie_word_embeddings": True},
    ),
    "granite": (
        "GraniteForCausalLM",
        {
            **_SILU,
            "model_type": "granite",
            "attention_multiplier": 0.1,
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.4,
            "logits_scaling": 0.7,
            "tie_word_embeddings": True,
        },
    ),
    "olmo2": ("Olmo2ForCausalLM", {**_SILU, "model_type": "olmo2"}),
    "olmo3": (
        "Olmo3ForCausalLM",
        {
            **_SILU,
            "model_type": "olmo3",
            "num_hidden_layers": 4,
            "sliding_window": 8,
            "rope_theta": 500000.0,
            "max_position_embeddings": 64,
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 16,
            },
        },
    ),
    "ministral3": (
        "Ministral3ForCausalLM",
        {
            **_SILU,
            "model_type": "ministral3",
            "head_dim": 32,
            "max_position_embeddings": 64,
            "rope_parameters": _YARN,
        },
    ),
    "glm4": (
        "Glm4ForCausalLM",
        {
            **_SILU,
            "model_type": "glm4",
            "head_dim": 32,
            "attention_bias": True,
            "partial_rotary_factor": 0.5,
        },
    ),
    "lfm2": (
        "Lfm2ForCausalLM",
        {
            "model_type": "lfm2",
            "num_hidden_layers": 4,
            "layer_types": ["conv", "full_attention", "conv", "full_attention"],
            "norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "conv_L_cache": 3,
            "conv_bias": False,
            "block_auto_adjust_ff_dim": True,
            "block_multiple_of": 32,
            "block_ffn_dim_multiplier": 1.0,
            "tie_word_embeddings": True,
        },
    ),
    "gemma4": (
        "Gemma4ForCausalLM",
        {
            **{
                key: value
                for key, value in _GEMMA.items()
                if key not in ("hidden_act", "rope_theta")
            },
            "model_type": "gemma4_text",
            "num_hidden_layers": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "sliding_window": 8,
            "global_head_dim": 64,
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
            "hidden_size_per_layer_input": 16,
            "vocab_size_per_layer_input": VOCAB,
            "final_logit_softcapping": 30.0,
        },
    ),
    "qwen3_5": (
        "Qwen3_5ForCausalLM",
        {
            **_SILU,
            "rms_norm_eps": 1e-6,
            "model_type": "qwen3_5_text",
            "num_hidden_layers": 4,
            "layer_types": ["linear_attention"] * 3 + ["full_attention"],
            "head_dim": 32,
            "partial_rotary_factor": 0.25,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        },
    ),
}
MORE["gemma4_moe"] = (
    "Gemma4ForCausalLM",
    {
        **MORE["gemma4"][1],
        "num_kv_shared_layers": 0,
        "use_double_wide_mlp": False,
        "hidden_size_per_layer_input": 0,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 32,
    },
)
MORE["qwen3_5_moe"] = (
    "Qwen3_5MoeForCausalLM",
    {
        **MORE["qwen3_5"][1],
        "model_type": "qwen3_5_moe_text",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 96,
    },
)

# Families of which only adapters are converted to GGUF.
_MLA: dict[str, Any] = {
    **_SILU,
    "rms_norm_eps": 1e-6,  # the latents' norms have this one always
    "num_key_value_heads": 4,
    "head_dim": 8,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "first_k_dense_replace": 1,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 1.5,
}
ADAPTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_oss": (
        "GptOssForCausalLM",
        {
            **_SILU,
            "model_type": "gpt_oss",
            "head_dim": 32,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"],
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "deepseek_v2": (
        "DeepseekV2ForCausalLM",
        {**_MLA, "model_type": "deepseek_v2", "topk_method": "greedy", "norm_topk_prob": False},
    ),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        {**_MLA, "model_type": "deepseek_v3", "norm_topk_prob": True, "rope_interleave": True},
    ),
    "qwen3_next": (
        "Qwen3NextForCausalLM",
        {
            **MORE["qwen3_5_moe"][1],
            "model_type": "qwen3_next",
            "decoder_sparse_step": 1,
            "mlp_only_layers": [],
            "norm_topk_prob": True,
        },
    ),
}


def tiny_model(family: str, root: str | Path, *, seed: int = 0, **overrides: Any) -> Path:
    """The folder of a tiny random model below `root`, made on the first call and found again after.

    Args:
        family: a key of `FAMILIES`, `MORE` or `ADAPTERS`.
        root: where models are kept, e.g. pytest's session temporary folder.
        seed: of the weights.
        overrides: config.json keys to change, e.g. `sliding_window=8` (gemma3) or
            `num_hidden_layers=4`.
    """
    name, config = {**FAMILIES, **MORE, **ADAPTERS}[family]
    values = {**_COMMON, **config, **overrides, "architectures": [name]}
    if family == "gemma3" and "layer_types" not in overrides:
        pattern = values["sliding_window_pattern"]
        values["layer_types"] = [
            "sliding_attention" if (layer + 1) % pattern else "full_attention"
            for layer in range(values["num_hidden_layers"])
        ]
    digest = hashlib.sha256(json.dumps([seed, values], sort_keys=True).encode()).hexdigest()[:8]
    folder = Path(root) / f"{family}-{digest}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    kept = os.environ.get(KEPT)
    if kept and Path(kept) != folder.parent:  # whoever asks may change what is theirs
        made = tiny_model(family, kept, seed=seed, **overrides)
        shutil.copytree(made, fresh, copy_function=shutil.copyfile, dirs_exist_ok=True)
    else:
        write_tokenizer(fresh)
        _write_weights(fresh, values, seed)
    try:
        fresh.rename(folder)
    except OSError:  # another process made the same model first
        shutil.rmtree(fresh)
    return folder


def _write_weights(folder: Path, values: dict[str, Any], seed: int) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config_file = folder / "config.json"
    config_file.write_text(json.dumps(values, indent=2), encoding="utf-8")
    model = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(folder), dtype=torch.float32
    )
    with torch.no_grad():
        scalars = [entry for entry in model.named_buffers() if entry[0].endswith("layer_scalar")]
        for name, weight in [*model.named_parameters(), *scalars]:
            # Each tensor by its own name's seed: adding a layer leaves the others as they were.
            generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}:{name}".encode()))
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                weight.copy_(noise * (0.25 if "embed" in name else 0.12))
            elif "norm" in name and name.endswith("weight"):
                weight.add_(noise * 0.1)  # around 1, or around 0 where the family adds the 1
                if "q_norm" in name and values["model_type"] == "gemma4_text":
                    weight.mul_(0.15)  # which divides by no square root of the head's size
            else:
                weight.copy_(noise * 0.1)
    model.save_pretrained(folder)
    # transformers writes its newest dialect (rope_theta nested); published models have this one.
    config_file.write_text(json.dumps(values, indent=2), encoding="utf-8")


def byte_level(pre_tokenizer: Any) -> Any:
    """A byte-level BPE of `VOCAB` tokens, trained on `training_text`, of the tokenizers package."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    return tokenizer


def write_tokenizer(folder: Path) -> None:
    """One that splits as GPT-2's does."""
    for name, text in _tokenizer_files().items():
        (folder / name).write_bytes(text)


@cache
def _tokenizer_files() -> dict[str, bytes]:
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    assert tokenizer.get_vocab_size() == VOCAB, tokenizer.get_vocab_size()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=2048,
    )
    with tempfile.TemporaryDirectory() as folder:
        wrapped.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


_WORDS = """
monday tuesday wednesday thursday friday saturday sunday today tomorrow remind call turn switch open
close play stop send wake set book lights kitchen window door alarm music meeting report garden
station morning afternoon evening night minute hour week month answer question because between under
without every number system user assistant content value object string temperature language model
adapter training weather umbrella blanket picture history science
"""


def training_text() -> list[str]:
    """Sentences that the tiny tokenizers are trained on."""
    words = _WORDS.split()
    return [
        f"Please {first} the {second} at {hour}, and {words[(hour * 7 + at) % len(words)]} "
        f'{{"{words[(hour + at * 3) % len(words)]}": {at}}}.'
        for hour, first in enumerate(words)
        for at, second in enumerate(words)
    ]
