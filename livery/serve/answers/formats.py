"""The grammar that a `response_format` holds an answer to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from livery.engines.engine import Grammar
from livery.engines.schemas import schema_grammar
from livery.errors import UserError, shown
from livery.serve.answers.question import NoAnswer

_PARAM = "response_format"


def grammar_of(form: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> Grammar | None:
    """What the answer to `messages` is held to; None leaves it free.

    Raises:
        NoAnswer: the schema has no grammar, there is no such skill, or it has no grammar here.
    """
    if form["type"] == "text":
        return None
    if form["type"] == "livery_skill":
        return _of_skill(str(form["skill"]), messages)
    schema = form["schema"] if form["type"] == "json_schema" else {"type": "object"}
    text = json.dumps(schema, ensure_ascii=False)
    try:
        schema_grammar(text)
    except UserError as error:
        raise NoAnswer("request", str(error), f"{_PARAM}.json_schema.schema") from None
    return Grammar("json_schema", text)


def _of_skill(name: str, messages: Sequence[Mapping[str, Any]]) -> Grammar:
    from livery.skills import get_skill, skill_names

    param = f"{_PARAM}.skill"
    # Never a path: whose file that is, is not the caller's to say.
    if name not in (known := skill_names()):
        raise NoAnswer(
            "request", f"{shown(name, 80)}: no such skill; there are: {', '.join(known)}.", param
        )
    try:
        if name == "state":
            return _of_state(messages)
        if name == "dsl":
            return _of_dsl(messages)
        grammar = get_skill(name).constraint()
    except (UserError, ValueError) as error:
        raise NoAnswer("request", f"{name}: {error}", "messages") from None
    if grammar is None:
        raise NoAnswer("request", f"{name}: answers of this skill have no grammar; ask for text.",
                      param)  # fmt: skip
    return grammar


def _of_state(messages: Sequence[Mapping[str, Any]]) -> Grammar:
    from livery.skills import state

    system = next((m["content"] for m in messages if m["role"] == "system"), "")
    return Grammar("lark", state.grammar(state.read_block(system)))


def _of_dsl(messages: Sequence[Mapping[str, Any]]) -> Grammar:
    from livery.skills import dsl

    asked = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    schema = json.dumps(dsl.read_prompt(asked).schema, ensure_ascii=False)
    schema_grammar(schema)
    return Grammar("json_schema", schema)
