"""PEFT's adapter_config.json: which rank and scale a module has, and what we cannot carry over."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convert import naming
from livery.errors import UserError

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
# What the values we use must be, besides null.
_TYPES: dict[str, tuple[type, ...]] = {
    "lora_dropout": (int, float),
    "base_model_name_or_path": (str,),
    "peft_version": (str,),
    "bias": (str,),
    "rank_pattern": (dict,),
    "alpha_pattern": (dict,),
    "target_modules": (str, list),
    "target_parameters": (list,),
    "modules_to_save": (list,),
    "alora_invocation_tokens": (list,),
}
# Models whose experts transformers 5 keeps in one parameter where their checkpoints have linear
# layers of these names. For these model types PEFT reads every target of such a name as a parameter
# of the experts, a full path or a regular expression too; dense first layers and shared experts,
# which are still linear, are left out without a word. As a parameter of its own ("X.weight" in
# target_parameters) such a layer is reached. PEFT 0.21 with transformers 5.23.
_READ_AS_EXPERTS = frozenset({"gate_proj", "up_proj", "down_proj"})
EXPERT_NAMES: Mapping[str, frozenset[str]] = dict.fromkeys(
    """
    afmoe beam cohere2_moe deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5_moe exaone_moe
    flex_olmo glm4_moe glm4_moe_lite glm4v_moe glm_moe_dsa hunyuan_v1_moe longcat_flash mellum olmoe
    qwen3_moe qwen3_next qwen3_omni_moe qwen3_omni_moe_text qwen3_omni_moe_thinker solar_open
    """.split(),
    _READ_AS_EXPERTS,
) | dict.fromkeys(("minimax", "minimax_m2", "mixtral"), frozenset({"w1", "w2", "w3"}))
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


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


def read_as_experts(model_type: str, leaf: str, *, experts: bool) -> bool:
    """Whether PEFT takes a target of this name for the experts' parameters on such a model.

    Args:
        model_type: the base's; "" where it is not known.
        leaf: the module's last path element.
        experts: the base is known to have routed experts, which decides where its type is unknown.
    """
    if not model_type:
        return experts and leaf in _READ_AS_EXPERTS
    return leaf in EXPERT_NAMES.get(model_type, ())


def check_supported(config: Mapping[str, Any], where: str) -> None:
    """Refuse by name what only PEFT itself can apply.

    Raises:
        UserError: a value of the wrong type, not LoRA, or a variant that changes the base or the
            layers.
    """
    for key, types in _TYPES.items():
        value = config.get(key)
        if value is not None and not isinstance(value, types):
            raise UserError(f"{where}: {key} is {value!r}; it must be {types[-1].__name__}.")
    tokens = config.get("alora_invocation_tokens") or []
    if not all(type(token) is int and 0 <= token < 2**32 for token in tokens):
        raise UserError(f"{where}: alora_invocation_tokens must be token ids.")
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise UserError(f"{where}: peft_type is {kind}; only LORA has a form in other formats.")
    for key, name in _UNSUPPORTED.items():
        if config.get(key):
            raise UserError(
                f"{where}: {key} is set: {name} has no form in other formats. "
                "Merge it into the base with PEFT's merge_and_unload instead."
            )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise UserError(
            f"{where}: init_lora_weights is {start!r}: that changed the base's weights too. Save "
            "it as a plain LoRA first (path_initial_model_for_weight_conversion in PEFT's "
            "save_pretrained)."
        )


def resolve(config: Mapping[str, Any], target: str) -> tuple[int, float]:
    """(rank, alpha) of a module or parameter path, as PEFT finds them.

    Raises:
        UserError: a pattern is no regular expression, or a value no number.
    """
    try:
        rank = _first(config.get("rank_pattern"), target, config.get("r", 8))
        alpha = _first(config.get("alpha_pattern"), target, config.get("lora_alpha", 8))
        if isinstance(rank, bool) or int(rank) != rank or rank < 1:
            raise UserError(f"{CONFIG}: rank {rank!r} for {target}; it must be at least 1.")
        if not math.isfinite(alpha):
            raise UserError(f"{CONFIG}: alpha {alpha!r} for {target}; it must be a number.")
        return int(rank), float(alpha)
    except re.error as error:
        raise UserError(f"{CONFIG}: a pattern is no regular expression: {error}.") from None
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"{CONFIG}: rank and alpha of {target} must be numbers.") from None


def _first(patterns: Any, target: str, default: Any) -> Any:
    for key, value in dict(patterns or {}).items():
        if re.match(rf"(.*\.)?({key})$", target):
            return value
    return default


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
        "lora_alpha": _number(alpha),
        "lora_dropout": 0.0 if parameters else dropout,  # PEFT has none for parameters
        "target_modules": naming.short_names(modules, existing),
        "rank_pattern": naming.pattern(by_target, lambda t: by_target[t].rank, rank),
        "alpha_pattern": {key: _number(value) for key, value in alphas.items()},
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
    return all(
        resolve(config, unit.target) == (unit.rank, unit.alpha) and _targeted(unit, config)
        for unit in units
    )


def _targeted(unit: Unit, config: Mapping[str, Any]) -> bool:
    names = config.get("target_parameters" if unit.parameter else "target_modules")
    if isinstance(names, str):
        return names == "all-linear" or re.fullmatch(names, unit.target) is not None
    return any(unit.target == name or unit.target.endswith(f".{name}") for name in names or ())


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value
