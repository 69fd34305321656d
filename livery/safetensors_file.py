"""The safetensors format: read through a memory map, written one tensor at a time.

The safetensors package cannot give bfloat16 to numpy and wants all tensors in memory to write.
Layout: u64 header length, JSON header {name: {dtype, shape, data_offsets}}, then the data without
holes. Every number of the header is checked against the file before anything is read: this is the
one reader of such headers, of models and adapters, and as strict as the format's own.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livery.errors import UserError, shown
from livery.files import atomic_write
from livery.reading import LARGEST_HEADER, open_file, parse_json

# What adapters are stored in. bfloat16 has no numpy type: its bits are the upper half of float32's.
STORED = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_BITS = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
_TAGS = {dtype: tag for tag, dtype in STORED.items()}
# Bits of a value, for every type that the format has.
_WIDTHS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16,
    "BF16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """Where one tensor is: offsets in bytes from the start of the file."""

    tag: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class TensorFile:
    """An opened file: entries by name, and the metadata strings of its header."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]

    def dtype(self, name: str) -> str:
        """ "float32", "float16" or "bfloat16". Raises UserError for any other."""
        tag = self.entries[name].tag
        if tag not in STORED:
            raise UserError(
                f"{self.path}: {shown(name)} is stored as {tag}; adapters are F32, F16 or BF16. "
                "Save it again in one of these."
            )
        return STORED[tag]

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32 or float16; a view of the file but for bfloat16, which is widened
        to float32."""
        entry, dtype = self.entries[name], self.dtype(name)
        if math.prod(entry.shape) == 0:
            return np.zeros(entry.shape, np.float16 if dtype == "float16" else np.float32)
        view = np.memmap(self.path, _BITS[dtype], "r", entry.start, entry.shape)
        if dtype == "bfloat16":
            return (view.astype(np.uint32) << 16).view(np.float32)
        return view.view(np.ndarray)


def open_tensors(path: str | Path) -> TensorFile:
    """Read and check the header.

    Raises:
        UserError: as `open_file` and `parse_json`, a git-lfs pointer, or anything in it that the
            format does not allow.
    """
    path = Path(path)
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(LARGEST_HEADER, size - 8):
            file.seek(0)
            if file.read(24) == b"version https://git-lfs.":
                raise UserError(
                    f"{shown(path, 1000)}: a git-lfs pointer, not the weights: git lfs pull."
                )
            raise _broken(path, "the header would be longer than the file")
        raw = file.read(length)
    if raw.startswith(b"\xef\xbb\xbf"):  # nobody else's reader takes it
        raise _broken(path, "its header begins with a byte-order mark")
    header = parse_json(raw, f"{shown(path, 1000)}: not a complete safetensors file: its header")
    if not isinstance(header, dict):
        raise _broken(path, "its header is not a JSON object")
    metadata = header.pop("__metadata__", None)  # MLX writes null for none
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken(path, "__metadata__ must map names to text")
    base = 8 + length
    entries = {name: _entry(path, name, value, base, size) for name, value in header.items()}
    _check_coverage(path, entries, base, size)
    return TensorFile(path, entries, metadata)


def _entry(path: Path, name: str, value: Any, base: int, size: int) -> Entry:
    try:
        tag, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
        start, end = offsets
        whole = all(type(n) is int and n >= 0 for n in [*shape, start, end])
        width = _WIDTHS[tag]
    except (TypeError, KeyError, ValueError):
        raise _broken(path, f"the entry of {shown(name)} is not one of a known tensor") from None
    if not whole or len(shape) > 8 or 8 * (end - start) != math.prod(shape) * width:
        raise _broken(
            path,
            f"{shown(name)}: shape {shown(shape, 80)} of {tag} does not fill bytes {start}–{end}",
        )
    if base + end > size:
        raise _broken(path, f"{shown(name)} ends at byte {base + end}, the file at {size}")
    return Entry(tag, tuple(shape), base + start, base + end)


def _check_coverage(path: Path, entries: Mapping[str, Entry], base: int, size: int) -> None:
    at = base
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != at:
            raise _broken(path, f"{shown(name)} leaves a hole or overlaps at byte {entry.start}")
        at = entry.end
    if at != size:
        raise _broken(path, f"{size - at} bytes belong to no tensor")


def _broken(path: Path, why: str) -> UserError:
    return UserError(
        f"{shown(path, 1000)}: not a complete safetensors file: {why}. Download or export it again."
    )


def stored_dtype(array: np.ndarray, wanted: str) -> str:
    """`wanted` where it holds every value of `array` exactly, else "float32"."""
    if wanted == "float32" or (wanted == "float16" and array.dtype == np.float16):
        return wanted
    return wanted if np.array_equal(round_to(array, wanted), array) else "float32"


def encode(array: np.ndarray, dtype: str) -> np.ndarray:
    """The array in `dtype`'s bits (bfloat16 as uint16), rounded to nearest even, C-contiguous."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
        rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
        quiet = (bits >> 16) | 0x40  # rounding must not carry a NaN into infinity
        return np.where(np.isnan(array), quiet, rounded).astype(np.uint16)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=_BITS[dtype])


