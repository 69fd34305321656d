"""Refuse a data set whose splits give each other away (`livery.dataset.leaks`: what counts)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from livery.dataset.leaks import Leak, Row, count_leaks, find_leaks, index, normalise
from livery.errors import UserError, counted

__all__ = ["count_leaks", "find_leaks", "index", "normalise", "refuse_leaks"]

# A split may be given away by those that are trained on before it is looked at.
_ORDER = ("train", "valid", "test")


def split_leaks(
    splits: Mapping[str, Sequence[Row]], names: Iterable[str] = ()
) -> list[tuple[str, str, Leak]]:
    """(training split, evaluation split, leak) of every pair of splits."""
    present = [name for name in _ORDER if splits.get(name)]
    return [
        (one, other, leak)
        for at, one in enumerate(present)
        for other in present[at + 1 :]
        for leak in find_leaks(splits[one], splits[other], names)
    ]


def refuse_leaks(splits: Mapping[str, Sequence[Row]], names: Iterable[str] = ()) -> None:
    """Check every pair of splits.

    Raises:
        UserError: a case of one stands in another; the first ones are shown.
    """
    found = split_leaks(splits, names)
    if found:
        shown = "\n".join(
            f"  {other} {leak.case_text!r} ~ {one} {leak.train_text!r}"
            for one, other, leak in found[:5]
        )
        raise UserError(
            f"{counted(len(found), 'case is', 'cases are')} also in another split, so no data "
            f"was written:\n{shown}\n"
            "Take these sentences out of one of the splits."
        )
