"""Hold a run's loss against the plainest one there is, on its own first batch, before it trains.

Most ways in which a shared prompt, a mask or a cache goes wrong are silent. Where the fast loss
differs the run goes on without it; where the plain one differs too, or cannot be computed, nothing
that would be trained could be trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from livery.errors import UserError
from livery.training.backend import Backend, CheckResult
from livery.training.plan import MicroBatch

# What a family's own code may raise where it cannot be computed as asked.
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


def settle(
    backend: Backend, batch: MicroBatch, anywhere: Callable[[bool], bool] = lambda no: no
) -> Settled:
    """Choose between the fast loss and the plain one, and tell the backend.

    Args:
        batch: of the run's first step.
        anywhere: whether something holds in any of the run's processes.

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
    if not anywhere(not result.ok):
        return Settled(result, applies, tuple(notes))
    if applies:
        reason = (
            f"the fast gradients differ from the plain ones by {result.gradient_difference:.1e}"
            f" (allowed {result.tolerance:.0e}); {result.reason}"
        )
        backend.use_plain(reason)
        notes.append(f"Training without the fast path: {reason}.")
        again = backend.self_check(batch)
        if not anywhere(not again.ok):
            return Settled(result, False, tuple(notes))
        result = again
    raise UserError(
        f"{backend.name} cannot train this model: rows in a batch and each row by itself give "
        f"gradients that differ by {result.gradient_difference:.1e} (allowed "
        f"{result.tolerance:.0e}); {result.reason}. Nothing was trained. Use the other backend, or "
        "another base."
    )
