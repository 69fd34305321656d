"""The contract that a user's own file makes: its functions, and defaults for those it lacks."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from livery.engines.engine import Grammar
from livery.errors import UserError, shown
from livery.json_schema import find_errors, offline
from livery.skills.contract import AnswerError, Message, Skill
from livery.skills.module import OwnModule, short

_ROLES = ("system", "user", "assistant", "tool")


@functools.lru_cache(maxsize=32)
def skill_of(own: OwnModule) -> Skill:
    """The contract that a module's functions and constants make, with the defaults of the rest.

    Raises:
        UserError: JSON_SCHEMA is not a JSON Schema.
    """
    schema = _schema(own)
    validate = _validator(own, schema) if schema is not None else None
    if own.get("parse") and not own.get("render") and schema is None:
        render: Callable[[Any], str] = functools.partial(_text, "render() beside parse()")
    else:
        render = functools.partial(_render, own, schema)
    has_grammar = hasattr(own.module, "GRAMMAR")
    grammar: str | None = own.get("GRAMMAR")
    return Skill(
        name=own.name,
        version=own.get("VERSION", "1"),
        messages=functools.partial(_messages, own, render),
        render=render,
        parse=functools.partial(_parse, own, validate),
        summary=(own.module.__doc__ or "").strip().partition("\n")[0],
        system_prompt=own.get("SYSTEM_PROMPT", ""),
        grammar=None if grammar is None else lambda: grammar,
        json_schema=None if schema is None or has_grammar else lambda: schema,
    )


def own_grammar(own: OwnModule, asked: Any) -> Grammar | None:
    """The grammar of one case's answers, by the module's grammar(case); None takes the skill's.

    Args:
        asked: a case or row, with `messages`, `text`, `tools`, `category` and `meta`.

    Raises:
        UserError: grammar() fails, or returns neither Lark text nor a JSON Schema.
    """
    if own.get("grammar") is None:
        return None
    found = own.call("grammar", asked, doing=f"grammar({short(asked.text)})")
    if found is None:
        return None
    if isinstance(found, str):
        return Grammar("lark", found)
    if isinstance(found, dict):
        with own.blamed(f"the schema of grammar({short(asked.text)})"):
            return Grammar("json_schema", json.dumps(found, ensure_ascii=False))
    raise UserError(
        f"{own.line('grammar')}: grammar() returned {short(found)}; it must return Lark text, a "
        "dict that is a JSON Schema, or None."
    )


def _schema(own: OwnModule) -> dict[str, Any] | None:
    """JSON_SCHEMA as JSON has it: Python's tuples are lists."""
    schema = own.get("JSON_SCHEMA")
    try:
        return None if schema is None else json.loads(json.dumps(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"{own.file}: JSON_SCHEMA holds what JSON cannot: {error}. Correct it."
        ) from None


def _validator(own: OwnModule, schema: dict[str, Any]) -> Callable[[Any], str]:
    """value -> what is wrong with it, "" for nothing."""
    import jsonschema
    from jsonschema.validators import validator_for

    kind = validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as error:
        where = "/".join(map(str, error.absolute_path))
        raise UserError(
            f"{own.file}: JSON_SCHEMA is not a JSON Schema{f', at {where}' if where else ''}: "
            f"{shown(error.message)}."
        ) from None
    check = offline(kind, schema)

    def wrong(value: Any) -> str:
        try:
            error = next(find_errors(check, value), None)
        except UserError as fault:
            raise UserError(f"{own.file}: JSON_SCHEMA: {fault}") from None
        if error is None:
            return ""
        where = "/".join(map(str, error.absolute_path))
        return shown(error.message) + (f" (at {where})" if where else "")

    return wrong


def _parse(own: OwnModule, validate: Callable[[Any], str] | None, answer: str) -> Any:
    if own.get("parse") is not None:
        hint = "For an answer that breaks the contract raise ValueError; correct anything else."
        try:
            return own.call("parse", answer, doing=f"parse({short(answer)})", hint=hint)
        except UserError as error:
            if isinstance(error.__cause__, ValueError):
                raise AnswerError(shown(error.__cause__) or "refused by parse()") from None
            raise
    if validate is None:
        return answer.strip()
    try:
        value = json.loads(answer, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise AnswerError(f"not JSON{where}: {short(answer)}") from None
    if wrong := validate(value):
        raise AnswerError(wrong)
    return value


def _render(own: OwnModule, schema: dict[str, Any] | None, value: Any) -> str:
    if own.get("render") is not None:
        text = own.call("render", value, doing=f"render({short(value)})")
        if not isinstance(text, str):
            raise UserError(
                f"{own.line('render')}: render() returned {short(text)}; it must return the "
                "answer as a text."
            )
        return text
    if schema is None:
        return _text("JSON_SCHEMA, or parse() and render(),", value)
    try:
        return json.dumps(_ordered(value, schema), separators=(",", ":"), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it cannot be written as JSON ({error})") from None


def _text(remedy: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"it is no text. Give it as one, or add {remedy} to the file")
    return value.strip()


def _ordered(value: Any, schema: Any) -> Any:
    """The value with its keys in the schema's order, which is the order that the grammar takes."""
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(value, dict):
        known: dict[str, Any] = schema.get("properties") or {}
        keys = [key for key in known if key in value] + [key for key in value if key not in known]
        return {key: _ordered(value[key], known.get(key)) for key in keys}
    if isinstance(value, list | tuple):
        return [_ordered(item, schema.get("items")) for item in value]
    return value


def _messages(
    own: OwnModule, render: Callable[[Any], str], text: str, value: Any = None
) -> list[Message]:
    if own.get("messages") is not None:
        asked = own.call("messages", text, doing=f"messages({short(text)})")
        asked = turns(asked, f"{own.line('messages')}: messages() returned")
    else:
        system = own.get("SYSTEM_PROMPT", "")
        asked = [{"role": "system", "content": system}] if system else []
        asked.append({"role": "user", "content": text})
    return asked if value is None else [*asked, {"role": "assistant", "content": render(value)}]


def turns(value: Any, where: str) -> list[Message]:
    """Turns up to the answer, each {"role", "content"} with whatever else it holds.

    Args:
        where: what a message begins with, such as "my_skill.py:12: messages() returned".

    Raises:
        UserError: it is not such a list.
    """
    if not isinstance(value, list | tuple) or not value:
        raise UserError(f'{where} {short(value)}; it must be a list of {{"role", "content"}}.')
    for at, turn in enumerate(value):
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in _ROLES or not isinstance(turn.get("content"), str):
            raise UserError(
                f'{where} a turn [{at}] that is {short(turn)}; it must be {{"role", "content"}}, '
                f"the role one of {', '.join(_ROLES)} and the content a text."
            )
    if value[-1]["role"] not in ("user", "tool"):
        raise UserError(
            f"{where} turns that end with the {value[-1]['role']}; the user's come last."
        )
    return [dict(turn) for turn in value]


def _no_constant(token: str) -> float:
    raise ValueError(f"{token} is no JSON")
