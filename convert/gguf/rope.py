"""Rope in GGUF: its base, its scaling as numbers or as tensors of factors.

Read as transformers reads it: what is nested in rope_scaling, or else in rope_parameters
(transformers 5), goes before what stands beside it in config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.base import Base
from convert.gguf.file import Value
from livery.errors import UserError
from livery.gguf_base.rope import BETAS, FREQUENCIES, llama3_factors, yarn_attention
from livery.gguf_base.rope import LONG as LONG_FACTORS
from livery.gguf_base.rope import SHORT as SHORT_FACTORS


@dataclass(frozen=True)
class Rope:
    """How positions turn queries and keys.

    Attributes:
        theta: the base of the frequencies.
        kind: of scaling: "default", "linear", "llama3", "yarn", "longrope" …
        scaling: its numbers.
        partial: the part of the head that is turned; 1.0 for all of it.
    """

    theta: float
    kind: str
    scaling: Mapping[str, Any]
    partial: float = 1.0


def read(base: Base, layer_type: str = "full_attention") -> Rope:
    """The rope of a kind of layer; most models have one for all."""
    config = base.config
    nested: Any = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if config["model_type"] == "gemma4_text":  # published with nested numbers alone
        nested = config.get("rope_parameters") or _GEMMA4
    if not isinstance(nested, Mapping):
        raise UserError(f"{base.folder / 'config.json'}: rope_scaling is not a JSON object.")
    found: dict[str, Any] = dict(nested)  # pyright: ignore[reportUnknownArgumentType]
    by_layer = any(key.endswith("_attention") for key in found)
    if by_layer:
        found = dict(found.get(layer_type) or {})
    theta = config.get("rope_theta", 10000.0)
    if config["model_type"] in ("gemma3_text", "olmo3") and not by_layer:
        if config.get("rope_parameters"):
            raise UserError(
                f"{base.folder / 'config.json'}: rope_parameters holds neither full_attention nor "
                "sliding_attention, where transformers looks for them."
            )
        # A flat rope_scaling is that of the layers that do not slide.
        found = found if layer_type == "full_attention" else {}
    if layer_type == "sliding_attention":
        # olmo3: a flat rope_theta is that of the other layers; these keep transformers' default.
        local = 500000.0 if config["model_type"] == "olmo3" else theta
        theta = config.get("rope_local_base_freq", local)
    partial = found.get("partial_rotary_factor", config.get("partial_rotary_factor"))
    return Rope(
        float(found.get("rope_theta", theta)),
        str(found.get("rope_type", found.get("type", "default"))),
        found,
        1.0 if partial is None else float(partial),
    )


def numbers(base: Base, rope: Rope) -> dict[str, Value]:
    """The metadata that says the scaling.

    Raises:
        UserError: llama.cpp has no such scaling for this model type, or another one of the name.
    """
    if base.config["model_type"] == "gemma4_text":
        return {}  # its layers' ropes differ, see gguf_numbers
    kind, scaling, model_type = rope.kind, rope.scaling, base.config["model_type"]
    if rope.partial != 1.0 and model_type not in _PARTIAL:
        raise UserError(
            f"{base.folder / 'config.json'}: partial_rotary_factor is {rope.partial}; llama.cpp "
            f"turns the whole head for {model_type}."
        )
    if kind in LONG and model_type != "phi3":
        raise UserError(
            f"{base.folder / 'config.json'}: rope scaling {kind!r} is only known for phi3. "
            "Convert this model with llama.cpp's own script."
        )
    if kind == "llama3" and model_type not in _FACTORS:
        raise UserError(
            f"{base.folder / 'config.json'}: rope scaling 'llama3'; llama.cpp has it for "
            f"{', '.join(_FACTORS)} alone."
        )
    if kind in ("default", "llama3", *LONG):
        return {}  # the last three are tensors of frequencies
    if kind == "linear":
        return {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling["factor"])}
    if kind == "yarn":
        return _yarn(base, scaling)
    raise UserError(
        f"{base.folder / 'config.json'}: rope scaling {kind!r} is not supported. Convert this "
        "model with llama.cpp's own script."
    )


def _yarn(base: Base, scaling: Mapping[str, Any]) -> dict[str, Value]:
    """https://arxiv.org/abs/2309.00071. llama.cpp multiplies what it gets as attn_factor by the
    paper's own factor, so one that a model sets itself is divided by that."""
    file = base.folder / "config.json"
    if base.config["model_type"] not in _YARN:
        raise UserError(
            f"{file}: rope scaling 'yarn' is not supported for {base.config['model_type']}. "
            "Convert this model with llama.cpp's own script."
        )
    if scaling.get("truncate") is False:
        raise UserError(f"{file}: yarn without truncation; llama.cpp always truncates its range.")
    for name, fixed in BETAS.items():
        if float(scaling.get(name) or fixed) != fixed:
            raise UserError(
                f"{file}: yarn with {name} {scaling[name]}; llama.cpp computes with {fixed:.0f} "
                "for this architecture."
            )
    longest = int(base.config["max_position_embeddings"])
    original = int(scaling.get("original_max_position_embeddings") or longest)
    factor = float(scaling.get("factor") or longest / original)
    attention = scaling.get("attention_factor")
    over, under = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if attention is None and over and under:
        attention = yarn_attention(factor, float(over)) / yarn_attention(factor, float(under))
    values: dict[str, Value] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original,
    }
    if attention is not None:
        values["rope.scaling.attn_factor"] = float(attention) / yarn_attention(factor)
    return values


