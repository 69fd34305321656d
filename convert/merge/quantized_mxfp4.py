"""MXFP4 experts, decoded: what gpt-oss's checkpoints hold.

Each row of an expert is cut into groups of 32 values. A value is a code of 4 bits (E2M1: sign, two
bits of exponent, one of mantissa), the first of two in the low half of a byte; a group has one
exponent, 127 more than it stands for (OCP Microscaling Formats 1.0, sections 5.3 and 5.4).
`X_blocks` (E, rows, groups, 16) and `X_scales` (E, rows, groups) are the parameter X of
transformers, which is (E, 32 * groups, rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convert.merge.blocks import Source, Stored, Workspace
from livery.errors import UserError, shown
from livery.safetensors_file import TensorFile

_POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_VALUES = np.array([*_POSITIVE, *(-value for value in _POSITIVE)], np.float32)


@dataclass(frozen=True)
class Quantized:
    """One parameter of all experts: shape (E, in, out)."""

    blocks: TensorFile
    scales: TensorFile
    name: str
    shape: tuple[int, int, int]
    step: int = 1

    def read(self, first: int, last: int, space: Workspace) -> np.ndarray:
        _, into, out = self.shape
        count, groups = last - first, into // 32
        codes = space.array("codes", np.uint8, (count, out, groups, 16))
        powers = space.array("powers", np.uint8, (count, out, groups))
        start = self.blocks.entries[f"{self.name}_blocks"].start
        space.read(self.blocks.path, start + first * out * groups * 16, codes)
        start = self.scales.entries[f"{self.name}_scales"].start
        space.read(self.scales.path, start + first * out * groups, powers)
        values = space.array("values", np.float32, (count, out, groups, 32))
        values[..., ::2] = _VALUES[codes & 15]
        values[..., 1::2] = _VALUES[codes >> 4]
        np.ldexp(values, powers[..., None].astype(np.int32) - 127, out=values)
        rows = space.array("rows", np.float32, (count, into, out))
        np.copyto(rows, values.reshape(count, out, into).swapaxes(1, 2))
        return rows


def sources(files: list[TensorFile], folder: Path) -> dict[str, Source]:
    """Name -> where the tensor's values come from, for all tensors of the model.

    Raises:
        UserError: a tensor's blocks have no scales that fit them.
    """
    places = {name: file for file in files for name in file.entries}
    made: dict[str, Source] = {}
    for name, file in places.items():
        if name.endswith("_scales") and f"{name.removesuffix('_scales')}_blocks" in places:
            continue
        if not name.endswith("_blocks"):
            made[name] = Stored(file, name)
            continue
        stem = name.removesuffix("_blocks")
        scales = places.get(f"{stem}_scales")
        blocks = file.entries[name]
        fits = scales is not None and scales.entries[f"{stem}_scales"].shape == blocks.shape[:3]
        if scales is None or not fits or len(blocks.shape) != 4 or blocks.shape[3] != 16:
            raise UserError(
                f"{folder}: {shown(name)} of shape {blocks.shape} has no {shown(stem)}_scales that "
                "fits it: not MXFP4 as gpt-oss has it, or damaged. Download the model again."
            )
        count, out, groups, _ = blocks.shape
        made[stem] = Quantized(file, scales, stem, (count, 32 * groups, out))
    return made
