"""The GGUF container: adapters are read through a memory map, everything is written in a stream.

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livery.errors import UserError
from livery.files import atomic_write
from livery.safetensors_file import encode

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = 32
# Metadata types: struct format by number; 8 is a string, 9 an array.
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q",
    12: "<d",
}  # fmt: skip
_STRING, _ARRAY, _BOOL, _U32, _F32 = 8, 9, 7, 4, 6
_ARRAYS = {"u1": 0, "b1": 7, "u4": 4, "i4": 5, "f4": 6}
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
_LONGEST_NAME = 63  # llama.cpp's GGML_MAX_NAME less its end
# Bounds. Published models have some 60 fields, 800,000 strings in arrays and 2,000 tensors.
_MOST_FIELDS = _MOST_TENSORS = 1 << 16
_MOST_STRINGS = 1 << 22


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
                f"{self.path}: {name}: stored as {entry.dtype}, which nothing here decodes."
            ) from None


@dataclass(frozen=True)
class Lazy:
    """A tensor that is made when its turn comes to be written."""

    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]


Value = str | bool | int | float | list[int] | list[str] | np.ndarray


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
        if kind == _STRING:
            return self.text()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind != _ARRAY:
            raise broken(self.path, f"metadata of unknown type {kind}")
        inner, count = self.scalar("<I"), self.scalar("<Q")
        if inner in _SCALARS:
            form: Any = _SCALARS[inner]
            size = count * struct.calcsize(form)
            at = self.skip(size)
            return memoryview(self.data)[at : at + size].cast(form[1:])
        if inner != _STRING:  # llama.cpp reads no arrays of arrays
            raise broken(self.path, f"an array of elements of type {inner}")
        self.strings += count
        if count * 8 > len(self.data) - self.at or self.strings > _MOST_STRINGS:
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
    if reader.data[:4] != _MAGIC:
        raise broken(path, "it does not start with GGUF")
    reader.at = 4
    version = reader.scalar("<I")
    if version not in _VERSIONS:
        raise UserError(f"{path}: GGUF version {version}; known are 2 and 3 (little-endian).")
    tensors, fields = reader.scalar("<Q"), reader.scalar("<Q")
    # What the smallest of each takes, and what no file has.
    fit = tensors * 32 + fields * 13 <= len(reader.data)
    if not fit or tensors > _MOST_TENSORS or fields > _MOST_FIELDS:
        raise broken(path, f"{tensors} tensors and {fields} fields cannot be in it")
    metadata: dict[str, Any] = {}
    for _ in range(fields):
        key = reader.name()
        if key in metadata:
            raise broken(path, f"the field {key!r} occurs twice")
        metadata[key] = reader.value(reader.scalar("<I"))
    heads = [_head(reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise broken(path, f"general.alignment is {alignment!r}, no power of two")
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
            raise UserError(f"{path}: cannot be read (no plain file).")
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
    if len(name.encode()) > _LONGEST_NAME:
        raise broken(reader.path, f"the tensor's name {name[:80]!r} is too long")
    if count > 4:
        raise broken(reader.path, f"{name!r} has {count} dimensions")
    shape = tuple(reader.scalar("<Q") for _ in range(count))[::-1]
    return name, shape, reader.scalar("<I"), reader.scalar("<Q")


def _size(path: Path, name: str, shape: tuple[int, ...], number: int) -> int:
    """The bytes that a tensor takes."""
    block = _block(number)
    if block is None:
        raise broken(path, f"{name!r} is stored in GGML type {number}, which there is not")
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
            text, and arrays of uint8, bool, uint32, int32 or float32, in their order.
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
