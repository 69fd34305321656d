"""Which column of a user's file holds what: the `columns` setting.

Written `columns: {prompt: question, completion: answer, ignore: [title]}` in a file, and
`--columns prompt=question,completion=answer,ignore=title` on the command line; kept as those words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from livery.errors import UserError

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
            raise UserError(f"columns: {word!r} is not of the form prompt=question.")
        if name not in FIELDS:
            raise UserError(f"columns: {name!r} is none of: {', '.join(FIELDS)}.")
        if name == "ignore":
            ignored.add(column)
        elif named.setdefault(name, column) != column:
            raise UserError(f"columns: {name} is both {named[name]!r} and {column!r}.")
    if twice := sorted(ignored & set(named.values())):
        raise UserError(f"columns: {twice[0]!r} is both used and ignored.")
    return Columns(named, frozenset(ignored))
