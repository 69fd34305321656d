"""Adapters merged into a full-precision base, in blocks of rows.

Every shard keeps its header, byte for byte, unless a tensor must be added (`merge_extend`); what an
adapter changes is computed in float32 and rounded once to the stored type, all other tensors are
copied. Everything else in the folder, config and tokenizer, is copied as it is. A quantized base is
`convert.merge.dequantize`'s.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from convert.base import (
    Base,
    Slot,
    check_fits,
    is_transposed,
    keeps_input_first,
    open_shards,
    slot,
)
from convert.merge.blocks import (
    WIDTH,
    Change,
    Computed,
    Copied,
    Job,
    Odd,
    Source,
    Stored,
    Zeros,
    write,
)
from convert.merge.changes import Part, of_pair, of_stack, replacement
from convert.merge.extend import HEAD, Added, extend, is_embedding, write_config
from livery.errors import UserError, shown
from livery.outputs import Input, new_folder
from livery.progress import OnProgress
from livery.safetensors_file import STORED, TensorFile

COMMAND = "livery merge"  # whose mark the folder gets
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack")


def merge(
    base: Base,
    parts: Sequence[Part],
    out: str | Path,
    progress: OnProgress | None = None,
    *,
    allow_nonfinite: bool = False,
    overwrite: bool = False,
    inputs: Iterable[Input] = (),
) -> dict[str, Any]:
    """Write the merged model folder; returns what was done.

    Args:
        base: the full-precision base.
        parts: what is merged into it, in this order.
        out: the new folder.
        progress: called with (bytes written, bytes in all).
        allow_nonfinite: write values that became NaN or infinite.
        overwrite: replace what an earlier merge wrote there.
        inputs: what is read beside the base, and so not replaced.

    Raises:
        UserError: the base is quantized or holds no safetensors, an adapter does not fit it or
            cannot be merged into it, or a sum is too large for the base's dtype, said by name.
    """
    shards = open_shards(base)
    _check_precision(base, shards)
    check_parts(base, parts)
    shapes = {name: entry.shape for file in shards for name, entry in file.entries.items()}
    more = extend(base, shapes, parts)
    shapes |= {name: added.shape for name, added in more.tensors.items()}
    changes = find_changes(base, shapes, parts, untied=more.untied)
    read = (base.folder, *inputs)
    with new_folder(out, command=COMMAND, overwrite=overwrite, inputs=read) as fresh:
        copy_others(base.folder, fresh)
        jobs: list[Job] = []
        for file in shards:
            jobs += _jobs(file, changes, more.tensors, fresh / file.path.name)
        odd = write(jobs, progress)
        check_odd(odd, allow=allow_nonfinite)
        if more.config:
            write_config(fresh, more.config, more.tensors)
    return {
        "path": str(out),
        "shards": len(shards),
        "bytes": sum(job.nbytes for job in jobs),
        "changed": len(changes),
        "tensors": len(shapes),
        "notes": [*more.notes, *odd_base(odd)],
    }


def check_odd(odd: Mapping[str, Odd], *, allow: bool) -> None:
    """Raises UserError where a merge made NaN or infinity of finite values."""
    made = {name: count for name, count in odd.items() if count.written > count.base}
    if made and not allow:
        name, count = next(iter(made.items()))
        raise UserError(
            f"{shown(name)}: {count.written - count.base:,} values became NaN or infinite in the "
            f"merge{f' (and in {len(made) - 1} other tensors)' if len(made) > 1 else ''}: the sum "
            "is beyond what the base's dtype holds. Merge with a smaller --weight, or into a base "
            "in bfloat16 or float32; --allow-nonfinite writes it as it is."
        )


def odd_base(odd: Mapping[str, Odd]) -> list[str]:
    """A note where the base itself holds NaN or infinity."""
    of_base = {name: count.base for name, count in odd.items() if count.base}
    if not of_base:
        return []
    name, count = next(iter(of_base.items()))
    others = f" and {len(of_base) - 1} other tensors" if len(of_base) > 1 else ""
    return [
        f"The base itself holds NaN or infinity: {count:,} values of {shown(name)}{others}. "
        "They are unchanged in the merged model; download the base again if this is unexpected."
    ]


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
        if part.adapter.dora and (len(parts) > 1 or part.weight != 1.0):
            raise UserError(
                "A DoRA adapter can only be merged alone and at weight 1: it is not a sum."
            )
        if part.adapter.alora_invocation_tokens is not None:
            raise UserError(
                "An activated LoRA (alora_invocation_tokens) applies only to some tokens; merged, "
                "it would apply to all. Use it unmerged in PEFT or llama.cpp."
            )


def find_changes(
    base: Base,
    shapes: Mapping[str, tuple[int, ...]],
    parts: Sequence[Part],
    *,
    untied: bool = False,
) -> dict[str, list[Change]]:
    """Tensor name -> what is done to its values, in order.

    `untied`: the head is a tensor of its own now, so that what MLX applies to both goes to both.

    Raises:
        UserError: the base has no such tensor, or one of another shape.
    """
    kind = base.model_type
    places = {slot(name, kind): name for name in shapes}
    made: dict[str, list[Change]] = {}
    for part in parts:
        for module, pair in part.adapter.pairs.items():
            if pair.kind == "experts":
                first = keeps_input_first(kind)
                stacked = of_stack(module, pair, part.weight, places, input_first=first)
                if stacked is not None:
                    made.setdefault(places[stacked[0]], []).append(stacked[1])
                    continue
            transposed = is_transposed(module, kind)
            for place, change in of_pair(module, pair, part.weight, transposed=transposed):
                made.setdefault(_find(places, place, base), []).append(change)
                if untied and part.source == "mlx" and is_embedding(module):
                    made.setdefault(_find(places, HEAD, base), []).append(change)
        for name, array in part.adapter.saved.items():
            if name.endswith(".base_layer.weight"):
                continue  # a copy of the base's own
            # PEFT keeps a trained bias of a module that it wraps under base_layer.
            target = _find(places, slot(name.replace(".base_layer.", "."), kind), base)
            change = replacement(name, array, part.weight, shapes[target])
            made.setdefault(target, []).append(change)
    return made


def _find(places: Mapping[Slot, str], place: Slot, base: Base) -> str:
    if place in places:
        return places[place]
    lacks = f"{base.folder}: has no {place.kind} of {shown(place.module)} to merge into"
    head = place.module.rpartition(".")[0]
    if any(Slot(head, f"{part}_blocks") in places for part in ("gate_up_proj", "down_proj")):
        raise UserError(
            f"{lacks}: its experts are in blocks of 4 bits (MXFP4). Add --dequantize, which writes "
            "them in full precision."
        )
    raise UserError(
        f"{lacks}. Give --base the model that the adapter was trained on, with the names that "
        "transformers saves it under; or train again without this module (livery train "
        "--lora-targets)."
    )


def _jobs(
    file: TensorFile,
    changes: Mapping[str, list[Change]],
    added: Mapping[str, Added],
    path: Path,
) -> Iterable[Job]:
    """What makes one shard: its header and tensors, and those added beside them, at the end."""
    end = file.path.stat().st_size
    begin = min((entry.start for entry in file.entries.values()), default=end)
    new = {name: tensor for name, tensor in added.items() if tensor.like in file.entries}
    header = _head_of(file.path, begin) if not new else _header(file, begin, new)
    shift = len(header) - begin
    starts: dict[str, int] = {}
    at = end + shift
    for name, tensor in new.items():
        starts[name] = at
        at += math.prod(tensor.shape) * WIDTH[file.dtype(tensor.like)]
    with path.open("wb") as target:
        target.write(header)
        target.truncate(at)
    for name, entry in sorted(file.entries.items(), key=lambda item: item[1].start):
        start = entry.start + shift
        if name in changes:
            yield Computed(name, Stored(file, name), changes[name], file.dtype(name), path, start)
        else:
            dtype = STORED.get(entry.tag, "")
            yield Copied(file.path, entry.start, entry.end, path, start, name, dtype)
    for name, tensor in new.items():
        source: Source = Stored(file, tensor.like) if tensor.copied else Zeros(tensor.shape)
        dtype = file.dtype(tensor.like)
        yield Computed(name, source, changes.get(name, []), dtype, path, starts[name])


def _head_of(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)


def _header(file: TensorFile, begin: int, new: Mapping[str, Added]) -> bytes:
    """The file's header with more tensors at the end of its data, which begins at `begin`."""
    header: dict[str, Any] = {"__metadata__": dict(file.metadata)} if file.metadata else {}
    at = 0
    for name, entry in file.entries.items():
        offsets = [entry.start - begin, entry.end - begin]
        header[name] = {"dtype": entry.tag, "shape": list(entry.shape), "data_offsets": offsets}
        at = max(at, offsets[1])
    for name, tensor in new.items():
        tag = file.entries[tensor.like].tag
        end = at + math.prod(tensor.shape) * WIDTH[STORED[tag]]
        header[name] = {"dtype": tag, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw
