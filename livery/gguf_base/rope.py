"""How positions turn queries and keys, from a GGUF file: the reverse of `convert.gguf.rope`, and
the formulas that both go by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from livery.errors import UserError
from livery.gguf_base.numbers import Numbers
from livery.gguf_reader import GgufFile

FREQUENCIES = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
BETAS = {"beta_fast": 32.0, "beta_slow": 1.0}  # what llama.cpp's yarn computes with
# Published models with llama3's scaling: (low_freq_factor, high_freq_factor, trained context).
_LLAMA3 = ((1.0, 4.0, 8192),)


def yarn_attention(factor: float, weight: float = 1.0) -> float:
    """By how much yarn scales attention: https://arxiv.org/abs/2309.00071, section 3.4."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


def longrope_attention(factor: float, original: int) -> float:
    """By how much longrope scales attention: https://arxiv.org/abs/2402.13753, as transformers has
    it.

    Args:
        factor: the longest context over the one that the model was first trained on.
        original: that one, in tokens.
    """
    return math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0


def llama3_factors(
    theta: float, head: int, factor: float, bounds: tuple[float, float, float]
) -> np.ndarray:
    """What divides the frequencies of llama3's rope: (head / 2,) float64.

    Args:
        bounds: low_freq_factor, high_freq_factor and the context that was trained on.
    """
    low, high, context = bounds
    smooth = np.clip((context / wavelengths(theta, head) - low) / (high - low), 0.0, 1.0)
    return 1.0 / ((1 - smooth) / factor + smooth)


def wavelengths(theta: float, head: int) -> np.ndarray:
    """Tokens that each pair of a head takes for one turn: (head / 2,) float64."""
    frequencies = 1.0 / theta ** (np.arange(0, head, 2, dtype=np.float64) / head)
    return 2 * math.pi / frequencies


def scaling(numbers: Numbers, file: GgufFile, head: int, theta: float) -> dict[str, Any] | None:
    """rope_scaling as config.json has it; None where nothing is scaled.

    Raises:
        UserError: a kind that is not known, or factors that no formula of transformers gives.
    """
    if FREQUENCIES in file.entries:
        return _llama3(numbers, file, head, theta)
    kind = numbers.text("rope.scaling.type", "none")
    if kind in ("none", "longrope"):  # longrope's numbers are tensors
        return None
    if kind not in ("linear", "yarn"):
        raise numbers.wrong("rope.scaling.type", kind, "none, linear, yarn or longrope")
    factor = numbers.number("rope.scaling.factor")
    if kind == "linear":
        return {"rope_type": "linear", "type": "linear", "factor": factor}
    found: dict[str, Any] = {"rope_type": "yarn", "type": "yarn", "factor": factor}
    found["original_max_position_embeddings"] = numbers.whole(
        "rope.scaling.original_context_length"
    )
    for name, fixed in {**BETAS, "ext_factor": 1.0, "attn_factor": 1.0}.items():
        said = f"rope.scaling.yarn_{name}"
        if numbers.number(said, fixed) != fixed:
            raise numbers.wrong(said, numbers.number(said), f"{fixed:g}")
    found.update(BETAS)
    if "rope.scaling.attn_factor" in numbers:  # llama.cpp multiplies it by the paper's own
        found["attention_factor"] = numbers.number("rope.scaling.attn_factor") * yarn_attention(
            factor
        )
    return found


def longrope(numbers: Numbers, file: GgufFile, longest: int) -> dict[str, Any]:
    """phi3's: `rope_scaling`, and the context that the model was first trained on."""
    original = numbers.whole("rope.scaling.original_context_length", longest)
    made: dict[str, Any] = {"original_max_position_embeddings": original}
    if LONG not in file.entries:
        return made
    factors: dict[str, Any] = {
        f"{length}_factor": _shortest(file.read(name))
        for length, name in (("long", LONG), ("short", SHORT))
    }
    made["rope_scaling"] = {"type": "longrope", "rope_type": "longrope", **factors}
    usual = longrope_attention(longest / original, original)
    told = numbers.number("rope.scaling.attn_factor", usual)
    if not math.isclose(told, usual, rel_tol=1e-6):
        made["rope_scaling"]["attention_factor"] = told
    return made


def _llama3(numbers: Numbers, file: GgufFile, head: int, theta: float) -> dict[str, Any]:
    """The formula's numbers from the factors that it gave: the largest is `factor`, and between the
    two bounds (context / wave - low) / (high - low) is a straight line in 1 / wave. Only ratios
    show (twice the context with twice both bounds gives the same), so low is taken as 1."""
    factors = file.read(FREQUENCIES).astype(np.float64)
    if factors.shape != (head // 2,) or not (np.isfinite(factors).all() and factors.min() >= 1):
        raise UserError(f"{file.path}: {FREQUENCIES} has shape {factors.shape}; is it whole?")
    factor = float(str(np.float32(factors.max())))
    if factor == 1.0:
        return {"rope_type": "linear", "type": "linear", "factor": 1.0}
    for bounds in (*_LLAMA3, *_fitted(factors, wavelengths(theta, head), factor)):
        if np.allclose(llama3_factors(theta, head, factor, bounds), factors, rtol=2e-6, atol=0):
            low, high, context = bounds
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": context,
            }
    raise UserError(
        f"{file.path}: its rope factors ({FREQUENCIES}) do not follow llama3's formula, the only "
        "one that transformers has for this architecture. Use the model's Hugging Face folder."
    )


def _fitted(
    factors: np.ndarray, waves: np.ndarray, factor: float
) -> list[tuple[float, float, int]]:
    smooth = (1 / factors - 1 / factor) / (1 - 1 / factor)
    between = (smooth > 1e-6) & (smooth < 1 - 1e-6)
    made: list[tuple[float, float, int]] = []
    if between.sum() >= 2:
        slope, offset = np.polyfit(1 / waves[between], smooth[between], 1)
        if slope > 0 > offset:
            spread = -1.0 / offset  # high - low, where low is 1
            context = slope * spread
            made += [(1.0, 1.0 + spread, round(context))]
            made += [(1.0, float(round(1.0 + spread)), round(context))]
    # Fewer positions on the slope: the usual bounds, and the context that the numbers leave.
    for low, high in ((1.0, 4.0),):
        if between.any():
            at = int(np.flatnonzero(between)[0])
            made.append((low, high, round((smooth[at] * (high - low) + low) * waves[at])))
        else:
            whole, none = waves[smooth >= 1 - 1e-6], waves[smooth <= 1e-6]
            least = high * float(whole.max()) if whole.size else 1.0
            most = low * float(none.min()) if none.size else 2 * least
            made += [(low, high, round(2**n)) for n in range(1, 24) if least <= 2**n <= most]
            made.append((low, high, round((least + most) / 2)))
    return made


def _shortest(values: np.ndarray) -> list[float]:
    return [float(str(value)) for value in values.astype(np.float32)]
