"""A row of actions data: the eleven fields and their three additions, read and turned into chat.

    row = read_row({"id": "a-1", "user_input": "open firefox", ...})
    row.turns                 # ("open firefox",): the user first and last
    row.answer                # words and tags

`user_input` of a row with several turns is a transcript, a line "User: ..." or "Assistant: ..." for
each turn; tags of an earlier answer follow its line.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from livery.errors import shown
from livery.skills.actions.contract import Shell, conversation
from livery.skills.actions.tags import Answer, Tag, action, parse_answer
from livery.skills.actions.tags import shell as shell_tag
from livery.skills.actions.verbs import VERBS, Verbs
from livery.skills.contract import AnswerError, Message

SPLITS = ("train", "val", "valid", "test")
RISKS = ("low", "medium", "high", "critical")
OUTCOMES = ("executed", "confirmed", "denied", "blocked", "conversational")

_TEXTS: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1}}
_WORDS: dict[str, Any] = {"type": "string", "pattern": r"\S"}
_FIELDS: dict[str, dict[str, Any]] = {
    "id": _WORDS,
    "split": {"enum": list(SPLITS)},
    "scenario": _WORDS,
    "user_input": _WORDS,
    "assistant_text": _WORDS,
    "action_tags": _TEXTS,
    "shell_tags": _TEXTS,
    "risk_level": {"enum": list(RISKS)},
    "requires_confirmation": {"type": "boolean"},
    "should_block": {"type": "boolean"},
    "expected_outcome": {"enum": list(OUTCOMES)},
}
_OPTIONAL: dict[str, dict[str, Any]] = {
    "language": _WORDS,
    "has_persona": {"type": "boolean"},
    "num_turns": {"type": "integer", "minimum": 1},
}
FIELDS, OPTIONAL = tuple(_FIELDS), tuple(_OPTIONAL)

_SPEAKER = re.compile(r"^(User|Assistant): ?", re.MULTILINE)
_CMDLET = re.compile(r"\b[A-Z][a-z]+-[A-Z][A-Za-z]+\b|\$env:|(?:^|\W)[A-Za-z]:\\|\$HOME\\")


@dataclass(frozen=True)
class ActionRow:
    """One example.

    Attributes:
        id, split, scenario: of the row.
        turns: what user and assistant said in turn, the user first and last.
        answer: the right one.
        risk: of what is asked for: "low", "medium", "high" or "critical".
        requires_confirmation: the answer asks first.
        should_block: nobody's yes releases it.
        outcome: "executed", "confirmed", "denied", "blocked" or "conversational".
        language: such as "en" or "hinglish".
        shell: whose commands it is about.
        family: the template that a generated row was made from.
    """

    id: str
    split: str
    scenario: str
    turns: tuple[str, ...]
    answer: Answer
    risk: str
    requires_confirmation: bool
    should_block: bool
    outcome: str
    language: str
    shell: Shell
    family: str = ""

    @property
    def messages(self) -> list[Message]:
        """The conversation up to the answer."""
        return conversation(self.turns, shell=self.shell)


def row_schema() -> dict[str, Any]:
    """JSON Schema (draft-07) of a row: the eleven fields, and three that may be there."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "actions row",
        "type": "object",
        "properties": {**_FIELDS, **_OPTIONAL},
        "required": list(_FIELDS),
        "additionalProperties": False,
    }


def is_row(value: Mapping[str, Any]) -> bool:
    """Whether an object is meant as a row of these fields, right or wrong."""
    return "messages" not in value and len(value.keys() & set(FIELDS)) >= 6


def is_chat(value: Mapping[str, Any]) -> bool:
    """Whether an object is a chat row that says of itself what `from_chat` needs."""
    meta = value.get("meta")
    return (
        "messages" in value
        and isinstance(meta, Mapping)
        and {"risk_level", "expected_outcome"} <= meta.keys()
    )