_GEMMA4 = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    "full_attention": {
        "rope_type": "proportional",
        "partial_rotary_factor": 0.25,
        "rope_theta": 1000000.0,
    },
}
LONG = ("longrope", "su")
_PARTIAL = (
    "phi",
    "phi3",
    "glm4",
    "qwen3_5_text",
    "qwen3_5_moe_text",
)  # where llama.cpp turns a part of the head
_FACTORS = ("llama", "mistral", "mixtral")  # where it reads a tensor of factors
# Where llama.cpp's yarn was found to be that of transformers (tests/convert/test_gguf_rope.py).
_YARN = (
    "llama", "mistral", "mixtral", "qwen2", "qwen3", "qwen3_moe", "gemma", "gemma2", "phi",
    "ministral3", "olmo3",
)  # fmt: skip


def notes(base: Base) -> list[str]:
    """What a user should know of how llama.cpp will compute."""
    rope = read(base)
    if rope.kind not in LONG:
        return []
    original = rope.scaling.get("original_max_position_embeddings") or base.config.get(
        "original_max_position_embeddings"
    )
    return [
        f"longrope: started with a context of more than {original} tokens, llama.cpp takes the "
        "long factors for short prompts too; transformers goes by the prompt's length."
    ]


def tensors(base: Base, head: int) -> dict[str, np.ndarray]:
    """Factors that divide rope's frequencies, for the scalings that llama.cpp takes as tensors.

    Args:
        head: the size of the heads that do not slide.
    """
    rope = read(base)
    scaling = rope.scaling
    if rope.kind in LONG:
        wanted = int(head * rope.partial) // 2
        made: dict[str, np.ndarray] = {}
        for length in ("long", "short"):
            factors = np.array(scaling.get(f"{length}_factor") or [], np.float32)
            if factors.shape != (wanted,):
                raise UserError(
                    f"{base.folder / 'config.json'}: rope scaling has {factors.size} numbers in "
                    f"{length}_factor; half of the head's rotated part is {wanted}."
                )
            made[LONG_FACTORS if length == "long" else SHORT_FACTORS] = factors
        return made
    if base.config["model_type"] == "gemma4_text":
        # Frequencies of the whole head, of which the first part turns: the rest as good as not.
        turned = int(rope.partial * head // 2)
        factors = np.where(np.arange(head // 2) < turned, 1.0, 1e30).astype(np.float32)
        return {FREQUENCIES: factors}
    if rope.kind != "llama3":
        return {}
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    context = float(scaling["original_max_position_embeddings"])
    factors = llama3_factors(rope.theta, head, float(scaling["factor"]), (low, high, context))
    return {FREQUENCIES: factors.astype(np.float32)}