def check_overflow(
    array: np.ndarray, rounded: np.ndarray, name: str, dtype: str, *, write_anyway: bool = True
) -> None:
    """Refuse finite values that became infinite when they were rounded to `dtype`.

    Args:
        write_anyway: the command has --allow-nonfinite.

    Raises:
        UserError: naming the tensor, how many, and the largest.
    """
    lost = np.isinf(rounded) & np.isfinite(array)
    if lost.any():
        most = float(np.abs(array[lost]).max())
        raise UserError(
            f"{shown(name)}: {int(lost.sum()):,} of {array.size:,} values are beyond what {dtype} "
            f"holds (the largest is {most:g}). Use float32"
            f"{' or bfloat16' if dtype == 'float16' else ''}"
            f"{'; --allow-nonfinite writes infinity' if write_anyway else ''}."
        )


def round_to(array: np.ndarray, dtype: str) -> np.ndarray:
    """The array with its values rounded to what `dtype` can hold."""
    return _restore(encode(array, dtype), dtype)


def _restore(bits: np.ndarray, dtype: str) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else bits


def write_tensors(
    path: str | Path,
    tensors: Mapping[str, np.ndarray],
    dtypes: Mapping[str, str],
    metadata: Mapping[str, str],
) -> None:
    """Write atomically, one tensor at a time.

    Args:
        tensors: arrays by name; views are fine, each is made contiguous when its turn comes.
        dtypes: how each is stored: "float32", "float16" or "bfloat16".
        metadata: strings of the header.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, array in sorted(tensors.items()):
        tag = _TAGS[dtypes[name]]
        end = at + array.size * _WIDTHS[tag] // 8
        header[name] = {"dtype": tag, "shape": list(array.shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with atomic_write(path) as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for name, array in sorted(tensors.items()):
            file.write(encode(array, dtypes[name]).data)


def write_parts(
    path: str | Path,
    parts: Sequence[Mapping[str, tuple[tuple[int, ...], str]]],
    make: Callable[[int], Mapping[str, np.ndarray]],
    metadata: Mapping[str, str],
) -> None:
    """Write atomically tensors that are made when their turn comes.

    Args:
        parts: what comes after what: name -> (shape, "float32", "float16" or "bfloat16").
        make: the arrays of the part with this number; only they are held.
        metadata: strings of the header.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for part in parts:
        for name, (shape, dtype) in part.items():
            end = at + math.prod(shape) * _WIDTHS[_TAGS[dtype]] // 8
            entry = {"dtype": _TAGS[dtype], "shape": list(shape), "data_offsets": [at, end]}
            header[name], at = entry, end
    raw = json.dumps(header, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    with atomic_write(path) as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for number, part in enumerate(parts):
            made = make(number)
            for name, (shape, dtype) in part.items():
                if made[name].shape != shape:
                    raise ValueError(f"{name}: {made[name].shape}, announced as {shape}")
                file.write(encode(made[name], dtype).data)
