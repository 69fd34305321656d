"""Adapters merged into a full-precision base, in blocks of rows.

Every shard keeps its header, byte for byte; a tensor that an adapter changes is computed in float32
and rounded once to the stored type, all others are copied. Everything else in the folder, config
and tokenizer, is copied as it is. A quantized base is `convert.merge_dequantize`'s.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.base import Base, Slot, check_fits, is_transposed, open_shards, slot
from convert.formats import Format
from convert.merge_blocks import Change, Computed, Copied, Job, Moved, Stored, write
from convert.merge_changes import of_pair, replacement
from convert.safetensors_file import STORED, TensorFile
from livery.adapter import Adapter
from livery.errors import UserError
from livery.files import atomic_directory

WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack")


@dataclass(frozen=True)
class Part:
    """One adapter of a merge, at a weight; `source` is the format it was read from."""

    adapter: Adapter
    weight: float = 1.0
    source: Format | None = None


def merge(
    base: Base, parts: Sequence[Part], out: str | Path, progress: Moved | None = None
) -> dict[str, Any]:
    """Write the merged model folder; returns what was done.

    Args:
        base: the full-precision base.
        parts: what is merged into it, in this order.
        out: the new folder.
        progress: called with (bytes written, bytes in all).

    Raises:
        UserError: the base is quantized or holds no safetensors, an adapter does not fit it or
            cannot be merged into it, said by name.
    """
    shards = open_shards(base)
    _check_precision(base, shards)
    check_parts(base, parts)
    shapes = {name: entry.shape for file in shards for name, entry in file.entries.items()}
    changes = find_changes(base, shapes, parts)
    with atomic_directory(out) as fresh:
        copy_others(base.folder, fresh)
        jobs: list[Job] = []
        for file in shards:
            jobs += _jobs(file, changes, fresh / file.path.name)
        write(jobs, progress)
    return {
        "path": str(out),
        "shards": len(shards),
        "bytes": sum(file.path.stat().st_size for file in shards),
        "changed": len(changes),
        "tensors": len(shapes),
    }


def copy_others(folder: Path, fresh: Path) -> None:
    """Copy everything of a model's folder but its weights."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.endswith(WEIGHTS):
            shutil.copyfile(path, fresh / path.name)


def _check_precision(base: Base, shards: Sequence[TensorFile]) -> None:
    for file in shards:
        for name, entry in file.entries.items():
            if name.endswith((".scales", ".absmax", ".qweight")) or (
                name.endswith("proj.weight") and entry.tag not in STORED
            ):
                raise UserError(
                    f"{base.folder}: a quantized base ({name}). Merging a small delta into 4 bits "
                    "loses most of it: merge into the full-precision base, and quantize after; or "
                    "add --dequantize, which writes these weights in full precision."
                )


def check_parts(base: Base, parts: Sequence[Part]) -> None:
    """Raises UserError where an adapter does not fit the base or has no merged form."""
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


def find_changes(
    base: Base, shapes: Mapping[str, tuple[int, ...]], parts: Sequence[Part]
) -> dict[str, list[Change]]:
    """Tensor name -> what is done to its values, in order.

    Raises:
        UserError: the base has no such tensor, or one of another shape.
    """
    kind = base.model_type
    places = {slot(name, kind): name for name in shapes}
    made: dict[str, list[Change]] = {}
    for part in parts:
        for module, pair in part.adapter.pairs.items():
            transposed = is_transposed(module, kind)
            for place, change in of_pair(module, pair, part.weight, transposed=transposed):
                made.setdefault(_find(places, place, base), []).append(change)
        for name, array in part.adapter.saved.items():
            if name.endswith(".base_layer.weight"):
                continue  # a copy of the base's own
            # PEFT keeps a trained bias of a module that it wraps under base_layer.
            target = _find(places, slot(name.replace(".base_layer.", "."), kind), base)
            change = replacement(name, array, part.weight, shapes[target])
            made.setdefault(target, []).append(change)
    return made


def _find(places: Mapping[Slot, str], place: Slot, base: Base) -> str:
    if place not in places:
        raise UserError(f"{base.folder}: has no {place.kind} of {place.module} to merge into.")
    return places[place]


def _jobs(file: TensorFile, changes: Mapping[str, list[Change]], path: Path) -> Iterable[Job]:
    """What makes one shard; the header and tensors that do not change are copied, runs at once."""
    with path.open("wb") as target:
        target.truncate(file.path.stat().st_size)
    copied = 0
    for name, entry in sorted(file.entries.items(), key=lambda item: item[1].start):
        if name in changes:
            if copied < entry.start:
                yield Copied(file.path, copied, entry.start, path, copied)
            yield Computed(Stored(file, name), changes[name], file.dtype(name), path, entry.start)
            copied = entry.end
    end = file.path.stat().st_size
    if copied < end:
        yield Copied(file.path, copied, end, path, copied)
