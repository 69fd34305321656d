"""A base's config.json in the dialect that mlx-lm's models read.

mlx-lm builds a model from a dataclass and takes its default, without a word, for every key that
config.json does not have under that dataclass's name. transformers 5 writes many keys under other
names: rope's numbers nest in `rope_parameters` (once for the model, or once for each type of
layer), a pattern of layers is a list of `layer_types`, and some families' keys were renamed. A
model built with the defaults computes something else than the one that was saved.

`translate` translates what a dictionary alone can tell; `complete` adds the values that the folder
leaves to transformers' own defaults, which differ from mlx-lm's here and there.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from livery.models import NESTED, nested_parts

Config = dict[str, Any]

_FULL, _SLIDING = "full_attention", "sliding_attention"
# One value under several names: mlx-lm's models take one of them, transformers writes another.
_ALIASES = (
    ("num_experts", "num_local_experts"),
    ("rotary_emb_base", "rope_theta"),
    ("rotary_pct", "partial_rotary_factor"),
    ("n_ctx", "n_positions"),
)
# What `translate` adds for some models and others have no use for.
_OTHER_NAMES = frozenset(
    {name for names in _ALIASES for name in names}
    | {"sliding_window_pattern", "full_attention_interval", "rope_local_base_freq"}
)
# granitemoehybrid's layers by their newer names.
_GRANITE_LAYERS = {"linear_attention": "mamba", "full_attention": "attention"}


def translate(config: Mapping[str, Any]) -> Config:
    """`config` with the keys that mlx-lm's models look for beside the ones that it has.

    A key that is there keeps its value, but for layers' patterns, which `layer_types` decides in
    transformers and so here.
    """
    whole = _mend_part(config)
    for name in NESTED:
        part = whole.get(name)
        if not isinstance(part, Mapping):
            continue
        inner = _mend_part(part)
        # Who leaves it out of the language model's part says it for the whole.
        if inner.get("tie_word_embeddings") is None and "tie_word_embeddings" in whole:
            inner["tie_word_embeddings"] = whole["tie_word_embeddings"]
        whole[name] = inner
        # mlx-lm's gemma3 writes the outer one over the inner.
        if whole.get("vocab_size") is None and "vocab_size" in inner:
            whole["vocab_size"] = inner["vocab_size"]
    return whole


def _whole_attention(part: Mapping[str, Any]) -> Config:
    """What transformers 5 writes per layer of gemma4's layers with full attention, by the names
    that these numbers are published under."""
    layers: Any = part.get("per_layer_config")
    if not str(part.get("model_type", "")).startswith("gemma4") or not isinstance(layers, Mapping):
        return {}
    kinds: Any = part.get("layer_types") or []
    found: Config = {}
    for number, values in cast("Mapping[str, Any]", layers).items():
        full = number.isdigit() and kinds[int(number) : int(number) + 1] == ["full_attention"]
        if full and isinstance(values, Mapping):
            found["global_head_dim"] = values.get("head_dim")
            found["num_global_key_value_heads"] = values.get("num_key_value_heads")
    return found


def _mend_part(config: Mapping[str, Any]) -> Config:
    part = dict(config)
    for key, value in _flat_rope(part).items():
        if part.get(key) is None:
            part[key] = value
    for key, value in _whole_attention(part).items():
        if part.get(key) is None:
            part[key] = value
    for one, other in _ALIASES:
        for here, there in ((one, other), (other, one)):
            if part.get(here) is None and part.get(there) is not None:
                part[here] = part[there]
    if isinstance(part.get("layer_types"), list):
        _mend_layers(part)
    family = _FAMILIES.get(str(part.get("model_type")))
    if family is not None:
        for key, value in family(part).items():
            if part.get(key) is None:
                part[key] = value
    return part


def _flat_rope(part: Config) -> Config:
    """Rope's numbers by their older names, from the nested ones."""
    nested = part.get("rope_parameters")
    if not isinstance(nested, Mapping):
        return {}
    kinds = {kind: rope for kind, rope in nested.items() if isinstance(rope, Mapping)}
    flat: Config = {}
    if kinds and _FULL not in kinds and _SLIDING not in kinds:
        return {}  # layers of other kinds, which no model of mlx-lm takes from flat keys
    full: Any = kinds.get(_FULL) or kinds.get(_SLIDING) or nested
    for key in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings"):
        if full.get(key) is not None:
            flat[key] = full[key]
    kind = full.get("rope_type", full.get("type", "default"))
    if kind != "default":
        scaling = {k: v for k, v in full.items() if k not in ("rope_theta", "rope_type", "type")}
        flat["rope_scaling"] = {"type": kind, "rope_type": kind, **scaling}
    elif "rope_scaling" not in part:
        flat["rope_scaling"] = None  # some models want the key
    sliding: Any = kinds.get(_SLIDING, {})
    if sliding.get("rope_theta") is not None:
        flat["rope_local_base_freq"] = sliding["rope_theta"]
    return flat


