"""Pairs of a right and a wrong answer to one prompt, from an evaluation's records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from eval.evaluate import spread
from livery.errors import UserError
from livery.skills import AnswerError, dsl

Json = dict[str, Any]

_NEEDED = ("prompt_text", "raw_output", "schema_id", "teacher_verdict")


def build_pairs(
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    only_rejected: bool = True,
    most: int | None = None,
) -> tuple[list[Json], dict[str, int]]:
    """Pairs, and how many records gave none by why.

    The chosen side is the teacher's AST, the target's where no teacher gave one; the rejected side
    is the student's, or what it said where that is no AST.

    Args:
        rows: ("file:line", record) of evaluation_results.jsonl.
        only_rejected: of answers that the judge rejected; else also of others that differ.
        most: at most so many, spread over all.

    Raises:
        UserError: a record lacks a field.
    """
    pairs: list[Json] = []
    without: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    for where, row in rows:
        if missing := [name for name in _NEEDED if name not in row]:
            raise UserError(f"{where}: no {missing[0]}; it is no record of a dsl evaluation.")
        pair = _pair(row, only_rejected)
        if isinstance(pair, str):
            without[pair] += 1
        elif (key := (pair["prompt"], pair["rejected"])) in seen:
            without["the same pair twice"] += 1
        else:
            seen.add(key)
            pairs.append(pair)
    return spread(pairs, most), dict(without.most_common())


def _pair(row: Mapping[str, Any], only_rejected: bool) -> Json | str:
    """The pair of a record, or why there is none."""
    verdict = row["teacher_verdict"]
    if verdict is None:
        return "no verdict"
    if only_rejected and verdict != "reject":
        return "accepted"
    target = row.get("target_canonical") if row.get("target_valid", True) else None
    chosen = row.get("teacher_canonical") or target
    if not chosen:
        return "no right answer"
    rejected = row.get("student_canonical") or row["raw_output"]
    if not rejected.strip():
        return "the student said nothing"
    if rejected == chosen or _same(rejected, chosen):
        return "both mean the same"
    return {
        "prompt": row["prompt_text"],
        "chosen": chosen,
        "rejected": rejected,
        "schema_id": row["schema_id"],
        "teacher_verdict": verdict,
        "judge_name": row.get("judge", ""),
    }


def _same(one: str, other: str) -> bool:
    try:
        return dsl.same_meaning(dsl.parse(one), dsl.parse(other))
    except AnswerError:
        return False
