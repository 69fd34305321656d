"""What one family's GGUF file says beside the numbers that all have.

What llama.cpp computes with a constant of its own is compared with the config, and a difference is
an error: it would silently answer differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from convert.base import Base
from convert.gguf import rope as gguf_rope
from convert.gguf.file import Value
from convert.gguf.windows import layer_types, layer_windows
from livery.errors import UserError
from livery.gguf_base.architectures import NO_CAP, query_scale, rope_layers
from livery.gguf_base.rope import longrope_attention


def head_size(base: Base) -> int:
    return int(base.config.get("head_dim") or base.config["hidden_size"] // base.heads)


def _moe(base: Base, values: dict[str, Value]) -> None:
    config = base.config
    values["expert_count"] = int(config.get("num_local_experts") or config["num_experts"])
    values["expert_used_count"] = int(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        values["expert_feed_forward_length"] = int(config["moe_intermediate_size"])


def _gemma2(base: Base, values: dict[str, Value]) -> None:
    _check_query_scale(base)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        values[name] = float(base.config.get(name) or NO_CAP)


def _gemma3(base: Base, values: dict[str, Value]) -> None:
    _check_query_scale(base)
    local = gguf_rope.read(base, "sliding_attention")
    if local.kind != "default":
        raise UserError(
            f"{base.folder / 'config.json'}: rope scaling {local.kind!r} in sliding layers; "
            "llama.cpp scales the others alone."
        )
    values["rope.freq_base_swa"] = local.theta
    if not any(layer_windows(base)):  # what llama.cpp takes for sliding layers turns as the others
        whole = gguf_rope.read(base)
        if whole.kind != "default":
            raise UserError(
                f"{base.folder / 'config.json'}: rope scaling {whole.kind!r} without sliding "
                "layers, which llama.cpp has no form of for gemma3."
            )
        values["rope.freq_base_swa"] = whole.theta
    if base.config.get("final_logit_softcapping"):
        values["final_logit_softcapping"] = float(base.config["final_logit_softcapping"])


def _check_query_scale(base: Base) -> None:
    expected = query_scale(base.config)
    given = base.config.get("query_pre_attn_scalar", expected)
    if float(given) != expected:
        raise UserError(
            f"{base.folder / 'config.json'}: query_pre_attn_scalar is {given}; llama.cpp computes "
            f"with {expected} for this architecture and depth."
        )


def _phi3(base: Base, values: dict[str, Value]) -> None:
    config, rope = base.config, gguf_rope.read(base)
    scaling = rope.scaling
    if rope.kind not in ("default", *gguf_rope.LONG):
        raise UserError(
            f"{base.folder / 'config.json'}: rope scaling {rope.kind!r}; phi3 supports only "
            "longrope."
        )
    longest = int(config["max_position_embeddings"])
    original = int(
        scaling.get("original_max_position_embeddings")
        or config.get("original_max_position_embeddings")
        or longest
    )
    values["rope.scaling.original_context_length"] = original
    if rope.kind in gguf_rope.LONG:
        factor = float(scaling.get("factor") or longest / original)
        attention = scaling.get("attention_factor")
        if attention is None:
            attention = longrope_attention(factor, original)
        values["rope.scaling.attn_factor"] = float(attention)


def _smollm3(base: Base, _: dict[str, Value]) -> None:
    """llama.cpp leaves rope out of every fourth layer, whatever a file says."""
    given: Any = base.config.get("no_rope_layers")
    if given is not None and list(map(int, given)) != rope_layers(base.layers):
        raise UserError(
            f"{base.folder / 'config.json'}: no_rope_layers is {given}; llama.cpp leaves rope out "
            "of every fourth layer."
        )


def _granite(base: Base, values: dict[str, Value]) -> None:
    values["attention.scale"] = float(base.config["attention_multiplier"])
    values["embedding_scale"] = float(base.config["embedding_multiplier"])
    values["residual_scale"] = float(base.config["residual_multiplier"])
    values["logit_scale"] = float(base.config["logits_scaling"])
    for name in ("attention.scale", "embedding_scale", "residual_scale", "logit_scale"):
        if not values[name]:
            raise UserError(f"{base.folder / 'config.json'}: a multiplier is 0 ({name}).")


def _olmo3(base: Base, _: dict[str, Value]) -> None:
    local, whole = gguf_rope.read(base, "sliding_attention"), gguf_rope.read(base)
    if local.kind != "default" or local.theta != whole.theta:
        raise UserError(
            f"{base.folder / 'config.json'}: sliding layers with a rope of their own; llama.cpp "
            "gives them that of the others without its scaling."
        )


def _ministral3(base: Base, values: dict[str, Value]) -> None:
    scaling = gguf_rope.read(base).scaling
    if scaling.get("llama_4_scaling_beta"):
        values["attention.temperature_scale"] = float(scaling["llama_4_scaling_beta"])
        values["attention.temperature_length"] = int(scaling["original_max_position_embeddings"])


def _lfm2(base: Base, values: dict[str, Value]) -> None:
    config = base.config
    indices: Any = config.get("full_attn_idxs")
    types: Any = config.get("layer_types") or [
        "full_attention" if indices is None or n in indices else "conv" for n in range(base.layers)
    ]
    if len(types) != base.layers or set(types) - {"full_attention", "conv"}:
        raise UserError(f"{base.folder / 'config.json'}: layer_types has unknown values: {types}.")
    heads = [base.kv_heads if kind == "full_attention" else 0 for kind in types]
    values["attention.head_count_kv"] = np.array(heads, np.int32)
    values["attention.layer_norm_rms_epsilon"] = float(config["norm_eps"])
    values["shortconv.l_cache"] = int(config["conv_L_cache"])
    shape = base.shapes.get("model.layers.0.feed_forward.w1")
    if shape is None:
        raise UserError(f"{base.folder}: the first layer has no feed_forward.w1.")
    values["feed_forward_length"] = shape[0]


def _qwen35(base: Base, values: dict[str, Value]) -> None:
    config = base.config
    keys, heads = int(config["linear_num_key_heads"]), int(config["linear_num_value_heads"])
    size = int(config["linear_value_head_dim"])
    if size != int(config["linear_key_head_dim"]) or heads % keys:
        raise UserError(
            f"{base.folder / 'config.json'}: linear attention with keys of "
            f"{config['linear_key_head_dim']} and values of {size}, {keys} and {heads} heads; "
            "llama.cpp wants one size, and value heads that divide among the key heads."
        )
    types: Any = config.get("layer_types")
    period = int(config.get("full_attention_interval") or 4)
    if types is not None:
        period = types.index("full_attention") + 1 if "full_attention" in types else base.layers + 1
        regular = [
            "full_attention" if (n + 1) % period == 0 else "linear_attention"
            for n in range(base.layers)
        ]
        if list(types) != regular or len(set(types)) != 2:
            raise UserError(
                f"{base.folder / 'config.json'}: layer_types do not repeat in a fixed pattern of "
                "both kinds; llama.cpp needs one."
            )
    # A picture's positions interleave, text has the same one in all: each third must be covered, as
    # llama.cpp does not turn what is beyond. Published models have (11, 11, 10) of 32.
    half = int(str(values["rope.dimension_count"])) // 2
    sections = [(half + 2) // 3, (half + 1) // 3, half // 3]
    values["rope.dimension_sections"] = np.array([*sections, 0], np.int32)
    values["full_attention_interval"] = period
    values["ssm.conv_kernel"] = int(config["linear_conv_kernel_dim"])
    values["ssm.state_size"] = size
    values["ssm.group_count"] = keys
    values["ssm.time_step_rank"] = heads
    values["ssm.inner_size"] = size * heads


def _gemma4(base: Base, values: dict[str, Value]) -> None:
    """Layers that do not slide have heads of another size, and may have fewer for the keys."""
    config, file = base.config, base.folder / "config.json"
    given: Any = config.get("layer_types") or layer_types(base.layers, lambda n: (n + 1) % 6 != 0)
    types = [*given[:-1], "full_attention"]
    if len(types) != base.layers or set(types) - {"sliding_attention", "full_attention"}:
        raise UserError(f"{file}: layer_types has unknown values: {given}.")
    sizes, heads = gemma4_layers(base, types)
    sliding, whole = (
        {size for size, kind in zip(sizes, types, strict=True) if kind == wanted}
        for wanted in ("sliding_attention", "full_attention")
    )
    if len(whole) != 1 or sliding - {head_size(base)}:
        raise UserError(
            f"{file}: per_layer_config has numbers of heads that llama.cpp does not support: "
            f"{sizes}."
        )
    local, rope = gguf_rope.read(base, "sliding_attention"), gguf_rope.read(base)
    if local.kind != "default" or local.partial != 1.0:
        raise UserError(f"{file}: a scaled rope in sliding layers, which llama.cpp does not have.")
    if rope.kind not in ("default", "proportional") or (rope.kind == "default") != (
        rope.partial == 1.0
    ):
        raise UserError(f"{file}: rope {rope.kind!r} turning {rope.partial} of the head.")
    if float(rope.scaling.get("factor") or 1.0) != 1.0:
        raise UserError(f"{file}: rope with a factor, which llama.cpp does not have for gemma4.")
    per_layer = int(config["hidden_size_per_layer_input"] or 0)
    if per_layer and config["vocab_size_per_layer_input"] != config["vocab_size"]:
        raise UserError(f"{file}: vocab_size_per_layer_input is not vocab_size, as in llama.cpp.")
    shared = int(config.get("num_kv_shared_layers") or 0)
    if config.get("use_double_wide_mlp"):
        width, first = int(config["intermediate_size"]), base.layers - shared
        wide = [width * (1 + (n >= first)) for n in range(base.layers)]
        values["feed_forward_length"] = np.array(wide, np.int32)
    (size,) = whole
    values["attention.head_count_kv"] = np.array(heads, np.int32)
    values["attention.key_length"] = values["attention.value_length"] = size
    values["attention.key_length_swa"] = values["attention.value_length_swa"] = head_size(base)
    values["attention.sliding_window"] = int(config["sliding_window"])
    values["attention.sliding_window_pattern"] = np.array([t != "full_attention" for t in types])
    values["attention.shared_kv_layers"] = shared
    values["rope.dimension_count"], values["rope.dimension_count_swa"] = size, head_size(base)
    values["rope.freq_base"], values["rope.freq_base_swa"] = rope.theta, local.theta
    values["embedding_length_per_layer_input"] = per_layer
    if config.get("enable_moe_block"):
        values["expert_count"] = int(config.get("num_local_experts") or config["num_experts"])
        values["expert_used_count"] = int(config["top_k_experts"])
        values["expert_feed_forward_length"] = int(config["moe_intermediate_size"])
    if config.get("final_logit_softcapping"):
        values["final_logit_softcapping"] = float(config["final_logit_softcapping"])


def _qwen35moe(base: Base, values: dict[str, Value]) -> None:
    _qwen35(base, values)
    _moe(base, values)
    shared = int(base.config["shared_expert_intermediate_size"])
    values["expert_shared_feed_forward_length"] = shared


def gemma4_layers(base: Base, types: Sequence[str]) -> tuple[list[int], list[int]]:
    """Each layer's head size and number of key-value heads: layer by layer since transformers 5,
    before that for all that do not slide."""
    config = base.config
    by_layer: Any = config.get("per_layer_config")
    if by_layer is None:
        other: dict[str, Any] = {"head_dim": config.get("global_head_dim") or 512}
        if config.get("attention_k_eq_v") and config.get("num_global_key_value_heads"):
            other["num_key_value_heads"] = config["num_global_key_value_heads"]
        by_layer = {n: other for n, kind in enumerate(types) if kind == "full_attention"}
    layers: list[Any] = [{} for _ in types]
    for key, value in dict(by_layer).items():
        layers[int(key)] = value
    return (
        [int(layer.get("head_dim", head_size(base))) for layer in layers],
        [int(layer.get("num_key_value_heads", base.kv_heads)) for layer in layers],
    )


NUMBERS: dict[str, Callable[[Base, dict[str, Value]], None]] = {
    "mixtral": _moe,
    "qwen3_moe": _moe,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi3": _phi3,
    "smollm3": _smollm3,
    "granite": _granite,
    "olmo3": _olmo3,
    "ministral3": _ministral3,
    "lfm2": _lfm2,
    "qwen3_5_text": _qwen35,
    "qwen3_5_moe_text": _qwen35moe,
    "gemma4_text": _gemma4,
}
