"""A row of training data in any usual shape -> what it says.

Nothing in a row is lost in silence (see `livery.dataset.columns`). docs/data.md shows every shape.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from livery.dataset.advice import Advice
from livery.dataset.columns import (
    ANSWERED,
    ASKED,
    CONTEXT,
    CONVERSATION,
    REASONING,
    SYSTEM,
    Columns,
    Fields,
    Say,
    UnknownField,
)  # fmt: skip
from livery.dataset.conversation import Conversation, Message, Pair, Row, RowError, Text
from livery.dataset.leaks import asked_in
from livery.dataset.reasoning import unanswered
from livery.dataset.turns import Turn, is_turns, parse, put_reasoning, read_turns, text_of
from livery.errors import quoted, shown

TrainOn = Literal["all", "last"]
# Where a row of a table is, as `livery.dataset.raw` says it.
_TABLE = re.compile(r"\.[ct]sv(\.\w+)? row \d+$", re.I)


def read_row(
    row: Mapping[str, Any],
    where: str,
    columns: Columns | None = None,
    *,
    train_on: TrainOn = "all",
    say: Say | None = None,
) -> Row:
    """What a row says.

    Args:
        where: "file:line".
        columns: which column holds what, where the names do not tell.
        train_on: learn every answer of a conversation, or its last one alone.
        say: called with what the user is told once for all rows, such as what is left aside, and
            the field that it concerns, if one.

    Raises:
        RowError: the row has none of the shapes, has two of them, or holds what is not understood.
    """
    columns, say = columns or Columns(), say or _unheard
    try:
        found = _read(row, where, columns, say)
    except UnknownField as error:
        advice = _advice(row, where, columns)
        said = advice.preference() or f"{error.reason} {advice.unknown(error.field)}"
        raise RowError(where, said) from None
    if found is None:
        advice = _advice(row, where, columns)
        raise RowError(
            where,
            advice.preference()
            or "no messages, prompt and completion, or text among its keys "
            f"({shown(', '.join(map(str, row)) or 'none', 400)}). {advice.nothing()}",
        )
    return _marked(found, train_on, say) if isinstance(found, Conversation) else found


def _advice(row: Mapping[str, Any], where: str, columns: Columns) -> Advice:
    table = bool(_TABLE.search(where))
    return Advice(row, columns, lambda tried: _read_and_learn(row, where, tried), table=table)


def _unheard(remark: str, field: str = "") -> None:
    """Takes what nobody needs to be told."""


def _read(row: Mapping[str, Any], where: str, columns: Columns, say: Say = _unheard) -> Row | None:
    """What a row says, all answers marked as they are; None where it has none of the shapes."""
    fields = Fields(row, where, columns, say)
    found = _conversation(fields) or _pair(fields) or _text(fields)
    if found is None:
        fields.refuse_token_ids()
        return None
    fields.check_keep()
    fields.finish(found)
    return found


def _read_and_learn(row: Mapping[str, Any], where: str, columns: Columns) -> None:
    """Raises RowError where there is nothing to learn from a row under these columns."""
    found = _read(row, where, columns)
    if isinstance(found, Conversation):
        found = _marked(found, "all", _unheard)
    if found is None or nothing_to_learn(found):
        raise RowError(where, "nothing to learn")


def nothing_to_learn(row: Row) -> str:
    """Why a row cannot be trained on although it is well-formed; "" where it can."""
    if isinstance(row, Text):
        return "" if row.text.strip() else "empty text"
    if isinstance(row, Pair):
        return unanswered(row.completion) if row.completion.strip() else "empty answer"
    answers = [i for i, message in enumerate(row.messages) if message["role"] == "assistant"]
    if not answers:
        return "no assistant turn to learn from"
    learnt = [row.messages[i] for i in answers if row.learn[i]]
    if not learnt:
        return "no answer that may be learned: each is masked or opens the conversation"
    if any(not (m["content"].strip() or m.get("tool_calls")) for m in learnt):
        return "empty answer"
    calls = [bool(m.get("tool_calls")) for m in learnt]
    found = (unanswered(m["content"], calls=c) for m, c in zip(learnt, calls, strict=True))
    return next(filter(None, found), "")


def asked_and_answered(row: Row) -> tuple[str, str]:
    """(all that comes before the last answer, the last answer), for comparing rows."""
    if isinstance(row, Text):
        return "", row.text
    if isinstance(row, Pair):
        system = [f"system: {row.system}"] if row.system else []
        return "\n".join([*system, f"user: {row.prompt}"]), row.completion
    learnt = [i for i, learn in enumerate(row.learn) if learn] or [len(row.messages) - 1]
    *before, last = row.messages[: learnt[-1] + 1]
    offered = [json.dumps(tool, sort_keys=True) for tool in row.tools]
    offered += [f"{name}={value}" for name, value in sorted(row.template_kwargs.items())]
    return "\n".join(offered + [_words(message) for message in before]), _words(last, role=False)


def question(row: Row) -> str:
    """What a user asks in a row: its text, its prompt, or its user turns, all of them: "yes, go
    ahead" alone is not a question."""
    if isinstance(row, Text):
        return row.text
    if isinstance(row, Pair):
        return asked_in(row.prompt)
    users = [asked_in(m["content"]) for m in row.messages if m["role"] == "user"]
    return "\n".join(users) if users else "\n".join(_words(m) for m in row.messages[:1])


def _conversation(fields: Fields) -> Row | None:
    if not fields.shaped("messages"):
        return None
    found = fields.take("messages", CONVERSATION)
    if found is None or found[1] == "":
        return None
    return _build(fields, read_turns(found[1], fields.where, found[0]))