def _mend_layers(part: Config) -> None:
    """What mlx-lm's models call `layer_types`, or read instead of them."""
    kinds: list[Any] = part["layer_types"]
    if part.get("model_type") == "granitemoehybrid":
        # Without a kind of positions transformers gives none, mlx-lm rotates.
        part["position_embedding_type"] = part.get("position_embedding_type") or "nope"
        part["layer_types"] = [_GRANITE_LAYERS.get(kind, kind) for kind in kinds]
        return
    if not set(kinds) <= {_FULL, _SLIDING, "linear_attention"}:
        return
    every = next((n for n in range(1, len(kinds) + 2) if _full_every(kinds, n)), None)
    if every is not None and "linear_attention" in kinds:
        part["full_attention_interval"] = every
    elif every is not None:
        part["sliding_window_pattern"] = every
    else:
        part.pop("full_attention_interval" if "linear_attention" in kinds else
                 "sliding_window_pattern", None)  # fmt: skip


def _full_every(kinds: list[Any], count: int) -> bool:
    """Whether each `count`th layer, and no other, attends to everything."""
    return all((kind == _FULL) == ((i + 1) % count == 0) for i, kind in enumerate(kinds))


# -- families -------------------------------------------------------------------------------------


def _exaone4(part: Config) -> Config:
    # One letter a layer here; a number of layers in transformers, and nothing where all are full.
    kinds = part.get("layer_types")
    if isinstance(kinds, list):
        letters = "".join({_FULL: "G", _SLIDING: "L"}.get(kind, "?") for kind in kinds)
        slides = part.get("sliding_window") is not None and "L" in letters
        part["sliding_window_pattern"] = letters if slides else None
    return {"rope_scaling": None}


def _exaone_moe(part: Config) -> Config:
    kinds = part.get("mlp_layer_types")
    return {"is_moe_layer": [k == "sparse" for k in kinds]} if isinstance(kinds, list) else {}


def _lfm2(part: Config) -> Config:
    return {"block_dim": part.get("hidden_size")}


def _apertus(part: Config) -> Config:
    # The published models have these; transformers' class knows no others.
    return {"mlp_bias": False, "qk_norm": True, "post_norm": False}


def _mamba2(part: Config) -> Config:
    heads, width = part.get("num_heads"), part.get("head_dim")
    if not (isinstance(heads, int) and isinstance(width, int)):
        return {}
    return {"intermediate_size": heads * width, "ssm_state_size": part.get("state_size")}


def _deepseek_v2(part: Config) -> Config:
    # mlx-lm always computes YaRN, which a factor of 1 makes plain rope.
    return {"rope_scaling": {"type": "yarn", "factor": 1.0, "mscale_all_dim": 0}}


def _minicpm3(part: Config) -> Config:
    # mlx-lm always computes longrope: factors of 1, and no text longer than the original's.
    whole = part.get("max_position_embeddings")
    plain = {"short_factor": 1.0, "long_factor": 1.0, "original_max_position_embeddings": whole}
    return {"rope_scaling": plain}


