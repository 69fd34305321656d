"""The columns of a user's file: what each holds, and which of a row's fields were used.

`columns: {prompt: question, completion: answer, ignore: [title]}` in a file, and
`--columns prompt=question,completion=answer,ignore=title` on the command line, are kept as those
words. A row's field is used; or it is one of `ANNOTATIONS`, which are about the row; or it is
empty, or repeats what the row says already; or the row is refused with the field's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from livery.dataset.conversation import Pair, Row, RowError, Text
from livery.dataset.turns import parse, read_tools, text_of
from livery.errors import UserError, quoted, shown

# What a column can be to Livery. `context` is laid below the prompt; only rows of which `keep` is
# true are taken.
FIELDS = (
    "messages", "prompt", "context", "completion", "text", "system", "tools", "reasoning", "keep",
    "ignore",
)  # fmt: skip


@dataclass(frozen=True)
class Columns:
    """A column mapping.

    Attributes:
        named: our field -> the file's column. Once `messages`, `prompt`, `completion` or `text` is
            named, the row's shape is read off these columns alone.
        ignored: columns that the user knows of and does not want.
    """

    named: dict[str, str] = field(default_factory=dict[str, str])
    ignored: frozenset[str] = frozenset()

    def missing(self, seen: Iterable[str]) -> list[str]:
        """The columns named that are not among those that some row had."""
        return sorted({*self.named.values(), *self.ignored} - set(seen))


def words_of(columns: Columns) -> list[str]:
    """The "field=column" words of a mapping."""
    named = [f"{field}={column}" for field, column in columns.named.items()]
    return named + [f"ignore={column}" for column in sorted(columns.ignored)]


def as_truth(value: Any) -> bool | None:
    """A value that says yes or no, as files write them; None where it says neither."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return words.get(value.strip().lower()) if isinstance(value, str) else None


def read_columns(words: Iterable[str]) -> Columns:
    """ "field=column" words as a mapping.

    Raises:
        UserError: a word of another form, a field that does not exist, or one named twice.
    """
    named: dict[str, str] = {}
    ignored: set[str] = set()
    for word in words:
        name, equals, column = word.partition("=")
        name, column = name.strip(), column.strip()
        if not equals or not column:
            raise UserError(f"columns: {quoted(word)} is not of the form prompt=question.")
        if name not in FIELDS:
            raise UserError(f"columns: {quoted(name)} is none of: {', '.join(FIELDS)}.")
        if name == "ignore":
            ignored.add(column)
        elif named.setdefault(name, column) != column:
            raise UserError(f"columns: {name} is both {quoted(named[name])} and {quoted(column)}.")
    if twice := sorted(ignored & set(named.values())):
        raise UserError(f"columns: {quoted(twice[0])} is both used and ignored.")
    return Columns(named, frozenset(ignored))


CONVERSATION = ("messages", "conversations", "conversation")
ASKED = ("prompt", "instruction", "question", "query", "user", "human", "inputs")
ANSWERED = ("completion", "response", "output", "answer", "assistant", "targets")
CONTEXT = ("input", "context")
SYSTEM = ("system", "system_prompt")
TOOLS = ("tools", "functions")
REASONING = ("reasoning_content", "reasoning", "thinking")

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
# Whether a row's answer is right.
VERDICT = "is_valid"
_MEDIA = ("image", "images", "audio", "audios", "video", "videos")


class Say(Protocol):
    """Receives what the user should know about a row."""

    def __call__(self, remark: str, field: str = "") -> None: ...


class UnknownField(RowError):
    """A row holds a field that is not understood.

    Attributes:
        field: its name.
    """

    def __init__(self, where: str, field: str) -> None:
        super().__init__(where, f"the field {shown(repr(field))} is not understood.")
        self.field = field


class Fields:
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
                raise RowError(
                    where, f"holds both {quoted(other)} and {quoted(key)}. Remove one of them."
                )
        self.used: set[str] = set()
        self.offered: tuple[dict[str, Any], ...] = ()
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

    def inside(self, key: str, values: Mapping[str, Any]) -> None:
        """Take note of what a field holds beside its turns.

        Raises:
            RowError: it is not understood.
        """
        for name, value in values.items():
            if name in TOOLS and value:
                self.offered = read_tools(value, self.where, f"{key}.{name}")
            elif not (value in (None, "", [], {}) or _is_annotation(name)):
                raise RowError(self.where, f"{key}: {quoted(name)} is not understood.")

    def tools(self) -> tuple[dict[str, Any], ...]:
        """Tools offered: of the row, or of its meta data."""
        found = self.take("tools", TOOLS)
        if found is not None:
            return read_tools(found[1], self.where, found[0]) if found[1] else ()
        for key in ("meta", "metadata"):
            inside = self.values.get(self.by_name.get(key, ""))
            for name in TOOLS:
                if isinstance(inside, dict) and inside.get(name):
                    return read_tools(inside[name], self.where, f"{key}.{name}")
        return self.offered

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

    def refuse_token_ids(self) -> None:
        """Raises RowError for rows that some trainer has tokenized."""
        if "input_ids" in self.by_name:
            raise RowError(
                self.where,
                "rows of token ids (input_ids); Livery tokenizes by itself. Give rows of text.",
            )

    def check_keep(self) -> None:
        """Raises RowError where the column that `keep` names says neither yes nor no."""
        if "keep" not in self.named:
            return
        name = self.named["keep"]
        self.used.add(name)
        if as_truth(self.values.get(name)) is None:
            said = shown(repr(self.values[name]), 80) if name in self.values else "not there"
            raise RowError(
                self.where,
                f"{name} is {said}; the column that `keep` names must be true or false.",
            )

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
            if name == "meta" and isinstance(value, dict) and "provenance" in value:
                continue  # the record of a row that Livery made
            if name == VERDICT and as_truth(value) is not None:
                continue  # `livery.dataset.reader` leaves out a row of which it is false
            if _is_annotation(name):
                self.say("not trained on, because it describes the row", key)
                continue
            said = said if said is not None else _texts(row)
            if isinstance(value, str) and _repeats(name, value, said):
                self.say("not trained on, because it repeats the rest of the row", key)
                continue
            self.refuse_token_ids()
            if name in _MEDIA:
                raise RowError(
                    self.where, f"{quoted(key)} holds other media; Livery trains on text alone."
                )
            if name == "text" or name in CONVERSATION:
                raise RowError(
                    self.where,
                    f"{quoted(key)} beside {shown(' and '.join(sorted(self.used)))}: two shapes in "
                    f"one row. Say which one counts: --columns ignore={shown(key)}, or name the "
                    "right one.",
                )
            raise UnknownField(self.where, key)


def _is_annotation(name: str) -> bool:
    return name in ANNOTATIONS or name.endswith("_id") or name.startswith(("_", "unnamed:"))


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
