"""Every field that transformers knows in config.json, by model type: what llama.cpp makes of it.

A field is written as a number, or computed with a constant, or without effect on inference;
`convert.gguf.fields` refuses any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SILU = ("silu", "swish")
_TANH = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate")  # llama.cpp's one GELU
_NONE = (None, False)
# Fields that inference does not depend on: those of training, of the tokenizer (which is converted
# separately), of how Python runs the model, and what files say about themselves.
NO_EFFECT = frozenset(
    """
    _attn_implementation _attn_implementation_autoset _name_or_path _sliding_window_pattern
    architectures attention_dropout attn_implementation auto_map aux_loss_alpha bad_words_ids
    begin_suppress_tokens bos_token_id cache_implementation chunk_size_feed_forward
    cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dtype
    early_stopping embd_pdrop encoder_no_repeat_ngram_size eos_token_id ep_size
    exponential_decay_length_penalty finetuning_task forced_bos_token_id forced_eos_token_id
    hidden_dropout id2label initializer_range is_decoder is_encoder_decoder
    is_llama_config label2id length_penalty max_length max_sequence_length min_length
    model_max_length model_name model_type no_repeat_ngram_size num_beam_groups num_beams
    num_return_sequences output_attentions output_hidden_states output_router_logits output_scores
    pad_token_id prefix pretraining_tp problem_type pruned_heads quantization quantization_config
    remove_invalid_values repetition_penalty resid_pdrop return_dict return_dict_in_generate
    router_aux_loss_coef router_jitter_noise sep_token_id seq_aux seq_length suppress_tokens
    task_specific_params temperature tf_legacy_loss tie_encoder_decoder tokenizer_class top_k top_p
    torch_dtype torchscript transformers.js_config transformers_version typical_p unsloth_fixed
    unsloth_version unk_token_id use_bfloat16 use_cache
    """.split()
)  # quantization: weights that are no floats are refused when they are read
# Written as numbers, or in the file by the tensors that there are (biases, a head of its own).
SIZES = frozenset(
    """
    vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads
    num_key_value_heads head_dim max_position_embeddings original_max_position_embeddings
    rms_norm_eps tie_word_embeddings rope_theta rope_scaling rope_parameters partial_rotary_factor
    """.split()
)
EXPERTS = ("num_experts", "num_local_experts")  # two names of one number
_LAYERED = frozenset({"sliding_window", "layer_types"})
_SWITCHED = frozenset({"sliding_window", "use_sliding_window", "max_window_layers"})


@dataclass(frozen=True)
class Fields:
    """The fields of one model type beside `NO_EFFECT` and the sizes.

    Attributes:
        written: names that `gguf_numbers` reads, or checks by a rule of its own.
        constants: name -> the values that llama.cpp computes with; any other is refused. The first
            is what to set in a message.
        absent: name -> what transformers takes where config.json does not say; a value of None or
            of 0 that it does say stays.
    """

    written: frozenset[str] = frozenset()
    constants: Mapping[str, tuple[Any, ...]] = field(default_factory=dict[str, tuple[Any, ...]])
    absent: Mapping[str, Any] = field(default_factory=dict[str, Any])


_ABSENT: dict[str, Any] = {"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu"}
_UNBIASED = {"attention_bias": _NONE}
TABLE: dict[str, Fields] = {
    "llama": Fields(
        frozenset({"attention_bias", "mlp_bias"}),
        {"hidden_act": _SILU, "rope_interleaved": _NONE},
        _ABSENT,
    ),
    "mistral": Fields(
        frozenset({"sliding_window"}),
        {"hidden_act": _SILU},
        {**_ABSENT, "num_key_value_heads": 8, "sliding_window": 4096},
    ),
    "mixtral": Fields(
        frozenset({"sliding_window", *EXPERTS, "num_experts_per_tok"}),
        {"hidden_act": _SILU},
        {
            **_ABSENT,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e6,
            "num_key_value_heads": 8,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
    ),
    "qwen2": Fields(
        _SWITCHED | {"layer_types"},
        {"hidden_act": _SILU, "use_mrope": _NONE},
        {**_ABSENT, "num_key_value_heads": 32, "sliding_window": 4096, "max_window_layers": 28},
    ),
    "qwen3": Fields(
        _SWITCHED | {"layer_types"},
        {"hidden_act": _SILU, **_UNBIASED},
        {
            **_ABSENT,
            "head_dim": 128,
            "num_key_value_heads": 32,
            "sliding_window": 4096,
            "max_window_layers": 28,
        },
    ),
    "qwen3_moe": Fields(
        _SWITCHED
        | {*EXPERTS, "num_experts_per_tok", "moe_intermediate_size"},
        {
            "hidden_act": _SILU,
            **_UNBIASED,
            "decoder_sparse_step": (1,),
            "mlp_only_layers": ([], None),
            "norm_topk_prob": (True,),
        },
        {
            **_ABSENT,
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "decoder_sparse_step": 1,
            "norm_topk_prob": False,
        },
    ),
    "gemma": Fields(
        frozenset(),
        {
            "hidden_act": (*_TANH, "gelu"),  # "gelu" is read as the tanh form by transformers too
            "hidden_activation": (None, *_TANH),
            **_UNBIASED,
            "use_bidirectional_attention": _NONE,
            "tie_word_embeddings": (True, None),
        },
        {**_ABSENT, "hidden_act": "gelu_pytorch_tanh", "head_dim": 256, "num_key_value_heads": 16},
    ),
    "gemma2": Fields(
        _LAYERED
        | {"attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"},
        {
            "hidden_activation": _TANH,
            "hidden_act": (None, *_TANH, "gelu"),  # read by nothing
            **_UNBIASED,
            "use_bidirectional_attention": _NONE,
            "tie_word_embeddings": (True, None),
        },
        {
            "rms_norm_eps": 1e-6,
            "rope_theta": 10000.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "head_dim": 256,
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
    ),
    "gemma3_text": Fields(
        _LAYERED
        | {"sliding_window_pattern", "rope_local_base_freq", "query_pre_attn_scalar",
           "final_logit_softcapping"},
        {
            "hidden_activation": _TANH,
            "hidden_act": (None, *_TANH, "gelu"),
            **_UNBIASED,
            "attn_logit_softcapping": _NONE,
            "use_bidirectional_attention": _NONE,
        },
        {
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "rope_local_base_freq": 10000.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "head_dim": 256,
            "num_key_value_heads": 4,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
        },
    ),
    "phi": Fields(
        frozenset({"layer_norm_eps"}),
        {"hidden_act": _TANH, "qk_layernorm": _NONE, "tie_word_embeddings": _NONE},
        {
            "layer_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "gelu_new",
            "partial_rotary_factor": 0.5,
        },
    ),
    "phi3": Fields(
        frozenset({"sliding_window"}),
        {
            "hidden_act": _SILU,
            **_UNBIASED,
            "mlp_bias": _NONE,
            "lm_head_bias": _NONE,
            "full_attn_mod": (1, None),
            "interpolate_factor": (1, None),
        },
        {**_ABSENT, "rms_norm_eps": 1e-5, "original_max_position_embeddings": 4096},
    ),
    "smollm3": Fields(
        _SWITCHED | {"layer_types", "attention_bias", "mlp_bias", "no_rope_layers"},
        {"hidden_act": _SILU, "no_rope_layer_interval": (4, None)},
        {**_ABSENT, "rope_theta": 2000000.0, "num_key_value_heads": 4},
    ),
    "granite": Fields(
        frozenset(
            {"attention_bias", "mlp_bias", "attention_multiplier", "embedding_multiplier",
             "residual_multiplier", "logits_scaling"}
        ),
        {"hidden_act": _SILU},
        {
            **_ABSENT,
            "attention_multiplier": 1.0,
            "embedding_multiplier": 1.0,
            "residual_multiplier": 1.0,
            "logits_scaling": 1.0,
        },
    ),
    "olmo2": Fields(
        frozenset(),
        {"hidden_act": _SILU, **_UNBIASED, "tie_word_embeddings": _NONE},
        {**_ABSENT, "rms_norm_eps": 1e-5},
    ),
    "olmo3": Fields(
        _LAYERED,
        {"hidden_act": _SILU, **_UNBIASED, "tie_word_embeddings": _NONE},
        {**_ABSENT, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "sliding_window": 4096},
    ),
    "ministral3": Fields(
        frozenset({"sliding_window"}),
        {"hidden_act": _SILU},
        {
            **_ABSENT,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1000000.0,
            "head_dim": 128,
            "num_key_value_heads": 8,
        },
    ),
    "glm4": Fields(
        frozenset({"attention_bias"}),
        {"hidden_act": _SILU},
        {
            **_ABSENT,
            "rms_norm_eps": 1.5625e-07,
            "head_dim": 128,
            "num_key_value_heads": 2,
            "partial_rotary_factor": 0.5,
        },
    ),
    "lfm2": Fields(
        frozenset(
            {"layer_types", "full_attn_idxs", "norm_eps", "conv_L_cache", "block_ff_dim",
             "block_auto_adjust_ff_dim", "block_ffn_dim_multiplier", "block_multiple_of",
             "tie_embedding", "block_dim", "block_mlp_init_scale", "block_norm_eps",
             "block_out_init_scale", "block_use_swiglu", "block_use_xavier_init",
             "conv_dim", "conv_dim_out", "conv_use_xavier_init", "use_pos_enc", "num_heads",
             "block_mult_of", "theta"}
        ),
        {"conv_bias": _NONE},
        {"norm_eps": 1e-5, "rope_theta": 1000000.0, "num_key_value_heads": 8, "conv_L_cache": 3},
    ),
    "qwen3_5_text": Fields(
        frozenset(
            {"layer_types", "full_attention_interval", "linear_conv_kernel_dim",
             "linear_key_head_dim", "linear_num_key_heads", "linear_num_value_heads",
             "linear_value_head_dim", "mtp_num_hidden_layers", "mtp_use_dedicated_embeddings",
             "mamba_ssm_dtype"}
        ),
        {
            "hidden_act": _SILU,
            **_UNBIASED,
            "attn_output_gate": (True, None),
            "rms_norm_eps": (1e-6,),  # which llama.cpp takes for queries' and keys' norms too
        },
        {
            **_ABSENT,
            "head_dim": 256,
            "num_key_value_heads": 4,
            "partial_rotary_factor": 0.25,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
        },
    ),
    "gemma4_text": Fields(
        _LAYERED
        | {"per_layer_config", "global_head_dim", "num_global_key_value_heads",
           "final_logit_softcapping", "hidden_size_per_layer_input", "vocab_size_per_layer_input",
           "attention_k_eq_v", "num_kv_shared_layers", "use_double_wide_mlp",
           "enable_moe_block", "num_experts", "num_local_experts", "top_k_experts",
           "moe_intermediate_size"},
        {
            "hidden_activation": _TANH,
            **_UNBIASED,
            "use_bidirectional_attention": (None, "vision"),  # between pictures' tokens
        },
        {
            "rms_norm_eps": 1e-6,
            "hidden_activation": "gelu_pytorch_tanh",
            "head_dim": 256,
            "num_key_value_heads": 4,
            "sliding_window": 512,
            "hidden_size_per_layer_input": 256,
            "vocab_size_per_layer_input": 262144,
        },
    ),
}  # fmt: skip

_DENSE = TABLE["qwen3_5_text"]
TABLE["qwen3_5_moe_text"] = Fields(
    _DENSE.written
    | {
        *EXPERTS,
        "num_experts_per_tok",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
    },
    _DENSE.constants,
    {
        **_DENSE.absent,
        "num_key_value_heads": 2,
        "num_experts": 256,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
    },
)