def _sigmoid_router(part: Config) -> Config:
    """Routers of one kind alone in transformers, which mlx-lm asks for."""
    return {
        "scoring_func": "sigmoid", "topk_method": "noaux_tc", "moe_layer_freq": 1,
        "first_k_dense_replace": _dense_first(part),
    }  # fmt: skip


def _dense_first(part: Config) -> int | None:
    kinds = part.get("mlp_layer_types")
    if not isinstance(kinds, list):
        return None
    dense = kinds.count("dense")
    return dense if all(kind == "dense" for kind in kinds[:dense]) else None


_FAMILIES: dict[str, Callable[[Config], Config]] = {
    "apertus": _apertus,
    "deepseek_v2": _deepseek_v2,
    "exaone4": _exaone4,
    "exaone_moe": _exaone_moe,
    "glm4_moe": lambda part: {"rope_scaling": None},
    "glm4_moe_lite": _sigmoid_router,
    "glm_moe_dsa": _sigmoid_router,
    "lfm2": _lfm2,
    "mamba2": _mamba2,
    "minicpm3": _minicpm3,
}


# -- what a folder leaves to transformers' defaults ------------------------------------------------


def complete(config: Mapping[str, Any]) -> Config:
    """`translate(config)`, with what the folder leaves to transformers' classes.

    A key that config.json lacks has a default in transformers and often another one in mlx-lm
    (qwen2's rope_theta: 10,000 and 1,000,000; llama's tie_word_embeddings: false and true).
    transformers' counts: it is what the model was saved with.
    """
    translated = translate(config)
    fields = model_fields(translated)
    known = _transformers_values(config)
    if known:
        _fill(translated, translate(known), fields)
    for part in (translated, *nested_parts(translated)):
        heads, hidden = part.get("num_attention_heads"), part.get("hidden_size")
        lacks = "head_dim" in fields and part.get("head_dim") is None
        if lacks and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
            part["head_dim"] = hidden // heads
    _drop_unread(translated, config)
    return translated


def tie_as_the_whole(config: Config, tensors: Iterable[str]) -> None:
    """Tie the head of a multimodal model's language part, in place, where the whole's configuration
    ties it and no head is stored: transformers asks the whole's, mlx-lm the part's."""
    if config.get("tie_word_embeddings") and not any("lm_head" in name for name in tensors):
        for part in nested_parts(config):
            part["tie_word_embeddings"] = True


def _drop_unread(translated: Config, config: Mapping[str, Any]) -> None:
    """Take out the other names that `translate` gave and that this family's model does not read.

    The configuration is also written (`livery mlx`), and whoever reads it there would have to know
    what they are for.
    """
    for name in ("", *NESTED):
        part: Any = translated if not name else translated.get(name)
        given: Any = config if not name else config.get(name)
        if not isinstance(part, dict) or not isinstance(given, Mapping):
            continue
        fields = model_fields({"model_type": part.get("model_type")})
        if fields:
            for key in _OTHER_NAMES - fields - given.keys():
                part.pop(key, None)


def with_short_factors(config: Config) -> Config:
    """`config` with longrope's factors for short texts standing for both.

    transformers takes the short ones up to original_max_position_embeddings tokens and the long
    ones beyond; mlx-lm always takes the long ones, and is another model on the usual lengths.
    """
    changed = dict(config)
    for name in ("", *NESTED):
        part: Any = changed if not name else changed.get(name)
        scaling: Any = part.get("rope_scaling") if isinstance(part, dict) else None
        if isinstance(scaling, dict) and _is_longrope(scaling):
            part = {**part, "rope_scaling": {**scaling, "long_factor": scaling["short_factor"]}}
            changed = {**changed, name: part} if name else part
    return changed


def _is_longrope(scaling: Mapping[str, Any]) -> bool:
    kind = scaling.get("type") or scaling.get("rope_type")
    return kind in ("longrope", "su") and scaling.get("short_factor") is not None


