"""A scorer's metrics over many cases: each with its interval, and compared in pairs.

Shares have Wilson intervals and McNemar's mid-p test; means of numbers have the bootstrap's, alone
and paired.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.cases import CaseResult
from livery.skills import Metric

Z95 = 1.959963984540054  # the normal distribution's two-sided 95 % point


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval; of a share both ends are within 0..1."""

    low: float
    high: float


# Resamples of a bootstrap: the interval's ends move by a thousandth of its width between seeds.
RESAMPLES = 4_000


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


@dataclass(frozen=True)
class PairedMeans:
    """A number of two models on the same cases.

    Attributes:
        difference: mean of after - before.
        interval: of the difference; None for fewer than two cases.
        p_value: how likely a difference so far from 0 is if there were none; 1 for fewer than two
            cases.
    """

    difference: float
    interval: Interval | None
    p_value: float


def mean_interval(values: Sequence[float]) -> Interval | None:
    """95 % interval of a mean, by the percentile bootstrap (Efron, 1979) from a fixed seed.

    The resampled means are spread by sqrt(n / (n - 1)): resampling divides by n where a variance
    needs n - 1, which makes the plain interval too narrow for few cases. Values that are all alike
    give an interval of no width.

    Returns:
        None for fewer than two values, which tell nothing of their spread.
    """
    if len(values) < 2:
        return None
    low, high = _quantiles(math.fsum(values) / len(values), _deviations(values))
    return Interval(low, high)


def compare_means(before: Sequence[float], after: Sequence[float]) -> PairedMeans:
    """Pair a number of two models on the same cases, in the same order: the paired bootstrap.

    The p-value is the share of resampled differences, shifted to a mean of 0, that are at least as
    far from it as the one observed (Efron and Tibshirani, 1993, chapter 16), itself counted.

    Raises:
        ValueError: they are of different lengths, or empty.
    """
    pairs = [b - a for a, b in zip(before, after, strict=True)]
    if not pairs:
        raise ValueError("no cases to compare")
    difference = math.fsum(pairs) / len(pairs)
    if len(pairs) < 2:
        return PairedMeans(difference, None, 1.0)
    shifted = _deviations(pairs)
    # Rounding must not make a resample that equals the observation fall short of it.
    enough = abs(difference) * (1 - 1e-9)
    beyond = int((abs(shifted) >= enough).sum())
    low, high = _quantiles(difference, shifted)
    p_value = (1 + beyond) / (1 + RESAMPLES)
    return PairedMeans(difference, Interval(low, high), p_value)


def _deviations(values: Sequence[float]) -> Any:
    """(RESAMPLES,) float64: how far the means of resamples are from the mean of the values."""
    import numpy as np

    centred = np.asarray(values, dtype=np.float64)
    centred = centred - centred.mean()
    size = len(centred)
    random = np.random.default_rng(0)
    at_once = max(1, 1_000_000 // size)  # bounded memory, whatever the number of cases
    parts = [
        centred[random.integers(0, size, (min(at_once, RESAMPLES - start), size))].mean(axis=1)
        for start in range(0, RESAMPLES, at_once)
    ]
    return np.concatenate(parts) * math.sqrt(size / (size - 1))


def _quantiles(mean: float, deviations: Any) -> tuple[float, float]:
    import numpy as np

    low, high = np.quantile(deviations, [0.025, 0.975])
    return mean + float(low), mean + float(high)


def figure(metric: Metric, results: Sequence[CaseResult]) -> dict[str, Any]:
    """{"value", "total", "interval"} over the cases that the metric says something of.

    `value` is the share, or the mean of a number; null where there is no such case. `interval` is
    Wilson's, or the bootstrap's of a mean, null where fewer than two numbers give none. A share
    has `count`, the cases that hold it.
    """
    values = [v for result in results if (v := result.value(metric.name)) is not None]
    total = len(values)
    if metric.kind == "share":
        count = sum(map(bool, values))
        interval = wilson(count, total)
        value = count / total if total else None
        return {"value": value, "count": count, "total": total, "interval": _pair(interval)}
    numbers = [float(value) for value in values]
    return {
        "value": math.fsum(numbers) / total if total else None,
        "total": total,
        "interval": _pair(mean_interval(numbers)),
    }


def figures(
    metrics: Sequence[Metric], results: Sequence[CaseResult], categories: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """{name: figure, with "categories": {category: figure}} of each metric."""
    by_category = {name: [r for r in results if r.category == name] for name in categories}
    return {
        metric.name: {
            **figure(metric, results),
            "categories": {name: figure(metric, some) for name, some in by_category.items()},
        }
        for metric in metrics
    }


def comparison(
    metric: Metric, before: Sequence[CaseResult], after: Sequence[CaseResult]
) -> dict[str, Any] | None:
    """What changed on the cases that the metric says something of in both; None where none is.

    Returns:
        {"before", "after", "difference", "total", "p_value", "better"}; of a share also "gained"
        and "lost", how many cases came to hold it or ceased to (McNemar), of a number the
        "interval" of the difference (paired bootstrap). `better` is null where the change is
        within chance or there is none.
    """
    pairs = [
        (b, a)
        for one, other in zip(before, after, strict=True)
        if (b := one.value(metric.name)) is not None and (a := other.value(metric.name)) is not None
    ]
    if not pairs:
        return None
    olds, news = [float(b) for b, _ in pairs], [float(a) for _, a in pairs]
    if metric.kind == "share":
        paired = compare([bool(b) for b, _ in pairs], [bool(a) for _, a in pairs])
        more: dict[str, Any] = {"gained": len(paired.gained), "lost": len(paired.lost)}
        difference, p_value = (more["gained"] - more["lost"]) / len(pairs), paired.p_value
    else:
        means = compare_means(olds, news)
        more = {"interval": _pair(means.interval)}
        difference, p_value = means.difference, means.p_value
    sure = p_value < 0.05 and difference != 0
    return {
        "before": math.fsum(olds) / len(pairs),
        "after": math.fsum(news) / len(pairs),
        "difference": difference,
        "total": len(pairs),
        "p_value": p_value,
        "better": (difference > 0) == (metric.better == "higher") if sure else None,
        **more,
    }


def reached(
    metrics: Sequence[Metric], found: Mapping[str, Any], targets: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """{metric: {"asked", "value", "met"}} of an arm's figures; what no case says is not met."""
    made: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        if metric.name not in targets:
            continue
        asked, value = targets[metric.name], found[metric.name]["value"]
        higher = metric.better == "higher"
        met = value is not None and (value >= asked if higher else value <= asked)
        made[metric.name] = {"asked": asked, "value": value, "met": met}
    return made


def described(metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """The metrics themselves, for the record."""
    return [dataclasses.asdict(metric) for metric in metrics]


def _pair(interval: Any) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
