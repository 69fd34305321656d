"""Turns of a conversation in any usual dialect -> messages as chat templates take them.

Read are role/content (OpenAI, TRL, mlx-lm), from/value (ShareGPT), texts in parts, the older
`function_call`, tool calls whose arguments are JSON in a string, and marks that say which answers
are learnt.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from livery.dataset.conversation import Message, RowError
from livery.dataset.reasoning import bare, without_copy
from livery.errors import quoted

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "ipython": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function_call": "call",
    "tool_call": "call",
}
# Says whether a turn is learnt; for those of the second line a true value takes it out of the loss.
_LEARNT = ("weight", "train", "training", "trainable", "loss", "loss_mask")
_MASKED = ("mask", "masked")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_ROLE_KEYS = ("role", "from")
_TEXT_KEYS = ("content", "value", "text")
_KEPT = ("name", "tool_call_id")
# About a turn rather than of it.
_ABOUT = frozenset(
    (
        "id",
        "message_id",
        "parent_id",
        "timestamp",
        "created_at",
        "index",
        "turn",
        "metadata",
        "meta",
    )
)
_READ = frozenset((*_LEARNT, *_MASKED, *_KEPT, *_ABOUT))
# Where parts of a text belong that are none.
_REMEDIES = {
    "tool_use": "calls belong in tool_calls",
    "tool_call": "calls belong in tool_calls",
    "tool_result": "a tool's result is a turn of its own, with the role tool",
    "thinking": "reasoning belongs in reasoning_content",
    "reasoning": "reasoning belongs in reasoning_content",
}
_PLURAL = frozenset(
    "messages conversations tools functions tool_calls arguments inputs targets choices".split()
)
_SPOKEN = re.compile(r"\n\n(Human|Assistant):")
_OTHER_MEDIA = ("image", "audio", "video", "file")


@dataclass(frozen=True)
class Turn:
    """One message.

    Attributes:
        learn: what its marks say of learning it; None where it bears none.
        tools: offered by it, as some system turns do.
    """

    message: Message
    learn: bool | None
    tools: tuple[dict[str, Any], ...] = ()


def read_turns(value: Any, where: str, name: str) -> list[Turn]:
    """A list of turns, or JSON text of one.

    Args:
        where: "file:line".
        name: of the field, for messages.

    Raises:
        RowError: it is not a list of turns, or a turn holds what is not understood.
    """
    if isinstance(value, str) and value.lstrip()[:1] == "[":  # as a cell of a table holds them
        value = parse(value, where, name)
    if is_dialogue(value):
        value = dialogue(value)
    if not isinstance(value, list) or not value:
        raise RowError(where, f"{name} {be(name)} not a list of turns.")
    turns: list[Turn] = []
    for i, raw in enumerate(value):
        if not isinstance(raw, dict):
            raise RowError(where, f"{name}[{i}] is not a turn with a role.")
        turns.append(_turn({k: v for k, v in raw.items() if v is not None}, where, f"{name}[{i}]"))
    return turns


def read_tools(value: Any, where: str, name: str) -> tuple[dict[str, Any], ...]:
    """Tools as a list of {"type": "function", "function": {...}}.

    `value` is such a list, one of plain functions, one single tool, or JSON text of any of these.

    Raises:
        RowError: it is none of these.
    """
    if isinstance(value, str):
        value = parse(value, where, name)
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise RowError(where, f"{name} {be(name)} not a list of tools.")
    tools: list[dict[str, Any]] = []
    for i, raw in enumerate(value):
        tool = parse(raw, where, f"{name}[{i}]") if isinstance(raw, str) else raw
        if isinstance(tool, dict) and isinstance(tool.get("name"), str):
            tool = {"type": "function", "function": tool}
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError(where, f"{name}[{i}] is not a tool: it has no name.")
        tools.append(tool)
    return tuple(tools)


def parse(text: str, where: str, name: str) -> Any:
    """What JSON text in a field says. Raises RowError where it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise RowError(where, f"{name} {be(name)} text that is not JSON.") from None


def be(name: str) -> str:
    """The verb that goes with a field's name."""
    return "are" if name.split(" ")[-1] in _PLURAL else "is"


def hold(name: str) -> str:
    """The verb that goes with a field's name."""
    return "hold" if be(name) == "are" else "holds"


