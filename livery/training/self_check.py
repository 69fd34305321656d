"""Compare a run's loss with the plainest one there is, on its own first batch, before it trains.

Most ways in which a shared prompt, a mask or a cache goes wrong are silent. Where the fast loss
differs the run continues without it; where the plain one differs too, or cannot be computed,
nothing that would be trained could be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from livery.errors import UserError
from livery.training.backend import Arrays, Backend, CheckResult, any_process
from livery.training.forecast import is_out_of_memory
from livery.training.plan import MicroBatch

# Rows compared: enough that they share a prefix, few enough that the plain side stays small.
ROWS = 4
# A parameter whose gradient is smaller than this part of the whole gradient's norm is measured
# against that: A's gradient is 0 while B is, and rounding would be all there is.
_SMALL = 1e-2

# What rounding alone makes of a gradient. float32 adds in another order; on the embedded base both
# sides were up to 2e-4 from float64. In few bits it grows with the square root of the blocks that
# a gradient runs through: in bfloat16 random llamas of 2 to 48 blocks were at most 0.007 times
# that root apart and SmolLM2-135M, which is trained, 0.09 of 30 blocks; the bound is three times
# that. What goes wrong silently is wrong by tenths, and most of it by more than the whole.
_EXACT = 1e-3
_ROUNDING = {"bfloat16": 0.05, "float16": 0.02}


def tolerance(dtype: str, blocks: int) -> float:
    """What two ways of computing one batch's gradient may differ by, as a share.

    Args:
        dtype: of the base's weights.
        blocks: transformer layers of the base.
    """
    return _ROUNDING[dtype] * math.sqrt(max(1, blocks)) if dtype in _ROUNDING else _EXACT


# A micro-batch -> (its summed loss, gradients by name).
Gradient = Callable[[MicroBatch], tuple[float, Arrays]]

# What a family's own code may raise where the model cannot be computed as asked.
FAMILY_ERRORS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError,
    ArithmeticError, ImportError,
)  # fmt: skip


def first_line(error: BaseException) -> str:
    """An exception of somebody else's in one line, for a message."""
    text = (str(error).strip() or "-").splitlines()[0][:200]
    return f"{type(error).__name__}: {text}"


def broken(where: str, error: BaseException) -> UserError:
    """A family's own forward or backward fails, in the library that brings it."""
    return UserError(
        f"{where} cannot compute the loss of this model ({first_line(error)}). Nothing was "
        "trained. Try a newer version of it, the other backend, or another base."
    )


def compare(
    batch: MicroBatch,
    *,
    fast: Gradient,
    plain: Gradient,
    tolerance: float,
    library: str,
    route: str,
) -> CheckResult:
    """Loss and gradients of the first rows, together by `fast` and one by one by `plain`.

    Args:
        batch: its first `ROWS` rows that have supervised tokens are compared.
        tolerance: what rounding alone makes of loss and gradients on this backend and dtype, as a
            share; what goes wrong silently is wrong by tenths.
        library: that computes `plain`, for the message where it cannot.
        route: what `fast` is called in messages.

    Raises:
        UserError: `plain` cannot be computed.
    """
    rows = np.flatnonzero((batch.targets >= 0).any(axis=1))[:ROWS]
    try:
        fast_loss, got = fast(_take(batch, rows))
    except FAMILY_ERRORS as error:
        if is_out_of_memory(error):
            raise
        reason = f"the {route} route fails ({first_line(error)})"
        return CheckResult(False, math.inf, math.inf, tolerance, reason)
    plain_loss, wanted = 0.0, {name: np.zeros(g.shape) for name, g in got.items()}
    try:
        for row in rows:  # without its padding, as if it were alone
            loss, gradients = plain(_take(batch, np.array([row]), int(batch.lengths[row])))
            plain_loss += loss
            for name, gradient in gradients.items():
                wanted[name] += gradient
    except FAMILY_ERRORS as error:
        if is_out_of_memory(error):
            raise
        raise broken(library, error) from error
    loss_difference = abs(fast_loss - plain_loss) / max(abs(plain_loss), 1e-9)
    worst, name = gradient_difference(got, wanted)
    finite = math.isfinite(worst) and math.isfinite(loss_difference)
    ok = finite and worst <= tolerance and loss_difference <= tolerance
    reason = f"by the {route} route, worst at {name}; loss {fast_loss:.6g} against {plain_loss:.6g}"
    return CheckResult(ok, loss_difference, worst, tolerance, "" if ok else reason)


def gradient_difference(got: Arrays, wanted: Arrays) -> tuple[float, str]:
    """The largest ||got - wanted|| / ||wanted|| over the parameters, and whose it is.

    Small gradients are measured against a hundredth of the whole; NaN counts as infinite.
    """
    norms = {name: float(np.linalg.norm(g.astype(np.float64))) for name, g in wanted.items()}
    floor = _SMALL * math.hypot(*norms.values()) + 1e-12
    worst = 0.0, ""
    for name, norm in norms.items():
        apart = float(np.linalg.norm(got[name] - wanted[name].astype(np.float64)))
        share = apart / max(norm, floor)
        worst = max(worst, (math.inf if math.isnan(share) else share, name))
    return worst


def _take(batch: MicroBatch, rows: np.ndarray, width: int | None = None) -> MicroBatch:
    """Some rows of a micro-batch, cut to `width`; each counts alike, whatever it weighs."""
    return MicroBatch(
        batch.prefix, batch.tokens[rows, :width], batch.targets[rows, :width], batch.lengths[rows]
    )


@dataclass(frozen=True)
class Settled:
    """How a run computes its loss.

    Attributes:
        result: of the comparison that decided.
        shares: whether prompts are shared.
        notes: for the user.
    """

    result: CheckResult
    shares: bool
    notes: tuple[str, ...]


def settle(backend: Backend, batch: MicroBatch) -> Settled:
    """Choose between the fast loss and the plain one, for all processes, and tell the backend.

    Args:
        batch: of the run's first step.

    Raises:
        UserError: the plain loss does not hold either.
    """
    applies, why = backend.fast_path()
    notes: list[str] = []
    if not applies:
        backend.use_plain(why)
        notes.append(f"Prompts are not shared: {why}.")
    result = backend.self_check(batch)
    if result.note:
        notes.append(result.note)
    if not any_process(backend, not result.ok):
        return Settled(result, applies, tuple(notes))
    if applies:
        reason = (
            f"the fast gradients differ from the plain ones by {result.gradient_difference:.1e}"
            f" (allowed {result.tolerance:.2g}); {result.reason}"
        )
        backend.use_plain(reason)
        notes.append(f"Training without the fast path: {reason}.")
        again = backend.self_check(batch)
        if not any_process(backend, not again.ok):
            return Settled(result, False, tuple(notes))
        result = again
    raise UserError(
        f"{backend.name} cannot train this model: rows in a batch and each row by itself give "
        f"gradients that differ by {result.gradient_difference:.1e} (allowed "
        f"{result.tolerance:.2g}); {result.reason}. Nothing was trained. Use the other backend, or "
        "another base."
    )
