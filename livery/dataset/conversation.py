"""What one row of training data says: the seam between reading files and applying a template.

`livery.dataset.rows` makes these from a row of any format; `livery.dataset.encode` turns them into
token ids and masks. Nothing here knows files or tokenizers. A row with nothing to learn is
`Dropped` and counted; one that is not understood is a `RowError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from livery.errors import UserError

Message = dict[str, Any]


@dataclass(frozen=True)
class Conversation:
    """Turns between people, tools and the model.

    Attributes:
        where: "file:line", for messages to the user.
        messages: turns as chat templates take them: `role` (system, user, assistant, tool ...),
            `content` (text, "" where there is none), and where the row has them
            `reasoning_content`, `tool_calls` (their arguments as objects, never as JSON strings),
            `name`, `tool_call_id`.
        learn: for each message, whether its tokens are supervised; only an assistant's are.
        tools: JSON Schemas of the tools offered, for templates that render them.
        template_kwargs: further variables of the template, such as enable_thinking.
    """

    where: str
    messages: tuple[Message, ...]
    learn: tuple[bool, ...]
    tools: tuple[dict[str, Any], ...] = ()
    template_kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Pair:
    """A prompt and its completion as plain text: two turns where the tokenizer has a template,
    joined as they are where it has none."""

    where: str
    prompt: str
    completion: str
    system: str = ""


@dataclass(frozen=True)
class Text:
    """One text, all of it supervised."""

    where: str
    text: str


Row = Conversation | Pair | Text


@dataclass(frozen=True)
class Dropped:
    """A row left out of training: where it is, and why."""

    where: str
    reason: str


class RowError(UserError):
    """A row that is malformed or holds what is not understood.

    Attributes:
        where: "file:line".
        reason: what is wrong and what to do, without the place.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")
        self.where = where
        self.reason = reason


def none_left(count: int, which: str = "") -> str:
    """The text about a split whose rows are all left out."""
    one = f"its only row{f' {which}' if which else ''} cannot be trained on"
    rows = f"{count:,} rows{f' {which}' if which else ''}"
    return one if count == 1 else f"none of its {rows} can be trained on"


def as_conversation(row: Pair) -> Conversation:
    """A pair as the turns that a template lays out."""
    messages: list[Message] = [
        {"role": "user", "content": row.prompt},
        {"role": "assistant", "content": row.completion},
    ]
    if row.system:
        messages.insert(0, {"role": "system", "content": row.system})
    learn = tuple(message["role"] == "assistant" for message in messages)
    return Conversation(row.where, tuple(messages), learn)


def system_in_user(messages: Sequence[Message]) -> list[Message]:
    """For templates without a system role: its text opens the first user turn."""
    system, *rest = messages
    for at, message in enumerate(rest):
        if message["role"] == "user":
            text = f"{system['content']}\n\n{message['content']}"
            return [*rest[:at], {**message, "content": text}, *rest[at + 1 :]]
    return [{"role": "user", "content": system["content"]}, *rest]


def as_parts(text: str) -> list[dict[str, str]]:
    """Content as the list of parts that templates of models with images take."""
    return [{"type": "text", "text": text}]


def with_json_text(call: Mapping[str, Any]) -> dict[str, Any]:
    """A tool call with its arguments as JSON text."""
    function = call["function"]
    if isinstance(function.get("arguments"), str):
        return dict(call)
    text = json.dumps(function.get("arguments", {}), ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}
