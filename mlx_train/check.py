"""The fast loss against the plain one, on a few rows of a run's own first micro-batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np

from livery.training.backend import CheckResult
from livery.training.plan import MicroBatch
from livery.training.self_check import FAMILY_ERRORS, broken, first_line

Computed = tuple[mx.array, list[mx.array]]

# What rounding alone can make of the two orders of summation, by the dtype of the base.
TOLERANCE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.2}
# Rows compared: enough that they share a prefix, few enough that the plain side stays small.
ROWS = 2


def compare(
    batch: MicroBatch,
    *,
    fast: Callable[[MicroBatch], Computed],
    plain: Callable[[MicroBatch], Computed],
    names: Sequence[str],
    dtype: str,
) -> CheckResult:
    """Args:
    fast, plain: a micro-batch -> (summed loss, gradients in the order of `names`).
    """
    part = some_rows(batch, ROWS)
    tolerance = TOLERANCE.get(dtype, 0.2)
    try:
        fast_loss, fast_slopes = fast(part)
        mx.eval(fast_loss, fast_slopes)
    except FAMILY_ERRORS as error:
        return CheckResult(False, math.inf, math.inf, tolerance, f"it fails ({first_line(error)})")
    plain_loss, plain_slopes = mx.array(0.0), [mx.zeros_like(g) for g in fast_slopes]
    try:
        for row in range(len(part.tokens)):  # one example at a time, as if it were alone
            loss, slopes = plain(one_row(part, row))
            plain_loss = plain_loss + loss
            plain_slopes = [a + b for a, b in zip(plain_slopes, slopes, strict=True)]
            mx.eval(plain_loss, plain_slopes)
    except FAMILY_ERRORS as error:
        raise broken("mlx-lm", error) from error
    a, b = float(np.asarray(fast_loss)), float(np.asarray(plain_loss))
    loss_difference = abs(a - b) / max(abs(b), 1e-12)
    worst, name = gradient_difference(fast_slopes, plain_slopes, names)
    finite = np.isfinite([a, b, worst]).all()
    ok = bool(finite and worst <= tolerance and loss_difference <= tolerance)
    reason = "" if ok else f"worst at {name}, loss {a:.6g} against {b:.6g}"
    return CheckResult(ok, loss_difference, worst, tolerance, reason)


def gradient_difference(
    ours: Sequence[mx.array], theirs: Sequence[mx.array], names: Sequence[str]
) -> tuple[float, str]:
    """The largest ||ours - theirs|| / ||theirs|| over the parameters, and whose it is.

    Parameters whose gradient is (nearly) nothing beside the largest are measured against a
    hundredth of that, or rounding would be all there is: A's gradient is 0 while B is.
    """
    norms = [_norm(g) for g in theirs]
    floor = 0.01 * max(norms, default=0.0) + 1e-30
    worst = [_norm(a - b) / max(n, floor) for a, b, n in zip(ours, theirs, norms, strict=True)]
    if not worst:
        return 0.0, ""
    at = int(np.argmax(np.nan_to_num(worst, nan=np.inf)))
    return worst[at], names[at]


def some_rows(batch: MicroBatch, count: int) -> MicroBatch:
    """The first `count` rows of a micro-batch that have supervised tokens."""
    kept = np.flatnonzero((batch.targets >= 0).any(axis=1))[:count]
    return MicroBatch(batch.prefix, batch.tokens[kept], batch.targets[kept], batch.lengths[kept])


def one_row(batch: MicroBatch, row: int) -> MicroBatch:
    """One row by itself, its padding cut off."""
    length = int(batch.lengths[row])
    only = slice(row, row + 1)
    return MicroBatch(
        batch.prefix,
        batch.tokens[only, :length],
        batch.targets[only, :length],
        batch.lengths[only],
    )


def _norm(array: mx.array) -> float:
    return float(np.linalg.norm(np.asarray(array, np.float64)))
