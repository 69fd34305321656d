"""An evaluation as one JSON-able record: what `--output-json` writes and reports are made from.

docs/evaluation.md describes its keys; `FORMAT` counts changes that break readers. The record names
the bytes that were evaluated, so a later one of the same weights can be compared with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval import stats as metrics_of
from eval.cases import Case, CaseResult
from eval.runner import ArmRun
from eval.stats import compare, wilson
from livery.errors import UserError, quoted
from livery.files import plain, read_json, sha256
from livery.skills import CORRECT, PARSED, Metric

FORMAT = 1
NAME = "evaluation.json"

Record = dict[str, Any]


def build(
    *,
    skill: dict[str, str],
    cases: Sequence[Case],
    categories: Sequence[str],
    source: dict[str, Any],
    runs: Sequence[ArmRun],
    leaks: dict[str, Any] | None,
    constant: tuple[str, int] | None,
    taught: tuple[str, Sequence[bool]],
    facts: dict[str, Any],
    target: float | None,
    targets: Mapping[str, float] | None = None,
    metrics: Sequence[Metric] = (),
    neutral: Record | None = None,
    texts: Record | None = None,
    judge: Record | None = None,
    lacking: str = "",
) -> Record:
    """Put an evaluation together.

    Args:
        skill: {"name", "version", "system_prompt"}.
        cases: what was asked.
        categories: the skill's own order of categories; others follow by name.
        source: of the cases: {"name", "path", "sha256"}.
        runs: the arms, the headline first.
        leaks: how many cases stand in the training file; None where that is not known.
        constant: the commonest expected answer, and how many cases it alone gets right; None
            where cases expect no one answer.
        taught: what only the skill's data teach, and which cases' answers hold it.
        facts: engine, hashes, decoding, seed, command, machine.
        target: share of the headline arm that counts as passed; None for no target.
        targets: what other metrics are to reach.
        metrics: the scorer's own, beside `correct` and `parsed`.
        neutral: what the adapter does to prompts of no skill (`eval.neutral`).
        texts: what it costs the base at plain text (`eval.forgetting`).
        judge: what a judge says of base and tuned (`eval.judge`).
        lacking: which metrics could not be scored, and the remedy.
    """
    metrics = (CORRECT, PARSED, *metrics)
    order = _order(cases, categories)
    headline = runs[0]
    accuracy = headline.correct / len(cases)
    arms = {run.arm.key: _arm(run, order, metrics) for run in runs}
    reached = metrics_of.reached(metrics, arms[headline.arm.key]["metrics"], targets or {})
    met = [target is None or accuracy >= target, *(one["met"] for one in reached.values())]
    return {
        "format": FORMAT,
        "skill": skill,
        "set": {**source, "cases": len(cases)},
        "headline": headline.arm.key,
        "accuracy": accuracy,
        "target": target,
        "targets": reached,
        "passed": all(met) if reached or target is not None else None,
        "metrics": metrics_of.described(metrics),
        "lacking": lacking,
        "arms": arms,
        "comparisons": _comparisons(runs, cases, metrics),
        "constant": constant and {"answer": constant[0], **share(constant[1], len(cases))},
        "taught": _taught(runs, *taught),
        "leaks": leaks,
        "neutral": neutral,
        "texts": texts,
        "judge": judge,
        "facts": facts,
        "cases": [_case(case, runs, i, skill["system_prompt"]) for i, case in enumerate(cases)],
    }


def with_targets(found: Record, targets: Mapping[str, float]) -> Record:
    """A record held to other targets: metric ("correct" for the share of right answers) -> the
    value to be reached."""
    metrics = [Metric(**metric) for metric in found["metrics"]]
    others = {name: value for name, value in targets.items() if name != CORRECT.name}
    reached = metrics_of.reached(metrics, found["arms"][found["headline"]]["metrics"], others)
    target = targets.get(CORRECT.name)
    met = [target is None or found["accuracy"] >= target]
    met += [name in reached and reached[name]["met"] for name in others]
    return {**found, "target": target, "targets": reached, "passed": all(met)}


def _taught(runs: Sequence[ArmRun], what: str, held: Sequence[bool]) -> Record:
    """How each arm did on the cases that cannot be answered without the skill's data."""
    total = sum(held)
    right = {
        run.arm.key: sum(r.correct for r, one in zip(run.results, held, strict=True) if one)
        for run in runs
    }
    return {"what": what, "total": total, "arms": {k: share(n, total) for k, n in right.items()}}


def read(path: str | Path) -> Record:
    """Read a record.

    Raises:
        UserError: no such file, or not an evaluation of this format.
    """
    record = read_json(path)
    if not isinstance(record, dict) or "arms" not in record or "headline" not in record:
        raise UserError(f"{path}: is not an evaluation; make one with: livery eval")
    if record.get("format") != FORMAT:
        raise UserError(
            f"{path}: has format {quoted(record.get('format'))}, this version reads {FORMAT}. "
            "Evaluate again with: livery eval"
        )
    return record


def is_record(path: Path) -> bool:
    """Whether a file is an evaluation's record, of whatever format."""
    try:
        found = read_json(path)
    except UserError:
        return False
    return isinstance(found, dict) and {"arms", "headline", "format"} <= found.keys()


def share(correct: int, total: int) -> dict[str, Any]:
    """{"correct", "total", "accuracy", "interval"} with Wilson's 95 % interval."""
    interval = wilson(correct, total)
    return {
        "correct": correct,
        "total": total,
        "accuracy": correct / total if total else 0.0,
        "interval": [interval.low, interval.high],
    }


