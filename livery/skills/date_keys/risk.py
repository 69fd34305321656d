"""A threshold of confidence with a promise: how often the answers above it are wrong, at most.

    found = calibrate(confidences, correct, rate=0.03)
    found.threshold, found.bound         # accept from here; wrong at most so often, at 90 %

The bound is the exact binomial one (C. J. Clopper, E. S. Pearson, Biometrika 26, 1934). Thresholds
are tried from the highest down, beginning where enough answers are accepted for the promise to be
possible at all, and the first that fails ends the search: so the promise holds for the threshold
that is chosen, and not only for one that had been chosen before (fixed-sequence testing, as in
A. Angelopoulos et al., "Learn then Test", 2021). It is a promise for commands like those that it
was calibrated on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.9


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what stands behind it.

    Attributes:
        rate: the share of wrong answers that was asked for, among accepted ones.
        confidence: how sure the promise is.
        threshold: answers from this confidence on are accepted.
        cases, accepted, errors: how many there were, were accepted, and of those were wrong.
        bound: upper bound of the share of wrong answers among accepted ones.
    """

    rate: float
    confidence: float
    threshold: float
    cases: int
    accepted: int
    errors: int
    bound: float


def upper_bound(errors: int, total: int, confidence: float = CONFIDENCE) -> float:
    """One-sided Clopper-Pearson upper bound of a share of which `errors` of `total` were seen.

    Raises:
        ValueError: not 0 <= errors <= total, or confidence is not between 0 and 1.
    """
    if not 0 <= errors <= total or not 0 < confidence < 1:
        raise ValueError(f"{errors} errors of {total} at confidence {confidence}")
    if errors == total:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(errors, total, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def fewest(rate: float, confidence: float = CONFIDENCE) -> int:
    """How many answers without one error it takes to promise `rate`."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


def calibrate(
    confidences: Sequence[float],
    correct: Sequence[bool],
    rate: float,
    confidence: float = CONFIDENCE,
) -> Calibration | None:
    """The lowest threshold that keeps the promise, or None where none does.

    Args:
        confidences: of each answer.
        correct: whether it was right.
        rate: the share of wrong answers among accepted ones, at most.
        confidence: how sure that shall be.

    Raises:
        ValueError: the two differ in length, or a number is not between 0 and 1.
    """
    if not 0 < rate < 1 or not 0 < confidence < 1:
        raise ValueError(f"rate {rate}, confidence {confidence}")
    ranked = sorted(zip(confidences, correct, strict=True), reverse=True)
    needed = fewest(rate, confidence)
    best: Calibration | None = None
    errors = 0
    for accepted, (value, right) in enumerate(ranked, start=1):
        errors += not right
        if accepted < needed or (accepted < len(ranked) and ranked[accepted][0] == value):
            continue
        bound = upper_bound(errors, accepted, confidence)
        if bound > rate:
            break
        best = Calibration(rate, confidence, value, len(ranked), accepted, errors, bound)
    return best


def _at_most(errors: int, total: int, share: float) -> float:
    """Probability of at most so many errors where each answer is wrong with this probability."""
    if share <= 0:
        return 1.0
    if share >= 1:
        return float(errors >= total)
    logs = (
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(share)
        + (total - k) * math.log1p(-share)
        for k in range(errors + 1)
    )
    return math.fsum(map(math.exp, logs))
