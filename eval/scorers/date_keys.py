"""The scorer of date-keys: keys are compared as sets, exactly; wrong order is noted apart.

    cases = date_keys.cases("data/date-keys/test.jsonl")
    results = [date_keys.score_case(case, answer) for case, answer in zip(cases, answers)]

Cases are rows of the skill's own files, or a user's: {"text": "...", "date_keys": ["tomorrow"]},
with "category" and "id" if wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.cases import Case, CaseResult, place, read_cases
from livery.errors import UserError
from livery.skills import AnswerError, Metric, date_keys

SKILL = date_keys.SKILL

CATEGORIES = (
    "relative_days",
    "time_of_day",
    "weekdays",
    "periods",
    "specific_times",
    "relative_time",
    "negatives",
    "ambiguous",
    "mixed",
    # Of the third set, which is about the ways to write and say a command.
    "typed",
    "fragments",
    "fronted",
    "abbreviations",
    "clock_forms",
    "synonyms",
    "compound_amounts",
    "several",
    "no_key",
    "vocabulary",
)
METRICS = (Metric("in_order", "Of right answers: the keys stand in the order of mention."),)
TAUGHT = "a composite key (in_3_days)"
_EXAMPLE = '{"text": "wake me at 7 am", "date_keys": ["at_7am"]}'


def cases(source: str | Path | Iterable[Mapping[str, Any]]) -> list[Case]:
    """Cases from a JSON-lines file or from rows, in their order.

    Raises:
        UserError: a row is malformed (file and line named), two rows share an id, or there are
            no rows.
    """
    return read_cases(source, _case, _EXAMPLE)


def is_taught(case: Case) -> bool:
    """Whether an expected key is no plain English word."""
    return any("_" in key for key in case.expected)


def score_case(case: Case, answer: str) -> CaseResult:
    """How one raw answer did on its case."""
    try:
        got = date_keys.parse(answer)
    except AnswerError as error:
        return CaseResult(case.id, case.category, False, False, None, answer, str(error))
    expected: Sequence[str] = case.expected
    missing = [key for key in expected if key not in got]
    extra = list(dict.fromkeys(key for key in got if key not in expected))
    notes: tuple[str, ...] = ()
    if not missing and not extra:
        if len(set(got)) != len(got):
            notes += ("repeated",)
        if list(dict.fromkeys(got)) != list(expected):
            notes += ("order",)
    error = "; ".join(
        f"{what} {', '.join(keys)}"
        for what, keys in (("missing", missing), ("extra", extra))
        if keys
    )
    in_order = {} if error else {"in_order": "order" not in notes}
    return CaseResult(
        case.id, case.category, not error, True, list(got), answer, error, notes, in_order
    )


def _case(row: Mapping[str, Any], where: str) -> Case:
    if "messages" in row:
        text, expected = _from_messages(row["messages"], where)
        meta: Any = row.get("meta") or {}
    elif "text" in row:
        text, expected = row["text"], row.get("date_keys")
        meta = row
        if expected is None:
            raise UserError(f'{where}: no "date_keys"; write [] where no key is expected.')
    else:
        raise UserError(f'{where}: needs "text" and "date_keys", or "messages".')
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: the command must be a text that is not empty.")
    try:
        rendered = date_keys.render(_strings(expected, where))
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from None
    return Case(
        id=str(meta.get("id") or place(where)),
        category=str(meta.get("category") or meta.get("scenario") or "uncategorised"),
        messages=tuple(date_keys.messages(text)),
        text=text,
        expected=list(date_keys.parse(rendered)),
        expected_text=rendered,
        where=where,
    )


def _from_messages(messages: Any, where: str) -> tuple[Any, Any]:
    """(command, keys) of a conversation whose last two turns are the user's and the answer."""
    turns: dict[Any, Any] = {}
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict):
            turns[message.get("role")] = message.get("content")
    if not isinstance(turns.get("user"), str) or not isinstance(turns.get("assistant"), str):
        raise UserError(f'{where}: "messages" needs a user and an assistant turn with text.')
    try:
        return turns["user"], date_keys.parse(turns["assistant"])
    except AnswerError as error:
        raise UserError(f"{where}: the assistant's answer is {error}.") from None


def _strings(value: Any, where: str) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise UserError(f'{where}: "date_keys" must be a list of strings, such as ["tomorrow"].')
    return [date_keys.plain(key) for key in value]
