"""bitsandbytes' 4-bit weights (NF4, FP4), decoded, as transformers saves them.

A weight is a row of blocks; each has a scale (absmax) and two codes a byte, the first in the upper
half, which index a table of 16 numbers: w = table[code] * absmax. With double quantization absmax
is itself a table's index, times a scale of its own for every so many, plus an offset. Beside
`X.weight` are `.absmax`, `.quant_map`, `.nested_absmax`, `.nested_quant_map` and
`.quant_state.bitsandbytes__nf4` (JSON). Computed in float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convert.merge.blocks import Source, Stored, Workspace
from livery.errors import UserError
from livery.reading import parse_json
from livery.safetensors_file import TensorFile

KINDS = ("nf4", "fp4")
_DTYPES = {"U8": "u1", "F32": "<f4"}


@dataclass(frozen=True)
class Quantized:
    """One matrix. shape: of the weight; scales: (blocks,) float32; table: (16,) float32."""

    file: TensorFile
    name: str
    shape: tuple[int, ...]
    block: int
    scales: np.ndarray = field(repr=False)
    table: np.ndarray = field(repr=False)

    @property
    def step(self) -> int:
        """Rows after which a block begins."""
        row = math.prod(self.shape[1:])
        return self.block // math.gcd(row, self.block)

    def read(self, first: int, last: int, space: Workspace) -> np.ndarray:
        row = math.prod(self.shape[1:])
        count, begin = (last - first) * row, first * row
        packed = space.array("packed", np.uint8, ((count + 1) // 2,))
        space.read(self.file.path, self.file.entries[self.name].start + begin // 2, packed)
        pairs = space.array("codes", np.float32, (len(packed), 2))
        np.take(self.table, packed >> 4, out=pairs[:, 0])
        np.take(self.table, packed & 15, out=pairs[:, 1])
        values = pairs.reshape(-1)[:count]
        whole = count // self.block * self.block
        at = begin // self.block
        blocks = values[:whole].reshape(-1, self.block)
        blocks *= self.scales[at : at + len(blocks), None]
        values[whole:] *= self.scales[at + len(blocks) : at + len(blocks) + 1]
        return values.reshape(last - first, *self.shape[1:])


def sources(files: list[TensorFile], folder: Any) -> dict[str, Source]:
    """Name -> where the tensor's values come from, for all tensors of the model.

    Raises:
        UserError: 8-bit weights, a kind other than NF4 and FP4, or parts that are missing.
    """
    made: dict[str, Source] = {}
    for file in files:
        names = set(file.entries)
        states = {name: name.split(".quant_state.")[0] for name in names if ".quant_state." in name}
        belongs = {weight: name for name, weight in states.items()}
        for name, entry in file.entries.items():
            weight = next((w for w in (name, *_owners(name)) if w in belongs), None)
            if weight == name:
                made[name] = _matrix(file, name, belongs[name])
            elif weight is None:
                if entry.tag in ("I8", "U8") or name.endswith(".SCB"):
                    raise UserError(
                        f"{folder}: {name}: not bitsandbytes' 4-bit kind (8 bits?), which alone is "
                        "decoded here. Merge into the full-precision base."
                    )
                made[name] = Stored(file, name)
    return made


def _owners(name: str) -> list[str]:
    """The weights that a tensor could be a part of."""
    ends = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
    if ".quant_state." in name:
        return [name.split(".quant_state.")[0]]
    return [name.removesuffix(end) for end in ends if name.endswith(end)]


def _matrix(file: TensorFile, name: str, state_name: str) -> Quantized:
    try:
        state: dict[str, Any] = parse_json(
            _raw(file, state_name).tobytes(), f"{file.path}: {state_name}"
        )
        kind, block = state["quant_type"], int(state["blocksize"])
        shape = tuple(int(size) for size in state["shape"])
        scales, table = _raw(file, f"{name}.absmax"), _raw(file, f"{name}.quant_map")
        if "nested_blocksize" in state:
            outer = _raw(file, f"{name}.nested_quant_map")[scales]
            size = int(state["nested_blocksize"])
            scale = np.repeat(_raw(file, f"{name}.nested_absmax"), size)[: len(outer)]
            scales = outer * scale + np.float32(state["nested_offset"])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f"{file.path}: {name}: its 4-bit parts are incomplete ({type(error).__name__}: "
            f"{error})."
        ) from None
    count = math.prod(shape)
    packed = math.prod(file.entries[name].shape)
    whole = kind in KINDS and packed == (count + 1) // 2 and len(scales) == -(-count // block)
    if not whole or table.shape != (16,) or file.entries[name].tag != "U8" or block % 2:
        raise UserError(
            f"{file.path}: {name}: {kind} of shape {shape} in blocks of {block} does not fit "
            f"{packed} bytes and {len(scales)} scales."
        )
    return Quantized(file, name, shape, block, scales.astype(np.float32), table)


def _raw(file: TensorFile, name: str) -> np.ndarray:
    """A small tensor in its own type. Raises KeyError where it is missing or of another type."""
    entry = file.entries[name]
    return np.fromfile(
        file.path, _DTYPES[entry.tag], math.prod(entry.shape), offset=entry.start
    )  # fmt: skip
