"""What to do about a row that is not understood: which `--columns` would read it.

Advice is tried before it is given: the words named here read the row, or they are not named.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from livery.dataset.columns import (
    ANSWERED,
    ASKED,
    CONTEXT,
    CONVERSATION,
    SYSTEM,
    Columns,
    UnknownField,
    as_truth,
    read_columns,
    words_of,
)  # fmt: skip
from livery.dataset.pairs import opens, preferred
from livery.dataset.turns import is_dialogue, is_turns
from livery.errors import UserError, shown

Try = Callable[[Columns], None]

# What a field's name says of it: the setting that takes such a field.
_NAMED = (
    ("system", r"system|persona|character|preamble|role_?play"),
    ("reasoning", r"reason|rationale|thought|think|scratchpad|chain_of|\bcot\b|explanation"),
    ("context", r"context|passage|document|article|paragraph|background|knowledge|evidence|facts"
                r"|reference_text|source_text|excerpt|story|choices|options|hint"),
    ("tools", r"tools|functions"),
)  # fmt: skip
_ANSWER = re.compile(r"answer|response|completion|output|solution|reply|target|gold|label_text")
_LABEL = re.compile(r"label|kto|chosen|prefer|accept|good|thumbs|liked|desirable|correct")
_LONG = 200  # characters of a text that is hardly a mere remark about its row
_BOTH = "`livery dpo` learns from both."
# Characters of what is advised to be typed, and of a column in it.
_LONGEST_COMMAND, _LONGEST_NAME = 400, 100
_CORE = frozenset((*CONVERSATION, *ASKED, *ANSWERED, *CONTEXT, *SYSTEM, "history", "text"))


class Advice:
    """Advice on one row.

    Args:
        row: as it is in the file.
        columns: as the user named them.
        attempt: raises RowError where the row cannot be trained on under these columns.
        table: its names are those of a table's first line.
    """

    def __init__(
        self, row: Mapping[str, Any], columns: Columns, attempt: Try, *, table: bool = False
    ) -> None:
        self.names = [*row] if table else []
        self.row = {key: value for key, value in row.items() if value not in (None, "", [], {})}
        self.given = words_of(columns)
        self.attempt = attempt

    def preference(self) -> str:
        """The text about a row of better and worse answers; "" if it is not one."""
        pair = preferred(self.row)
        if pair is None:
            return ""
        better, worse = pair
        said = f"a preference pair ({better}, {worse}), and livery train learns from single answers"
        known = f"ignore={worse}"
        for words in self._answer_as(better):
            if tried := self.tried(*words, known):
                return f"{said}; to train on those of {better} alone: {tried}. {_BOTH}"
        return f"{said}. {_BOTH}"

    def unknown(self, key: str) -> str:
        """What to do with a field that is not understood."""
        value, name = self.row[key], key.strip().lower()
        if len(name) > _LONGEST_NAME:
            return "Take it out of the data, or give it a shorter name."
        leave = self.tried(f"ignore={key}") or written([*self.given, f"ignore={key}"])
        if as_truth(value) is not None and (isinstance(value, bool) or _LABEL.search(name)):
            keep = self.tried(f"keep={key}")
            if keep:
                return (
                    ("This looks like preference data, and livery train learns from single "
                     "answers; to train on those" if _LABEL.search(name) else
                     "It holds true or false. To train on the rows")
                    + f" of which it is true: {keep}; to train on all of them: {leave}."
                )  # fmt: skip
        uses = [
            (what, tried)
            for setting, what in self._uses(name, value)
            if (tried := self.tried(f"{setting}={key}"))
        ]
        second = isinstance(value, str | list) and _ANSWER.search(name)
        if second and not uses and (answer := self._instead(key)):
            return (
                "It looks like a second answer, as in preference data, and livery train learns "
                f"from one. To learn this one: {answer}; to leave it out: {leave}."
            )
        if uses:
            choices = "; ".join(f"{what}: {tried}" for what, tried in uses)
            return f"If it is {choices}. To leave it out: {leave}."
        return f"Leave it out with {leave}."

    def nothing(self) -> str:
        """What to do with a row of which no prompt and answer are known."""
        if data := next((name for name in self.names if _is_data(name)), ""):
            return (
                f"The first line looks like data ({shown(data, 60)!r}), and it must name the "
                "columns: put such a line above it, as prompt,completion."
            )
        texts = [k for k, v in self.row.items() if isinstance(v, str) and k not in self.used()]
        talks = [k for k, v in self.row.items() if is_turns(v) or is_dialogue(v)]
        unknown = [k for k in texts if k.strip().lower() not in _CORE]
        wanted = [[f"messages={key}"] for key in talks]
        wanted += [[f"completion={k}"] for k in sorted(unknown, key=_not_answer)]
        wanted += [[f"prompt={k}"] for k in unknown]
        answers = [key for key in texts if _ANSWER.search(key.lower())]
        wanted += [[f"prompt={q}", f"completion={a}"] for a in answers for q in texts if q != a]
        if len(texts) == 2 and texts[1].strip().lower() not in ASKED:
            wanted.append([f"prompt={texts[0]}", f"completion={texts[1]}"])
        if len(self.row) == 1:
            ((key, value),) = self.row.items()
            if isinstance(value, list) and all(isinstance(v, dict) for v in value) and not talks:
                return f"{key} holds a list: give that list itself, or its objects one a line."
        several = [k for k in unknown if _ANSWER.search(k.lower())]
        for key, value in self.row.items():
            if isinstance(value, list) and len(value) > 1 and _ANSWER.search(key.lower()):
                return f"{key} holds several answers; write a row with the one to learn."
        for words in wanted[:20]:
            if tried := self.tried(*words):
                if len(several) > 1 and words == [f"completion={several[0]}"]:
                    return (
                        "It looks like preference data, and livery train learns from single "
                        f"answers; to train on those of {several[0]}: {tried}."
                    )
                return f"Name the columns that hold them; as it seems: {tried}."
        return (
            "Name the columns that hold them, such as --columns prompt=question,completion=answer."
        )

    def tried(self, *words: str) -> str:
        """The `--columns` that read the row with these words; "" where they do not.

        Other fields that are not understood are ignored along with them, but for those that say
        what is asked or answered.
        """
        wanted = list(dict.fromkeys((*self.given, *words)))
        for _ in range(40):
            try:
                self.attempt(read_columns(wanted))
            except UnknownField as error:
                if error.field.strip().lower() in _CORE:
                    return ""
                wanted.append(f"ignore={error.field}")
            except UserError:  # of the row, or the words contradict what the user named
                return ""
            else:
                made = written(wanted)
                return made if len(made) <= _LONGEST_COMMAND else ""
        return ""

    def used(self) -> set[str]:
        """Columns that the user named."""
        return {word.partition("=")[2] for word in self.given}

    def _answer_as(self, key: str) -> Iterator[list[str]]:
        """Ways to read a row whose answer is in `key`, the likeliest first."""
        value = self.row[key]
        asked = [k for k in self.row if k.strip().lower() in (*CONVERSATION, *ASKED, *CONTEXT)]
        if is_dialogue(value) or (is_turns(value) and opens(value)):
            again = [
                k
                for k in asked
                if isinstance(said := self.row[k], str | list) and said == value[: len(said)]
            ]
            yield [f"messages={key}", *(f"ignore={k}" for k in again)]
            yield [f"messages={key}", *(f"ignore={k}" for k in asked)]
            return
        yield [f"completion={key}"]
        yield from ([f"prompt={other}", f"completion={key}"] for other in asked)
        unknown = [k for k, v in self.row.items() if isinstance(v, str) and k not in asked]
        yield from ([f"prompt={k}", f"completion={key}"] for k in unknown if k != key)
        if not asked and isinstance(value, str):
            yield [f"text={key}"]

    def _instead(self, key: str) -> str:
        """The columns that take `key` for the answer, and leave out what was the answer."""
        names = {k.strip().lower(): k for k in self.row}
        present = [names[name] for name in ANSWERED if name in names]
        return self.tried(f"completion={key}", *(f"ignore={k}" for k in present))

    def _uses(self, name: str, value: Any) -> list[tuple[str, str]]:
        """(setting, in words) of what a field may be, by its name, and where that says nothing by
        its kind."""
        if is_turns(value) or is_dialogue(value):
            return [("messages", "the conversation")]
        words = {
            "system": "the system prompt", "reasoning": "the answer's reasoning",
            "context": "something to read below the prompt", "tools": "the tools offered",
        }  # fmt: skip
        told = [(setting, words[setting]) for setting, names in _NAMED if re.search(names, name)]
        if not isinstance(value, str):
            return [use for use in told if use[0] == "tools"]
        told = [use for use in told if use[0] != "tools" or value.lstrip()[:1] in "[{"]
        if told or _ANSWER.search(name) or len(value) < _LONG:
            return told
        return [(setting, words[setting]) for setting in ("context", "system")]


def written(words: Sequence[str]) -> str:
    """Words of a column mapping as somebody types them."""
    if any("," in word for word in words):
        # A comma separates words; a file may hold any name.
        fields: dict[str, list[str]] = {}
        for word in words:
            name, _, column = word.partition("=")
            fields.setdefault(name, []).append(column)
        # Names and lists as JSON writes them are YAML, too.
        each = (f"{n}: {_json(c[0] if len(c) == 1 else c)}" for n, c in fields.items())
        return f"columns: {{{', '.join(each)}}} in a configuration file"
    return f"--columns {shlex.quote(','.join(words))}"


def _json(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _is_data(name: str) -> bool:
    """Whether a table's first line, where it has such a name, is hardly one of names."""
    words = name.split()
    sentence = len(words) > 1 and name.rstrip()[-1] in ".?!…:;\"'"
    number = re.fullmatch(r"[-+]?\d+([.,]\d+)*%?", name.strip())
    return bool(sentence or number or len(words) > 8 or "\n" in name.strip() or name[:1] in "[{")


def _not_answer(name: str) -> bool:
    return not _ANSWER.search(name.lower())