def _pair(fields: Fields) -> Row | None:
    if not fields.shaped("prompt", "completion"):
        return None
    where = fields.where
    asked = _turns_within(fields, fields.take("prompt", ASKED))
    context = _turns_within(fields, fields.take("context", CONTEXT))
    if asked is None:
        asked, context = context, None
    answered = _turns_within(fields, fields.take("completion", ANSWERED))
    if asked is None or answered is None:
        fields.used.clear()
        return None
    more = text_of(context[1], where, context[0]) if context else ""
    turns = _history(fields)
    if is_turns(asked[1]):
        if more:
            beside = quoted(context and context[0])
            raise RowError(where, f"{asked[0]} is a list of turns, so {beside} is not understood "
                                  "beside it.")  # fmt: skip
        # As TRL reads such a row: answers within the prompt are no completions.
        turns += [Turn(turn.message, False) for turn in read_turns(asked[1], where, asked[0])]
    else:
        prompt = text_of(asked[1], where, asked[0])
        # Alpaca's input and Dolly's context are below the instruction, as elsewhere.
        prompt = "\n".join(filter(None, (prompt, more)))
        turns.append(Turn({"role": "user", "content": prompt}, None))
    reasoning = fields.text("reasoning", REASONING)
    if is_turns(answered[1]):
        if reasoning:
            raise RowError(where, f"{answered[0]} is a list of turns; put its reasoning there.")
        turns += read_turns(answered[1], where, answered[0])
    else:
        answer: Message = {
            "role": "assistant", "content": text_of(answered[1], where, answered[0])
        }  # fmt: skip
        if reasoning:
            put_reasoning(answer, reasoning, where, answered[0])
        turns.append(Turn(answer, None))
    plain = not (reasoning or is_turns(asked[1]) or is_turns(answered[1]))
    return _build(fields, turns, plain=plain)


def _turns_within(fields: Fields, found: tuple[str, Any] | None) -> tuple[str, Any] | None:
    """A field whose value is one turn by itself, or turns within an object with the tools that go
    with them, as OpenAI writes preference data: the list of turns."""
    if found is None or not isinstance(found[1], dict):
        return found
    key, value = found
    if "role" in value or "from" in value:
        return key, [value]
    if isinstance(value.get("messages"), list):
        fields.inside(key, {k: v for k, v in value.items() if k != "messages"})
        return key, value["messages"]
    return found


def _text(fields: Fields) -> Text | None:
    if not fields.shaped("text"):
        return None
    found = fields.take("text", ("text",))
    if found is None:
        return None
    if not isinstance(found[1], str):
        raise RowError(fields.where, f"{found[0]} is not a string.")
    return Text(fields.where, found[1])


def _build(fields: Fields, turns: list[Turn], *, plain: bool = False) -> Row:
    """The conversation, with the row's system prompt, tools and template variables; or the pair."""
    system = fields.text("system", SYSTEM)
    tools, kwargs = fields.tools(), fields.template_kwargs()
    for turn in turns:
        if turn.tools and tools and turn.tools != tools:
            raise RowError(fields.where, "holds two lists of tools that differ.")
        tools = tools or turn.tools
    if plain and len(turns) == 2 and not tools and not kwargs:
        asked, answered = (turn.message for turn in turns)
        if asked["role"] == "user":
            return Pair(fields.where, asked["content"], answered["content"], system)
    if system:
        first = turns[0].message
        if first["role"] == "system" and first["content"] != system:
            raise RowError(
                fields.where, "holds two system prompts that differ: a field and a first turn."
            )
        if first["role"] != "system":
            turns = [Turn({"role": "system", "content": system}, None), *turns]
    learn = tuple(t.message["role"] == "assistant" and t.learn is not False for t in turns)
    return Conversation(fields.where, tuple(t.message for t in turns), learn, tools, kwargs)


def _history(fields: Fields) -> list[Turn]:
    """Earlier rounds of an Alpaca row, [[asked, answered], ...], which are learnt too."""
    found = fields.take("history", ("history",))
    if found is None or not found[1]:
        return []
    rounds = found[1]
    if isinstance(rounds, str):
        rounds = parse(rounds, fields.where, found[0])
    turns: list[Turn] = []
    for i, one in enumerate(rounds if isinstance(rounds, list) else [None]):
        texts = one if isinstance(one, list) else []
        if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
            raise RowError(fields.where, f"{found[0]}[{i}] is not a pair of texts.")
        for role, text in zip(("user", "assistant"), texts, strict=True):
            turns.append(Turn({"role": role, "content": text}, None))
    return turns


def _marked(row: Conversation, train_on: TrainOn, say: Say) -> Conversation:
    """Decide which answers are learnt, and leave out what follows the last one."""
    messages, learn = list(row.messages), list(row.learn)
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        return row
    if answers[0] == 0 and learn[0]:
        learn[0] = False
        say("opens with the assistant; that turn is context and is not learned")
    if messages[-1]["role"] != "assistant":
        del messages[answers[-1] + 1 :], learn[answers[-1] + 1 :]
        say("turns after the last answer are left out: nothing is learned from them")
    if train_on == "last":
        learn = [on and i == answers[-1] for i, on in enumerate(learn)]
    return Conversation(row.where, tuple(messages), tuple(learn), row.tools, row.template_kwargs)


def _words(message: Message, *, role: bool = True) -> str:
    said = [f"{message['role']}: {message['content']}" if role else message["content"]]
    said += [message["reasoning_content"]] if "reasoning_content" in message else []
    said += [str(call["function"]) for call in message.get("tool_calls", ())]
    return "\n".join(text for text in said if text)
