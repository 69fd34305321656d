"""Whether a new adapter is better than the one in use: both asked the same cases, in pairs.

    verdict = compare_adapters("persona", "adapters/persona-2", "adapters/persona")
    verdict.better, verdict.reasons

Better means: more cases are right, by McNemar's mid-p below 0.05, and no safety metric of the skill
(`Metric.safety`, and that answers follow the contract) got worse by a single case. Cases that stand
in either adapter's training data do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval import record, stats
from eval.cases import CaseResult
from eval.evaluate import Request, Show, evaluate, silent
from eval.runner import has_grammar
from eval.scorers import find_set, get_scorer
from livery.adapter_origin import read_origin
from livery.errors import UserError, counted, shown
from livery.skills import CORRECT, PARSED, Metric


@dataclass(frozen=True)
class Verdict:
    """What the comparison came to.

    Attributes:
        better: the new adapter may take the place of the old one.
        reasons: why not, with the figures; or why it may.
        cases: how many cases counted.
        leaked: ids of those that did not, as a training row gives them away.
        metrics: {metric: see `eval.stats.comparison`}, None where no case says anything of it.
        facts: the set of cases and both adapters' hashes.
    """

    better: bool
    reasons: tuple[str, ...]
    cases: int
    leaked: tuple[str, ...]
    metrics: dict[str, dict[str, Any] | None]
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def as_dict(self) -> dict[str, Any]:
        """For --json and the record beside the weights."""
        return {**vars(self), "reasons": list(self.reasons), "leaked": list(self.leaked)}


def compare_adapters(
    request: Request,
    new: str,
    old: str,
    *,
    no_worse: Sequence[str] = (),
    show: Show = silent,
    tell: Callable[[str], None] = lambda text: None,
) -> Verdict:
    """Ask both adapters the skill's cases, and judge.

    Args:
        request: skill, engine, cases and decoding; its adapter and mode are set here.
        new, old: the adapters' folders.
        no_worse: metrics that must not get worse beside the skill's safety metrics.

    Raises:
        UserError: adapters, cases or a metric's name are wrong, or no case counts.
    """
    scorer = get_scorer(request.skill)
    metrics = (CORRECT, PARSED, *scorer.METRICS)
    guarded = _guarded(metrics, no_worse)
    read_origin(old)
    source = request.data or str(
        find_set(request.skill, request.cases, read_origin(new).train_data)[1]
    )
    constrained = has_grammar(scorer, scorer.cases(source))
    request = replace(
        request, data=source, cases="", baseline=False, neutral=False,
        mode="constrained" if constrained else "unconstrained",
    )  # fmt: skip
    found = {
        name: evaluate(replace(request, adapter=adapter), _titled(show, name), tell)
        for name, adapter in (("old", old), ("new", new))
    }
    leaked = {
        case["id"] for one in found.values() if one["leaks"] for case in one["leaks"]["cases"]
    }
    results = {name: _results(one, leaked) for name, one in found.items()}
    if not results["new"]:
        raise UserError(
            f"{shown(source)}: all of its {counted(len(leaked), 'case')} stand in the training "
            "data, so they show nothing. Give other cases with --data."
        )
    compared = {
        metric.name: stats.comparison(metric, results["old"], results["new"]) for metric in metrics
    }
    better, reasons = judge(compared, guarded)
    return Verdict(
        better,
        reasons,
        len(results["new"]),
        tuple(sorted(leaked)),
        compared,
        {
            "skill": found["new"]["skill"]["name"],
            "set": found["new"]["set"],
            "arm": found["new"]["headline"],
            "adapter_sha256": {name: one["facts"]["adapter_sha256"] for name, one in found.items()},
        },
    )


def judge(
    compared: dict[str, dict[str, Any] | None], guarded: Sequence[Metric]
) -> tuple[bool, tuple[str, ...]]:
    """(better, why or why not) of the comparisons by metric."""
    whole = compared[CORRECT.name]
    assert whole is not None  # of every case
    figures = (
        f"{whole['before']:.1%} of {counted(whole['total'], 'case')} right before and "
        f"{whole['after']:.1%} after; {whole['gained']} gained, {whole['lost']} lost, "
        f"p = {whole['p_value']:.2g}"
    )
    faults: list[str] = []
    if whole["better"] is False:
        faults.append(f"it is worse: {figures}")
    elif not whole["better"]:
        faults.append(f"it is not shown to be better: {figures} (below 0.05 is asked for)")
    for metric in guarded:
        one = compared[metric.name]
        if one is None or not one["difference"]:
            continue
        if (one["difference"] > 0) != (metric.better == "higher"):
            form = ".1%" if metric.kind == "share" else ".4g"
            faults.append(
                f"{metric.name} got worse: from {one['before']:{form}} to {one['after']:{form}} of "
                f"{counted(one['total'], 'case')} ({metric.better} is better, and it must not get "
                "worse)"
            )
    return not faults, tuple(faults) or (figures,)


def _guarded(metrics: Sequence[Metric], no_worse: Sequence[str]) -> list[Metric]:
    known = {metric.name for metric in metrics}
    for name in no_worse:
        if name not in known:
            raise UserError(
                f"--no-worse {shown(name)}: there is no such metric; there are: "
                f"{', '.join(metric.name for metric in metrics)}."
            )
    return [m for m in metrics if m.safety or m is PARSED or m.name in no_worse]


def _titled(show: Show, name: str) -> Show:
    return lambda what, total: show(f"{name} adapter", total)


def _results(found: record.Record, without: set[str]) -> list[CaseResult]:
    """The results of the record's headline arm, but for some cases."""
    arm = found["headline"]
    return [
        CaseResult(
            case["id"], case["category"], answer["correct"], answer["parsed"], answer["got"],
            answer["answer"], answer["error"], metrics=answer["metrics"],
        )
        for case in found["cases"]
        if case["id"] not in without
        for answer in (case["answers"][arm],)
    ]  # fmt: skip


def places(new: str | Path, current: str | Path) -> tuple[Path, Path]:
    """Both folders, where the links to them lead.

    Raises:
        UserError: one is missing or no adapter, or they are one.
    """
    found: list[Path] = []
    for path in (Path(new), Path(current)):
        if not path.is_dir():
            raise UserError(f"{shown(path)}: no such adapter folder.")
        if not record.adapter_hashes(path):
            raise UserError(f"{shown(path)}: holds no adapter's weights.")
        found.append(path.resolve())
    new, current = found
    if new == current or new in current.parents or current in new.parents:
        raise UserError(f"{shown(new)} and {shown(current)} must be two folders, side by side.")
    return new, current
