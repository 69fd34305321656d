"""PEFT's adapter_config.json: which rank and scale a module has, and what we cannot carry over."""

from __future__ import annotations

import json
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, cast

from convert import naming
from convert.adapters.peft_patterns import Patterns, Targets
from convert.adapters.scales import is_number
from livery.adapter_names import hf_to_mlx
from livery.errors import UserError, shown

CONFIG = "adapter_config.json"
# The version whose layout we write (the experts' one changed in 0.19).
PEFT_VERSION = "0.21.0"

# Set in a config, these change what the tensors mean, or the base itself.
_UNSUPPORTED = {
    "layer_replication": "replicated layers",
    "use_qalora": "QALoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "Arrow routing",
    "use_bdlora": "block-diagonal LoRA",
    "trainable_token_indices": "trainable tokens",
    "megatron_config": "Megatron parallel layers",
}


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _yes_or_no(value: Any) -> bool:
    return isinstance(value, bool)


def _whole(value: Any) -> TypeGuard[int]:
    return type(value) is int


def _rank(value: Any) -> bool:
    return _whole(value) and value >= 1


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, cast("list[Any]", value)))


def _each(is_one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    def holds(value: Any) -> bool:
        return isinstance(value, dict) and all(map(is_one, cast("dict[Any, Any]", value).values()))

    return holds


def _tokens(value: Any) -> bool:
    items = cast("list[Any]", value) if isinstance(value, list) else [None]
    return all(_whole(item) and 0 <= item < 2**32 for item in items)


def _layers(value: Any) -> bool:
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    return all(map(_whole, items))


def _names_or_text(value: Any) -> bool:
    return _text(value) or _names(value)


_FLAGS = (
    "use_rslora", "use_dora", "lora_bias", "fan_in_fan_out", "inference_mode", "use_qalora",
    "ensure_weight_tying",
)  # fmt: skip
# What each value must be, besides null, and in words.
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(_FLAGS, (_yes_or_no, "true or false")),
    "r": (_rank, "a whole number, at least 1"),
    "lora_alpha": (is_number, "a number"),
    "lora_dropout": (is_number, "a number"),
    "base_model_name_or_path": (_text, "text"),
    "revision": (_text, "text"),
    "task_type": (_text, "text"),
    "peft_version": (_text, "text"),
    "bias": (lambda v: v in ("none", "all", "lora_only"), "none, all or lora_only"),
    "rank_pattern": (_each(_rank), "an object of whole numbers, at least 1"),
    "alpha_pattern": (_each(is_number), "an object of numbers"),
    "target_modules": (_names_or_text, "text or a list of text"),
    "exclude_modules": (_names_or_text, "text or a list of text"),
    "target_parameters": (_names, "a list of text"),
    "modules_to_save": (_names, "a list of text"),
    "layers_pattern": (_names_or_text, "text or a list of text"),
    "layers_to_transform": (_layers, "a whole number or a list of them"),
    "alora_invocation_tokens": (_tokens, "a list of token ids"),
    "init_lora_weights": (lambda v: isinstance(v, bool | str), "true, false or a name"),
}
# Keys that PEFT and vLLM cannot do without: what null would mean there is an error.
_NOT_NULL = ("r", "lora_alpha", "bias")
# Ways to start that leave a saved adapter a plain LoRA, and those that change the base's weights
# when PEFT loads it. PEFT 0.21 and vLLM 0.33 know no others.
_STARTS_PLAIN = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")

Start = Literal["plain", "changes the base", "unknown"]


@dataclass(frozen=True)
class Unit:
    """One LoRA layer as PEFT counts them.

    Attributes:
        target: the path PEFT matches its patterns against: a module's, or a parameter's
            ("….mlp.experts.down_proj").
        parameter: whether it belongs to target_parameters instead of target_modules.
        rank, alpha: its own.
    """

    target: str
    parameter: bool
    rank: int
    alpha: float


def check_types(config: Mapping[str, Any], where: str) -> None:
    """Refuse a value of the wrong type: PEFT takes "no" for true.

    Raises:
        UserError: naming file and key, and what it must be.
    """
    for key, value, words in faults(config):
        raise UserError(f"{where}: {key} is {_said(value)}; it must be {words}.")


