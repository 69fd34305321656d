"""Experts in PEFT: one parameter holds all of a layer's, gate and up fused.

    experts.base_layer.lora_A (E*r, in), .lora_B (2*I, r*E)      gate_up_proj
    experts.lora_A (E*r, in), .lora_B (out, r*E)                 down_proj
A is expert-major, B expert-minor. Where only one of the two parameters is adapted, its tensors are
at `experts.` itself. Before transformers fused them, each expert was three linear modules
(`experts.3.gate_proj`, or w1/w3/w2): those are stacked. In gpt-oss rows of gate and up alternate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from convert.adapters import gate_up, peft_config, record, scales
from convert.adapters.peft_config import Unit
from convert.base import keeps_input_first
from livery.adapter import Adapter, Pair
from livery.errors import UserError

_FUSED = re.compile(r"^(.*\.experts)(\.base_layer)?$")
_SINGLE = re.compile(r"^(.*\.experts)\.(\d+)\.(\w+)$")
_GPT_OSS = re.compile(r"(?i)gpt[-_]?oss")
_LEAVES = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
_PARTS = ("gate_proj", "up_proj", "down_proj")

Arrays = Mapping[str, np.ndarray]


def is_expert(module: str) -> bool:
    return bool(_FUSED.match(module) or _SINGLE.match(module))


def read(
    found: Mapping[str, Arrays],
    config: Mapping[str, Any],
    known: record.Record,
    where: str,
    model_type: str = "",
) -> dict[str, Pair]:
    """Pairs of kind "experts" from the tensors of modules that `is_expert`.

    Args:
        model_type: the base's; "" where it is not known.

    Raises:
        UserError: a tensor does not fit the config, or only the base could tell how it is to be
            read.
    """
    pairs: dict[str, Pair] = {}
    singles: dict[str, dict[int, tuple[str, Arrays]]] = {}
    for module, arrays in found.items():
        single = _SINGLE.match(module)
        if single:
            head, number, leaf = single.groups()
            path = f"{head}.{_LEAVES.get(leaf, leaf)}"
            singles.setdefault(path, {})[int(number)] = (module, arrays)
            continue
        fused = _FUSED.match(module)
        assert fused is not None
        head = fused[1]
        parameter = _parameter(head, bool(fused[2]), found, config, where)
        pair = _unflatten(f"{head}.{parameter}", arrays, config, where)
        if parameter == "down_proj":
            original = known.pairs.get(f"{head}.down_proj")
            pairs[f"{head}.down_proj"] = record.undo(pair, original, pair.scale) or pair
        else:
            if keeps_input_first(model_type):
                pair = replace(pair, b=_apart(pair.b))
            elif not model_type and _GPT_OSS.search(str(config.get("base_model_name_or_path"))):
                raise UserError(
                    f"{where}: {head}: in gpt-oss, as the base's name says it is, rows of gate and "
                    "up take turns, in other families one is before the other. Give --base the "
                    "base model's folder."
                )
            pairs.update(gate_up.split(head, pair, known))
    for path, members in singles.items():
        pairs[path] = _stack(path, members, config, where)
    return pairs


def _parameter(
    head: str, inner: bool, found: Mapping[str, Arrays], config: Mapping[str, Any], where: str
) -> str:
    """Which of the two fused parameters the tensors of `head` (or its base_layer) adapt."""
    version = str(config.get("peft_version") or "")
    digits = re.match(r"(\d+)\.(\d+)", version)
    if digits is None or (int(digits[1]), int(digits[2])) < (0, 19):
        raise UserError(
            f"{where}: experts written by PEFT {version or 'of an unknown version'}: before 0.19 "
            "the layout differed and the shapes cannot always tell. Load it with the version that "
            "wrote it, and save it again with a current one."
        )
    if inner:
        return "gate_up_proj"
    if f"{head}.base_layer" in found:
        return "down_proj"
    names = [str(name) for name in config.get("target_parameters") or ()]
    hits = {
        parameter
        for parameter in ("gate_up_proj", "down_proj")
        if any(f".{head}.{parameter}".endswith(f".{name}") for name in names)
    }
    if len(hits) != 1:
        raise UserError(
            f"{where}: {head}: target_parameters {names} does not say whether this is "
            "gate_up_proj or down_proj."
        )
    return hits.pop()


def _unflatten(target: str, arrays: Arrays, config: Mapping[str, Any], where: str) -> Pair:
    rank, alpha = peft_config.resolve(config, target)
    a, b = arrays["a"], arrays["b"]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] % rank or a.shape[0] != b.shape[1]:
        raise UserError(
            f"{where}: {target}: A {a.shape} and B {b.shape} are not a stack of rank {rank}."
        )
    experts = a.shape[0] // rank
    return Pair(
        a.reshape(experts, rank, a.shape[1]),
        b.reshape(b.shape[0], rank, experts).transpose(2, 0, 1),
        alpha,
        bool(config.get("use_rslora")),
        "experts",
    )


def _stack(
    path: str,
    members: Mapping[int, tuple[str, Arrays]],
    config: Mapping[str, Any],
    where: str,
) -> Pair:
    if sorted(members) != list(range(len(members))):
        raise UserError(
            f"{where}: {path}: has LoRA on experts {sorted(members)} alone; "
            "a stack of experts needs all of them."
        )
    rows = [members[number] for number in range(len(members))]
    resolved = {peft_config.resolve(config, module) for module, _ in rows}
    shapes = {(arrays["a"].shape, arrays["b"].shape) for _, arrays in rows}
    if len(resolved) != 1 or len(shapes) != 1:
        raise UserError(f"{where}: {path}: its experts differ in rank, alpha or shape.")
    if any("magnitude" in arrays for _, arrays in rows):
        raise UserError(f"{where}: {path}: DoRA on experts has no form in other formats.")
    rank, alpha = resolved.pop()
    a, b = (np.stack([arrays[half] for _, arrays in rows]) for half in ("a", "b"))
    if a.shape[1] != rank:
        raise UserError(f"{where}: {path}: A has rank {a.shape[1]}, the config says {rank}.")
    return Pair(a, b, alpha, bool(config.get("use_rslora")), "experts")


@dataclass
class Written:
    """Units with their tensors (without PEFT's prefix), what was folded, notes for the user."""

    units: list[tuple[Unit, dict[str, np.ndarray]]] = field(default_factory=list)
    folded: dict[str, tuple[float, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _apart(b: np.ndarray) -> np.ndarray:
    """B (E, 2*I, r) with rows in turns, gate before up."""
    return np.concatenate([b[:, ::2], b[:, 1::2]], axis=1)


def _in_turns(b: np.ndarray) -> np.ndarray:
    """`_apart` backwards."""
    experts, rows, rank = b.shape
    return b.reshape(experts, 2, rows // 2, rank).swapaxes(1, 2).reshape(b.shape)


def write(adapter: Adapter, rslora: bool) -> Written:
    """The adapter's experts as PEFT lays them out."""
    made = Written()
    heads: dict[str, dict[str, Pair]] = {}
    for module, pair in adapter.pairs.items():
        if pair.kind != "experts":
            continue
        head, _, part = module.rpartition(".")
        if part not in _PARTS or not head.endswith(".experts"):
            raise UserError(f"{module}: experts are known as gate_proj, up_proj and down_proj.")
        heads.setdefault(head, {})[part] = pair
    if heads and adapter.dora:
        raise UserError("DoRA on experts has no form in PEFT. Merge the adapter instead.")
    doubled = False
    for head, parts in heads.items():
        gate, up, down = (parts.get(part) for part in _PARTS)
        place = head
        if gate or up:
            fused, folded = gate_up.fuse(head, gate, up, rslora)
            doubled = doubled or bool(gate and up and fused.rank == gate.rank + up.rank)
            made.folded.update(folded)
            if keeps_input_first(adapter.model_type):
                fused = replace(fused, b=_in_turns(fused.b))
            inner = f"{head}.base_layer" if down else head
            made.units.append(_flatten(f"{head}.gate_up_proj", inner, fused, rslora))
        if down:
            made.units.append(_flatten(f"{head}.down_proj", place, down, rslora))
    if doubled:
        made.notes.append(
            "PEFT holds gate and up of the experts in one parameter: their pairs were joined "
            "block-diagonally, at the sum of their ranks. The result is the same."
        )
    return made


def alpha_of(pair: Pair, rslora: bool) -> float:
    """The pair's alpha under the adapter-wide flag."""
    if pair.rslora == rslora:
        return pair.alpha
    return scales.alpha_for(pair.scale, pair.rank, rslora=rslora)


def _flatten(
    target: str, place: str, pair: Pair, rslora: bool
) -> tuple[Unit, dict[str, np.ndarray]]:
    experts, rank, into = pair.a.shape
    unit = Unit(target, True, rank, alpha_of(pair, rslora))
    return unit, {
        f"{place}.lora_A.weight": pair.a.reshape(experts * rank, into),
        f"{place}.lora_B.weight": pair.b.transpose(1, 2, 0).reshape(-1, rank * experts),
    }
