"""A row of training data in any usual shape -> what it says.

Nothing in a row is lost in silence. A field is used; or it is one of `ANNOTATIONS`, which are about
the row and are told of once; or it is empty, or says again what the row says already; or the row is
refused with the field's name. docs/data.md shows every shape.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from livery.dataset.columns import Columns
from livery.dataset.conversation import Conversation, Message, Pair, Row, RowError, Text
from livery.dataset.turns import Turn, parse, read_tools, read_turns, text_of

TrainOn = Literal["all", "last"]


class Say(Protocol):
    """Takes what the user must be told of a row."""

    def __call__(self, remark: str, field: str = "") -> None: ...


_CONVERSATION = ("messages", "conversations", "conversation")
_ASKED = ("prompt", "instruction", "question", "query", "user", "human", "inputs")
_ANSWERED = ("completion", "response", "output", "answer", "assistant", "targets")
_CONTEXT = ("input", "context")
_SYSTEM = ("system", "system_prompt")
_TOOLS = ("tools", "functions")
_REASONING = ("reasoning_content", "reasoning", "thinking")

# About a row rather than of it; whatever ends in _id or begins with _ is, too.
ANNOTATIONS = frozenset(
    """
    id idx index uuid meta metadata source sources dataset origin provenance split scenario category
    categories subcategory tag tags topic topics domain task task_type language lang locale license
    url author annotator generator model model_name version hash created created_at timestamp
    difficulty quality score rating num_turns num_tokens n_tokens token_count length comment notes
    parallel_tool_calls
    """.split()
)
_MEDIA = ("image", "images", "audio", "audios", "video", "videos")


def read_row(
    row: Mapping[str, Any],
    where: str,
    columns: Columns | None = None,
    *,
    train_on: TrainOn = "all",
    say: Say = lambda remark, field="": None,
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
    fields = _Fields(row, where, columns or Columns(), say)
    found = _conversation(fields) or _pair(fields) or _text(fields)
    if found is None:
        fields.refuse_other_kinds()
        raise RowError(
            where,
            "no messages, prompt and completion, or text among its keys "
            f"({', '.join(map(str, row)) or 'none'}). Name the columns that hold them, such as "
            "--columns prompt=question,completion=answer.",
        )
    fields.finish(found)
    if isinstance(found, Conversation):
        return _marked(found, train_on, say)
    return found


def nothing_to_learn(row: Row) -> str:
    """Why a row cannot be trained on although it is well-formed; "" where it can."""
    if isinstance(row, Text):
        return "" if row.text.strip() else "empty text"
    if isinstance(row, Pair):
        return "" if row.completion.strip() else "empty answer"
    answers = [i for i, message in enumerate(row.messages) if message["role"] == "assistant"]
    if not answers:
        return "no assistant turn to learn from"
    learnt = [row.messages[i] for i in answers if row.learn[i]]
    if not learnt:
        return "no answer that may be learned: each is masked or opens the conversation"
    if any(not (m["content"].strip() or m.get("tool_calls")) for m in learnt):
        return "empty answer"
    return ""


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
    """What a user asks in a row: its text, its prompt, or its last user turn."""
    if isinstance(row, Text):
        return row.text
    if isinstance(row, Pair):
        return row.prompt
    users = [m["content"] for m in row.messages if m["role"] == "user"]
    return users[-1] if users else "\n".join(_words(m) for m in row.messages[:1])


class _Fields:
    """The fields of one row, and which of them were used."""

    def __init__(self, row: Mapping[str, Any], where: str, columns: Columns, say: Say) -> None:
        self.where = where
        self.columns = columns
        self.say = say
        # Null is absent: files with a schema have it wherever a row lacks a field.
        self.values = {k: v for k, v in row.items() if v is not None}
        self.by_name: dict[str, str] = {}
        for key in self.values:
            other = self.by_name.setdefault(str(key).strip().lower(), key)
            if other != key:
                raise RowError(where, f"holds both {other!r} and {key!r}. Remove one of them.")
        self.used: set[str] = set()
        self.named = columns.named

    def take(self, field: str, names: Sequence[str]) -> tuple[str, Any] | None:
        """(column, value) of a field: the column named for it, else the one usual name there is.

        Raises:
            RowError: several of the usual names are there.
        """
        if field in self.named:
            column = self.named[field]
            if column not in self.values:
                return None
            self.used.add(column)
            return column, self.values[column]
        mapped = set(self.named.values())
        found = [
            self.by_name[name]
            for name in names
            if name in self.by_name
            and self.by_name[name] not in mapped
            and self.by_name[name] not in self.columns.ignored
            and self.values[self.by_name[name]] not in ("", [], {})
        ]
        if not found:  # an empty answer is an answer, if there is no other
            found = [self.by_name[n] for n in names if n in self.by_name][:1]
            found = [k for k in found if k not in mapped and k not in self.columns.ignored]
        if not found:
            return None
        if len(found) > 1 and len({repr(self.values[key]) for key in found}) > 1:
            raise RowError(
                self.where,
                f"holds {' and '.join(map(repr, found))}: which of them is the {field}? Say "
                f"--columns {field}={found[0]},ignore={found[1]} or the other way round.",
            )
        self.used.update(found)
        return found[0], self.values[found[0]]

    def text(self, field: str, names: Sequence[str]) -> str:
        """The text of a field; "" where there is none."""
        found = self.take(field, names)
        return text_of(found[1], self.where, found[0]) if found else ""

    def shaped(self, *fields: str) -> bool:
        """Whether the mapping leaves it open, or says, that the row has this shape."""
        shapes = ("messages", "prompt", "completion", "text")
        told = [field for field in shapes if field in self.named]
        return not told or any(field in told for field in fields)

    def tools(self) -> tuple[dict[str, Any], ...]:
        """Tools offered: of the row, or of its meta data."""
        found = self.take("tools", _TOOLS)
        if found is not None:
            return read_tools(found[1], self.where, found[0]) if found[1] else ()
        for key in ("meta", "metadata"):
            inside = self.values.get(self.by_name.get(key, ""))
            for name in _TOOLS:
                if isinstance(inside, dict) and inside.get(name):
                    return read_tools(inside[name], self.where, f"{key}.{name}")
        return ()

    def template_kwargs(self) -> dict[str, Any]:
        """The row's own variables of the chat template."""
        found = self.take("chat_template_kwargs", ("chat_template_kwargs",))
        if found is None:
            return {}
        value = found[1]
        if isinstance(value, str):
            value = parse(value, self.where, found[0]) if value.strip() else {}
        if not isinstance(value, dict):
            raise RowError(self.where, f"{found[0]} is not a JSON object.")
        return value

    def refuse_other_kinds(self) -> None:
        """Rows of data that are for something else than learning answers."""
        names = self.by_name
        if "chosen" in names and "rejected" in names:
            raise RowError(
                self.where,
                "a preference pair (chosen, rejected); `livery train` learns answers. To learn the "
                "chosen ones alone add --columns "
                + ("messages=chosen" if self._chosen_turns() else "completion=chosen")
                + ",ignore=rejected.",
            )
        if "input_ids" in names:
            raise RowError(
                self.where,
                "rows of token ids (input_ids); Livery tokenizes by itself. Give rows of text.",
            )

    def _chosen_turns(self) -> bool:
        """Whether `chosen` is a whole conversation, its prompt included."""
        value = self.values[self.by_name["chosen"]]
        return _is_turns(value) and value[0].get("role", value[0].get("from")) in ("user", "human")

    def finish(self, row: Row) -> None:
        """Account for the fields that were not used.

        Raises:
            RowError: one of them is not understood.
        """
        said: list[str] | None = None
        for key, value in self.values.items():
            name = str(key).strip().lower()
            if key in self.used or key in self.columns.ignored or value in ("", [], {}):
                continue
            if _is_annotation(name):
                self.say("not used, since it is about the row and not of it", key)
                continue
            said = said if said is not None else _texts(row)
            if isinstance(value, str) and _repeats(name, value, said):
                self.say("not used, since it repeats the rest of the row", key)
                continue
            self.refuse_other_kinds()
            if name in _MEDIA:
                raise RowError(
                    self.where, f"{key!r} holds other media; Livery trains on text alone."
                )
            if name == "text" or name in _CONVERSATION:
                raise RowError(
                    self.where,
                    f"{key!r} beside {' and '.join(sorted(self.used))}: two shapes in one row. "
                    f"Say which counts: --columns ignore={key}, or name the right one.",
                )
            raise RowError(
                self.where,
                f"the field {key!r} is not understood. Say what it is (--columns system={key}, for "
                f"instance), or leave it out with --columns ignore={key}.",
            )


