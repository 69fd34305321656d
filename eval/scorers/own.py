"""The scorer of a skill in a file of the user's: its score(), or exact match where it has none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.cases import Case, CaseResult, place, read_cases
from livery.dataset.conversation import Conversation, Text
from livery.dataset.rows import read_row
from livery.errors import UserError
from livery.skills import AnswerError, Metric
from livery.skills.module import OwnModule, short
from livery.skills.own import own_grammar, skill_of
from livery.skills.rows import grammar_checker, read_example

_EXAMPLE = '{"text": "...", "answer": ...}'


class OwnScorer:
    """See `eval.scorers.Scorer`."""

    TAUGHT = ""

    def __init__(self, own: OwnModule) -> None:
        self._own = own
        self.SKILL = skill_of(own)
        self.CATEGORIES: tuple[str, ...] = tuple(own.get("CATEGORIES", ()))
        self.METRICS: tuple[Metric, ...] = tuple(own.get("METRICS", ()))
        if own.get("look_over") is not None:
            self.look_over = self._look_over  # `eval.weak` asks whether a scorer has one

    def cases(self, source: str | Path | Iterable[Mapping[str, Any]]) -> list[Case]:
        """Cases of rows as generate() yields them, or as training data hold them: what comes
        before the last answer is asked, and that answer is expected.

        Raises:
            UserError: as `eval.cases.read_cases`.
        """
        if (grammar := self.SKILL.constraint()) is not None:
            grammar_checker(self._own, grammar)
        found = read_cases(source, self._case, _EXAMPLE)
        return [replace(case, grammar=own_grammar(self._own, case)) for case in found]

    def is_taught(self, case: Case) -> bool:
        """Not known of a user's skill."""
        return False

    def score_case(self, case: Case, answer: str) -> CaseResult:
        """How one raw answer did on its case.

        Raises:
            UserError: parse() or score() fails, or score() returns what is not a score.
        """
        try:
            value = self.SKILL.parse(answer)
        except AnswerError as error:
            values = {m.name: False if m.kind == "share" else m.unparsed for m in self.METRICS}
            known = {name: value for name, value in values.items() if value is not None}
            return CaseResult(
                case.id, case.category, False, False, None, answer, str(error), metrics=known
            )
        correct, error, metrics = self._scored(case, value)
        if not correct and not error:
            error = "another answer is expected"
        return CaseResult(
            case.id, case.category, correct, True, value, answer, "" if correct else error,
            metrics=metrics,
        )  # fmt: skip

    def _look_over(self, messages: Sequence[Mapping[str, Any]], answer: str) -> list[str]:
        doing = f"look_over(messages, {short(answer)})"
        found = self._own.call("look_over", [dict(turn) for turn in messages], answer, doing=doing)
        if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
            raise UserError(
                f"{self._own.line('look_over')}: look_over() returned {short(found)}; it must "
                "return a list of what is wrong, each a text."
            )
        return list(found)

    def _scored(self, case: Case, value: Any) -> tuple[bool, str, dict[str, bool | float]]:
        """(correct, what is wrong, metrics)."""
        right = value == case.expected
        if self._own.get("score") is None:
            if self.METRICS:
                self._own.function("score", "for METRICS")
            return right, "", {}
        doing = f"score({short(case.text)}, {short(value)})"
        found = self._own.call("score", case, value, doing=doing)
        where = f"{self._own.line('score')}: score() returned {short(found)}"
        found = _plain(found)
        if isinstance(found, bool):
            found = {"correct": found}
        if not isinstance(found, Mapping):
            raise UserError(
                f"{where}; it must return whether the answer is right, or a dict of metrics."
            )
        known = {"correct", "error", *(metric.name for metric in self.METRICS)}
        for name in found:
            if name not in known:
                raise UserError(
                    f"{where}, and {short(name)} is no metric of METRICS; add "
                    f"Metric({short(name)}, ...) to them."
                )
        metrics: dict[str, bool | float] = {}
        for metric in self.METRICS:
            if metric.name not in found:
                raise UserError(
                    f"{where}, without {metric.name!r} of METRICS; give None where it does not "
                    "apply to a case."
                )
            one = _plain(found[metric.name])
            if one is None:
                continue
            wanted = "True or False" if metric.kind == "share" else "a finite number"
            good = isinstance(one, bool) if metric.kind == "share" else _is_number(one)
            if not good:
                raise UserError(f"{where}; {metric.name!r} must be {wanted}, or None.")
            metrics[metric.name] = one if metric.kind == "share" else float(one)
        correct = _plain(found.get("correct", right))
        if not isinstance(correct, bool):
            raise UserError(f"{where}; 'correct' must be True or False.")
        return correct, str(found.get("error") or ""), metrics

    def _case(self, row: Mapping[str, Any], where: str) -> Case:
        said = row.get("meta")
        meta: dict[str, Any] = dict(said) if isinstance(said, dict) else {}
        if "answer" in row:
            example = read_example(self.SKILL, row, where)
            return Case(
                id=example.id or place(where),
                category=example.category,
                messages=example.messages,
                text=example.text,
                expected=example.expected,
                expected_text=example.expected_text,
                where=where,
                tools=example.tools,
                meta=example.meta,
            )
        found = read_row(row, where)
        if isinstance(found, Text):
            raise UserError(f"{where}: a case needs what is asked and the answer: {_EXAMPLE}.")
        if isinstance(found, Conversation):
            *messages, last = found.messages
            tools, answer = found.tools, last["content"]
            if last["role"] != "assistant" or not messages or last.get("tool_calls"):
                raise UserError(f"{where}: a case ends with the assistant's answer, a text.")
        else:
            system = found.system or self.SKILL.system_prompt
            messages = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": found.prompt})
            tools, answer = (), found.completion
        try:
            expected = self.SKILL.parse(answer)
        except AnswerError as error:
            raise UserError(
                f"{where}: the answer {short(answer)} is refused by the skill's own parser: "
                f"{error}."
            ) from None
        users = [str(m["content"]) for m in messages if m["role"] == "user"]
        return Case(
            id=str(meta.get("id") or place(where)),
            category=str(meta.get("category") or meta.get("scenario") or "uncategorised"),
            messages=tuple(messages),
            text=users[-1] if users else "",
            expected=expected,
            expected_text=answer,
            where=where,
            tools=tools,
            meta=meta,
        )


def _plain(value: Any) -> Any:
    """A scalar of numpy or torch as Python's own."""
    return value.item() if type(value).__module__ in ("numpy", "torch") else value


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool | str) and math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False
