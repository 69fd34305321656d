"""The numbers of a model that llama.cpp wants in a GGUF file: sizes, rope, windows, experts.

What llama.cpp computes with a constant of its own is compared with the config, and a difference is
an error: it would answer differently without a word. Which fields there are: `convert.gguf.fields`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from convert.base import Base
from convert.gguf import rope as gguf_rope
from convert.gguf.file import Value
from convert.gguf.names import Architecture
from livery.errors import UserError

# A softcapping that changes no float32: x / cap is so small that tanh leaves it as it is.
_NO_CAP = 1e6
_SWITCHED = ("qwen2", "qwen3", "qwen3_moe", "smollm3")  # whose windows use_sliding_window turns on
_WHOLE = (
    "qwen2",
    "phi",
    "phi3",
    "olmo2",
    "olmo3",
    "lfm2",
)  # whose heads llama.cpp takes to make up the hidden size
# Convolutions or linear attention between the layers; gemma4 says its windows layer by layer.
_UNLIKE = ("lfm2", "qwen3_5_text", "qwen3_5_moe_text", "gemma4_text")
_PERIODS = {
    "gemma2": 2,
    "gemma3_text": 6,
    "olmo3": 4,
}  # whose windows llama.cpp has; its own period


@contextmanager
def explained(base: Base) -> Generator[None]:
    """Turn what odd values of a config lead to into a UserError on it."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"{base.folder / 'config.json'}: lacks {error}.") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError, IndexError) as error:
        raise UserError(
            f"{base.folder / 'config.json'}: a field has an impossible value ({error})."
        ) from None


def hyperparameters(
    base: Base, architecture: Architecture, context: int | None = None
) -> dict[str, Value]:
    """The metadata fields under the architecture's own name.

    Args:
        base: as `gguf_fields.complete` made it.
        context: write the file for at most so many tokens; None for all that the model takes.

    Raises:
        UserError: llama.cpp cannot compute what the config asks for.
    """
    config, name = base.config, architecture.name
    rope = gguf_rope.read(base)
    head = head_size(base)
    longest = int(config["max_position_embeddings"])
    longest = min(longest, context or longest)
    values: dict[str, Value] = {
        "block_count": base.layers,
        "context_length": longest,
        "embedding_length": int(config["hidden_size"]),
        "feed_forward_length": _feed_forward(base),
        "attention.head_count": base.heads,
        "attention.head_count_kv": base.kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": int(head * rope.partial),
        "rope.freq_base": rope.theta,
        "vocab_size": int(config["vocab_size"]),
    }
    if "rms_norm_eps" in config:
        values["attention.layer_norm_rms_epsilon"] = float(config["rms_norm_eps"])
    if "layer_norm_eps" in config:
        values["attention.layer_norm_epsilon"] = float(config["layer_norm_eps"])
    if config["model_type"] in _WHOLE and head * base.heads != config["hidden_size"]:
        raise UserError(
            f"{base.folder / 'config.json'}: {base.heads} heads of {head} are not the hidden_size "
            f"of {config['hidden_size']}; llama.cpp takes {config['model_type']} so."
        )
    values.update(gguf_rope.numbers(base, rope))
    values.update(_window(base, longest))
    _EXTRAS.get(config["model_type"], lambda _b, _v: None)(base, values)
    return {f"{name}.{key}": value for key, value in values.items()}


def _feed_forward(base: Base) -> int:
    if base.config["model_type"] == "qwen3_5_moe_text":  # which has no dense layers
        return int(base.config["moe_intermediate_size"])
    return int(base.config["intermediate_size"])