def faults(config: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, what it must be) of every value of the wrong type."""
    for key, (holds, words) in _TYPES.items():
        value = config.get(key)
        if (value is None and key in config and key in _NOT_NULL) or (
            value is not None and not holds(value)
        ):
            yield key, value, words


def _said(value: Any) -> str:
    return shown(json.dumps(value, default=str), 80)


def check_supported(config: Mapping[str, Any], where: str) -> None:
    """Refuse by name what only PEFT itself can apply.

    Raises:
        UserError: a value of the wrong type, not LoRA, or a variant that changes the base or the
            layers.
    """
    check_types(config, where)
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise UserError(
            f"{where}: peft_type is {shown(kind)}; only LORA has a form in other formats."
        )
    for key, name in _UNSUPPORTED.items():
        if config.get(key):
            raise UserError(
                f"{where}: {key} is set: {name} has no form in other formats. "
                "Merge it into the base with PEFT's merge_and_unload instead."
            )
    start = config.get("init_lora_weights")
    if start_of(config) == "changes the base":
        raise UserError(
            f"{where}: init_lora_weights is {shown(start)}: that changed the base's weights too. "
            "Save it as a plain LoRA first (path_initial_model_for_weight_conversion in PEFT's "
            "save_pretrained)."
        )
    if start_of(config) == "unknown":
        raise UserError(
            f"{where}: init_lora_weights is {shown(start)}, which PEFT does not know (it knows "
            f"{', '.join((*_STARTS_PLAIN, *_CHANGES_BASE))}). Set it to true if the tensors are a "
            "plain LoRA's."
        )


def start_of(config: Mapping[str, Any]) -> Start:
    """What init_lora_weights says of a saved adapter."""
    start = config.get("init_lora_weights")
    if not isinstance(start, str) or start.lower() in _STARTS_PLAIN:
        return "plain"
    return "changes the base" if start.lower().startswith(_CHANGES_BASE) else "unknown"


def resolve(config: Mapping[str, Any], target: str) -> tuple[int, float]:
    """(rank, alpha) of a module or parameter path, as PEFT finds them; `check_types` held.

    Raises:
        UserError: a pattern is not a regular expression, or takes too long.
    """
    rank = _first(config, "rank_pattern", target, config.get("r", 8))
    alpha = _first(config, "alpha_pattern", target, config.get("lora_alpha", 8))
    if not _rank(rank) or not is_number(alpha):
        raise UserError(f"{CONFIG}: rank and alpha of {shown(target)} must be numbers.")
    return int(rank), float(alpha)


def _first(config: Mapping[str, Any], key: str, target: str, default: Any) -> Any:
    patterns = config.get(key)
    return _compiled(patterns, key).find(target, default) if patterns else default


# A config is asked once for each of its modules: its patterns are compiled once. The dicts are kept
# with them, so that an id cannot come to mean another one.
_COMPILED: OrderedDict[int, tuple[Mapping[str, Any], Patterns]] = OrderedDict()
_KEPT = 4


def _compiled(patterns: Mapping[str, Any], key: str) -> Patterns:
    found = _COMPILED.get(id(patterns))
    if found is None:
        found = patterns, Patterns(patterns, f"{CONFIG}: {key}")
        _COMPILED[id(patterns)] = found
        if len(_COMPILED) > _KEPT:
            _COMPILED.popitem(last=False)
    return found[1]


def make(
    units: Sequence[Unit],
    original: Mapping[str, Any],
    *,
    existing: Sequence[str],
    expert_layers: Sequence[str],
    rslora: bool,
    dora: bool,
    lora_bias: bool,
    dropout: float,
    base_model: str,
    alora: Sequence[int] | None,
) -> dict[str, Any]:
    """The config for `units`: the one it came with while that still says the same, or a plain one.

    Args:
        original: the config that the adapter was read with; may be empty.
        existing: module paths of the base but for its experts; empty if unknown.
        expert_layers: those of its experts (`….experts.gate_proj`).
    """
    if original and _still_true(units, original, rslora, dora):
        return {**original, "base_model_name_or_path": base_model or None}
    modules = [unit.target for unit in units if not unit.parameter]
    parameters = [unit.target for unit in units if unit.parameter]
    by_target = {unit.target: unit for unit in units}
    rank = Counter(unit.rank for unit in units).most_common(1)[0][0]
    alpha = Counter(unit.alpha for unit in units).most_common(1)[0][0]
    alphas = naming.pattern(by_target, lambda t: by_target[t].alpha, alpha)
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "peft_version": PEFT_VERSION,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model or None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _short(alpha),
        "lora_dropout": 0.0 if parameters else dropout,  # PEFT has none for parameters
        "target_modules": naming.short_names(modules, existing),
        "rank_pattern": naming.pattern(by_target, lambda t: by_target[t].rank, rank),
        "alpha_pattern": {key: _short(value) for key, value in alphas.items()},
        "use_rslora": rslora,
        "use_dora": dora,
        "lora_bias": lora_bias,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
    }
    if parameters:
        config["target_parameters"] = _parameter_names(parameters, [*existing, *expert_layers])
    if alora is not None:
        config["alora_invocation_tokens"] = list(alora)
    return config


def _parameter_names(parameters: Sequence[str], existing: Sequence[str]) -> list[str]:
    """`mlp.experts.down_proj` where every layer that has it is covered, else the full paths."""
    short = {target: ".".join(target.split(".")[-3:]) for target in parameters}
    every = {path.replace(".gate_proj", ".gate_up_proj") for path in existing}
    every |= {f"{path}.weight" for path in existing}
    covered = set(parameters)
    whole = bool(existing) and all(
        path in covered for path in every if any(path.endswith(f".{s}") for s in short.values())
    )
    return sorted(set(short.values()) if whole else covered)


def _still_true(units: Sequence[Unit], config: Mapping[str, Any], rslora: bool, dora: bool) -> bool:
    if bool(config.get("use_rslora")) != rslora or bool(config.get("use_dora")) != dora:
        return False
    if any(key not in config for key in ("r", "lora_alpha", "target_modules")):
        return False  # PEFT has defaults for them, vLLM has not
    modules, parameters = (
        Targets(config.get(key) or (), f"{CONFIG}: {key}")
        for key in ("target_modules", "target_parameters")
    )
    return all(
        resolve(config, unit.target) == (unit.rank, unit.alpha)
        and (parameters if unit.parameter else modules).has(unit.target)
        for unit in units
    )


def _short(value: float) -> float | int:
    return int(value) if value == int(value) else value


_LAYER = re.compile(r".*\.[^.]*\.(\d+)\.")  # as PEFT finds a module's layer where no key says how


def unselected(modules: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """Those of these linear modules on which PEFT puts no LoRA under this config
    (`peft.tuners.tuners_utils.check_target_module_exists`).

    Raises:
        UserError: matching takes too long.
    """
    wanted: Any = config.get("target_modules")
    if not wanted or wanted == "all-linear":
        return []
    targets = Targets(wanted, f"{CONFIG}: target_modules")
    excluded = Targets(config.get("exclude_modules") or (), f"{CONFIG}: exclude_modules")
    chosen: Any = config.get("layers_to_transform")
    layers: set[int] = {chosen} if isinstance(chosen, int) else set(chosen or ())
    counts = bool(layers) and not isinstance(wanted, str) and not config.get("layers_pattern")

    # Where it is asked for, PEFT adapts the embedding and the head alike if either is named.
    tables = [m for m in modules if m.rpartition(".")[2] in ("embed_tokens", "lm_head")]
    tied = bool(config.get("ensure_weight_tying")) and any(targets.has(m) for m in tables)

    def selected(module: str) -> bool:
        if tied and module in tables:
            return True
        if excluded.has(module) or not targets.has(module):
            return False
        place = _LAYER.match(module) if counts and module not in wanted else None
        return place is None or int(place[1]) in layers

    # Folders of before transformers 5 name a multimodal model's modules as mlx-lm still does.
    return [m for m in modules if not selected(m) and not selected(hf_to_mlx(m))]
