"""A scorer's metrics over many cases: each a figure with its interval, and compared in pairs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.cases import CaseResult
from eval.stats import compare, compare_means, mean_interval, wilson
from livery.skills import Metric


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