def text_of(value: Any, where: str, name: str) -> str:
    """A text, or its parts joined.

    Raises:
        RowError: it is neither, or a part is not text.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RowError(where, f"{name} {be(name)} not a string.")
    if len(value) > 1 and all(isinstance(part, str) for part in value):
        # Several answers to choose from, or lines: joined they would be a text nobody wrote.
        raise RowError(
            where, f"{name} {be(name)} a list of {len(value)} texts. Keep the one that counts."
        )
    texts: list[str] = []
    for i, part in enumerate(value):
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = str(part.get("type", "text")) if isinstance(part, dict) else ""
        if any(media in kind for media in _OTHER_MEDIA):
            raise RowError(
                where,
                f"{name}[{i}] is of type {kind}; Livery trains on text alone. Take rows with "
                "other media out of the file.",
            )
        said = part.get("text") if isinstance(part, dict) else None
        extra = {k for k, v in part.items() if v is not None} if isinstance(part, dict) else set()
        if kind not in ("text", "input_text", "output_text") or not isinstance(said, str):
            raise RowError(
                where,
                f"{name}[{i}] is not a part of type text"
                + (
                    f" but {quoted(kind)}; {_REMEDIES.get(kind, 'take it out of the data')}."
                    if kind
                    else "."
                ),
            )
        if unknown := sorted(extra - {"type", "text", "cache_control", "annotations"}):
            raise RowError(where, f"{name}[{i}]: {quoted(unknown[0])} is not understood.")
        texts.append(said)
    return "".join(texts)


def is_dialogue(value: Any) -> bool:
    """Whether a text is a dialogue as Anthropic's HH sets write one: "Human: …" and "Assistant: …",
    each after a blank line."""
    return isinstance(value, str) and len(said := _SPOKEN.split("\n\n" + value.lstrip())) > 3 and (
        not said[0].strip() and said[1] == "Human"
    )  # fmt: skip


def dialogue(text: str) -> list[dict[str, str]]:
    """The turns of such a text."""
    _, *said = _SPOKEN.split("\n\n" + text.lstrip())
    return [
        {"role": speaker.lower(), "content": words.strip()}
        for speaker, words in zip(said[::2], said[1::2], strict=True)
    ]


def is_turns(value: Any) -> bool:
    """Whether a prompt or completion is a list of turns rather than a text or its parts."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(part, dict) and ("role" in part or "from" in part) for part in value)
    )


def _turn(raw: dict[str, Any], where: str, name: str) -> Turn:
    key = next((k for k in _ROLE_KEYS if k in raw), "role")
    if not isinstance(raw.get(key), str):
        raise RowError(where, f"{name} is not a turn with a role.")
    role = ROLES.get(raw[key].strip().lower())
    if role is None:
        raise RowError(
            where,
            f"{name}: the role {quoted(raw[key])} is none of: {', '.join(ROLES)}. Rename it.",
        )
    text_key = next((k for k in _TEXT_KEYS if k in raw), "")
    used = {key, text_key}
    message: Message = {"role": "assistant" if role == "call" else role, "content": ""}
    if text_key:
        message["content"] = text_of(raw[text_key], where, f"{name}: {text_key}")
    elif role != "assistant":  # an answer without content is an empty one
        raise RowError(where, f"{name}: content is not a string.")
    if raw[key].strip().lower() == "function" and _is_call(message["content"]):
        role, message["role"] = "call", "assistant"
    if role == "call":
        calls = parse(message["content"], where, f"{name}: {text_key}")
        message["tool_calls"] = _calls(calls, where, f"{name}: {text_key}")
        message["content"] = ""
    elif role == "assistant":
        used |= {"tool_calls", "function_call", *_REASONING}
        _take_assistant(message, raw, where, name)
    message |= {k: raw[k] for k in _KEPT if k in raw}
    if wrong := [k for k in _KEPT if not isinstance(raw.get(k, ""), str)]:
        raise RowError(where, f"{name}: {wrong[0]} is not a string.")
    tools: tuple[dict[str, Any], ...] = ()
    for key in ("tools", "functions") if role == "system" else ():
        if raw.get(key):
            tools = read_tools(raw[key], where, f"{name}: {key}")
            used.add(key)
    for k, v in raw.items():
        if k not in used and k not in _READ and v not in ("", [], {}):
            raise RowError(
                where,
                f"{name}: {quoted(k)} is not understood. Take it out of the data, or rename it.",
            )
    return Turn(message, _learnt(raw, message["role"], where, name), tools)


