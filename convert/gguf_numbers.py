"""The numbers of a model that llama.cpp wants in a GGUF file: sizes, rope, windows, experts.

What llama.cpp computes with a constant of its own is compared with the config, and a difference is
an error: it would answer differently without a word.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convert.base import Base
from convert.gguf_file import Value
from convert.gguf_names import Architecture
from livery.errors import UserError


def _rope(base: Base) -> dict[str, Any]:
    """rope_theta, rope_scaling …: flat in published configs, nested since transformers 5."""
    nested = base.config.get("rope_parameters")
    nested = dict(nested) if isinstance(nested, Mapping) else {}
    full = nested.get("full_attention", nested)
    sliding = nested.get("sliding_attention", {})
    scaling = base.config.get("rope_scaling") or full
    theta = base.config.get("rope_theta", full.get("rope_theta", 10000.0))
    local = base.config.get("rope_local_base_freq", sliding.get("rope_theta", 10000.0))
    partial = base.config.get("partial_rotary_factor", full.get("partial_rotary_factor"))
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    return {
        "theta": float(theta),
        "local": float(local),
        "partial": None if partial is None else float(partial),
        "type": str(kind),
        "scaling": dict(scaling),
    }


def hyperparameters(base: Base, architecture: Architecture) -> dict[str, Value]:
    """The metadata fields under the architecture's own name."""
    config, name = base.config, architecture.name
    rope = _rope(base)
    head = int(config.get("head_dim") or config["hidden_size"] // base.heads)
    rotary = int(head * rope["partial"]) if rope["partial"] else head
    values: dict[str, Value] = {
        "block_count": base.layers,
        "context_length": int(config["max_position_embeddings"]),
        "embedding_length": int(config["hidden_size"]),
        "feed_forward_length": int(config["intermediate_size"]),
        "attention.head_count": base.heads,
        "attention.head_count_kv": base.kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": rotary,
        "rope.freq_base": rope["theta"],
        "vocab_size": int(config["vocab_size"]),
    }
    if "rms_norm_eps" in config:
        values["attention.layer_norm_rms_epsilon"] = float(config["rms_norm_eps"])
    if "layer_norm_eps" in config:
        values["attention.layer_norm_epsilon"] = float(config["layer_norm_eps"])
    values.update(_rope_scaling(base, rope))
    _EXTRAS.get(config["model_type"], lambda _b, _r, _v: None)(base, rope, values)
    return {f"{name}.{key}": value for key, value in values.items()}


def _rope_scaling(base: Base, rope: dict[str, Any]) -> dict[str, Value]:
    kind, scaling = rope["type"], rope["scaling"]
    if kind in ("longrope", "su") and base.config["model_type"] != "phi3":
        raise UserError(
            f"{base.folder / 'config.json'}: rope scaling {kind!r} is known for phi3 alone. "
            "Convert this model with llama.cpp's own script."
        )
    if kind in ("default", "llama3", "longrope", "su"):
        return {}  # the last three are tensors of frequencies
    if kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling["factor"])}
    if kind == "yarn":
        return _yarn(base, scaling)
    raise UserError(
        f"{base.folder / 'config.json'}: rope scaling {kind!r} is not known here. Convert this "
        "model with llama.cpp's own script."
    )


def _yarn(base: Base, scaling: Mapping[str, Any]) -> dict[str, Value]:
    """https://arxiv.org/abs/2309.00071. llama.cpp multiplies what it gets as attn_factor by the
    paper's own factor, so one that a model sets itself is divided by that."""
    file = base.folder / "config.json"
    if base.config["model_type"] not in _YARN:
        raise UserError(
            f"{file}: rope scaling 'yarn' is not known here for {base.config['model_type']}. "
            "Convert this model with llama.cpp's own script."
        )
    if scaling.get("truncate") is False:
        raise UserError(f"{file}: yarn without truncation; llama.cpp always truncates its range.")
    for name, fixed in (("beta_fast", 32.0), ("beta_slow", 1.0)):
        if float(scaling.get(name) or fixed) != fixed:
            raise UserError(
                f"{file}: yarn with {name} {scaling[name]}; llama.cpp computes with {fixed:.0f} "
                "for this architecture."
            )
    longest = int(base.config["max_position_embeddings"])
    original = int(scaling.get("original_max_position_embeddings") or longest)
    factor = float(scaling.get("factor") or longest / original)

    def paper(weight: float = 1.0) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    attention = scaling.get("attention_factor")
    over, under = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if attention is None and over and under:
        attention = paper(float(over)) / paper(float(under))
    values: dict[str, Value] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original,
    }
    if attention is not None:
        values["rope.scaling.attn_factor"] = float(attention) / paper()
    return values


# Where llama.cpp's yarn was found to be that of transformers (tests/test_gguf_rope.py).
_YARN = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "phi",
)  # fmt: skip


