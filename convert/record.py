"""What a format has no place for, kept in its free-text metadata for the way back.

PEFT and MLX keep it in the safetensors header, GGUF in a metadata string; every runtime ignores it.
A record is believed only where it still describes the tensors beside it: an adapter that another
program trained on or edited is read for what it is.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from convert import scales
from livery.adapter import Adapter, Pair

KEY = "livery"


@dataclass(frozen=True)
class Original:
    """One pair before it was bent to a format.

    Attributes:
        rank, alpha, rslora: its own.
        factor: what B was multiplied by.
        missed: see `scales.missing`.
    """

    rank: int
    alpha: float
    rslora: bool
    factor: float = 1.0
    missed: str = ""


@dataclass(frozen=True)
class Record:
    """Everything of an `Adapter` but its tensors."""

    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    pairs: Mapping[str, Original] = field(default_factory=dict[str, Original])


def describe(adapter: Adapter, folded: Mapping[str, tuple[float, str]]) -> str:
    """The record as text. `folded` maps module -> (factor, missed) where B was changed."""
    facts: dict[str, Any] = {
        "base_model": adapter.base_model,
        "model_type": adapter.model_type,
        "heads": adapter.heads,
        "dtype": adapter.dtype,
        "dropout": adapter.dropout,
        "task": dict(adapter.task),
        "alora_invocation_tokens": adapter.alora_invocation_tokens,
        "peft_config": dict(adapter.peft_config),
        "provenance": list(adapter.provenance),
    }
    pairs: dict[str, list[Any]] = {}
    for module, pair in adapter.pairs.items():
        row: list[Any] = [pair.rank, pair.alpha, pair.rslora]
        if module in folded:
            row += list(folded[module])
        pairs[module] = row
    return json.dumps({"facts": facts, "pairs": pairs}, separators=(",", ":"))


def parse(text: str | None) -> Record:
    """Read a record; an empty one where there is none or it is damaged."""
    if not text:
        return Record()
    try:
        value: Any = json.loads(text)
        facts = cast("dict[str, Any]", dict(value["facts"]))
        pairs = {str(module): Original(*row) for module, row in value["pairs"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Record()
    return Record(facts, pairs)


def undo(pair: Pair, original: Original | None, file_scale: float) -> Pair | None:
    """The pair that was written as `pair` into a format whose scale for it is `file_scale`.

    None where the record does not describe these tensors.
    """
    if original is None or not 0 < original.rank <= pair.rank:
        return None
    rank, factor = original.rank, original.factor
    a, b = pair.a[..., :rank, :], pair.b[..., :rank]
    if pair.a[..., rank:, :].any() or pair.b[..., rank:].any():
        return None
    try:
        restored = scales.unfold(b, factor, original.missed)
        made = Pair(
            a,
            restored,
            float(original.alpha),
            bool(original.rslora),
            pair.kind,
            pair.magnitude,
            pair.bias,
        )
        again = restored if factor == 1.0 else _product(restored, factor)
        close = abs(made.scale - file_scale * factor) <= 1e-6 * abs(made.scale)
        return made if close and np.array_equal(again, b) else None
    except (ValueError, TypeError, ZeroDivisionError, OverflowError, zlib.error):
        return None


def _product(b: np.ndarray, factor: float) -> np.ndarray:
    with np.errstate(all="ignore"):
        return (b.astype(np.float64) * factor).astype(np.float32)


def heads(record: Record) -> tuple[int, int] | None:
    """The base's attention and key-value heads, where the record says them."""
    counts: Any = record.facts.get("heads")
    if isinstance(counts, list) and len(cast("list[Any]", counts)) == 2:
        first, second = cast("list[Any]", counts)
        if type(first) is int and type(second) is int and first > 0 and second > 0:
            return first, second
    return None


def apply_facts(adapter: Adapter, record: Record) -> Adapter:
    """Fill in what the format itself did not say."""
    facts = record.facts
    tokens = facts.get("alora_invocation_tokens")
    try:
        return adapter.replace(
            base_model=adapter.base_model or str(facts.get("base_model", "")),
            model_type=adapter.model_type or str(facts.get("model_type", "")),
            heads=adapter.heads or heads(record),
            dropout=adapter.dropout or float(facts.get("dropout", 0.0)),
            task=adapter.task or {str(k): str(v) for k, v in dict(facts.get("task", {})).items()},
            alora_invocation_tokens=adapter.alora_invocation_tokens
            or (None if tokens is None else tuple(int(t) for t in tokens)),
            peft_config=adapter.peft_config or dict(facts.get("peft_config", {})),
            provenance=(*(str(p) for p in facts.get("provenance", ())), *adapter.provenance),
        )
    except (TypeError, ValueError):
        return adapter


def believe(adapter: Adapter, record: Record, *, whole: bool) -> Adapter:
    """`apply_facts`, and the stored dtype. What describes the tensors themselves (dtype, PEFT's
    config) is taken only where the record fits the `whole` adapter."""
    if not record.facts:
        return adapter
    made = apply_facts(adapter, record)
    if not whole:
        return made.replace(peft_config=adapter.peft_config)
    dtype = record.facts.get("dtype")
    return made.replace(dtype=dtype) if dtype in ("float32", "float16", "bfloat16") else made
