"""Strings and numbers: what llguidance makes of their constraints, asked of llguidance itself.

Patterns are never run by Python's `re`, where a hostile one takes for ever and where \\d, \\w and $
mean something else than in ECMA 262.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

Scalar = tuple[str, Any]  # ("integer", 3): its type keeps 1 and true apart

EMPTY = "empty"


def compact(value: Any) -> str:
    """As training data and grammars have it: no blanks."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def scalar(value: Any) -> Scalar | None:
    """A JSON value with its type; None for a list or an object. 1.0 is the integer 1."""
    if value is None:
        return ("null", None)
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, str):
        return ("string", value)
    if isinstance(value, int | float):
        whole = isinstance(value, int) or value.is_integer()
        return ("integer", int(value)) if whole else ("fraction", value)
    return None


@functools.lru_cache(maxsize=4096)
def _compiled(text: str) -> tuple[Any, str]:
    """(matcher, fault) of a schema."""
    from llguidance import LLMatcher, LLTokenizer

    try:
        grammar = LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_flexible": False})
        matcher = LLMatcher(LLTokenizer("byte"), grammar)
    except ValueError as error:
        return None, str(error)
    return matcher, matcher.get_error() if matcher.is_error() else ""


def fault(schema: dict[str, Any] | str) -> str:
    """Empty where llguidance compiles it, EMPTY where nothing satisfies it, else what it says."""
    found = _compiled(schema if isinstance(schema, str) else compact(schema))[1]
    lines = found.strip().splitlines() or [""]
    # Of what is wrong with a pattern the last line says why; those before point at the place.
    said = lines[-1] if lines[-1].startswith("error: ") else lines[0]
    return EMPTY if "nsatisfiable" in found else said.removeprefix("error: ")


def accepts(schema: dict[str, Any], text: str) -> bool:
    """Whether the grammar of a schema that compiles admits this JSON text."""
    matcher, wrong = _compiled(compact(schema))
    if wrong:
        return False
    matcher, data = matcher.deep_copy(), text.encode("utf-8", "replace")
    return matcher.try_consume_tokens(list(data)) == len(data) and matcher.is_accepting()


@functools.lru_cache(maxsize=4096)
def matches(pattern: str, text: str) -> bool:
    """Whether a pattern is found in the text."""
    return accepts({"type": "string", "pattern": pattern}, compact(text))


@functools.lru_cache(maxsize=256)
def knows_format(name: str) -> bool:
    """Whether llguidance holds strings to this format; any other says nothing of them."""
    return not fault({"type": "string", "format": name})


def other_than(words: Iterable[str]) -> str:
    """The pattern of every string but these: one that leaves them at some character, or ends in
    between. Flat, because a regular expression may not be nested deeply."""
    follow: dict[str, set[str]] = {}
    ends = dict.fromkeys(words)  # not a set, whose order is another in each process
    for word in ends:
        for at, character in enumerate(word):
            follow.setdefault(word[:at], set()).add(character)
        follow.setdefault(word, set())
    options: list[str] = []
    for start, characters in follow.items():
        listed = "".join(map(_escaped, sorted(characters)))
        other = f"[^{listed}](?s:.)*" if listed else "(?s:.)+"
        options.append(
            "".join(map(_escaped, start)) + (other if start in ends else f"(?:{other})?")
        )
    return f"^(?:{'|'.join(options)})$"


def _escaped(character: str) -> str:
    return f"\\x{{{ord(character):x}}}" if not character.isalnum() else character