def read_row(value: Mapping[str, Any], verbs: Verbs = VERBS) -> ActionRow:
    """The row that an object holds.

    Raises:
        ValueError: a field is missing, unknown or of another kind, a tag is none, or turns do not
            alternate. The message names the field.
    """
    if fault := schema_fault(value):
        raise ValueError(fault)
    turns = read_turns(value["user_input"])
    said, count = value.get("num_turns"), (len(turns) + 1) // 2
    if said is not None and len(turns) > 1 and said != count:
        raise ValueError(f"num_turns is {said}, and user_input holds {count} turns of the user")
    tags = [_action(content, verbs) for content in value["action_tags"]]
    tags += [_shell(command, verbs) for command in value["shell_tags"]]
    answer = Answer(_words(value["assistant_text"], verbs), tuple(tags))
    return ActionRow(
        id=value["id"],
        split=value["split"],
        scenario=value["scenario"],
        turns=turns,
        answer=answer,
        risk=value["risk_level"],
        requires_confirmation=value["requires_confirmation"],
        should_block=value["should_block"],
        outcome=value["expected_outcome"],
        language=value.get("language", "en"),
        shell=row_shell(answer, turns),
    )


def schema_fault(value: Mapping[str, Any]) -> str:
    """The first thing in which an object breaks `row_schema`, "" for none."""
    for name in value:
        if name not in _FIELDS and name not in _OPTIONAL:
            close = difflib.get_close_matches(str(name), [*_FIELDS, *_OPTIONAL], n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            return f"{shown(name)!r} is no field of a row{hint}"
    for name in _FIELDS:
        if name not in value:
            return f"no {name!r}"
    for error in _validator().iter_errors(dict(value)):
        name, *rest = error.absolute_path
        place = f"{name}[{rest[0]}]" if rest else str(name)
        return f"{place} is {shown(repr(error.instance), 80)}; {_wanted(str(name), bool(rest))}"
    return ""


def read_turns(text: str) -> tuple[str, ...]:
    """The turns of `user_input`: of a transcript each one, else the whole text.

    Raises:
        ValueError: the turns of a transcript do not alternate, or the user is not the last.
    """
    if not text.startswith("User:"):
        return (text,)
    marks = list(_SPEAKER.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    turns = tuple(text[m.end() : end].strip() for m, end in zip(marks, ends, strict=True))
    for at, mark in enumerate(marks):
        if mark[1] != ("Assistant" if at % 2 else "User"):
            raise ValueError(f"turn {at + 1} of user_input is the {mark[1]}'s again")
        if not turns[at]:
            raise ValueError(f"turn {at + 1} of user_input is empty")
    if len(turns) % 2 == 0:
        raise ValueError("user_input ends with the Assistant's turn; the user speaks last")
    return turns


def write_turns(turns: tuple[str, ...]) -> str:
    """`user_input` of turns."""
    if len(turns) == 1:
        return turns[0]
    return "\n".join(f"{'Assistant' if i % 2 else 'User'}: {turn}" for i, turn in enumerate(turns))


def pending(text: str) -> str:
    """The command that an answer asks to be allowed, "" for none: what stands between the first
    colon and the question mark that ends it, as in "... Shall I run: rm -r ~/old?"."""
    said = text.rstrip()
    return said.partition(": ")[2].removesuffix("?").strip() if said.endswith("?") else ""


def row_shell(answer: Answer, turns: tuple[str, ...]) -> Shell:
    """The shell that a row is about, by its commands; by its wording's hash where it has none, so
    that such rows are asked of both."""
    commands = [tag.argument for tag in answer.tags if tag.runs == "shell"]
    commands += [command for turn in (*turns[1::2], answer.text) if (command := _command(turn))]
    if commands:
        return "powershell" if any(map(_CMDLET.search, commands)) else "bash"
    if any(map(_CMDLET.search, turns)):
        return "powershell"
    digest = hashlib.sha256("\n".join(turns).encode()).digest()
    return "powershell" if digest[0] % 2 else "bash"


def _command(turn: str) -> str:
    """The command of an earlier answer: asked about, or in a tag."""
    try:
        tags = [tag for tag in parse_answer(turn).tags if tag.runs == "shell"]
    except AnswerError:
        return ""
    return tags[0].argument if tags else pending(turn)


def _words(text: str, verbs: Verbs) -> str:
    try:
        found = parse_answer(text, verbs)
    except AnswerError as error:
        raise ValueError(
            f"assistant_text: {error}; tags go into action_tags and shell_tags"
        ) from None
    if found.tags:
        raise ValueError(
            f"assistant_text holds {found.tags[0].written}; tags go into action_tags and shell_tags"
        )
    return found.text


def _action(content: str, verbs: Verbs) -> Tag:
    return _one(f"[ACTION]{content}[/ACTION]", "action_tags", verbs)


def _shell(command: str, verbs: Verbs) -> Tag:
    return _one(f"[SHELL]{command}[/SHELL]", "shell_tags", verbs)


def _one(written: str, field: str, verbs: Verbs) -> Tag:
    """The one tag that a field's text makes between its markers."""
    try:
        tags = parse_answer(written, verbs).tags
    except AnswerError as error:
        raise ValueError(f"{field}: {str(error).rpartition(' at character ')[0]}") from None
    (tag,) = tags if len(tags) == 1 else (None,)
    if tag is None or tag.end != len(written):
        raise ValueError(f"{field} holds more than the content of one tag: {shown(written, 80)}")
    if tag.kind == "ACTION":
        return action(tag.verb, tag.argument, verbs)
    return shell_tag(tag.argument)


@lru_cache(maxsize=1)
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft7Validator(row_schema())


def _wanted(name: str, within: bool) -> str:
    """What a field must be, for people."""
    schema = {**_FIELDS, **_OPTIONAL}[name]
    if "enum" in schema:
        return f"it must be {', '.join(schema['enum'])}"
    if schema["type"] == "array" and not within:
        return "it must be a list of texts, [] for none"
    kinds = {"boolean": "true or false", "integer": "a whole number from 1", "array": "a text"}
    return f"it must be {kinds.get(schema['type'], 'a text that says something')}"


def to_chat(
    row: ActionRow, meta: Mapping[str, str] | None = None, verbs: Verbs = VERBS
) -> dict[str, Any]:
    """A row as chat data: {"messages", "meta"}, which `from_chat` reads back.

    An earlier answer that does not parse, or that the user complains of (scenario
    malformed_recovery), is read by the model and not learned: its turn has `"weight": 0`.

    Args:
        meta: what else the row says of itself, such as its source and provenance.
    """
    messages = conversation(row.turns, row.answer, shell=row.shell, verbs=verbs)
    for message in messages[:-1]:
        if message["role"] != "assistant":
            continue
        if row.scenario == "malformed_recovery" or not _parses(message["content"], verbs):
            message["weight"] = 0
    return {
        "messages": messages,
        "meta": {
            "id": row.id,
            "split": row.split,
            "scenario": row.scenario,
            "risk_level": row.risk,
            "requires_confirmation": row.requires_confirmation,
            "should_block": row.should_block,
            "expected_outcome": row.outcome,
            "language": row.language,
            **(meta or {}),
        },
    }


def from_chat(value: Mapping[str, Any], verbs: Verbs = VERBS) -> dict[str, Any]:
    """The fields of a chat row, for `read_row` and the policy.

    Raises:
        ValueError: its turns are no conversation that ends with an answer, the answer does not
            parse, or its meta lacks a field.
    """
    meta, messages = value.get("meta"), value.get("messages")
    if not isinstance(meta, Mapping) or not isinstance(messages, list):
        raise ValueError("a chat row needs messages and a meta object")
    turns = [m for m in messages if isinstance(m, Mapping) and m.get("role") != "system"]
    roles = [turn.get("role") for turn in turns]
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
        raise ValueError("messages must be the user's and the assistant's in turn, an answer last")
    if not all(isinstance(turn.get("content"), str) for turn in turns):
        raise ValueError("each message's content must be a text")
    try:
        answer = parse_answer(turns[-1]["content"], verbs)
    except AnswerError as error:
        raise ValueError(f"the answer cannot be read: {error}") from None
    fields: dict[str, Any] = {name: meta[name] for name in (*FIELDS, *OPTIONAL) if name in meta}
    said = tuple(str(turn["content"]) for turn in turns[:-1])
    return {
        **fields,
        "user_input": write_turns(said),
        "assistant_text": answer.text,
        "action_tags": [tag.content for tag in answer.tags if tag.kind == "ACTION"],
        "shell_tags": [tag.argument for tag in answer.tags if tag.kind == "SHELL"],
    }


def _parses(text: str, verbs: Verbs) -> bool:
    try:
        parse_answer(text, verbs)
    except AnswerError:
        return False
    return True
