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
from pathlib import Path
from typing import Any, cast

import numpy as np

from convert.adapters import scales
from convert.adapters.peft_config import check_types
from livery.adapter import LONGEST_NAME, Adapter, Pair
from livery.errors import UserError

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


def is_written(weights: Path) -> bool:
    """Whether Livery wrote an adapter's weights, of whatever format: its record is in them."""
    try:
        with weights.open("rb") as file:
            head = file.read(1 << 20)
    except OSError:
        return False
    if head.startswith(b"GGUF"):
        return f"{KEY}.record".encode() in head
    return b'"__metadata__"' in head[:64] and f'"{KEY}":'.encode() in head


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
    except (ValueError, RecursionError):
        return Record()
    whole = _object(value)
    facts, rows = _object(whole.get("facts")), _object(whole.get("pairs"))
    pairs = {module: _original(row) for module, row in rows.items()}
    known = {module: original for module, original in pairs.items() if original is not None}
    if len(known) < len(pairs):
        return Record()  # what is damaged in one place is not believed in another
    return Record({key: facts[key] for key in facts if _fact(key, facts[key])}, known)


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _original(row: Any) -> Original | None:
    """A row of `describe`; None where it is not one."""
    cells = cast("list[Any]", row) if isinstance(row, list) else []
    if len(cells) not in (3, 5):
        return None
    rank, alpha, rslora = cells[:3]
    factor, missed = cells[3:] or (1.0, "")
    whole = (
        type(rank) is int
        and rank >= 1
        and scales.is_number(alpha)
        and isinstance(rslora, bool)
        and scales.is_number(factor)
        and isinstance(missed, str)
    )
    return Original(rank, float(alpha), rslora, float(factor), missed) if whole else None


def _fact(key: str, value: Any) -> bool:
    """Whether a fact is what `describe` writes."""
    if key == "peft_config":
        try:
            check_types(_object(value), KEY)
        except UserError:
            return False
        return isinstance(value, dict)
    if key in ("base_model", "model_type", "dtype"):
        return isinstance(value, str) and len(value) <= LONGEST_NAME
    if key == "dropout":
        return scales.is_number(value)
    if key == "task":
        return isinstance(value, dict) and all(isinstance(v, str) for v in _object(value).values())
    items = cast("list[Any]", value) if isinstance(value, list) else []
    if key == "provenance":
        return bool(items) and all(isinstance(item, str) for item in items)
    if key == "alora_invocation_tokens":
        return bool(items) and all(type(item) is int and 0 <= item < 2**32 for item in items)
    return key == "heads" and [type(item) for item in items] == [int, int] and min(items) > 0


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
    except (UserError, ValueError, TypeError, ZeroDivisionError, OverflowError, zlib.error):
        return None


def _product(b: np.ndarray, factor: float) -> np.ndarray:
    with np.errstate(all="ignore"):
        return (b.astype(np.float64) * factor).astype(np.float32)


def heads(record: Record) -> tuple[int, int] | None:
    """The base's attention and key-value heads, where the record says them."""
    counts: Any = record.facts.get("heads")
    return (counts[0], counts[1]) if counts else None


def apply_facts(adapter: Adapter, record: Record) -> Adapter:
    """Fill in what the format itself did not say."""
    facts = record.facts
    tokens = facts.get("alora_invocation_tokens")
    return adapter.replace(
        base_model=adapter.base_model or facts.get("base_model", ""),
        model_type=adapter.model_type or facts.get("model_type", ""),
        heads=adapter.heads or heads(record),
        dropout=adapter.dropout or float(facts.get("dropout", 0.0)),
        task=adapter.task or facts.get("task", {}),
        alora_invocation_tokens=adapter.alora_invocation_tokens or (tuple(tokens or ()) or None),
        peft_config=adapter.peft_config or facts.get("peft_config", {}),
        provenance=(*facts.get("provenance", ()), *adapter.provenance),
    )


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
