"""A record for every answer, by its rules and by a judge, and the rates of them all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.dsl.answering import Answer
from eval.dsl.items import Item
from eval.scorers import dsl as scorer
from eval.stats import wilson
from livery.skills import AnswerError, dsl
from livery.skills.dsl import teaching
from livery.teacher import Teacher

Json = dict[str, Any]

# What stands where no teacher was asked: a name that cannot be taken for one.
RULE = "rule: valid under the schema, and the same AST as the target"

CUT = "cut off after "  # how the error of an answer begins that reached its limit

RATES = {
    "parsed_rate": "parsed",
    "schema_valid_rate": "schema_valid",
    "exact_match_rate": "exact_match",
    "semantic_match_target_rate": "semantic_match_target",
    "teacher_accept_rate": "accepted",
    "teacher_agreement_rate": "matches_teacher",
    "semantic_match_teacher_rate": "semantic_match_teacher",
    "semantic_pass_rate": "semantic_pass",
}


@dataclass(frozen=True)
class Judge:
    """Who says whether an answer means its query.

    Attributes:
        teacher: a large model; None judges by rule, and everything written says so.
        records: the teacher's records, from which a stopped evaluation goes on.
    """

    teacher: Teacher | None = None
    records: Path = Path("teacher/records.sqlite")

    @property
    def name(self) -> str:
        return f"teacher: {self.teacher.model}" if self.teacher else RULE


def judge_rows(items: Sequence[Item], answers: Sequence[Answer], judge: Judge) -> list[Json]:
    """The rows of evaluation_results.jsonl.

    Raises:
        UserError: the teacher cannot be asked; what it has answered is on record.
    """
    rows = [_by_rule(item, given) for item, given in zip(items, answers, strict=True)]
    if judge.teacher is None:
        return [_finished(row, judge.name) for row in rows]
    asked = [
        teaching.Answer(item.request, row["schema_id"], _ast(row["raw_output"]))
        for item, row in zip(items, rows, strict=True)
    ]
    verdicts = teaching.judge(asked, judge.teacher, judge.records)
    for row, own, said in zip(rows, asked, verdicts, strict=True):
        row |= {
            "teacher_verdict": said.verdict,
            "teacher_reason": said.reason or None,
            "teacher_error": said.error or None,
        }
        if said.teacher_ast is not None:
            row["teacher_canonical"] = dsl.render(said.teacher_ast)
            row["matches_teacher"] = own.ast is not None and (
                dsl.canonical_text(own.ast) == dsl.canonical_text(said.teacher_ast)
            )
            row["semantic_match_teacher"] = own.ast is not None and dsl.same_meaning(
                own.ast, said.teacher_ast
            )
    return [_finished(row, judge.name) for row in rows]


def _ast(text: str) -> dsl.Ast | None:
    try:
        return dsl.parse(text)
    except AnswerError:
        return None


def _by_rule(item: Item, given: Answer) -> Json:
    """What needs no teacher."""
    case = item.case
    result = scorer.score_case(case, given.raw)
    ast, valid = result.got, bool(result.metrics["schema_valid"])
    cut = "" if given.finished else f"{CUT}{given.tokens:,} tokens; "
    target_valid = not item.target_error
    return {
        "id": case.id,
        "schema_id": case.meta["schema_id"],
        "query": case.text,
        "language": case.meta["language"],
        "depth": case.category,
        "target_valid": target_valid,
        "raw_output": given.raw,
        "prompt_text": str(case.messages[-1]["content"]),
        "parsed": ast is not None,
        "parse_error": None if ast is not None else cut + result.error.removeprefix("no_json: "),
        "student_canonical": None if ast is None else dsl.render(ast),
        "target_canonical": case.expected_text,
        "exact_match": target_valid and bool(result.metrics["exact_match"]),
        "target_error": item.target_error or None,
        "semantic_match_target": bool(
            target_valid and ast is not None and dsl.same_meaning(ast, case.expected)
        ),
        "schema_valid": valid,
        "schema_error": None if ast is None or valid else result.error.partition(": ")[2],
        "teacher_canonical": None,
        "matches_teacher": None,
        "semantic_match_teacher": None,
        "teacher_verdict": None,
        "teacher_reason": None,
        "teacher_error": None,
        "failure": scorer.failure(result) if target_valid else "",
    }


def _finished(row: Json, judge: str) -> Json:
    """The row with its verdict: the teacher's, or the rule's where none was asked."""
    if judge == RULE and row["target_valid"]:
        right = row["schema_valid"] and row["semantic_match_target"]
        row["teacher_verdict"] = "accept" if right else "reject"
        row["teacher_reason"] = "the target's meaning" if right else row["failure"]
    verdict = row["teacher_verdict"]
    row["accepted"] = None if verdict is None else verdict == "accept"
    row["semantic_pass"] = None if verdict is None else row["schema_valid"] and row["accepted"]
    return {**row, "judge": judge}


def summarise(rows: Sequence[Json], judge: str, facts: Mapping[str, Any]) -> Json:
    """evaluation_summary.json: rates with Wilson's 95 % intervals, and the failures by kind.

    A rate is of the rows that it can be told of: of those with a right target, or with a verdict.
    """
    rates = {name: _rate(rows, key) for name, key in RATES.items()}
    return {
        "judge": judge,
        "samples": len(rows),
        **{name: found and found["rate"] for name, found in rates.items()},
        "intervals": {name: found for name, found in rates.items() if found},
        "by_schema": _groups(rows, lambda row: row["schema_id"]),
        "by_language": _groups(rows, lambda row: row["language"] or "unknown"),
        "by_depth": _groups(rows, lambda row: row["depth"]),
        "failures": dict(Counter(row["failure"] for row in rows if row["failure"]).most_common()),
        "cut_off": sum((row["parse_error"] or "").startswith(CUT) for row in rows),
        "teacher_errors": sum(bool(row["teacher_error"]) for row in rows),
        **facts,
    }


def _rate(rows: Sequence[Json], key: str) -> Json | None:
    about_target = key in ("exact_match", "semantic_match_target")
    values = [
        bool(row[key])
        for row in rows
        if row[key] is not None and (row["target_valid"] or not about_target)
    ]
    if not values:
        return None
    interval = wilson(sum(values), len(values))
    return {
        "rate": sum(values) / len(values),
        "count": sum(values),
        "of": len(values),
        "interval": [interval.low, interval.high],
    }


def _groups(rows: Sequence[Json], name: Callable[[Json], str]) -> dict[str, Json]:
    """{group: {"samples", "schema_valid", "semantic_match_target", "semantic_pass"}}, as counts."""
    groups: defaultdict[str, list[Json]] = defaultdict(list)
    for row in rows:
        groups[name(row)].append(row)
    keys = ("schema_valid", "semantic_match_target", "semantic_pass")
    return {
        group: {"samples": len(own), **{key: sum(bool(row[key]) for row in own) for key in keys}}
        for group, own in sorted(groups.items())
    }


def describe(summary: Mapping[str, Any]) -> str:
    """The rates with their intervals, for people."""
    lines = [f"{summary['samples']:,} answers, judged by {summary['judge']}"]
    for name in RATES:
        found = summary["intervals"].get(name)
        if found is None:
            continue
        low, high = found["interval"]
        rate = f"{found['rate']:6.1%} [{low:.1%}, {high:.1%}]"
        lines.append(f"{name:28}{rate}  {found['count']:,} of {found['of']:,}")
    kinds = ", ".join(f"{kind} {count}" for kind, count in summary["failures"].items())
    return "\n".join([*lines, *([f"failures: {kinds}"] if kinds else [])])