def _moe(base: Base, _rope: dict[str, Any], values: dict[str, Value]) -> None:
    config = base.config
    values["expert_count"] = int(config.get("num_local_experts") or config["num_experts"])
    values["expert_used_count"] = int(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        values["expert_feed_forward_length"] = int(config["moe_intermediate_size"])
    sparse_step = config.get("decoder_sparse_step", 1)
    if sparse_step != 1 or config.get("mlp_only_layers"):
        raise UserError(f"{base.folder}: dense layers among expert layers are not known here.")
    if config["model_type"] == "qwen3_moe" and not config.get("norm_topk_prob"):
        raise UserError(
            f"{base.folder}: norm_topk_prob is false; llama.cpp always normalises the routing "
            "weights of this architecture."
        )


def _gemma2(base: Base, _rope: dict[str, Any], values: dict[str, Value]) -> None:
    config = base.config
    _check_query_scale(base, whole=46)
    values["attention.sliding_window"] = int(config.get("sliding_window") or 4096)
    values["attn_logit_softcapping"] = float(config.get("attn_logit_softcapping") or 50.0)
    values["final_logit_softcapping"] = float(config.get("final_logit_softcapping") or 30.0)


def _gemma3(base: Base, rope: dict[str, Any], values: dict[str, Value]) -> None:
    _check_query_scale(base, whole=62)
    types: list[str] = list(base.config.get("layer_types") or [])
    period = int(
        base.config.get("sliding_window_pattern")
        or base.config.get("_sliding_window_pattern")
        or (types.index("full_attention") + 1 if "full_attention" in types else 6)
    )
    regular = [
        "full_attention" if (layer + 1) % period == 0 else "sliding_attention"
        for layer in range(base.layers)
    ]
    if types and types != regular:
        raise UserError(f"{base.folder}: layer_types follow no period; llama.cpp needs one.")
    values["attention.sliding_window"] = int(base.config["sliding_window"])
    values["attention.sliding_window_pattern"] = period
    values["rope.freq_base_swa"] = rope["local"]


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


def _phi3(base: Base, rope: dict[str, Any], values: dict[str, Value]) -> None:
    config, scaling = base.config, rope["scaling"]
    if rope["type"] not in ("default", "longrope", "su"):
        raise UserError(
            f"{base.folder / 'config.json'}: rope scaling {rope['type']!r}; "
            "phi3 has longrope alone."
        )
    longest = int(config["max_position_embeddings"])
    original = int(
        scaling.get("original_max_position_embeddings")
        or config.get("original_max_position_embeddings")
        or longest
    )
    values["rope.scaling.original_context_length"] = original
    if config.get("sliding_window"):
        values["attention.sliding_window"] = int(config["sliding_window"])
    if rope["type"] in ("longrope", "su"):
        factor = float(scaling.get("factor") or longest / original)
        attention = scaling.get("attention_factor")
        if attention is None:
            attention = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
        values["rope.scaling.attn_factor"] = float(attention)


_EXTRAS: dict[str, Callable[[Base, dict[str, Any], dict[str, Value]], None]] = {
    "mixtral": _moe,
    "qwen3_moe": _moe,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi3": _phi3,
}


def notes(base: Base) -> list[str]:
    """What a user should know of how llama.cpp will compute."""
    rope = _rope(base)
    if rope["type"] not in ("longrope", "su"):
        return []
    scaling = rope["scaling"]
    original = scaling.get("original_max_position_embeddings") or base.config.get(
        "original_max_position_embeddings"
    )
    return [
        f"longrope: started with a context of more than {original} tokens, llama.cpp takes the "
        "long factors for short prompts too; transformers goes by the prompt's length."
    ]


def rope_tensors(base: Base) -> dict[str, np.ndarray]:
    """Factors that divide rope's frequencies, for the scalings that llama.cpp takes as tensors."""
    rope = _rope(base)
    scaling = rope["scaling"]
    head = int(base.config.get("head_dim") or base.config["hidden_size"] // base.heads)
    if rope["type"] in ("longrope", "su"):
        wanted = int(head * (rope["partial"] or 1.0)) // 2
        made: dict[str, np.ndarray] = {}
        for length in ("long", "short"):
            factors = np.array(scaling.get(f"{length}_factor") or [], np.float32)
            if factors.shape != (wanted,):
                raise UserError(
                    f"{base.folder / 'config.json'}: rope scaling has {factors.size} numbers in "
                    f"{length}_factor; half of the head's rotated part is {wanted}."
                )
            made[f"rope_factors_{length}.weight"] = factors
        return made
    if rope["type"] != "llama3":
        return {}
    frequencies = 1.0 / rope["theta"] ** (np.arange(0, head, 2, dtype=np.float64) / head)
    waves = 2 * math.pi / frequencies
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    context = float(scaling["original_max_position_embeddings"])
    factor = float(scaling["factor"])
    smooth = np.clip((context / waves - low) / (high - low), 0.0, 1.0)
    return {"rope_freqs.weight": (1.0 / ((1 - smooth) / factor + smooth)).astype(np.float32)}