def head_size(base: Base) -> int:
    return int(base.config.get("head_dim") or base.config["hidden_size"] // base.heads)


def layer_windows(base: Base) -> list[int]:
    """How far back each layer of transformers' model looks; 0 for all the way."""
    config, kind = base.config, str(base.config["model_type"])
    window = config.get("sliding_window")
    if kind in _SWITCHED and not config.get("use_sliding_window"):
        window = None
    if kind in _UNLIKE:  # layers of kinds that have no windows
        return [0] * base.layers
    layered = ("qwen2", "qwen3", "smollm3", *_PERIODS)
    types: Any = config.get("layer_types") if kind in layered else None
    if types is None and kind in ("qwen2", "qwen3"):
        first = int(config["max_window_layers"])
        types = _types(base.layers, lambda layer: layer >= first)
    elif types is None and kind in _PERIODS:
        period = int(config.get("sliding_window_pattern") or _PERIODS[kind])
        types = _types(base.layers, lambda layer: (layer + 1) % period != 0)
    elif types is None:
        types = _types(base.layers, lambda _: True)
    if len(types) != base.layers or set(types) - {"sliding_attention", "full_attention"}:
        raise UserError(
            f"{base.folder / 'config.json'}: layer_types names {len(types)} layers of kinds "
            f"{', '.join(sorted(set(map(str, types))))}; known are sliding_attention and "
            f"full_attention, for each of the {base.layers} layers."
        )
    if kind in _PERIODS and not window and "sliding_attention" in types:
        raise UserError(f"{base.folder / 'config.json'}: has sliding layers but no sliding_window.")
    return [int(window or 0) if kind == "sliding_attention" else 0 for kind in types]


def _types(layers: int, sliding: Callable[[int], bool]) -> list[str]:
    return ["sliding_attention" if sliding(n) else "full_attention" for n in range(layers)]


def _window(base: Base, longest: int) -> dict[str, Value]:
    """Metadata for llama.cpp's windows where it has them; elsewhere the window must not matter."""
    kind = str(base.config["model_type"])
    windows = layer_windows(base)
    size = max(windows)
    if kind not in _PERIODS:
        if 0 < size < longest:
            raise UserError(
                f"{base.folder / 'config.json'}: sliding_window is {size} of a context of "
                f"{longest}; llama.cpp has no window for {kind}, and would answer differently "
                f"beyond it. Write the file for what fits into the window: --context {size}."
            )
        return {}
    if not size:  # llama.cpp cannot be told so; a window as long as the context is none
        return {"attention.sliding_window": longest}
    # The first that fits; one more than there are layers: all of them slide.
    for period in (_PERIODS[kind], *range(2, base.layers + 2)):
        if windows == [size if (n + 1) % period else 0 for n in range(base.layers)]:
            return {
                "attention.sliding_window": size,
                "attention.sliding_window_pattern": period,
            }
    raise UserError(
        f"{base.folder / 'config.json'}: layer_types follow no period; llama.cpp needs one."
    )


def _moe(base: Base, values: dict[str, Value]) -> None:
    config = base.config
    values["expert_count"] = int(config.get("num_local_experts") or config["num_experts"])
    values["expert_used_count"] = int(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        values["expert_feed_forward_length"] = int(config["moe_intermediate_size"])


def _gemma2(base: Base, values: dict[str, Value]) -> None:
    _check_query_scale(base, whole=46)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        values[name] = float(base.config.get(name) or _NO_CAP)


def _gemma3(base: Base, values: dict[str, Value]) -> None:
    _check_query_scale(base, whole=62)
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


def _check_query_scale(base: Base, *, whole: int) -> None:
    """llama.cpp scales queries by the head's size, but for the 27B models, known by their depth."""
    config = base.config
    head = int(config["head_dim"])
    expected = int(config["hidden_size"]) // base.heads if base.layers == whole else head
    given = config.get("query_pre_attn_scalar", expected)
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
            attention = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        values["rope.scaling.attn_factor"] = float(attention)


def _smollm3(base: Base, _: dict[str, Value]) -> None:
    """llama.cpp leaves rope out of every fourth layer, whatever a file says."""
    expected = [int((layer + 1) % 4 != 0) for layer in range(base.layers)]
    given: Any = base.config.get("no_rope_layers")
    if given is not None and list(map(int, given)) != expected:
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
                f"{base.folder / 'config.json'}: layer_types follow no period of both kinds; "
                "llama.cpp needs one."
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
    given: Any = config.get("layer_types") or _types(base.layers, lambda n: (n + 1) % 6 != 0)
    types = [*given[:-1], "full_attention"]
    if len(types) != base.layers or set(types) - {"sliding_attention", "full_attention"}:
        raise UserError(f"{file}: layer_types has unknown values: {given}.")
    sizes, heads = gemma4_layers(base, types)
    sliding, whole = (
        {size for size, kind in zip(sizes, types, strict=True) if kind == wanted}
        for wanted in ("sliding_attention", "full_attention")
    )
    if len(whole) != 1 or sliding - {head_size(base)}:
        raise UserError(f"{file}: per_layer_config has other heads than llama.cpp takes: {sizes}.")
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


_EXTRAS: dict[str, Callable[[Base, dict[str, Value]], None]] = {
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
