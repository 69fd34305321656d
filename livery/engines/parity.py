"""How near two runtimes' logits are, and whether that is near enough.

Logits are compared as log-probabilities: a runtime that tells only those is held to the same, and a
constant added to all logits of a position means nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# max |Δlogit| against torch in float32 that a correct conversion stays below. Measured on tiny
# models of eleven families; llama.cpp's GELU is a table.
SILU, GELU = 1e-3, 2e-2
# llama.cpp rounds what it multiplies with an adapter that is stored like this.
STORED = {"float16": 0.05, "bfloat16": 0.25, "q8_0": 0.7}
# An error may be this share of what the adapter itself does, else the two cannot be told apart.
SHARE = 0.1


@dataclass(frozen=True)
class Logits:
    """What one runtime computed.

    Attributes:
        base: (N, V) logits or log-probabilities at N positions, without the adapter.
        tuned: (N, V), with it.
    """

    base: np.ndarray
    tuned: np.ndarray


@dataclass(frozen=True)
class Parity:
    """One runtime against the reference; all in natural logarithms.

    Attributes:
        base: max |Δlogit| without the adapter.
        tuned: max |Δlogit| with it.
        kl: the largest Kullback-Leibler divergence of a position, from the reference to this one,
            with the adapter.
        argmax: share of positions that agree on the likeliest token, with the adapter.
        moved: max |Δlogit| between with and without the adapter, in this runtime.
        wanted: the same in the reference.
        tolerance: that `base` and `tuned` must stay within.
    """

    base: float
    tuned: float
    kl: float
    argmax: float
    moved: float
    wanted: float
    tolerance: float

    @property
    def share(self) -> float:
        """The error as a share of what the adapter does."""
        return self.tuned / self.wanted if self.wanted else float("inf")

    @property
    def fault(self) -> str | None:
        """Why this is not near enough; None where it is."""
        values = (self.base, self.tuned, self.kl, self.moved)
        if not all(np.isfinite(values)):
            return "its logits are not finite"
        if self.base > self.tolerance:
            return f"the base alone differs by {self.base:.1e} (allowed {self.tolerance:.0e})"
        if self.wanted and not self.moved:
            return "the adapter does nothing there"
        if self.tuned > self.tolerance:
            return f"with the adapter it differs by {self.tuned:.1e} (allowed {self.tolerance:.0e})"
        if self.tuned > SHARE * self.wanted:
            return (
                f"it differs by {self.tuned:.1e}, and the adapter moves the logits by only "
                f"{self.wanted:.1e}: the two cannot be told apart"
            )
        return None


def tolerance(activation: str, stored: str = "float32") -> float:
    """What a correct conversion stays within.

    Args:
        activation: the base's, as config.json names it ("silu", "gelu_pytorch_tanh").
        stored: how the adapter is stored, where the runtime computes in that precision.
    """
    return max(GELU if "gelu" in activation.lower() else SILU, STORED.get(stored, 0.0))


def compare(reference: Logits, other: Logits, allowed: float) -> Parity:
    """Hold `other` against `reference`; logits beyond the narrower vocabulary are left out."""
    width = min(reference.base.shape[1], other.base.shape[1])
    known = [log_softmax(x[:, :width]) for x in (reference.base, reference.tuned)]
    found = [log_softmax(x[:, :width]) for x in (other.base, other.tuned)]
    wanted, got = known[1], found[1]
    return Parity(
        base=_difference(known[0], found[0]),
        tuned=_difference(wanted, got),
        kl=float((np.exp(wanted) * (wanted - got)).sum(-1).max()),
        argmax=float((wanted.argmax(-1) == got.argmax(-1)).mean()),
        moved=_difference(found[0], got),
        wanted=_difference(known[0], wanted),
        tolerance=allowed,
    )


def base_difference(reference: np.ndarray, other: np.ndarray) -> float:
    """max |Δ log p| of two runtimes' logits (N, V), without an adapter; infinite where one of them
    is not finite. Logits beyond the narrower vocabulary are left out."""
    width = min(reference.shape[1], other.shape[1])
    known, found = log_softmax(reference[:, :width]), log_softmax(other[:, :width])
    difference = _difference(known, found)
    return difference if np.isfinite(difference) else float("inf")


def moved(logits: Logits) -> float:
    """Max |Δlogit| that the adapter makes."""
    return _difference(log_softmax(logits.base), log_softmax(logits.tuned))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(N, V) float64 from (N, V)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())
