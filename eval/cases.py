"""What every scorer takes and gives: a case to answer, and how one answer did."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from livery.engines.engine import Grammar
from livery.errors import UserError, shown
from livery.files import read_jsonl


@dataclass(frozen=True)
class Case:
    """One thing to ask.

    Attributes:
        id: unique within its file.
        category: what reports group by.
        messages: the conversation up to the answer: system prompt and earlier turns are the case's
            own. An assistant's turn whose content is None is the model's own to answer first.
        text: the request alone, for people.
        expected: the right value, in the skill's own form (JSON-able).
        expected_text: the right value as the skill renders it; "" where no one answer is right.
        where: "file:line", or "".
        tools: JSON Schemas of the tools that the model is offered.
        grammar: of its answers, where they differ from case to case; None takes the skill's.
        meta: what else the case's row says of it, for the scorer.
    """

    id: str
    category: str
    messages: tuple[dict[str, Any], ...]
    text: str
    expected: Any
    expected_text: str
    where: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    grammar: Grammar | None = None
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def asked(self) -> str:
        """All that the user says in it, for leak counts."""
        turns = [str(m["content"]) for m in self.messages if m["role"] == "user"]
        return "\n".join(turns) if len(turns) > 1 else self.text


@dataclass(frozen=True)
class CaseResult:
    """How one answer did.

    Attributes:
        id, category: of the case.
        correct: the value is right.
        parsed: the answer follows the skill's contract.
        got: the parsed value, or None.
        answer: the raw text.
        error: why it did not parse, or what is wrong with it; "" when correct.
        notes: worth telling, but no fault ("order").
        said: what the model itself said in earlier turns, where those were its own.
        metrics: the scorer's own figures by name, a bool of a share and a number of a number; one
            that says nothing of this case is not in it.
    """

    id: str
    category: str
    correct: bool
    parsed: bool
    got: Any
    answer: str
    error: str = ""
    notes: tuple[str, ...] = ()
    metrics: Mapping[str, bool | float] = field(default_factory=dict[str, bool | float])
    said: tuple[str, ...] = ()

    def value(self, metric: str) -> bool | float | None:
        """Of a metric by name, `correct` and `parsed` among them; None where it does not apply."""
        if metric in ("correct", "parsed"):
            return self.correct if metric == "correct" else self.parsed
        return self.metrics.get(metric)


def share_right(right: Sequence[bool], first: int = 10) -> dict[str, float]:
    """Of a conversation's own answers, whether each is right: the share of the first ten and of the
    last ten, as metrics; nothing of a shorter conversation."""
    if len(right) < first:
        return {}
    ends = {"own_early": right[:first], "own_late": right[-first:]}
    return {name: sum(part) / first for name, part in ends.items()}


def said_thrice(answer: str) -> bool:
    """Whether a line, or a sentence of two words and more, stands in an answer three times."""
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    sentences = [s.strip() for s in re.split(r"(?<=[.!?।])\s+", answer) if len(s.split()) > 1]
    return any(max(Counter(of).values(), default=0) >= 3 for of in (lines, sentences))


def is_turn(turn: Any, roles: Sequence[str] = ("user", "assistant")) -> bool:
    """Whether an object of a case is a turn: a role and a text, or null for an assistant's that the
    model is to give."""
    return (
        isinstance(turn, dict)
        and turn.get("role") in roles
        and (
            (isinstance(turn.get("content"), str) and bool(turn["content"].strip()))
            or (turn["role"] == "assistant" and turn.get("content", "") is None)
        )
    )


def plain_turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn as it is asked, without what a case says of it beside."""
    return {"role": turn["role"], "content": turn["content"]}


def check_keys(row: Mapping[str, Any], known: Sequence[str], where: str, example: str) -> None:
    """Refuse a case that holds what is not read: of "fact" for "facts" any answer would be right.

    Raises:
        UserError: it holds another key; the nearest one is named.
    """
    for key in row:
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            meant = f" ({near[0]!r}?)" if near else ""
            raise UserError(
                f"{where}: {shown(str(key), 80)!r} is no key of a case{meant}; it may hold "
                f"{', '.join(known)}. A case is {example}."
            )


def read_cases(
    source: str | Path | Iterable[Mapping[str, Any]],
    read: Callable[[Mapping[str, Any], str], Case],
    example: str,
) -> list[Case]:
    """Cases from a JSON-lines file or from rows, in their order.

    Args:
        read: (row, "file:line") -> the case.
        example: what a line looks like, for the message that there are none.

    Raises:
        UserError: a row is malformed (file and line named), two rows share an id, or there are
            no rows.
    """
    if isinstance(source, str | Path):
        rows = [(f"{source}:{line}", row) for line, row in read_jsonl(source)]
        name = str(source)
    else:
        rows = [(f"row {index}", row) for index, row in enumerate(source, start=1)]
        name = "the rows"
    if not rows:
        raise UserError(f"{name}: no cases. A line is {example}.")
    found = [read(row, where) for where, row in rows]
    seen: dict[str, Case] = {}
    for case in found:
        if case.id in seen:
            raise UserError(
                f"{case.where}: id {case.id!r} is already used at {seen[case.id].where}; "
                "give each case its own."
            )
        seen[case.id] = case
    return found


def place(where: str) -> str:
    """What a case without an id is called: its line."""
    return where.rpartition(":")[2] if ":" in where else where
