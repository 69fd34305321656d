"""What a chat template leaves out of a conversation, found by looking for every part of it.

A template may trim white space, escape text as JSON, or lay a call's arguments out in its own way;
beyond that, what a message says must be in the rendering, or the user is told what does not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from livery.dataset.answers import Rendering
from livery.dataset.bounds import Refused
from livery.dataset.conversation import Conversation, Message
from livery.dataset.reasoning import split_reasoning, without_switches
from livery.dataset.template import ChatTemplate

_BLOCK = re.compile(r"<([A-Za-z_]+)>\s*</\1>|</?think>")


def says_nothing(rendering: Rendering, chat: ChatTemplate) -> bool:
    """Whether one of the learned spans holds no more than the token that ends a turn, and perhaps
    an empty block of reasoning."""
    for start, stop in rendering.spans:
        text = rendering.text[start:stop].removesuffix(chat.end_text)
        if not _BLOCK.sub("", text).strip():
            return True
    return False


def left_out(row: Conversation, renderings: Sequence[Rendering], chat: ChatTemplate) -> list[str]:
    """What of a row its renderings lack, in words that are counted over all rows."""
    final = renderings[-1].text
    own = {
        turn: rendering.text[start:stop]
        for rendering in renderings
        for turn, (start, stop) in zip(rendering.turns, rendering.spans, strict=True)
    }
    notes: list[str] = []
    last = renderings[-1].turns[-1]
    for at, message in enumerate(row.messages[: last + 1]):
        notes += _missing(message, own.get(at), final)
    if any(
        _tool_name(tool) and not _found(_tool_name(tool), final) for tool in row.tools
    ) or not _tools_count(row, last, renderings[-1].whole, chat):
        notes.append("tools: the template does not offer them to the model")
    return list(dict.fromkeys(notes))


def _tools_count(row: Conversation, last: int, whole: str, chat: ChatTemplate) -> bool:
    """Whether the row is another one without its tools: a name like "search" may be in the
    conversation although no tool was offered.

    Args:
        whole: the row up to the answer `last`, as it is rendered with its tools.
    """
    if not row.tools:
        return True
    messages = row.messages[: last + 1]
    try:
        return whole != chat.render(messages, generate=False, kwargs=row.template_kwargs)
    except Refused:
        return True


def _missing(message: Message, span: str | None, final: str) -> Iterator[str]:
    """Parts of one message that its text lacks.

    Args:
        span: what is learned of it; None where it is context.
        final: the whole rendering.
    """
    text = final if span is None else span
    what = f"{message['role']} turn" if span is None else "learned answer"
    # SmolLM3 takes /no_think out of the system text, and does as it says.
    obeyed = message["role"] == "system" and _found(without_switches(message["content"]), text)
    if not obeyed and not _found(message["content"], text):
        reasoning, rest = split_reasoning(message)
        if message.get("reasoning_content"):
            rest = message["content"]
        elif reasoning and not _found(reasoning, text):
            yield _reasoning(span)
        if not _found(rest, text):
            yield f"the text of a {what}"
    if message.get("reasoning_content") and not _found(message["reasoning_content"], text):
        yield _reasoning(span)
    for call in message.get("tool_calls") or ():
        function = call["function"]
        parts = [function["name"], *_leaves(function.get("arguments", {}))]
        if not all(_found(part, text) for part in parts):
            yield f"a tool call of a {what}"
    if message.get("name") and message["role"] != "tool" and not _found(message["name"], final):
        yield f"the name of a {what}"


def _reasoning(span: str | None) -> str:
    if span is None:
        return "the reasoning of earlier turns (as when the model is used)"
    return "the reasoning of a learned answer"


def _found(part: str, text: str) -> bool:
    part = part.strip()
    if part in text:
        return True
    for ascii_only in (False, True):
        if json.dumps(part, ensure_ascii=ascii_only)[1:-1] in text:
            return True
    squeezed = " ".join(part.split())
    if squeezed in " ".join(text.split()):
        return True
    if part[:1] in "{[":
        try:
            value = json.loads(part)
        except (ValueError, RecursionError):
            return False
        return all(leaf in text or _found(leaf, text) for leaf in _leaves(value))
    return False


def _leaves(value: Any) -> Iterator[str]:
    """Texts of a JSON value: its keys and what it holds."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)


def _tool_name(tool: dict[str, Any]) -> str:
    function = tool.get("function", tool)
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""


class ControlTokens:
    """Finds a template's own control tokens in what people wrote."""

    def __init__(self, chat: ChatTemplate) -> None:
        added = chat.tokenizer.added_tokens_decoder.values()
        special = {str(token.content) for token in added if token.special}
        special |= {chat.end_text} if chat else set()
        texts = sorted((t for t in special if t.strip()), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, texts)) or "(?!)")
        self._first = {text[0] for text in texts}

    def find(self, text: str) -> str:
        """The first control token in a text; "" where there is none."""
        if not any(first in text for first in self._first):
            return ""
        found = self._pattern.search(text)
        return found[0] if found else ""
