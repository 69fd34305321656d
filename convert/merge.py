"""Adapters merged into a full-precision base, one tensor at a time.

Every shard keeps its header, byte for byte; a tensor that an adapter changes is computed in float32
and rounded once to the stored type, all others are copied. Everything else in the folder, config
and tokenizer, is copied as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.base import Base, Slot, check_fits, slot
from convert.formats import Format
from convert.safetensors_file import STORED, Entry, TensorFile, encode, open_tensors
from livery.adapter import Adapter, Pair
from livery.errors import UserError
from livery.files import atomic_directory

_CHUNK = 16 << 20  # bytes copied at a time
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack")


@dataclass(frozen=True)
class Part:
    """One adapter of a merge, at a weight; `source` is the format it was read from."""

    adapter: Adapter
    weight: float = 1.0
    source: Format | None = None


Progress = Callable[[int, int], None]
"""Called with (bytes written, bytes in all)."""


def merge(
    base: Base, parts: Sequence[Part], out: str | Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the merged model folder; returns what was done.

    Raises:
        UserError: the base is quantized or holds no safetensors, an adapter does not fit it or
            cannot be merged into it, said by name.
    """
    shards = [open_tensors(path) for path in sorted(base.folder.glob("model*.safetensors"))]
    _check(base, shards, parts)
    changes = _changes(base, shards, parts)
    total = sum(file.path.stat().st_size for file in shards)
    done = 0
    changed = 0
    with atomic_directory(out) as fresh:
        for path in sorted(base.folder.iterdir()):
            if path.is_file() and not path.name.endswith(_WEIGHTS):
                shutil.copyfile(path, fresh / path.name)
        for file in shards:
            changed += _write_shard(file, changes, fresh / file.path.name)
            done += file.path.stat().st_size
            if progress:
                progress(done, total)
    return {
        "path": str(out),
        "shards": len(shards),
        "bytes": total,
        "changed": changed,
        "tensors": sum(len(file.entries) for file in shards),
    }


def _check(base: Base, shards: Sequence[TensorFile], parts: Sequence[Part]) -> None:
    if not shards:
        raise UserError(f"{base.folder}: no model*.safetensors here; only safetensors are merged.")
    for file in shards:
        for name, entry in file.entries.items():
            if name.endswith((".scales", ".absmax", ".qweight")) or (
                name.endswith("proj.weight") and entry.tag not in STORED
            ):
                raise UserError(
                    f"{base.folder}: a quantized base ({name}). Merging a small delta into 4 bits "
                    "loses most of it: merge into the full-precision base, and quantize after."
                )
    for part in parts:
        check_fits(part.adapter, base)
        for module, pair in part.adapter.pairs.items():
            if base.tied and module == "lm_head":
                raise UserError(
                    "lm_head: the base ties its head to the embedding; merged, the adapter would "
                    "change both. Train without this module."
                )
            if base.tied and pair.kind == "embedding" and part.source != "mlx":
                raise UserError(
                    f"{module}: the base ties its head to the embedding; merged, the adapter would "
                    "change the head too, which it does not in PEFT. Train without this module."
                )
        if part.adapter.dora and (len(parts) > 1 or part.weight != 1.0):
            raise UserError("A DoRA adapter is merged alone and at weight 1: it is not a sum.")
        if part.adapter.alora_invocation_tokens is not None:
            raise UserError(
                "An activated LoRA (alora_invocation_tokens) applies to some tokens alone; merged, "
                "it would apply to all. Use it unmerged in PEFT or llama.cpp."
            )


Change = Callable[[np.ndarray], np.ndarray]


def _changes(
    base: Base, shards: Sequence[TensorFile], parts: Sequence[Part]
) -> dict[str, list[Change]]:
    """Tensor name -> what is done to its values, in order."""
    places = {slot(name): name for file in shards for name in file.entries}
    made: dict[str, list[Change]] = {}
    for part in parts:
        for module, pair in part.adapter.pairs.items():
            for place, change in _of_pair(module, pair, part.weight):
                made.setdefault(_find(places, place, base), []).append(change)
        for name, array in part.adapter.saved.items():
            if name.endswith(".base_layer.weight"):
                continue  # a copy of the base's own
            target = _find(places, slot(name), base)
            made.setdefault(target, []).append(_replace(name, array, part.weight))
    return made


def _find(places: Mapping[Slot, str], place: Slot, base: Base) -> str:
    if place not in places:
        raise UserError(f"{base.folder}: has no {place.kind} of {place.module} to merge into.")
    return places[place]


def _of_pair(module: str, pair: Pair, weight: float) -> list[tuple[Slot, Change]]:
    if pair.kind == "experts":
        return [
            (Slot(module, "weight", number), _add(pair, weight, number))
            for number in range(pair.a.shape[0])
        ]
    made = [(Slot(module, "weight"), _add(pair, weight, None))]
    if pair.bias is not None:
        bias = pair.bias.astype(np.float32) * np.float32(pair.scale * weight)
        made.append((Slot(module, "bias"), lambda old: old + bias))
    return made


def _add(pair: Pair, weight: float, expert: int | None) -> Change:
    def change(old: np.ndarray) -> np.ndarray:
        a = pair.a if expert is None else pair.a[expert]
        b = pair.b if expert is None else pair.b[expert]
        b = b.astype(np.float32) * np.float32(pair.scale * weight)
        delta = b @ a.astype(np.float32)
        if pair.kind == "embedding":
            delta = delta.T
        new = old + delta
        if pair.magnitude is not None:
            # https://arxiv.org/abs/2402.09353, eq. 5: each row at its learned length.
            axis = 0 if pair.kind == "embedding" else 1
            length = np.linalg.norm(new, axis=axis, keepdims=True)
            shape = (1, -1) if pair.kind == "embedding" else (-1, 1)
            new *= pair.magnitude.astype(np.float32).reshape(shape) / length
        return new

    return change


def _replace(name: str, array: np.ndarray, weight: float) -> Change:
    def change(old: np.ndarray) -> np.ndarray:
        if old.shape != array.shape:
            raise UserError(f"{name}: has shape {array.shape}, the base's is {old.shape}.")
        return old + np.float32(weight) * (array.astype(np.float32) - old)

    return change


def _write_shard(file: TensorFile, changes: Mapping[str, list[Change]], path: Path) -> int:
    """Copy one shard, changing what is to be changed; returns how many tensors were."""
    changed = 0
    with file.path.open("rb") as source, path.open("wb") as target:
        start = min((e.start for e in file.entries.values()), default=file.path.stat().st_size)
        target.write(source.read(start))
        for name, entry in sorted(file.entries.items(), key=_by_offset):
            if name not in changes:
                _copy(source, target, entry)
                continue
            value = np.asarray(file.read(name), np.float32)
            for change in changes[name]:
                value = change(value)
            target.write(encode(value, file.dtype(name)).data)
            changed += 1
    return changed


def _by_offset(item: tuple[str, Entry]) -> tuple[int, int]:
    return item[1].start, item[1].end


def _copy(source: Any, target: Any, entry: Entry) -> None:
    source.seek(entry.start)
    left = entry.end - entry.start
    while left:
        chunk = source.read(min(left, _CHUNK))
        target.write(chunk)
        left -= len(chunk)
