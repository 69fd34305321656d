"""Reading the GGUF container through a memory map; `convert.gguf.file` writes it.

Layout (version 3, little-endian): magic, version, tensor count, metadata count; metadata (key,
type, value); tensor entries (name, dimensions fastest first, type, offset); padding to the
alignment; the tensors in the order of their entries, each padded, without gaps. Every count and
offset is checked against the file before it is used, and what has no end in any sane file against
a bound; llama.cpp's reader (gguf.cpp) is as strict, but for the bounds.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livery.errors import UserError, shown

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
ALIGNMENT = 32
# Metadata types: struct format by number; 8 is a string, 9 an array.
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
STRING, ARRAY, BOOL, U32, F32 = 8, 9, 7, 4, 6
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
_PLAIN = {TYPES[name][0]: name for name in ("float32", "float16", "bfloat16")}
_VIEWS = {"float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}
_INTEGERS = range(24, 29)  # types of tensors that are no weights: i8 to i64, f64
LONGEST_NAME = 63  # llama.cpp's GGML_MAX_NAME less its end
# Bounds. Published models have some 60 fields, 800,000 strings in arrays and 2,000 tensors.
_MOST_FIELDS = _MOST_TENSORS = 1 << 16
MOST_STRINGS = 1 << 22


@dataclass(frozen=True)
class GgufEntry:
    """One tensor: stored type (a key of `TYPES`, or GGML's own name), numpy shape, first byte in
    the file, and GGML's number of the type."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    number: int


@dataclass(frozen=True)
class GgufFile:
    """An opened file: metadata, and entries by tensor name."""

    path: Path
    metadata: Mapping[str, Any]
    entries: Mapping[str, GgufEntry]

    def read(self, name: str) -> np.ndarray:
        """The tensor as float32 or float16; bfloat16 and blocks are widened to float32.

        Raises:
            UserError: it is stored in blocks that the gguf package cannot decode.
        """
        entry = self.entries[name]
        if entry.dtype not in _VIEWS:
            return self._blocks(name, entry)
        view = np.memmap(self.path, _VIEWS[entry.dtype], "r", entry.start, entry.shape)
        if entry.dtype == "bfloat16":
            return (view.astype(np.uint32) << 16).view(np.float32)
        return view.view(np.ndarray)

    def _blocks(self, name: str, entry: GgufEntry) -> np.ndarray:
        from gguf.constants import GGMLQuantizationType
        from gguf.quants import dequantize

        values, width = _block(entry.number) or (1, 1)
        rows = (*entry.shape[:-1], entry.shape[-1] // values * width)
        raw = np.memmap(self.path, "u1", "r", entry.start, rows)
        try:
            return dequantize(np.asarray(raw), GGMLQuantizationType(entry.number))
        except NotImplementedError:
            raise UserError(
                f"{self.path}: {name}: stored as {entry.dtype}, which Livery cannot decode."
            ) from None


class _Reader:
    """Walks over the header; every read is checked against the end of the file."""

    def __init__(self, path: Path, data: mmap.mmap | bytes) -> None:
        self.path, self.data, self.at, self.strings = path, data, 0, 0

    def skip(self, count: int) -> int:
        """Step over so many bytes; returns where they begin."""
        at = self.at
        if count > len(self.data) - at:
            raise broken(self.path, f"it ends at byte {len(self.data)}, within its header")
        self.at = at + count
        return at

    def scalar(self, form: str) -> Any:
        return struct.unpack_from(form, self.data, self.skip(struct.calcsize(form)))[0]

    def text(self) -> str:
        count = self.scalar("<Q")
        at = self.skip(count)
        try:
            return self.data[at : at + count].decode("utf-8")
        except UnicodeDecodeError:
            raise broken(self.path, "a text in its header is not UTF-8") from None

    def name(self) -> str:
        """The name of a field or tensor."""
        (count,) = struct.unpack_from("<Q", self.data, self.skip(8))
        if not 0 < count <= 0xFFFF:
            raise broken(self.path, f"a name of {count} bytes in its header")
        self.at -= 8
        return self.text()

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.text()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind != ARRAY:
            raise broken(self.path, f"metadata of unknown type {kind}")
        inner, count = self.scalar("<I"), self.scalar("<Q")
        if inner in _SCALARS:
            form: Any = _SCALARS[inner]
            size = count * struct.calcsize(form)
            at = self.skip(size)
            return memoryview(self.data)[at : at + size].cast(form[1:])
        if inner != STRING:  # llama.cpp reads no arrays of arrays
            raise broken(self.path, f"an array of elements of type {inner}")
        self.strings += count
        if count * 8 > len(self.data) - self.at or self.strings > MOST_STRINGS:
            raise broken(self.path, f"an array of {count} texts")
        return [self.text() for _ in range(count)]


def open_gguf(path: str | Path, *, known_types: bool = True) -> GgufFile:
    """Read and check the header.

    Arrays of numbers in the metadata are memory views of the file, arrays of texts are lists.

    Args:
        known_types: refuse tensors of types that no adapter has; otherwise leave them out.

    Raises:
        UserError: no such file, or anything in it that the format does not allow.
    """
    path = Path(path)
    reader = _Reader(path, _mapped(path))
    if reader.data[:4] != MAGIC:
        raise broken(path, "it does not start with GGUF")
    reader.at = 4
    version = reader.scalar("<I")
    if version not in _VERSIONS:
        raise UserError(f"{path}: GGUF version {version}; Livery reads 2 and 3 (little-endian).")
    tensors, fields = reader.scalar("<Q"), reader.scalar("<Q")
    # What the smallest of each takes, and what no file has.
    fit = tensors * 32 + fields * 13 <= len(reader.data)
    if not fit or tensors > _MOST_TENSORS or fields > _MOST_FIELDS:
        raise broken(path, f"{tensors} tensors and {fields} fields do not fit in it")
    metadata: dict[str, Any] = {}
    for _ in range(fields):
        key = reader.name()
        if key in metadata:
            raise broken(path, f"the field '{shown(key, 80)}' occurs twice")
        metadata[key] = reader.value(reader.scalar("<I"))
    heads = [_head(reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise broken(path, f"general.alignment is {shown(alignment, 40)}, not a power of two")
    start = reader.at + -reader.at % alignment
    entries: dict[str, GgufEntry] = {}
    seen: set[str] = set()
    end = 0  # of the tensors so far
    for name, shape, number, offset in heads:
        if name in seen:
            raise broken(path, f"the tensor {name!r} occurs twice")
        seen.add(name)
        if offset != end:
            raise broken(path, f"{name!r} begins at {offset}, after {end} bytes of other tensors")
        size = _size(path, name, shape, number)
        if start + offset + size > len(reader.data):
            raise broken(path, f"{name!r} of shape {shape} ends beyond the file's end")
        end += size + -size % alignment
        if number not in _INTEGERS:
            dtype = _PLAIN.get(number) or _type_name(number)
            entries[name] = GgufEntry(dtype, shape, start + offset, number)
        elif known_types:
            raise UserError(f"{path}: {name}: stored as {_type_name(number)}; no weights are.")
    return GgufFile(path, metadata, entries)


def _mapped(path: Path) -> mmap.mmap | bytes:
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot be read (not a regular file).")
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except ValueError:  # empty
        return b""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from None


def _head(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    """An entry's name, numpy shape, type and offset."""
    name, count = reader.name(), reader.scalar("<I")
    if len(name.encode()) > LONGEST_NAME:
        raise broken(reader.path, f"the tensor's name {shown(name, 80)} is too long")
    if count > 4:
        raise broken(reader.path, f"{name!r} has {count} dimensions")
    shape = tuple(reader.scalar("<Q") for _ in range(count))[::-1]
    return name, shape, reader.scalar("<I"), reader.scalar("<Q")


def _size(path: Path, name: str, shape: tuple[int, ...], number: int) -> int:
    """The bytes that a tensor takes."""
    block = _block(number)
    if block is None:
        raise broken(path, f"{name!r} is stored in GGML type {number}, which does not exist")
    values, width = block
    if not shape or 0 in shape or shape[-1] % values:
        raise broken(path, f"{name!r} has shape {shape}")
    return math.prod(shape) // values * width


def _block(number: int) -> tuple[int, int] | None:
    """(values, bytes) of a block of a GGML type; None where there is no such type."""
    known = {entry[0]: entry[1:] for entry in TYPES.values()}
    if number in known:
        return known[number]
    from gguf.constants import GGML_QUANT_SIZES

    return {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}.get(number)


def _type_name(number: int) -> str:
    from gguf.constants import GGMLQuantizationType

    return GGMLQuantizationType(number).name.lower()


def broken(path: Path, why: str) -> UserError:
    return UserError(f"{path}: not a complete GGUF file: {why}. Download or export it again.")
