"""MLX's quantized weights, decoded: the affine kind that mlx-lm's convert writes.

A row is cut into groups; each has a scale and a bias in the model's dtype, and each weight a code q
of 2 to 8 bits: w = scale * q + bias. The codes are one after another, lowest bit first, in the
bytes of little-endian words (https://ml-explore.github.io/mlx, mlx.core.quantize). Here w is
computed in float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.merge.blocks import Source, Stored, Workspace, view
from livery.adapter_names import MULTIMODAL
from livery.errors import UserError
from livery.safetensors_file import TensorFile

BITS = (2, 3, 4, 5, 6, 8)
# Those whose tensors mlx-lm keeps as Hugging Face has them, but for stacks of experts.
KNOWN = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text",
    "phi", "phi3",
)  # fmt: skip
_MIXTRAL = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}


@dataclass(frozen=True)
class Quantized:
    """One matrix, or one of a stack: `row` is its first row in the stored tensors.

    shape: (out, in) of the weight.
    """

    file: TensorFile
    module: str
    shape: tuple[int, int]
    bits: int
    group: int
    row: int = 0
    step: int = 1

    def read(self, first: int, last: int, space: Workspace) -> np.ndarray:
        count, columns = last - first, self.shape[1]
        words = columns * self.bits // 32
        packed = space.array("packed", "<u4", (count, words))
        entry = self.file.entries[f"{self.module}.weight"]
        space.read(self.file.path, entry.start + (self.row + first) * words * 4, packed)
        rows = space.array("codes", np.float32, (count, columns))
        _unpack(packed, self.bits, rows)
        groups = rows.reshape(count, columns // self.group, self.group)
        for kind, combine in (("scales", np.multiply), ("biases", np.add)):
            shape = (self.row + self.shape[0], columns // self.group)
            scales = view(self.file, f"{self.module}.{kind}", shape)
            values = scales.read(self.row + first, self.row + last, space)
            combine(groups, values[:, :, None], out=groups)
        return rows


def _unpack(packed: np.ndarray, bits: int, out: np.ndarray) -> None:
    """Codes of `packed` (rows, words) as numbers in `out` (rows, columns)."""
    if 32 % bits == 0:
        per_word = 32 // bits
        codes = out.reshape(*packed.shape, per_word)
        for at in range(per_word):
            codes[:, :, at] = (packed >> np.uint32(at * bits)) & np.uint32((1 << bits) - 1)
        return
    stream = np.unpackbits(packed.view(np.uint8), axis=1, bitorder="little")
    digits = stream.reshape(*out.shape, bits)
    out[:] = digits @ (1 << np.arange(bits)).astype(np.float32)


def sources(
    files: list[TensorFile], config: Mapping[str, Any], model_type: str, folder: Any
) -> dict[str, Source]:
    """Hugging Face's name -> where the tensor's values come from, for all tensors of the model.

    Raises:
        UserError: another kind of quantization than the affine one, a model type whose tensors
            mlx-lm rearranges, or sizes that do not fit together.
    """
    if model_type not in KNOWN or model_type in MULTIMODAL:
        raise UserError(
            f"{folder}: model type {model_type!r}: how mlx-lm rearranges its tensors is not known "
            f"here (known: {', '.join(KNOWN)}). Merge into the full-precision base."
        )
    settings: Any = config["quantization"]
    made: dict[str, Source] = {}
    for file in files:
        for name in file.entries:
            module, _, kind = name.rpartition(".")
            if kind in ("scales", "biases") and f"{module}.weight" in file.entries:
                continue
            if kind == "weight" and f"{module}.scales" in file.entries:
                own = settings.get(module)
                chosen = {**settings, **own} if isinstance(own, dict) else settings
                made.update(_matrices(file, module, chosen, model_type, folder))
            elif ".switch_mlp." in name:
                made.update(_dense_experts(file, name, model_type))
            else:
                made[name] = Stored(file, name)
    return made


def _matrices(
    file: TensorFile, module: str, settings: Mapping[str, Any], model_type: str, folder: Any
) -> dict[str, Source]:
    mode, group, bits = settings.get("mode", "affine"), settings["group_size"], settings["bits"]
    if mode != "affine" or bits not in BITS:
        raise UserError(
            f"{folder}: {module}: quantized as {mode} with {bits} bits; only MLX's affine kind is "
            "decoded here. Merge into the full-precision base."
        )
    packed, scales = (file.entries[f"{module}.{kind}"] for kind in ("weight", "scales"))
    biases = file.entries.get(f"{module}.biases")
    *stack, out, words = packed.shape
    columns = words * 32 // bits
    wanted = (*stack, out, columns // group)
    if packed.tag != "U32" or scales.shape != wanted or not biases or biases.shape != wanted:
        raise UserError(
            f"{file.path}: {module}: weight {packed.shape} and scales {scales.shape} are not those "
            f"of {bits} bits in groups of {group}, as config.json says."
        )
    if not stack:
        return {f"{module}.weight": Quantized(file, module, (out, columns), bits, group)}
    return {
        _expert(module, number, model_type): Quantized(
            file, module, (out, columns), bits, group, number * out
        )
        for number in range(stack[0])
    }


def _dense_experts(file: TensorFile, name: str, model_type: str) -> dict[str, Source]:
    """A stack that was not quantized (E, out, in), one by one."""
    shape = file.entries[name].shape
    return {
        _expert(name.removesuffix(".weight"), number, model_type): view(
            file, name, shape[1:], number * math.prod(shape[1:])
        )
        for number in range(shape[0])
    }


def _expert(module: str, number: int, model_type: str) -> str:
    """`….mlp.switch_mlp.up_proj` -> `….mlp.experts.3.up_proj.weight`, as published models have."""
    layer, leaf = module.split(".switch_mlp.")
    leaf = _MIXTRAL[leaf] if model_type == "mixtral" else leaf
    return f"{layer}.experts.{number}.{leaf}.weight"
