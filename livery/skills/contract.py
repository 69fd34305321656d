"""The types of the skill seam: what a contract holds, and what a score is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from livery.engines.engine import Grammar

Message = dict[str, Any]


class AnswerError(ValueError):
    """A model's answer does not follow its skill's contract. The message says where and how."""


@dataclass(frozen=True)
class Metric:
    """One figure that a scorer gives for each case.

    Attributes:
        name: key in records, such as "address_correct".
        help: one line for people: what it says.
        kind: "share" of cases (each value a bool), or the mean of a "number".
        better: which way is an improvement.
        unit: of a number, "" for none.
        safety: an adapter on which it is worse is never promoted.
        unparsed: the number that an answer which breaks the contract counts as; None leaves it
            out. Of a share such an answer is always False.
    """

    name: str
    help: str
    kind: Literal["share", "number"] = "share"
    better: Literal["higher", "lower"] = "higher"
    unit: str = ""
    unparsed: float | None = None
    safety: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError where a field is none of its values."""
        for name, value, known in (
            ("kind", self.kind, ("share", "number")),
            ("better", self.better, ("higher", "lower")),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r}; it must be {' or '.join(known)}")
        if not self.name or not isinstance(self.name, str) or not isinstance(self.help, str):
            raise ValueError("a metric has a name and a help text")


# Every scorer gives these two; a skill's own follow them.
CORRECT = Metric("correct", "The answer is right.")
PARSED = Metric("parsed", "The answer follows the skill's contract.")


@dataclass(frozen=True)
class Skill:
    """What one adapter teaches.

    Attributes:
        name: as on the command line, "date-keys".
        version: of the contract; written into data, adapters and reports.
        messages: (request, value or None) -> chat messages; with a value, the answer too.
        render: value -> the one answer text that stands for it in training data.
        parse: answer text -> value; raises AnswerError where the contract is broken.
        summary: one line for `livery data --help`.
        system_prompt: the system message of `messages`; "" where each case brings its own.
        grammar: () -> llguidance Lark text that admits exactly the rendered answers; None where
            there is none.
        json_schema: () -> JSON Schema of the answer; None where it has no such form.
        max_length: tokens that the longest rows of its data take; 0 where any default will do.
        vocabulary: (whether an adapter is trained) -> what programs must know of the answers, as
            JSON-ready data; None where there is no such list.
    """

    name: str
    version: str
    messages: Callable[..., list[Message]]
    render: Callable[[Any], str]
    parse: Callable[[str], Any]
    summary: str = ""
    system_prompt: str = ""
    grammar: Callable[[], str] | None = None
    json_schema: Callable[[], dict[str, Any]] | None = None
    max_length: int = 0
    vocabulary: Callable[[bool], dict[str, Any]] | None = None

    def constraint(self) -> Grammar | None:
        """What constrained decoding holds answers to: the grammar, else the schema, else None."""
        if self.grammar is not None:
            return Grammar("lark", self.grammar())
        if self.json_schema is not None:
            return Grammar("json_schema", json.dumps(self.json_schema(), ensure_ascii=False))
        return None
