"""Adapters merged into a 4-bit base, which is written in full precision.

The weights are decoded in float32, the adapter is added, and the sum is rounded once: what was lost
when the base was quantized stays lost, but nothing is added to it, and the adapter that was trained
on these very weights keeps its whole effect. The folder is a plain Hugging Face one.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from convert.base import Base, module_shapes, open_shards
from convert.merge import quantized_bnb, quantized_mlx, quantized_mxfp4
from convert.merge.blocks import WIDTH, Computed, Job, Source, Stored, Zeros, write
from convert.merge.changes import Part
from convert.merge.extend import extend, write_config
from convert.merge.merge import (
    COMMAND,
    check_odd,
    check_parts,
    copy_others,
    find_changes,
    odd_base,
)
from livery.errors import UserError
from livery.models import QUANTIZATION, nested_parts
from livery.outputs import Input, new_folder
from livery.progress import OnProgress
from livery.reading import read_object
from livery.safetensors_file import TensorFile

SHARD = 5_000_000_000  # bytes; what transformers cuts models into
_TAGS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_INDEX = "model.safetensors.index.json"


def merge_dequantized(
    base: Base,
    parts: Sequence[Part],
    out: str | Path,
    dtype: str = "auto",
    progress: OnProgress | None = None,
    *,
    allow_nonfinite: bool = False,
    overwrite: bool = False,
    inputs: Iterable[Input] = (),
) -> dict[str, Any]:
    """Write the merged model folder in full precision; returns what was done.

    Args:
        base: an MLX folder quantized by mlx-lm, or one with bitsandbytes' 4-bit weights or MXFP4
            experts.
        parts: what is merged into it, in this order.
        out: the new folder.
        dtype: what to write; "auto" is the dtype the base was quantized from.
        progress: called with (bytes written, bytes in all).
        overwrite, inputs: see `merge.merge`.

    Raises:
        UserError: the base is not quantized, or in a way that is not known here; or an adapter
            does not fit it or cannot be merged into it.
    """
    files = open_shards(base)
    tensors, original = _read(base, files)
    chosen = original if dtype == "auto" else dtype
    shapes = {name: source.shape for name, source in tensors.items()}
    known = dataclasses.replace(base, shapes=module_shapes(shapes, base.model_type))
    check_parts(known, parts)
    more = extend(known, shapes, parts)
    for name, added in more.tensors.items():
        tensors[name] = tensors[added.like] if added.copied else Zeros(added.shape)
        shapes[name] = added.shape
    changes = find_changes(known, shapes, parts, untied=more.untied)
    shards = _plan(shapes, WIDTH[chosen])
    read = (base.folder, *inputs)
    with new_folder(out, command=COMMAND, overwrite=overwrite, inputs=read) as fresh:
        copy_others(base.folder, fresh)
        (fresh / _INDEX).unlink(missing_ok=True)
        jobs: list[Job] = []
        for name, members in shards.items():
            starts = _write_header(fresh / name, members, shapes, chosen)
            jobs += [
                Computed(t, tensors[t], changes.get(t, []), chosen, fresh / name, starts[t])
                for t in members
            ]
        _write_config(fresh / "config.json", chosen)
        if len(shards) > 1:
            _write_index(fresh / _INDEX, shards, sum(job.nbytes for job in jobs))
        if more.config:
            write_config(fresh, more.config, {})
        odd = write(jobs, progress)
        check_odd(odd, allow=allow_nonfinite)
    return {
        "path": str(out),
        "shards": len(shards),
        "bytes": sum(job.nbytes for job in jobs),
        "changed": len(changes),
        "tensors": len(shapes),
        "dequantized": sum(not isinstance(source, Stored) for source in tensors.values()),
        "dtype": chosen,
        "notes": [*more.notes, *odd_base(odd)],
    }


def _read(base: Base, files: list[TensorFile]) -> tuple[dict[str, Source], str]:
    """All tensors under Hugging Face's names, and the dtype they were quantized from."""
    config: Any = read_object(base.folder / "config.json")
    if config.get("quantization"):
        made = quantized_mlx.sources(files, config, base.model_type, base.folder)
        scales = next((s for s in made.values() if isinstance(s, quantized_mlx.Quantized)), None)
        if scales is None:
            raise UserError(f"{base.folder}: config.json has quantization, but no tensor is.")
        return made, scales.file.dtype(f"{scales.module}.scales")
    settings = config.get("quantization_config")
    if not settings:
        raise UserError(f"{base.folder}: is not quantized; merge it without --dequantize.")
    method = settings.get("quant_method", "an unnamed method")
    if method not in ("bitsandbytes", "mxfp4"):
        raise UserError(
            f"{base.folder}: quantized by {method}; the 4-bit weights of MLX, bitsandbytes and "
            "gpt-oss (MXFP4) are decoded here. Merge into the full-precision base."
        )
    dtype = config.get("dtype") or config.get("torch_dtype")
    decode = quantized_mxfp4.sources if method == "mxfp4" else quantized_bnb.sources
    return decode(files, base.folder), dtype if dtype in WIDTH else "bfloat16"


def _plan(shapes: Mapping[str, tuple[int, ...]], width: int) -> dict[str, list[str]]:
    """File name -> the tensors in it."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, shape in sorted(shapes.items()):
        count = math.prod(shape) * width
        if groups[-1] and size + count > SHARD:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += count
    if len(groups) == 1:
        return {"model.safetensors": groups[0]}
    return {
        f"model-{number:05d}-of-{len(groups):05d}.safetensors": group
        for number, group in enumerate(groups, start=1)
    }


def _write_header(
    path: Path, names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], dtype: str
) -> dict[str, int]:
    """Make the file with its header and room for its tensors; returns where each begins."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    offsets: dict[str, int] = {}
    for name in names:
        end = at + math.prod(shapes[name]) * WIDTH[dtype]
        header[name] = {
            "dtype": _TAGS[dtype],
            "shape": list(shapes[name]),
            "data_offsets": [at, end],
        }
        offsets[name], at = at, end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + at)
    return {name: 8 + len(raw) + offset for name, offset in offsets.items()}


def _write_config(path: Path, dtype: str) -> None:
    """The base's config without its quantization, and with the dtype that was written."""
    config: Any = read_object(path)
    for part in (config, *nested_parts(config)):
        for key in QUANTIZATION:
            part.pop(key, None)
        for key in ("torch_dtype", "dtype"):
            if key in part:
                part[key] = dtype
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_index(path: Path, shards: Mapping[str, list[str]], size: int) -> None:
    places = {tensor: name for name, members in shards.items() for tensor in members}
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
