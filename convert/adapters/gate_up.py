"""Gate and up of a layer's experts as one pair, for formats that keep both in one tensor.

PEFT adapts the parameter gate_up_proj, llama.cpp has ffn_gate_up_exps in some architectures; the
neutral adapter, like MLX, has a pair each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convert.adapters import record, scales
from livery.adapter import Pair
from livery.errors import UserError

GATE, UP, BOTH = ".experts.gate_proj", ".experts.up_proj", ".experts.gate_up_proj"

Folded = dict[str, tuple[float, str]]


def join(pairs: Mapping[str, Pair]) -> tuple[dict[str, Pair], Folded]:
    """The pairs with each gate and up of experts fused under `….experts.gate_up_proj`, and what of
    them was folded, as `record.describe` takes it."""
    made: dict[str, Pair] = {}
    folded: Folded = {}
    for module, pair in pairs.items():
        end = next((end for end in (GATE, UP) if module.endswith(end)), None)
        if end is None:
            made[module] = pair
            continue
        layer = module.removesuffix(end)
        if layer + BOTH not in made:
            parts = (pairs.get(layer + GATE), pairs.get(layer + UP))
            made[layer + BOTH], changed = fuse(f"{layer}.experts", *parts, rslora=False)
            folded.update(changed)
    return made, folded


def part(pairs: Mapping[str, Pair], known: record.Record) -> dict[str, Pair]:
    """`join` backwards."""
    made: dict[str, Pair] = {}
    for module, pair in pairs.items():
        if module.endswith(BOTH):
            made.update(split(module.rpartition(".")[0], pair, known))
        else:
            made[module] = pair
    return made


def split(head: str, fused: Pair, known: record.Record) -> dict[str, Pair]:
    """gate and up of a fused pair: as they were where the record tells, else with A in common."""
    half = fused.b.shape[1] // 2
    halves = {"gate_proj": fused.b[:, :half], "up_proj": fused.b[:, half:]}
    common = {
        f"{head}.{part}": Pair(fused.a, b, fused.alpha, fused.rslora, "experts")
        for part, b in halves.items()
    }
    originals = {part: known.pairs.get(f"{head}.{part}") for part in halves}
    ranks = [original.rank for original in originals.values() if original]
    if not ranks:
        return common
    block = sum(ranks) == fused.rank and len(ranks) == 2
    made: dict[str, Pair] = {}
    at = 0
    for part, b in halves.items():
        original = originals[part]
        if original is None:
            if b.any():
                return common
            continue
        rows = slice(at, at + original.rank) if block else slice(None)
        if block:
            rest = np.delete(b, np.arange(fused.rank)[rows], axis=2)
            if rest.any():
                return common
            at += original.rank
        a = fused.a[:, rows]
        alpha = scales.alpha_for(fused.scale, a.shape[1])
        pair = record.undo(Pair(a, b[:, :, rows], alpha, False, "experts"), original, fused.scale)
        if pair is None:
            return common
        made[f"{head}.{part}"] = pair
    return made


def fuse(head: str, gate: Pair | None, up: Pair | None, rslora: bool) -> tuple[Pair, Folded]:
    """One pair for gate_up_proj, B (E, 2*I, R)."""
    if gate is None or up is None:
        one = gate or up
        assert one is not None
        zero = np.zeros_like(one.b)
        b = np.concatenate([one.b, zero] if gate else [zero, one.b], axis=1)
        return Pair(one.a, b, one.alpha, one.rslora, "experts"), {}
    if gate.b.shape[1] != up.b.shape[1]:
        raise UserError(f"{head}: gate and up differ in size: {gate.b.shape}, {up.b.shape}.")
    same = gate.scale == up.scale
    if same and gate.rank == up.rank and np.array_equal(gate.a, up.a):
        b = np.concatenate([gate.b, up.b], axis=1)
        return Pair(gate.a, b, gate.alpha, gate.rslora, "experts"), {}
    factor = up.scale / gate.scale if gate.scale else 1.0
    if not gate.scale and up.scale:
        raise UserError(f"{head}: gate has scale 0 and up does not: PEFT has one scale for both.")
    up_b = scales.fold(f"{head}.up_proj", up.b, factor)
    folded = {f"{head}.up_proj": (factor, scales.missing(up.b, up_b, factor))}
    a = np.concatenate([gate.a, up.a], axis=1)
    experts, half, rank = gate.b.shape
    b = np.zeros((experts, 2 * half, rank + up.rank), np.result_type(gate.b, up_b))
    b[:, :half, :rank] = gate.b
    b[:, half:, rank:] = up_b
    alpha = scales.alpha_for(gate.scale, rank + up.rank, rslora=rslora)
    return Pair(a, b, alpha, rslora, "experts"), folded if factor != 1.0 else {}
