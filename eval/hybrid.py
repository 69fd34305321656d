"""FastText, the adapter and the two together on the same commands of date-keys: one table.

    found = compare(sets, classifier, engine=engine, threshold=0.98)
    print(table(found))

Every command is asked by itself, as a user's program asks, so that latencies are those of single
requests. Accuracy and coverage come from the same answers: coverage is the share of commands that
FastText answers in the hybrid, `accepted_error` how many of those answers are wrong.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eval.cases import Case
from eval.scorers.date_keys import score_case
from eval.stats import wilson
from livery.engines.engine import Engine
from livery.skills import date_keys
from livery.skills.date_keys.extract import ask
from livery.skills.date_keys.fasttext import Classifier
from livery.skills.date_keys.risk import upper_bound

FASTTEXT, ADAPTER, HYBRID = "fasttext", "adapter", "hybrid"


@dataclass(frozen=True)
class Asked:
    """One case, answered.

    Attributes:
        confidence: FastText's.
        fast, slow: whether FastText and the adapter were right; slow None without an adapter.
        fast_seconds, slow_seconds: what each took.
        fast_keys: what FastText said.
    """

    case: Case
    confidence: float
    fast: bool
    fast_seconds: float
    fast_keys: tuple[str, ...]
    slow: bool | None = None
    slow_seconds: float = 0.0


def answer(
    cases: Sequence[Case],
    classifier: Classifier,
    engine: Engine | None = None,
    *,
    constrained: bool = True,
    progress: Callable[[int], None] | None = None,
) -> list[Asked]:
    """Every case, asked by itself."""
    if cases:
        classifier.predict(cases[0].text)  # the first prediction allocates
    if engine is not None and cases:
        ask(engine, cases[0].text, constrained=constrained)  # and the first answer compiles
    found: list[Asked] = []
    for number, case in enumerate(cases, start=1):
        began = time.perf_counter()
        said = classifier.predict(case.text)
        fast_seconds = time.perf_counter() - began
        right, slow, slow_seconds = _right(case, said.keys), None, 0.0
        if engine is not None:
            began = time.perf_counter()
            text = ask(engine, case.text, constrained=constrained)
            slow_seconds = time.perf_counter() - began
            slow = score_case(case, text).correct
        found.append(
            Asked(case, said.confidence, right, fast_seconds, said.keys, slow, slow_seconds)
        )
        if progress is not None:
            progress(number)
    return found


def summarize(asked: Sequence[Asked], threshold: float | None) -> dict[str, Any]:
    """What one set came to.

    Returns:
        {"cases", "systems": {name: {"correct", "accuracy", "interval", "coverage",
        "latency_ms": {"p50", "p99"}}}, "accepted", "accepted_errors", "accepted_error",
        "accepted_bound"}. The last four are of the threshold, None where there is none; so is the
        hybrid, and the adapter where none was asked.
    """
    systems: dict[str, Any] = {
        FASTTEXT: _system([a.fast for a in asked], [a.fast_seconds for a in asked])
    }
    tuned = [a for a in asked if a.slow is not None]
    if tuned:
        systems[ADAPTER] = _system([bool(a.slow) for a in tuned], [a.slow_seconds for a in tuned])
    taken = [a for a in asked if threshold is not None and a.confidence >= threshold]
    if tuned and threshold is not None:
        kept = [a.confidence >= threshold for a in asked]
        systems[HYBRID] = _system(
            [a.fast if keep else bool(a.slow) for a, keep in zip(asked, kept, strict=True)],
            [
                a.fast_seconds + (0.0 if keep else a.slow_seconds)
                for a, keep in zip(asked, kept, strict=True)
            ],
        )
    errors = sum(not a.fast for a in taken)
    known = threshold is not None
    return {
        "cases": len(asked),
        "systems": systems,
        "accepted": len(taken) if known else None,
        "coverage": len(taken) / len(asked) if known and asked else None,
        "accepted_errors": errors if known else None,
        "accepted_error": errors / len(taken) if taken else None,
        "accepted_bound": upper_bound(errors, len(taken)) if taken else None,
    }


def wrong(asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """The cases that FastText got wrong, the surest first."""
    return [
        {
            "id": a.case.id,
            "text": a.case.text,
            "expected": a.case.expected,
            "fasttext": list(a.fast_keys),
            "confidence": round(a.confidence, 4),
            "adapter_right": a.slow,
        }
        for a in sorted(asked, key=lambda a: -a.confidence)
        if not a.fast
    ]


def table(sets: dict[str, dict[str, Any]]) -> str:
    """The sets' summaries as a table of Markdown, a system a line."""
    lines = [
        "| set | system | accuracy | 95 % interval | coverage | p50 | p99 |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, found in sets.items():
        for system, facts in found["systems"].items():
            low, high = facts["interval"]
            covered = found["coverage"] if system != ADAPTER else None
            share = "" if covered is None else f"{covered:.1%}"
            p50, p99 = (_time(facts["latency_ms"][point]) for point in ("p50", "p99"))
            lines.append(
                f"| {name} ({found['cases']}) | {system} | {facts['accuracy']:.1%} "
                f"| {low:.1%} to {high:.1%} | {share} | {p50} | {p99} |"
            )
    return "\n".join(lines)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def _system(right: Sequence[bool], seconds: Sequence[float]) -> dict[str, Any]:
    interval = wilson(sum(right), len(right))
    return {
        "correct": sum(right),
        "accuracy": sum(right) / len(right),
        "interval": [interval.low, interval.high],
        "latency_ms": {
            "p50": 1000 * percentile(seconds, 0.5),
            "p99": 1000 * percentile(seconds, 0.99),
        },
    }


def _right(case: Case, keys: Sequence[str]) -> bool:
    return score_case(case, date_keys.render(keys)).correct


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.3f} ms" if milliseconds < 1 else f"{milliseconds:.1f} ms"