def _arm(run: ArmRun, categories: Sequence[str], metrics: Sequence[Metric]) -> dict[str, Any]:
    def of(category: str) -> list[CaseResult]:
        return [result for result in run.results if result.category == category]

    notes = [note for result in run.results for note in result.notes]
    seconds = max(run.seconds, 1e-9)
    return {
        "tuned": run.arm.tuned,
        "constrained": run.arm.constrained,
        **share(run.correct, len(run.results)),
        "categories": {
            name: share(sum(r.correct for r in of(name)), len(of(name))) for name in categories
        },
        "metrics": metrics_of.figures(metrics, run.results, categories),
        "unparsed": sum(not result.parsed for result in run.results),
        "unfinished": sum(not generation.finished for generation in run.generations),
        "notes": {note: notes.count(note) for note in sorted(set(notes))},
        "seconds": round(run.seconds, 4),
        "tokens": run.tokens,
        "tokens_per_second": round(run.tokens / seconds, 2),
        "answers_per_second": round(len(run.results) / seconds, 3),
        "latency_ms": None if run.latency is None else round(1000 * run.latency, 2),
    }


def _comparisons(
    runs: Sequence[ArmRun], cases: Sequence[Case], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """Base against tuned in each mode, and free against constrained for each model."""
    by_key = {run.arm.key: run for run in runs}
    pairs = [
        ("base_constrained", "tuned_constrained"),
        ("base_unconstrained", "tuned_unconstrained"),
        ("tuned_unconstrained", "tuned_constrained"),
        ("base_unconstrained", "base_constrained"),
    ]
    found: list[dict[str, Any]] = []
    for before, after in pairs:
        if before in by_key and after in by_key:
            paired = compare(
                [result.correct for result in by_key[before].results],
                [result.correct for result in by_key[after].results],
            )
            found.append(
                {
                    "before": before,
                    "after": after,
                    **dataclasses.asdict(paired),
                    "gained": [cases[i].id for i in paired.gained],
                    "lost": [cases[i].id for i in paired.lost],
                    "metrics": {
                        metric.name: metrics_of.comparison(
                            metric, by_key[before].results, by_key[after].results
                        )
                        for metric in metrics
                    },
                }
            )
    return found


def _case(case: Case, runs: Sequence[ArmRun], index: int, system: str) -> dict[str, Any]:
    return {
        "id": case.id,
        "category": case.category,
        "text": case.text,
        "expected": plain(case.expected),
        "expected_text": case.expected_text,
        **_prompt(case, system),
        "answers": {run.arm.key: _answer(run, index) for run in runs},
    }


def _prompt(case: Case, system: str) -> dict[str, Any]:
    """The conversation and tools of a case that brings its own; null of one that is the skill's
    system prompt and the request alone."""
    *before, last = case.messages
    usual = [turn["content"] for turn in before if turn["role"] == "system"] == [system] * len(
        before
    )
    alone = usual and len(before) <= 1 and last["role"] == "user"
    return {
        "messages": None if alone else list(case.messages),
        "tools": list(case.tools) or None,
    }


def _answer(run: ArmRun, index: int) -> dict[str, Any]:
    result, generation = run.results[index], run.generations[index]
    return {
        "correct": result.correct,
        "parsed": result.parsed,
        "answer": result.answer,
        "got": plain(result.got),
        "error": result.error,
        "notes": list(result.notes),
        "metrics": dict(result.metrics),
        "finished": generation.finished,
        "said": list(result.said),
    }


def _order(cases: Sequence[Case], categories: Sequence[str]) -> list[str]:
    present = {case.category for case in cases}
    return [c for c in categories if c in present] + sorted(present - set(categories))


# Weights only: the configuration shows in the run's own facts.
_WEIGHTS = (
    "adapter_model.safetensors",
    "adapters.safetensors",
    "mlx/adapters.safetensors",
    "gguf/adapter.gguf",
)


def adapter_hashes(folder: str | Path | None) -> dict[str, str]:
    """{file within the folder: hex SHA-256} of the adapter's weights in every format it holds; of a
    single file its own."""
    if folder is None:
        return {}
    if Path(folder).is_file():
        return {Path(folder).name: sha256(folder)}
    return {
        name: sha256(Path(folder) / name) for name in _WEIGHTS if (Path(folder) / name).is_file()
    }


def against_trained(found: Record, folder: Path) -> dict[str, Any] | None:
    """What changed since the evaluation that the folder holds; None where there is none of the same
    cases and weights.

    Returns:
        {"engine", "arms": {arm: {"won": [ids], "lost": [ids], "same_text": n, "total": n}}}
    """
    path = folder / NAME
    if not path.is_file():
        return None
    trained = read(path)
    mine, theirs = found["facts"]["adapter_sha256"], trained["facts"]["adapter_sha256"]
    if trained["set"]["sha256"] != found["set"]["sha256"] or mine != theirs:
        return None
    before = {case["id"]: case["answers"] for case in trained["cases"]}
    arms: dict[str, Any] = {}
    for name in found["arms"]:
        if name not in trained["arms"]:
            continue
        pairs = [
            (case["id"], before[case["id"]][name], case["answers"][name])
            for case in found["cases"]
            if case["id"] in before
        ]
        arms[name] = {
            "won": [i for i, old, new in pairs if new["correct"] and not old["correct"]],
            "lost": [i for i, old, new in pairs if old["correct"] and not new["correct"]],
            "same_text": sum(old["answer"] == new["answer"] for _, old, new in pairs),
            "total": len(pairs),
        }
    return {"engine": trained["facts"]["engine"], "arms": arms} if arms else None
