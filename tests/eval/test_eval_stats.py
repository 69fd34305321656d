"""eval/stats.py against enumeration and published figures."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

from eval.stats import (
    Interval,
    compare,
    compare_means,
    mcnemar_mid_p,
    mean_interval,
    wilson,
)


def enumerated_mid_p(gained: int, lost: int) -> float:
    """The definition, walked through: every way that the changes could have fallen."""
    changed = gained + lost
    observed = abs(2 * gained - changed)
    p = Fraction(0)
    for signs in itertools.product((0, 1), repeat=changed):
        lopsided = abs(2 * sum(signs) - changed)
        if lopsided > observed:
            p += Fraction(1, 2**changed)
        elif lopsided == observed:
            p += Fraction(1, 2 ** (changed + 1))
    return float(p)


@pytest.mark.parametrize("gained", range(7))
@pytest.mark.parametrize("lost", range(7))
def test_mid_p_is_what_enumeration_gives(gained: int, lost: int):
    assert mcnemar_mid_p(gained, lost) == pytest.approx(
        1.0 if gained + lost == 0 else enumerated_mid_p(gained, lost), abs=1e-15
    )


def test_mid_p_on_known_values():
    # 1 against 7 of 8: exact two-sided 2 * (1 + 8) / 256, less the point probability 8 / 256.
    assert mcnemar_mid_p(1, 7) == (2 * 9 - 8) / 256
    assert mcnemar_mid_p(0, 5) == 1 / 32
    assert mcnemar_mid_p(1, 1) == 0.75
    # Large counts neither overflow nor leave 0..1, and approach the normal approximation.
    p = mcnemar_mid_p(5200, 4800)
    assert p == pytest.approx(math.erfc(4 / math.sqrt(2)), rel=0.01)
    with pytest.raises(ValueError, match="below zero"):
        mcnemar_mid_p(-1, 3)


def test_wilson_solves_its_own_equation():
    # The ends are the shares p whose distance to the observed one is exactly z standard errors.
    for correct, total in [(1, 10), (9, 10), (152, 160), (84, 100), (3, 4)]:
        found = wilson(correct, total)
        for p in (found.low, found.high):
            distance = abs(correct / total - p) / math.sqrt(p * (1 - p) / total)
            assert distance == pytest.approx(1.959963984540054, rel=1e-9)


def test_wilson_at_the_ends():
    assert wilson(0, 0) == Interval(0.0, 1.0)
    assert wilson(0, 10).low == 0.0
    assert wilson(0, 10).high == pytest.approx(0.27753279, abs=1e-7)  # z^2 / (n + z^2)
    assert wilson(10, 10).high == 1.0
    with pytest.raises(ValueError):
        wilson(3, 2)


def test_compare_pairs_case_by_case():
    paired = compare([True, True, False, False, False], [True, False, True, True, False])
    assert paired.gained == (2, 3)
    assert paired.lost == (1,)
    assert (paired.both_right, paired.both_wrong) == (1, 1)
    assert paired.p_value == mcnemar_mid_p(2, 1)
    with pytest.raises(ValueError):
        compare([True], [True, False])


# Student's t for 95 %, two-sided, at 9 and 39 degrees of freedom (any table has them).
T = {10: 2.262, 40: 2.023}


@pytest.mark.parametrize("size", T)
def test_a_mean_lies_in_its_interval_as_often_as_it_says(size: int):
    rng = random.Random(size)
    inside = 0
    ratio: list[float] = []
    for _ in range(120):
        values = [rng.gauss(5, 2) for _ in range(size)]
        found = mean_interval(values)
        assert found is not None
        inside += found.low <= 5 <= found.high
        mean = sum(values) / size
        spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (size - 1) / size)
        ratio.append((found.high - found.low) / (2 * T[size] * spread))
    assert inside >= 120 * (0.87 if size == 10 else 0.9)
    # The bootstrap's is the normal interval, a little narrower than Student's.
    assert sum(ratio) / len(ratio) == pytest.approx(1.96 / T[size], abs=0.02)


def test_means_that_tell_nothing_or_all():
    assert mean_interval([]) is mean_interval([3.0]) is None
    assert mean_interval([3.0, 3.0, 3.0]) == Interval(3.0, 3.0)
    assert mean_interval([1.0, 2.0, 4.0]) == mean_interval([1.0, 2.0, 4.0])


def test_paired_means():
    rng = random.Random(1)
    before = [rng.uniform(0, 100) for _ in range(60)]
    better = [value - 2 + rng.gauss(0, 1) for value in before]
    found = compare_means(before, better)
    # The pairs tell what the two means alone, each far more uncertain, would not.
    assert found.interval is not None
    assert found.interval.low < found.difference < found.interval.high < -1.5
    assert found.p_value < 0.001
    same = compare_means(before, before)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    assert compare_means([1.0], [9.0]).interval is None
    assert compare_means([1.0], [9.0]).p_value == 1.0
    with pytest.raises(ValueError):
        compare_means([1.0], [1.0, 2.0])
    with pytest.raises(ValueError):
        compare_means([], [])


def test_paired_means_are_seldom_told_apart_where_there_is_nothing():
    rng = random.Random(2)
    wrong = 0
    for _ in range(120):
        pairs = [(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(30)]
        wrong += compare_means([a for a, _ in pairs], [b for _, b in pairs]).p_value < 0.05
    assert wrong <= 120 * 0.12
