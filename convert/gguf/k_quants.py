"""Which tensor gets which type in llama.cpp's mixes of K-quants: q4_k_m and its kin.

The rule is that of llama-quantize without an importance matrix (llama.cpp, src/llama-quant.cpp,
as of build 11549): some tensors matter more than others and get more bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# What can be asked for -> (type of most matrices, llama.cpp's number for the mix).
MIXES = {
    "q4_k_s": ("q4_k", 14),
    "q4_k_m": ("q4_k", 15),
    "q5_k_s": ("q5_k", 16),
    "q5_k_m": ("q5_k", 17),
    "q6_k": ("q6_k", 18),
}
BLOCK = 256  # values that share a scale of scales
_SMALL_BLOCK = 32
# Rows that cannot be cut into blocks of 256 get the next larger type of blocks of 32.
_FALLBACK = {"q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "q8_0": "q8_0"}
_LAYER = re.compile(r"^blk\.(\d+)\.")


@dataclass(frozen=True)
class Facts:
    """What the rule asks of the model.

    Attributes:
        architecture: general.architecture.
        layers: how many blocks.
        experts: experts a layer; 0 without.
        grouped: several query heads share a key-value head.
    """

    architecture: str
    layers: int
    experts: int = 0
    grouped: bool = False


@dataclass(frozen=True)
class Choice:
    """The type of one matrix; `wanted` differs from it where the rows do not fit into blocks."""

    dtype: str
    wanted: str


def choose(shapes: Mapping[str, tuple[int, ...]], mix: str, facts: Facts) -> dict[str, Choice]:
    """The types of all tensors of a model.

    Args:
        shapes: GGUF name -> numpy shape, rows last.
        mix: a key of `MIXES`.
        facts: of the model.

    Returns:
        A choice for each; "float32" for what is never quantized (vectors and what `stays`).
    """
    tied = "output.weight" not in shapes
    made: dict[str, Choice] = {}
    for name, shape in shapes.items():
        if len(shape) < 2 or not name.endswith("weight") or stays(name):
            made[name] = Choice("float32", "float32")
            continue
        wanted = _wanted(name, shape, mix, facts, tied=tied)
        made[name] = Choice(_fitting(wanted, shape[-1]), wanted)
    return made


def stays(name: str) -> bool:
    """Norms, routers, and convolutions, which llama.cpp computes with float32 alone."""
    whole = ("_norm.weight", "ssm_conv1d.weight", "shortconv.conv.weight")
    return name.endswith(whole) or "ffn_gate_inp" in name


def _fitting(wanted: str, row: int) -> str:
    if row % (_SMALL_BLOCK if wanted == "q8_0" else BLOCK) == 0:
        return wanted
    return _FALLBACK[wanted] if row % _SMALL_BLOCK == 0 else "float16"


def _wanted(name: str, shape: tuple[int, ...], mix: str, facts: Facts, *, tied: bool) -> str:
    plain = MIXES[mix][0]
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        return "q6_k" if shape[-1] % BLOCK == 0 else "q8_0"
    found = _LAYER.match(name)
    if not found:
        return plain
    layer, part = int(found[1]), name[found.end() :].removesuffix(".weight")
    if part in ("attn_v", "attn_qkv"):
        return _value(layer, mix, plain, facts)
    if part == "attn_k" and facts.experts == 8:
        return "q8_0"
    if part == "attn_output" and facts.experts == 8 and plain == "q4_k":
        return "q5_k"
    if part.startswith("ffn_down"):
        if mix.endswith("_m") and _more_bits(layer, facts.layers):
            return "q6_k"
        if mix == "q4_k_s" and layer < facts.layers // 8:
            return "q5_k"
    return plain


def _value(layer: int, mix: str, plain: str, facts: Facts) -> str:
    """The value projection, alone or fused with query and key."""
    if facts.experts == 8:
        return "q8_0"
    if mix.endswith("_m") and _more_bits(layer, facts.layers):
        return "q6_k"
    if mix == "q4_k_s" and layer < 4:
        return "q5_k"
    seventy = facts.layers == 80 and facts.architecture in ("llama", "qwen2")  # billions
    if plain == "q4_k" and seventy and (facts.grouped or facts.architecture == "qwen2"):
        return "q5_k"  # eight heads share it: small, and it counts
    return plain


def _more_bits(layer: int, layers: int) -> bool:
    """The first eighth, the last eighth, and every third layer between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
