"""How sure a score is, and whether two differ: Wilson intervals and McNemar's mid-p test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054  # the normal distribution's two-sided 95 % point


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval of a share, both ends within 0..1."""

    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two models on the same cases.

    Attributes:
        gained: indices of cases that the first got wrong and the second right.
        lost: the other way round (regressions).
        both_right, both_wrong: how many cases did not change.
        p_value: McNemar's mid-p: how likely so lopsided a change is if neither were better.
    """

    gained: tuple[int, ...]
    lost: tuple[int, ...]
    both_right: int
    both_wrong: int
    p_value: float


def wilson(correct: int, total: int, z: float = Z95) -> Interval:
    """Wilson's score interval of `correct` out of `total` (E. B. Wilson, 1927).

    Unlike the textbook interval it keeps within 0..1 and is right for shares near them. No cases
    tell nothing: (0, 1).

    Raises:
        ValueError: not 0 <= correct <= total.
    """
    if not 0 <= correct <= total:
        raise ValueError(f"{correct} correct out of {total}")
    if total == 0:
        return Interval(0.0, 1.0)
    share = correct / total
    spread = z * z / total
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    # At the ends the exact values are 0 and 1; rounding must not move them.
    low = 0.0 if correct == 0 else max(0.0, middle - half)
    high = 1.0 if correct == total else min(1.0, middle + half)
    return Interval(low, high)


def mcnemar_mid_p(gained: int, lost: int) -> float:
    """Two-sided mid-p of McNemar's exact test on the cases that changed.

    If neither model were better, each change would be a gain with probability one half. The value
    is the probability of a more lopsided split plus half that of an equally lopsided one
    (Fagerland, Lydersen, Laake, 2013); exact arithmetic, so any count will do.

    Raises:
        ValueError: a negative count.
    """
    if gained < 0 or lost < 0:
        raise ValueError(f"counts below zero: {gained}, {lost}")
    changed = gained + lost
    if changed == 0:
        return 1.0
    fewer = min(gained, lost)
    below, here = 0, 1  # sum of C(changed, i) for i < fewer; C(changed, fewer)
    for i in range(fewer):
        below += here
        here = here * (changed - i) // (i + 1)
    if gained == lost:
        return (2 * 2**changed - here) / (2 * 2**changed)
    # Both tails: twice the strictly more lopsided splits, and half of the two equal ones.
    return (2 * below + here) / 2**changed


def compare(before: Sequence[bool], after: Sequence[bool]) -> Paired:
    """Pair two models' results on the same cases, in the same order.

    Raises:
        ValueError: they are of different lengths.
    """
    pairs = list(zip(before, after, strict=True))
    gained = tuple(i for i, (b, a) in enumerate(pairs) if a and not b)
    lost = tuple(i for i, (b, a) in enumerate(pairs) if b and not a)
    return Paired(
        gained=gained,
        lost=lost,
        both_right=sum(b and a for b, a in pairs),
        both_wrong=sum(not b and not a for b, a in pairs),
        p_value=mcnemar_mid_p(len(gained), len(lost)),
    )