def _is_annotation(name: str) -> bool:
    return name in ANNOTATIONS or name.endswith("_id") or name.startswith(("_", "unnamed:"))


def _conversation(fields: _Fields) -> Row | None:
    if not fields.shaped("messages"):
        return None
    found = fields.take("messages", _CONVERSATION)
    if found is None or found[1] == "":
        return None
    return _build(fields, read_turns(found[1], fields.where, found[0]))


def _pair(fields: _Fields) -> Row | None:
    if not fields.shaped("prompt", "completion"):
        return None
    where = fields.where
    asked = fields.take("prompt", _ASKED)
    context = fields.take("context", _CONTEXT)
    if asked is None:
        asked, context = context, None
    answered = fields.take("completion", _ANSWERED)
    if asked is None or answered is None:
        fields.used.clear()
        return None
    more = text_of(context[1], where, context[0]) if context else ""
    turns = _history(fields)
    if _is_turns(asked[1]):
        if more:
            raise RowError(where, f"{asked[0]} is a list of turns, so {context and context[0]!r} "
                                  "is not understood beside it.")  # fmt: skip
        # As TRL reads such a row: answers within the prompt are no completions.
        turns += [Turn(turn.message, False) for turn in read_turns(asked[1], where, asked[0])]
    else:
        prompt = text_of(asked[1], where, asked[0])
        # Alpaca's input and Dolly's context stand below the instruction, as elsewhere.
        prompt = "\n".join(filter(None, (prompt, more)))
        turns.append(Turn({"role": "user", "content": prompt}, None))
    reasoning = fields.text("reasoning", _REASONING)
    if _is_turns(answered[1]):
        if reasoning:
            raise RowError(where, f"{answered[0]} is a list of turns; put its reasoning there.")
        turns += read_turns(answered[1], where, answered[0])
    else:
        answer: Message = {
            "role": "assistant", "content": text_of(answered[1], where, answered[0])
        }  # fmt: skip
        if reasoning:
            answer["reasoning_content"] = reasoning
        turns.append(Turn(answer, None))
    plain = not (reasoning or _is_turns(asked[1]) or _is_turns(answered[1]))
    return _build(fields, turns, plain=plain)


