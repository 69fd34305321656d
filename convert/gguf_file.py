"""The GGUF container: adapters are read through a memory map, everything is written in a stream.

Layout (version 3, little-endian): magic, version, tensor count, metadata count; metadata (key,
type, value); tensor entries (name, dimensions fastest first, type, offset); padding to the
alignment; the tensors, each padded. Every count and offset is checked against the file before it
is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.safetensors_file import encode
from livery.errors import UserError
from livery.files import atomic_write

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32
# Metadata types: struct format by number; 8 is a string, 9 an array.
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY, _BOOL, _U32, _F32 = 8, 9, 7, 4, 6
_ARRAYS = {"u1": 0, "u4": 4, "i4": 5, "f4": 6}
# Tensor types: name -> (number, values a block, bytes a block).
TYPES = {
    "float32": (0, 1, 4),
    "float16": (1, 1, 2),
    "bfloat16": (30, 1, 2),
    "q8_0": (8, 32, 34),
    "q4_0": (2, 32, 18),
    "q5_0": (6, 32, 22),
    "q5_1": (7, 32, 24),
    "q4_k": (12, 256, 144),
    "q5_k": (13, 256, 176),
    "q6_k": (14, 256, 210),
}
# Those that llama.cpp loads adapters in.
_BY_NUMBER = {TYPES[name][0]: name for name in ("float32", "float16", "bfloat16", "q8_0")}
_VIEWS = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "q8_0": "u1"}
_LONGEST_NAME = 63  # llama.cpp's GGML_MAX_NAME less its end


@dataclass(frozen=True)
class GgufEntry:
    """One tensor: stored type, numpy shape, first byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class GgufFile:
    """An opened file: metadata, and entries by tensor name."""

    path: Path
    metadata: Mapping[str, Any]
    entries: Mapping[str, GgufEntry]

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32 or float16; bfloat16 and q8_0 are widened to float32."""
        entry = self.entries[name]
        if entry.dtype == "q8_0":
            rows = (*entry.shape[:-1], entry.shape[-1] // 32 * 34)
            from gguf.constants import GGMLQuantizationType
            from gguf.quants import dequantize

            raw = np.memmap(self.path, "u1", "r", entry.start, rows)
            return dequantize(np.asarray(raw), GGMLQuantizationType.Q8_0)
        view = np.memmap(self.path, _VIEWS[entry.dtype], "r", entry.start, entry.shape)
        if entry.dtype == "bfloat16":
            return (view.astype(np.uint32) << 16).view(np.float32)
        return view.view(np.ndarray)


@dataclass(frozen=True)
class Lazy:
    """A tensor that is made when its turn comes to be written."""

    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]


Value = str | bool | int | float | list[int] | list[str] | np.ndarray


class _Reader:
    """Walks over the header; every read is checked against the end of the file."""

    def __init__(self, path: Path, data: np.ndarray) -> None:
        self.path, self.data, self.at = path, data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise broken(self.path, f"it ends at byte {len(self.data)}, within its header")
        self.at += count
        return self.data[self.at - count : self.at].tobytes()

    def scalar(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        try:
            return self.take(self.scalar("<Q")).decode("utf-8")
        except UnicodeDecodeError:
            raise broken(self.path, "a name in its header is not UTF-8") from None

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.text()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind != _ARRAY or depth > 2:
            raise broken(self.path, f"metadata of unknown type {kind}")
        inner, count = self.scalar("<I"), self.scalar("<Q")
        if inner in _SCALARS:
            form = _SCALARS[inner]
            raw = self.take(count * struct.calcsize(form))
            return [item[0] for item in struct.iter_unpack(form, raw)]
        least = 8 if inner == _STRING else 12  # bytes that any element takes
        if count * least > len(self.data) - self.at:
            raise broken(self.path, f"an array of {count} elements does not fit")
        return [self.value(inner, depth + 1) for _ in range(count)]


def open_gguf(path: str | Path, *, known_types: bool = True) -> GgufFile:
    """Read and check the header.

    Args:
        known_types: refuse tensors of types that adapters cannot have; otherwise leave them out.

    Raises:
        UserError: no such file, or anything in it that the format does not allow.
    """
    path = Path(path)
    try:
        data = np.memmap(path, "u1", "r") if path.stat().st_size else np.zeros(0, np.uint8)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None
    reader = _Reader(path, data)
    if reader.take(4) != _MAGIC:
        raise broken(path, "it does not start with GGUF")
    version = reader.scalar("<I")
    if version not in _VERSIONS:
        raise UserError(f"{path}: GGUF version {version}; known are 2 and 3 (little-endian).")
    tensors, fields = reader.scalar("<Q"), reader.scalar("<Q")
    if tensors * 32 + fields * 13 > len(data):  # what the smallest of each takes
        raise broken(path, f"{tensors} tensors and {fields} fields cannot fit in it")
    metadata: dict[str, Any] = {}
    for _ in range(fields):
        key = reader.text()
        if key in metadata:
            raise broken(path, f"the field {key!r} occurs twice")
        metadata[key] = reader.value(reader.scalar("<I"))
    heads: list[tuple[str, tuple[int, ...], int, int]] = []
    for _ in range(tensors):
        name, count = reader.text(), reader.scalar("<I")
        if count > 4:
            raise broken(path, f"{name!r} has {count} dimensions")
        shape = tuple(reader.scalar("<Q") for _ in range(count))[::-1]
        heads.append((name, shape, reader.scalar("<I"), reader.scalar("<Q")))
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20:
        raise broken(path, f"general.alignment is {alignment!r}")
    base = reader.at + -reader.at % alignment
    entries: dict[str, GgufEntry] = {}
    for name, shape, number, offset in heads:
        if name in entries:
            raise broken(path, f"the tensor {name!r} occurs twice")
        if known_types or number in _BY_NUMBER:
            entries[name] = _entry(path, name, shape, number, base + offset, len(data))
    return GgufFile(path, metadata, entries)


def _entry(
    path: Path, name: str, shape: tuple[int, ...], number: int, start: int, size: int
) -> GgufEntry:
    dtype = _BY_NUMBER.get(number)
    if dtype is None:
        raise UserError(
            f"{path}: {name}: stored in GGML type {number}; adapters are f32, f16, bf16 or q8_0."
        )
    _, values, width = TYPES[dtype]
    if not shape or 0 in shape or shape[-1] % values:
        raise broken(path, f"{name!r} has shape {shape}")
    if start + math.prod(shape) // values * width > size:
        raise broken(path, f"{name!r} of shape {shape} ends beyond byte {size}, the file's end")
    return GgufEntry(dtype, shape, start)


def broken(path: Path, why: str) -> UserError:
    return UserError(f"{path}: not a whole GGUF file: {why}. Download or export it again.")


def write_gguf(
    path: str | Path,
    metadata: Mapping[str, Value],
    tensors: Mapping[str, np.ndarray | Lazy],
    dtypes: Mapping[str, str],
    *,
    quantize: Callable[[np.ndarray, str], np.ndarray] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write atomically, one tensor at a time.

    Args:
        metadata: text, truth values, integers (u32), floats (f32), lists of integers (u32) or of
            text, and arrays of uint8, uint32, int32 or float32, in their order.
        tensors: arrays by name; views are fine.
        dtypes: how each is stored, a key of `TYPES`.
        quantize: makes the blocks of a quantized type; the gguf package's own without it, which
            has no K-quants.
        progress: called with (bytes written, bytes in all).

    Raises:
        UserError: a name is too long, or a tensor has no form in its type.
    """
    head = [_MAGIC, struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        head.append(_packed(key) + _field(value))
    at = 0
    for name, array in tensors.items():
        if len(name.encode()) > _LONGEST_NAME:
            raise UserError(f"{name}: longer than the {_LONGEST_NAME} bytes that GGUF names have.")
        number, values, width = TYPES[dtypes[name]]
        dims, size = array.shape[::-1], math.prod(array.shape) // values * width
        head.append(_packed(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        head.append(struct.pack("<IQ", number, at))
        at += size + -size % _ALIGNMENT
    raw = b"".join(head)
    done = 0
    if progress:
        progress(0, at)
    with atomic_write(path) as file:
        file.write(raw + bytes(-len(raw) % _ALIGNMENT))
        for name, array in tensors.items():
            made = array.make() if isinstance(array, Lazy) else array
            try:
                bits = _encode(made, dtypes[name], quantize)
            except UserError as error:
                raise UserError(f"{name}: {error}.") from None
            file.write(bits.data)
            done += file.write(bytes(-bits.nbytes % _ALIGNMENT)) + bits.nbytes
            if progress:
                progress(done, at)


def _packed(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _encode(
    array: np.ndarray, dtype: str, quantizer: Callable[[np.ndarray, str], np.ndarray] | None
) -> np.ndarray:
    if TYPES[dtype][1] == 1:
        return encode(array, dtype)
    if quantizer:
        return quantizer(array, dtype)
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize

    return quantize(array.astype(np.float32), GGMLQuantizationType(TYPES[dtype][0]))


def _field(value: Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _packed(value)
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, np.ndarray):
        kind = _ARRAYS[value.dtype.str[1:]]
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + value.tobytes()
    if isinstance(value, list) and value and isinstance(value[0], str):
        texts = b"".join(_packed(str(text)) for text in value)
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + texts
    if isinstance(value, list):
        return struct.pack(f"<IIQ{len(value)}I", _ARRAY, _U32, len(value), *value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    return struct.pack("<If", _F32, value)
