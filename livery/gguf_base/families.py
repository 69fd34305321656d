"""What one family's config.json says beside the numbers that all have: the reverse of
`convert.gguf.families`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from livery.errors import UserError
from livery.gguf_base import rope as gguf_rope
from livery.gguf_base.architectures import NO_CAP, PERIODS, query_scale, rope_layers
from livery.gguf_base.numbers import Numbers
from livery.gguf_reader import GgufFile

Config = dict[str, Any]
_TANH = "gelu_pytorch_tanh"


def _has(file: GgufFile, inner: str) -> bool:
    return any(name.endswith(f".{inner}") for name in file.entries)


def _llama(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config["hidden_act"] = "silu"
    config["attention_bias"] = _has(file, "attn_q.bias")
    config["mlp_bias"] = _has(file, "ffn_gate.bias")


def _mixtral(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config["hidden_act"] = "silu"
    config["num_local_experts"] = numbers.whole("expert_count", most=1 << 16)
    config["num_experts_per_tok"] = numbers.whole("expert_used_count")
    config["sliding_window"] = None


def _qwen(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config["hidden_act"] = "silu"
    config["use_sliding_window"] = False
    if config["model_type"] == "qwen2":
        config.pop("head_dim")
    else:
        config["attention_bias"] = False


def _qwen3_moe(config: Config, numbers: Numbers, file: GgufFile) -> None:
    _qwen(config, numbers, file)
    config["num_experts"] = numbers.whole("expert_count", most=1 << 16)
    config["num_experts_per_tok"] = numbers.whole("expert_used_count")
    config["moe_intermediate_size"] = numbers.whole("expert_feed_forward_length")
    config.update(norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[])


def _gemma(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config.update(hidden_act=_TANH, hidden_activation=_TANH, attention_bias=False)


def _gemma2(config: Config, numbers: Numbers, file: GgufFile) -> None:
    _gemma(config, numbers, file)
    config["query_pre_attn_scalar"] = query_scale(config)
    for name, usual in (("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)):
        cap = numbers.number(name, usual)
        config[name] = None if not cap or cap >= NO_CAP else cap
    config["sliding_window"] = numbers.whole("attention.sliding_window", 4096)
    config["layer_types"] = _types(config, numbers, PERIODS["gemma2"])


def _gemma3(config: Config, numbers: Numbers, file: GgufFile) -> None:
    _gemma(config, numbers, file)
    config["query_pre_attn_scalar"] = query_scale(config)
    cap = numbers.number("final_logit_softcapping", 0.0)
    config["final_logit_softcapping"] = cap or None
    config["attn_logit_softcapping"] = None
    config["sliding_window"] = numbers.whole("attention.sliding_window")
    config["layer_types"] = _types(config, numbers, PERIODS["gemma3_text"])
    local = numbers.number("rope.local.freq_base", 10000.0)  # Ollama's own name for it
    config["rope_local_base_freq"] = numbers.number("rope.freq_base_swa", local)


def _types(config: Config, numbers: Numbers, usual: int) -> list[str]:
    """Which layers slide: all but every n-th."""
    layers = config["num_hidden_layers"]
    sliding = numbers.each("attention.sliding_window_pattern", layers)
    if sliding is None:
        period = numbers.whole("attention.sliding_window_pattern", usual)
        sliding = [int(period != 0 and (n + 1) % period != 0) for n in range(layers)]
    return ["sliding_attention" if slides else "full_attention" for slides in sliding]


def _phi(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config.pop("head_dim")
    config.update(hidden_act="gelu_new", qk_layernorm=False)


def _phi3(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config.pop("head_dim")
    config["hidden_act"] = "silu"
    config["sliding_window"] = numbers.whole("attention.sliding_window", 0) or None
    config["rope_scaling"] = None
    numbers.text("rope.scaling.type", "none")
    config.update(gguf_rope.longrope(numbers, file, config["max_position_embeddings"]))


def _smollm3(config: Config, numbers: Numbers, file: GgufFile) -> None:
    _llama(config, numbers, file)
    config.pop("head_dim")
    config["use_sliding_window"] = False
    config["no_rope_layer_interval"] = 4
    config["no_rope_layers"] = rope_layers(config["num_hidden_layers"])


def _granite(config: Config, numbers: Numbers, file: GgufFile) -> None:
    _llama(config, numbers, file)
    config.pop("head_dim")
    for ours, theirs in (
        ("attention_multiplier", "attention.scale"),
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ):
        config[ours] = numbers.number(theirs)


def _olmo(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config.pop("head_dim")
    config.update(hidden_act="silu", attention_bias=False)
    if config["model_type"] == "olmo3":
        config["sliding_window"] = numbers.whole("attention.sliding_window")
        config["layer_types"] = _types(config, numbers, PERIODS["olmo3"])
        theta, scaled = config.pop("rope_theta"), config.pop("rope_scaling", None)
        plain = {"rope_type": "default", "rope_theta": theta}
        whole = {**scaled, "rope_theta": theta} if scaled else plain
        config["rope_parameters"] = {"sliding_attention": plain, "full_attention": whole}


def _ministral3(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config["hidden_act"] = "silu"
    config["sliding_window"] = None
    rope = {**config.pop("rope_scaling", {"rope_type": "default"})}
    rope["rope_theta"] = config.pop("rope_theta")
    beta = numbers.number("attention.temperature_scale", 0.0)
    if beta:
        rope["llama_4_scaling_beta"] = beta
        rope["original_max_position_embeddings"] = numbers.whole("attention.temperature_length")
    else:
        rope["llama_4_scaling_beta"] = 0.0
        rope.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    config["rope_parameters"] = rope


def _glm4(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config.update(hidden_act="silu", attention_bias=_has(file, "attn_q.bias"))


def _lfm2(config: Config, numbers: Numbers, file: GgufFile) -> None:
    layers = config["num_hidden_layers"]
    heads = numbers.each("attention.head_count_kv", layers)
    if heads is None:
        raise numbers.wrong("attention.head_count_kv", "one for all", f"{layers} numbers")
    counts = {n for n in heads if n}
    if len(counts) != 1:
        raise numbers.wrong("attention.head_count_kv", heads, "alike where there is attention")
    head = int(config.pop("head_dim"))
    for name in ("attention.value_length", "rope.dimension_count"):
        if numbers.whole(name, head) != head:
            raise numbers.wrong(name, numbers.whole(name), f"the head's size, {head}")
    width = numbers.whole("feed_forward_length")
    config.update(
        num_key_value_heads=counts.pop(),
        layer_types=["full_attention" if n else "conv" for n in heads],
        norm_eps=numbers.number("attention.layer_norm_rms_epsilon"),
        conv_L_cache=numbers.whole("shortconv.l_cache"),
        conv_bias=False,
        rope_theta=numbers.number("rope.freq_base", 1000000.0),
        intermediate_size=width,
        block_ff_dim=width,
        block_auto_adjust_ff_dim=False,
        tie_embedding=config["tie_word_embeddings"],
    )
    if "rope.scaling.type" in numbers and numbers.text("rope.scaling.type", "none") != "none":
        raise numbers.wrong("rope.scaling.type", "set", "none")


def _qwen35(config: Config, numbers: Numbers, file: GgufFile) -> None:
    config.update(hidden_act="silu", attention_bias=False, attn_output_gate=True)
    numbers.ignore("rope.dimension_sections")  # text has one position for all sections
    period = numbers.whole("full_attention_interval", 4)
    size = numbers.whole("ssm.state_size")
    keys, values = numbers.whole("ssm.group_count"), numbers.whole("ssm.time_step_rank")
    if numbers.whole("ssm.inner_size") != size * values:
        raise numbers.wrong("ssm.inner_size", numbers.whole("ssm.inner_size"), str(size * values))
    config.update(
        layer_types=[
            "full_attention" if period and (n + 1) % period == 0 else "linear_attention"
            for n in range(config["num_hidden_layers"])
        ],
        linear_conv_kernel_dim=numbers.whole("ssm.conv_kernel"),
        linear_key_head_dim=size,
        linear_value_head_dim=size,
        linear_num_key_heads=keys,
        linear_num_value_heads=values,
    )


def _qwen35moe(config: Config, numbers: Numbers, file: GgufFile) -> None:
    _qwen35(config, numbers, file)
    config.pop("intermediate_size")
    config["num_experts"] = numbers.whole("expert_count", most=1 << 16)
    config["num_experts_per_tok"] = numbers.whole("expert_used_count")
    config["moe_intermediate_size"] = numbers.whole("expert_feed_forward_length")
    config["shared_expert_intermediate_size"] = numbers.whole("expert_shared_feed_forward_length")


def _gemma4(config: Config, numbers: Numbers, file: GgufFile) -> None:
    """Layers that do not slide have heads of another size, and may have fewer for the keys."""
    layers = config["num_hidden_layers"]
    types = _types(config, numbers, 6)
    whole, local = int(config["head_dim"]), numbers.whole("attention.key_length_swa")
    for name, size in (
        ("attention.value_length", whole),
        ("rope.dimension_count", whole),
        ("attention.value_length_swa", local),
        ("rope.dimension_count_swa", local),
    ):
        if numbers.whole(name, size) != size:
            raise numbers.wrong(name, numbers.whole(name), str(size))
    heads = numbers.each("attention.head_count_kv", layers)
    heads = heads or [numbers.whole("attention.head_count_kv")] * layers
    sliding = {n for n, kind in zip(heads, types, strict=True) if kind == "sliding_attention"}
    full = {n for n, kind in zip(heads, types, strict=True) if kind == "full_attention"}
    if len(sliding) != 1 or len(full) > 1:
        raise numbers.wrong("attention.head_count_kv", heads, "alike in layers of one kind")
    shared = numbers.whole("attention.shared_kv_layers", 0)
    widths = numbers.each("feed_forward_length", layers)
    width = widths[0] if widths else numbers.whole("feed_forward_length")
    wide = bool(widths) and len(set(widths)) > 1
    if widths and wide and widths != [width * (1 + (n >= layers - shared)) for n in range(layers)]:
        raise numbers.wrong("feed_forward_length", widths, "doubled where keys are shared")
    per_layer = numbers.whole("embedding_length_per_layer_input", 0)
    cap = numbers.number("final_logit_softcapping", 0.0)
    config.update(
        hidden_activation=_TANH,
        attention_bias=False,
        head_dim=local,
        global_head_dim=whole,
        intermediate_size=width,
        layer_types=types,
        num_key_value_heads=sliding.pop(),
        sliding_window=numbers.whole("attention.sliding_window"),
        num_kv_shared_layers=shared,
        use_double_wide_mlp=wide,
        hidden_size_per_layer_input=per_layer,
        vocab_size_per_layer_input=config["vocab_size"],
        final_logit_softcapping=cap or None,
        rope_parameters={
            "sliding_attention": {
                "rope_type": "default",
                "rope_theta": numbers.number("rope.freq_base_swa", 10000.0),
            },
            "full_attention": _proportional(numbers, file, whole),
        },
    )
    separate = not _has(file, "attn_v.weight") or any(
        kind == "full_attention"
        and n < layers - shared
        and f"blk.{n}.attn_v.weight" not in file.entries
        for n, kind in enumerate(types)
    )
    config["attention_k_eq_v"] = separate
    if full and full != {config["num_key_value_heads"]}:
        if not separate:
            config["attention_k_eq_v"] = True
        config["num_global_key_value_heads"] = full.pop()
    if numbers.whole("expert_count", 0):
        config.update(
            enable_moe_block=True,
            num_experts=numbers.whole("expert_count"),
            top_k_experts=numbers.whole("expert_used_count"),
            moe_intermediate_size=numbers.whole("expert_feed_forward_length"),
        )


def _proportional(numbers: Numbers, file: GgufFile, head: int) -> Config:
    """Frequencies of the whole head, of which the first part turns: the rest as good as not."""
    theta = numbers.number("rope.freq_base", 1000000.0)
    if gguf_rope.FREQUENCIES not in file.entries:
        return {"rope_type": "default", "rope_theta": theta}
    factors = file.read(gguf_rope.FREQUENCIES)
    turned = int((factors < 1e9).sum())
    if len(factors) != head // 2 or (factors[:turned] != 1).any() or (factors[turned:] < 1e9).any():
        raise UserError(
            f"{file.path}: {gguf_rope.FREQUENCIES} does not rotate the first part of the head."
        )
    return {
        "rope_type": "proportional",
        "partial_rotary_factor": turned / (head // 2),
        "rope_theta": theta,
    }


FAMILIES: dict[str, Callable[[Config, Numbers, GgufFile], None]] = {
    "llama": _llama,
    "mixtral": _mixtral,
    "qwen2": _qwen,
    "qwen3": _qwen,
    "qwen3_moe": _qwen3_moe,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi": _phi,
    "phi3": _phi3,
    "smollm3": _smollm3,
    "granite": _granite,
    "olmo2": _olmo,
    "olmo3": _olmo,
    "ministral3": _ministral3,
    "glm4": _glm4,
    "lfm2": _lfm2,
    "gemma4_text": _gemma4,
    "qwen3_5_text": _qwen35,
    "qwen3_5_moe_text": _qwen35moe,
}