def _text(fields: _Fields) -> Text | None:
    if not fields.shaped("text"):
        return None
    found = fields.take("text", ("text",))
    if found is None:
        return None
    if not isinstance(found[1], str):
        raise RowError(fields.where, f"{found[0]} is not a string.")
    return Text(fields.where, found[1])


def _build(fields: _Fields, turns: list[Turn], *, plain: bool = False) -> Row:
    """The conversation, with the row's system prompt, tools and template variables; or the pair."""
    system = fields.text("system", _SYSTEM)
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


def _history(fields: _Fields) -> list[Turn]:
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


def _is_turns(value: Any) -> bool:
    """Whether a prompt or completion is a list of turns rather than a text or its parts."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(part, dict) and ("role" in part or "from" in part) for part in value)
    )


def _words(message: Message, *, role: bool = True) -> str:
    said = [f"{message['role']}: {message['content']}" if role else message["content"]]
    said += [message["reasoning_content"]] if "reasoning_content" in message else []
    said += [str(call["function"]) for call in message.get("tool_calls", ())]
    return "\n".join(text for text in said if text)


def _texts(row: Row) -> list[str]:
    if isinstance(row, Text):
        return [row.text]
    if isinstance(row, Pair):
        return [row.system, row.prompt, row.completion]
    return [message["content"] for message in row.messages]


def _repeats(name: str, value: str, said: Iterable[str]) -> bool:
    """Whether a field says nothing that the row does not: one of its turns again (`prompt` beside
    `messages`), or in `text` all of it, laid out by some template."""
    said = [text.strip() for text in said if text.strip()]
    if value.strip() in said:
        return True
    return name == "text" and bool(said) and all(text in value for text in said)
