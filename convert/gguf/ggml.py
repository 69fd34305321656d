"""ggml's quantizer: in the shared library of the xllamacpp package, or llama.cpp's own program.

`ggml_quantize_chunk` is exported there but no part of that package's interface, so nothing is taken
for granted: the library and the function may be missing, and before use each type has to encode
numbers that the gguf package then decodes to what they were. The alternative is llama.cpp's
`llama-quantize` on PATH.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from livery.errors import UserError
from livery.files import disk_full, explain_os_errors, says_full_disk
from livery.gguf_reader import TYPES
from livery.machine import cores
from livery.progress import OnProgress
from livery.temporary import Scratch

_CHUNK = 1 << 20  # values that a thread quantizes at a time
# Mean error over mean size that each type stays below on normally distributed numbers.
_ERROR = {"q4_k": 0.12, "q5_k": 0.06, "q6_k": 0.03, "q8_0": 0.01, "q5_0": 0.08, "q5_1": 0.08}

Quantizer = Callable[[np.ndarray, str], np.ndarray]
"""(array (…, in), a key of `TYPES`) -> its blocks (…, bytes a row), uint8."""


class Unavailable(Exception):
    """No ggml is available here; the message says why."""


@functools.cache
def load() -> Quantizer:
    """The quantizer of xllamacpp's library.

    Raises:
        Unavailable: the package is not installed, has no such function, or the function does not
            do what it did when this was written.
    """
    function = _function(_library())
    for dtype in _ERROR:
        check_encoder(function, dtype)
    return functools.partial(_quantize, function)


def _library() -> Path:
    spec = importlib.util.find_spec("xllamacpp")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for suffix in ("so", "pyd", "dylib"):
            found = sorted(Path(folder).glob(f"xllamacpp*.{suffix}"))
            if found:
                return found[0]
    raise Unavailable("the package xllamacpp is not installed")


def _function(path: Path) -> Any:
    try:
        function = ctypes.CDLL(str(path)).ggml_quantize_chunk
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{path.name} has no ggml_quantize_chunk to call ({error})") from error
    function.restype = ctypes.c_size_t
    # type, source, target, first value, rows, values a row, importance (none). Some builds take one
    # more pointer; a null one too many does no harm in any C calling convention.
    function.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
        ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
    ]  # fmt: skip
    return function


def check_encoder(function: Any, dtype: str) -> None:
    """Raises Unavailable unless what `function` makes of some numbers decodes to them."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    values = np.random.default_rng(0).normal(size=(2, 512)).astype(np.float32)
    blocks = _rows(function, values, dtype)
    back = dequantize(blocks, GGMLQuantizationType(TYPES[dtype][0]))
    error = np.abs(back - values).mean() / np.abs(values).mean()
    if not error < _ERROR[dtype]:
        raise Unavailable(f"its ggml_quantize_chunk does not write {dtype} as expected")


def _rows(function: Any, values: np.ndarray, dtype: str) -> np.ndarray:
    """Quantize float32 rows (rows, in) in this thread."""
    number, size, width = TYPES[dtype]
    rows, row = values.shape
    out = np.zeros((rows, row // size * width), np.uint8)
    written = function(number, values.ctypes.data, out.ctypes.data, 0, rows, row, None, None)
    if written != out.nbytes:
        raise Unavailable(f"its ggml_quantize_chunk wrote {written} bytes of {out.nbytes}")
    return out


def _quantize(function: Any, array: np.ndarray, dtype: str) -> np.ndarray:
    """The array's blocks, made by all cores; see `Quantizer`.

    Raises:
        UserError: the array holds infinities or NaN, for which no block has a code.
    """
    number, size, width = TYPES[dtype]
    row = array.shape[-1]
    assert row % size == 0, (number, array.shape)
    rows = array.reshape(-1, row)
    out = np.empty((len(rows), row // size * width), np.uint8)
    step = max(1, _CHUNK // row)

    def part(first: int) -> None:
        values = np.ascontiguousarray(rows[first : first + step], np.float32)
        if not np.isfinite(values).all():
            raise UserError("holds infinities or NaN, which no quantized type can store")
        out[first : first + step] = _rows(function, values, dtype)

    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(part, range(0, len(rows), step)):
            pass
    return out.reshape(*array.shape[:-1], -1)


PROGRAM = "llama-quantize"
_STEP = re.compile(r"^\[\s*(\d+)/\s*(\d+)\]")


def quantize_file(
    source: Path,
    out: Path,
    mix: str,
    *,
    threads: int,
    progress: OnProgress | None = None,
) -> None:
    """Quantize a GGUF file of full precision; `out` is either whole or not there.

    Args:
        source: the file to read.
        out: the file to write.
        mix: a key of `k_quants.MIXES`.
        threads: for the program.
        progress: called with (tensors done, tensors in all).

    Raises:
        UserError: the program is not on PATH or fails; its last lines are in the message.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise UserError(f"{PROGRAM} is not on PATH.")
    with (
        explain_os_errors(out, "quantizing"),
        Scratch("quantize", beside=out) as folder,
    ):
        fresh = folder / "quantized.gguf"
        command = [program, str(source), str(fresh), mix.upper(), str(threads)]
        last: list[str] = []
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as child:
            for line in child.stdout or ():
                last = [*last[-19:], line]
                step = _STEP.match(line)
                if step and progress:
                    progress(int(step[1]), int(step[2]))
        if child.returncode or not fresh.exists():
            if says_full_disk("".join(last)):
                raise disk_full(out, "quantizing")
            raise UserError(
                f"{program} ended with code {child.returncode}:\n{''.join(last).strip()}"
            )
        fresh.replace(out)
