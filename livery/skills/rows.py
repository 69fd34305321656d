"""A row of a skill of the user's: what is asked, and the right answer that its parser takes."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from livery.dataset.conversation import RowError
from livery.dataset.turns import read_tools
from livery.engines.engine import Grammar
from livery.errors import UserError, shown
from livery.skills.contract import AnswerError, Message, Skill
from livery.skills.module import OwnModule, short
from livery.skills.own import turns

KEYS = ("text", "messages", "system", "tools", "answer", "category", "family", "id", "meta")


@dataclass(frozen=True)
class Example:
    """A row of a skill of the user's: what is asked, and the right answer.

    Attributes:
        text: the request alone.
        messages: the conversation up to the answer.
        tools: offered to the model.
        expected, expected_text: the right value, and as the skill writes it.
        category: what reports group by.
        family: rows of one family are never in two splits; "" where none is named.
        id: "" where none is named.
        meta: whatever else the row says of itself, for score().
    """

    text: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    expected: Any
    expected_text: str
    category: str = "uncategorised"
    family: str = ""
    id: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read_example(skill: Skill, row: Any, where: str) -> Example:
    """A row as a skill's generate() yields it, or as a user writes cases by hand.

    {"text" or "messages", "answer", and if wanted "system", "tools", "category", "family", "id",
    "meta"}

    Args:
        where: what messages begin with, "file:line" or "file:line: generate()".

    Raises:
        UserError: a key is unknown, missing or of the wrong type, or the answer is one that the
            skill's own parser refuses or reads as another.
    """
    if not isinstance(row, Mapping):
        raise UserError(
            f'{where}: a row is {short(row)}; it must be {{"text": ..., "answer": ...}}.'
        )
    for key in row:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it may hold {', '.join(KEYS)}."
            raise UserError(
                f"{where}: a row holds {shown(key)!r}, which is not a key of a row; {hint}"
            )
    messages, text = _asked(skill, row, where)
    if "answer" not in row:
        raise UserError(f'{where}: a row has no "answer": {short(dict(row))}.')
    for key in ("category", "family", "id"):
        if not isinstance(row.get(key, ""), str):
            raise UserError(f'{where}: a row\'s "{key}" is {short(row[key])}; it must be a text.')
    if not isinstance(meta := row.get("meta", {}), Mapping):
        raise UserError(f'{where}: a row\'s "meta" is {short(meta)}; it must be an object.')
    try:
        tools = read_tools(row["tools"], where, '"tools"') if row.get("tools") else ()
    except RowError as error:
        raise UserError(str(error)) from None
    try:
        expected_text = skill.render(row["answer"])
    except ValueError as error:  # as a contract of the user's own refuses a value
        raise UserError(
            f"{where}: the answer {short(row['answer'])} is refused: {error}."
        ) from None
    _check_json({"messages": messages, "tools": tools, "meta": meta}, where)
    return Example(
        text, tuple(messages), tools, _read_back(skill, row["answer"], expected_text, where),
        expected_text, row.get("category") or "uncategorised", row.get("family", ""),
        row.get("id", ""), meta,
    )  # fmt: skip


def _check_json(value: dict[str, Any], where: str) -> None:
    """Raises UserError where a row holds what no line of JSON can."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: a row holds half a character, {error.object[error.start]!a}; texts are "
            "Unicode."
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: a row holds what JSON cannot: {error}.") from None


def grammar_checker(own: OwnModule, grammar: Grammar) -> Callable[[str], str]:
    """`livery.engines.constrain.checker` of a grammar of the module's.

    Raises:
        UserError: the grammar is faulty.
    """
    from livery.engines.constrain import checker

    try:
        return checker(grammar)
    except UserError as error:
        raise UserError(
            f"{own.file}: {str(error).strip()}\nCorrect GRAMMAR, grammar() or JSON_SCHEMA; "
            "with GRAMMAR = None answers are parsed and not constrained."
        ) from None


def _read_back(skill: Skill, answer: Any, text: str, where: str) -> Any:
    """The value that the skill's parser makes of the answer."""
    remedy = "Correct the answer, or parse() and render()."
    if not text.strip():
        raise UserError(f"{where}: the answer {short(answer)} is empty. {remedy}")
    try:
        value = skill.parse(text)
    except AnswerError as error:
        raise UserError(
            f"{where}: the answer {short(text)} is refused by the skill's own parser: {error}. "
            f"{remedy}"
        ) from None
    again = skill.render(value)
    if again != text:
        raise UserError(
            f"{where}: the answer {short(text)} is read by the skill's own parser as one that it "
            f"writes {short(again)}. {remedy}"
        )
    return value


def _asked(skill: Skill, row: Mapping[str, Any], where: str) -> tuple[list[Message], str]:
    system = row.get("system")
    if not isinstance(system, str | None):
        raise UserError(f'{where}: a row\'s "system" is {short(system)}; it must be a text.')
    if "messages" in row:
        messages = turns(row["messages"], f'{where}: "messages" holds')
        asked = next((turn["content"] for turn in reversed(messages) if turn["role"] == "user"), "")
        text = row.get("text", asked)
        if messages[0]["role"] == "system":
            if system is not None:
                raise UserError(f'{where}: a row holds "system" and a system turn; keep one.')
        elif own := skill.system_prompt if system is None else system:
            messages = [{"role": "system", "content": own}, *messages]
    elif "text" in row:
        text, messages = row["text"], []
    else:
        raise UserError(f'{where}: a row has neither "text" nor "messages": {short(dict(row))}.')
    if not isinstance(text, str) or not text.strip():
        raise UserError(f'{where}: a row\'s "text" is {short(text)}; it must be what is asked.')
    if not messages:
        messages = skill.messages(text)
        if system is not None:
            rest = [turn for turn in messages if turn["role"] != "system"]
            messages = [{"role": "system", "content": system}, *rest] if system else rest
    return messages, text
