"""What every scorer takes and gives: a case to answer, and how one answer did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One thing to ask.

    Attributes:
        id: unique within its file.
        category: what reports group by.
        messages: the conversation up to the answer.
        text: the request alone, for people and for leak counts.
        expected: the right value, in the skill's own form (JSON-able).
        expected_text: the right value as the skill renders it.
        where: "file:line", or "".
    """

    id: str
    category: str
    messages: tuple[dict[str, str], ...]
    text: str
    expected: Any
    expected_text: str
    where: str = ""


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
    """

    id: str
    category: str
    correct: bool
    parsed: bool
    got: Any
    answer: str
    error: str = ""
    notes: tuple[str, ...] = ()
