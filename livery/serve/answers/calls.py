"""Calls of tools in an answer's text, read in the form in which the model's own template writes
them: what stands before a call's JSON, and what name and arguments are called there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from livery.dataset.bounds import Refused
from livery.dataset.template import ChatTemplate

_NAME, _ARGUMENTS = "liverycalled", {"liverykey": "liveryvalue"}
_DECODER = json.JSONDecoder()
_BETWEEN = " \t\r\n,;[]"


@dataclass(frozen=True)
class CallForm:
    """How a template writes a call.

    Attributes:
        opening: before the first call's JSON; "" for nothing.
        closing: between a call's JSON and the end of the turn.
        name, arguments: keys of the JSON object.
    """

    opening: str
    closing: str
    name: str
    arguments: str


def call_form(chat: ChatTemplate) -> CallForm | None:
    """The form, found by having the template write a call; None where it writes none as JSON."""
    function = {"name": _NAME, "arguments": _ARGUMENTS}
    call = {"type": "function", "id": "livery000", "function": function}
    asked = {"role": "user", "content": "x"}
    answered = {"role": "assistant", "content": "", "tool_calls": [call]}
    try:
        before = chat.render([asked], generate=True)
        whole = chat.render([asked, answered], generate=False)
    except Refused:
        return None
    said = whole[len(before) :] if whole.startswith(before) else whole
    for at, sign in enumerate(said):
        value, end = _object(said, at) if sign == "{" else (None, 0)
        if value is None:
            continue
        names = [key for key, found in value.items() if found == _NAME]
        arguments = [key for key, found in value.items() if found == _ARGUMENTS]
        if names and arguments:
            opening = said[:at].rpartition("</think>")[2].strip().rstrip(" \t\r\n[")
            closing = said[end:].partition(chat.end_text)[0].strip(_BETWEEN)
            return CallForm(opening, closing, names[0], arguments[0])
    return None


def read_calls(text: str, form: CallForm) -> tuple[str, list[dict[str, Any]]]:
    """(what stands before the calls, [{"name", "arguments"}]); all of it and [] where it holds
    none, or one that cannot be read."""
    start = text.find(form.opening) if form.opening else len(text) - len(text.lstrip())
    calls: list[dict[str, Any]] = []
    at = start
    while at >= 0 and (brace := text.find("{", at)) >= 0:
        if not _is_between(text[at:brace], form):
            return text, []
        value, at = _object(text, brace)
        if value is None:
            return text, []
        name, arguments = value.get(form.name), value.get(form.arguments)
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return text, []
        calls.append({"name": name, "arguments": arguments})
    if not calls or not _is_between(text[at:], form):
        return text, []
    return text[:start].rstrip(), calls


def _is_between(text: str, form: CallForm) -> bool:
    """Whether nothing but the marks of calls stands there."""
    for mark in (form.opening, form.closing):
        text = text.replace(mark, "") if mark else text
    return not text.strip(_BETWEEN)


def _object(text: str, at: int) -> tuple[dict[str, Any] | None, int]:
    try:
        value, end = _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, at
    return (value, end) if isinstance(value, dict) else (None, at)