def _take_assistant(message: Message, raw: dict[str, Any], where: str, name: str) -> None:
    reasoning = {raw[k] for k in _REASONING if isinstance(raw.get(k), str)}
    if wrong := [k for k in _REASONING if k in raw and not isinstance(raw[k], str)]:
        raise RowError(where, f"{name}: {wrong[0]} is not a string.")
    if len(reasoning - {""}) > 1:
        raise RowError(where, f"{name}: holds two different reasonings.")
    if text := max(reasoning, key=len, default=""):
        put_reasoning(message, text, where, name)
    for key in ("tool_calls", "function_call"):
        if raw.get(key):
            if "tool_calls" in message:
                raise RowError(where, f"{name}: holds both tool_calls and function_call.")
            message["tool_calls"] = _calls(raw[key], where, f"{name}: {key}")


def put_reasoning(message: Message, reasoning: str, where: str, name: str) -> None:
    """Give an answer its reasoning from a field of its own, once, as templates want it.

    Raises:
        RowError: the answer's text begins with a block of other reasoning.
    """
    message["reasoning_content"] = bare(reasoning)
    content = without_copy(message["content"], message["reasoning_content"])
    if content is None:
        raise RowError(
            where, f"{name}: holds two different reasonings, in a field and in the text."
        )
    message["content"] = content


def _calls(value: Any, where: str, name: str) -> list[dict[str, Any]]:
    """Tool calls as [{"type": "function", "function": {"name", "arguments": object}, "id"?}]."""
    if isinstance(value, str):
        value = parse(value, where, name)
    found: list[dict[str, Any]] = []
    for i, raw in enumerate(value if isinstance(value, list) else [value]):
        at = f"{name}[{i}]" if isinstance(value, list) else name
        if not isinstance(raw, dict):
            raise RowError(where, f"{at} is not a tool call.")
        call = {k: v for k, v in raw.items() if v is not None}
        function = call.pop("function", None)
        if function is None:
            moved = ("name", "arguments", "parameters")
            function = {k: call.pop(k) for k in moved if k in call}
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RowError(where, f"{at} is not a tool call: it names no function.")
        unknown = [k for k in call if k not in ("id", "type", "index")]
        unknown += [k for k in function if k not in ("name", "arguments", "parameters")]
        if unknown:
            raise RowError(where, f"{at}: {quoted(unknown[0])} is not understood.")
        arguments = function.get("arguments", function.get("parameters"))
        if isinstance(arguments, str):
            arguments = parse(arguments, where, f"{at}: arguments") if arguments.strip() else {}
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise RowError(where, f"{at}: arguments are not a JSON object.")
        call.pop("index", None)
        plain = {"name": function["name"], "arguments": arguments}
        found.append({**call, "type": "function", "function": plain})
    if not found:
        raise RowError(where, f"{name} {hold(name)} no tool call.")
    return found


def _is_call(text: str) -> bool:
    """Whether a `function` turn is a call, as in ShareGPT files, and not a function's result."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and {"name", "arguments"} <= value.keys()


def _learnt(raw: dict[str, Any], role: str, where: str, name: str) -> bool | None:
    said: dict[str, bool] = {}
    for key in (*_LEARNT, *_MASKED):
        if key not in raw:
            continue
        if raw[key] not in (0, 1):  # True and False are among them
            raise RowError(
                where,
                f"{name}: {key} is {quoted(raw[key])}; a turn is learned whole or not at all "
                "(1, 0).",
            )
        said[key] = bool(raw[key]) == (key in _LEARNT)
    if len(set(said.values())) > 1:
        raise RowError(where, f"{name}: {' and '.join(said)} contradict each other.")
    learn = next(iter(said.values()), None)
    if learn and role != "assistant" and set(said) - {"weight"}:
        raise RowError(
            where,
            f"{name}: {next(iter(said))} asks to learn a {role}'s turn, but only the assistant's "
            "are learned. Remove the mark, or learn everything with --no-mask-prompt.",
        )
    return learn