def longest_exact(config: Mapping[str, Any]) -> tuple[int, str] | None:
    """Up to how many tokens mlx-lm's model computes what torch computes, and what differs beyond;
    None where nothing is known to differ.

    Args:
        config: of config.json, as it is.
    """
    whole = complete(config)
    for part in (whole, *nested_parts(whole)):
        scaling: Any = part.get("rope_scaling")
        if isinstance(scaling, dict) and _is_longrope(scaling):
            limit = scaling.get("original_max_position_embeddings",
                                part.get("original_max_position_embeddings"))  # fmt: skip
            if isinstance(limit, int):
                return limit, "it has one set of longrope's factors for all lengths"
        window = part.get("sliding_window")
        slides = part.get("use_sliding_window", "qwen" not in str(part.get("model_type")))
        if not slides or not isinstance(window, int):
            continue
        takes = "sliding_window" in model_fields(part)
        if not takes or (module_name(part) == "llama" and not part.get("layer_types")):
            return window, f"its attention has no sliding window, and the base has one of {window}"
    return None


def _fill(translated: Config, known: Config, fields: set[str]) -> None:
    for key, value in known.items():
        if key in NESTED and isinstance(value, dict) and isinstance(translated.get(key), dict):
            _fill(translated[key], value, fields)
        elif key in fields and key not in translated and value is not None:
            translated[key] = value


def _transformers_values(config: Mapping[str, Any]) -> Config:
    """The configuration as transformers' own class of this family has it; {} where there is none,
    or none that takes it. No code of the model's folder is run."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        return {}
    try:
        return dict(CONFIG_MAPPING[kind].from_dict(copy.deepcopy(dict(config))).to_dict())
    except Exception:  # its checks differ from mlx-lm's, whose loader speaks for itself
        return {}


def module_name(config: Mapping[str, Any]) -> str:
    """mlx-lm's module for this family, whether it exists or not."""
    from mlx_lm.utils import MODEL_REMAPPING

    kind = str(config.get("model_type"))
    return MODEL_REMAPPING.get(kind, kind)


def model_fields(config: Mapping[str, Any]) -> set[str]:
    """Names of the keys that mlx-lm's dataclasses of this family take; none of an unknown family's,
    which mlx-lm refuses by itself."""
    names: set[str] = set()
    for part in (config, *nested_parts(config)):
        try:
            module = importlib.import_module(f"mlx_lm.models.{module_name(part)}")
        except (ImportError, SystemExit):
            continue
        for value in vars(module).values():
            if isinstance(value, type):
                names.update(getattr(value, "__dataclass_fields__", {}))
    return names


def other_arithmetic(config: Mapping[str, Any], tensors: Iterable[str]) -> str:
    """What mlx-lm 0.32 computes differently from the model's own code, measured with transformers;
    "" where nothing is known. No configuration fixes these.

    Args:
        config: of the folder, translated.
        tensors: names in its files.
    """
    kind = config.get("model_type")
    share = config.get("partial_rotary_factor", 0.5)  # transformers' own for this family
    if kind == "glm" and share != 1.0:
        return f"it rotates whole heads, where partial_rotary_factor is {share}"
    if kind == "jamba" and int(config.get("num_experts") or 1) > 1:
        return "it weighs a token's experts among themselves, not among all"
    if kind == "ernie4_5_moe" and any("e_score_correction_bias" in name for name in tensors):
        return "it leaves out e_score_correction_bias, which decides between experts"
    width = config.get("dim_model_base", 256)  # transformers' own, and a tied head
    tied = config.get("tie_word_embeddings", True)
    if kind == "minicpm3" and tied and width != config.get("hidden_size"):
        return f"it does not scale down what a tied head is given (dim_model_base is {width})"
    whole = next((name for name in tensors if name.endswith(".experts.gate_up_proj")), "")
    if kind == "gpt_oss" and whole:
        return (
            f"it takes its experts in blocks of 4 bits, and these are whole ({_last(whole)}): it "
            "would halve them along another axis"
        )
    return ""


def _last(name: str) -> str:
    return ".".join(name.split(".")[-3:])
