"""Writing the GGUF container in a stream, one tensor at a time; `livery.gguf_reader` reads it and
has the layout."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livery.errors import UserError
from livery.files import atomic_write
from livery.gguf_reader import ALIGNMENT, ARRAY, BOOL, F32, LONGEST_NAME, MAGIC, STRING, TYPES, U32
from livery.progress import OnProgress
from livery.safetensors_file import encode

_ARRAYS = {"u1": 0, "b1": 7, "u4": 4, "i4": 5, "f4": 6}


@dataclass(frozen=True)
class Lazy:
    """A tensor that is made when its turn comes to be written."""

    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]


Value = str | bool | int | float | list[int] | list[str] | np.ndarray


def write_gguf(
    path: str | Path,
    metadata: Mapping[str, Value],
    tensors: Mapping[str, np.ndarray | Lazy],
    dtypes: Mapping[str, str],
    *,
    quantize: Callable[[np.ndarray, str], np.ndarray] | None = None,
    progress: OnProgress | None = None,
    finite: bool = False,
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
        finite: refuse NaN and infinity, and what would become infinite in its type.

    Raises:
        UserError: a name is too long, or a tensor has no form in its type.
    """
    head = [MAGIC, struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        head.append(_packed(key) + _field(value))
    at = 0
    for name, array in tensors.items():
        if len(name.encode()) > LONGEST_NAME:
            raise UserError(f"{name}: longer than the {LONGEST_NAME} bytes that GGUF names have.")
        number, values, width = TYPES[dtypes[name]]
        dims, size = array.shape[::-1], math.prod(array.shape) // values * width
        head.append(_packed(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims))
        head.append(struct.pack("<IQ", number, at))
        at += size + -size % ALIGNMENT
    raw = b"".join(head)
    done = 0
    if progress:
        progress(0, at)
    with atomic_write(path) as file:
        file.write(raw + bytes(-len(raw) % ALIGNMENT))
        for name, array in tensors.items():
            made = array.make() if isinstance(array, Lazy) else array
            try:
                if finite:
                    _check_finite(made, dtypes[name])
                bits = _encode(made, dtypes[name], quantize)
            except UserError as error:
                raise UserError(f"{name}: {error}.") from None
            file.write(bits.data)
            done += file.write(bytes(-bits.nbytes % ALIGNMENT)) + bits.nbytes
            if progress:
                progress(done, at)


# Scales of blocks are float16, and what they multiply is at most this large.
_IN_BLOCKS = {"q8_0": 127, "q4_0": 8}


def _check_finite(array: np.ndarray, dtype: str) -> None:
    most = max(float(array.max()), -float(array.min())) if array.size else 0.0  # NaN stays NaN
    if not np.isfinite(most):
        odd = array.size - int(np.isfinite(array).sum())
        raise UserError(
            f"{odd:,} of {array.size:,} values are NaN or infinite, in the model itself. Download "
            "it again, or merge its adapter again"
        )
    largest = {"float16": 65519.0, "bfloat16": 3.3895e38, "float32": np.inf}.get(dtype)
    if largest is None and dtype in _IN_BLOCKS:
        largest = 65504.0 * _IN_BLOCKS[dtype]
    if largest is not None and most > largest:
        raise UserError(
            f"its values reach {most:g}, beyond what {dtype} holds ({largest:g}). Write the model "
            "with --type f32 or bf16"
        )


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
        return struct.pack("<I", STRING) + _packed(value)
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, np.ndarray):
        kind = _ARRAYS[value.dtype.str[1:]]
        return struct.pack("<IIQ", ARRAY, kind, len(value)) + value.tobytes()
    if isinstance(value, list) and value and isinstance(value[0], str):
        texts = b"".join(_packed(str(text)) for text in value)
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + texts
    if isinstance(value, list):
        return struct.pack(f"<IIQ{len(value)}I", ARRAY, U32, len(value), *value)
    if isinstance(value, int):
        return struct.pack("<II", U32, value)
    return struct.pack("<If", F32, value)
