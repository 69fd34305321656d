"""Kinds of values that a configuration file, a variable or a flag may hold, and how each is read.

A kind's `read` takes what YAML or a shell gave and returns the value, or raises ValueError with
words that complete "'four' is not …". Its `check`, where it has bounds, raises UserError where a
setting's value, given from Python, is outside them.
"""

from __future__ import annotations

import datetime
import difflib
import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from livery.dataset.columns import read_columns
from livery.errors import UserError

_TRUE = {"true", "yes", "on", "1"}
_COUNTED = "below 2**63"  # what lists, files and arrays count to
_FALSE = {"false", "no", "off", "0"}


class Kind(Protocol):
    """How a value is read, and what to call it in help texts."""

    @property
    def metavar(self) -> str: ...

    def read(self, raw: Any) -> Any: ...


@dataclass(frozen=True)
class Text:
    """Any words, such as a path or a hub id."""

    metavar: str = "TEXT"

    def read(self, raw: Any) -> str:
        if not isinstance(raw, str) or not raw.strip() or "\0" in raw:
            raise ValueError("a name or path")
        try:
            raw.encode()
        except UnicodeEncodeError:
            raise ValueError("UTF-8 text") from None
        return raw


@dataclass(frozen=True)
class Integer:
    """A whole number of at least `minimum` that a machine can count to; 1e3 and "1000" are whole
    numbers too."""

    minimum: int = 0
    metavar: str = "N"

    @property
    def bounds(self) -> str:
        return f"at least {self.minimum}"

    def check(self, name: str, value: Any) -> None:
        if not value >= self.minimum:
            raise _out_of_bounds(name, value, self.bounds)
        if value > sys.maxsize:
            raise _out_of_bounds(name, value, _COUNTED)

    def read(self, raw: Any) -> int:
        number = _number(raw)
        if number is None or number != int(number) or number < self.minimum:
            raise ValueError(f"a whole number of {self.bounds}")
        if number >= sys.maxsize:
            raise ValueError(f"a whole number {_COUNTED}")
        return int(number)


@dataclass(frozen=True)
class Number:
    """A finite number within [minimum, maximum]; without an end where `above` or `below` is set."""

    minimum: float = 0.0
    maximum: float = math.inf
    above: bool = False
    below: bool = False
    metavar: str = "X"

    def read(self, raw: Any) -> float:
        number = _number(raw)
        if number is None or not self._holds(number):
            raise ValueError(f"a number {'' if self.above else 'of '}{self.bounds}")
        return number

    def check(self, name: str, value: Any) -> None:
        if not self._holds(value):
            raise _out_of_bounds(name, value, self.bounds)

    @property
    def bounds(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.minimum:g}"
        if self.maximum == math.inf:
            return low
        return f"{low} and {'below' if self.below else 'at most'} {self.maximum:g}"

    def _holds(self, number: float) -> bool:
        low = number > self.minimum if self.above else number >= self.minimum
        return low and (number < self.maximum if self.below else number <= self.maximum)


@dataclass(frozen=True)
class Switch:
    """True or false."""

    metavar: str = ""

    def read(self, raw: Any) -> bool:
        if isinstance(raw, bool):
            return raw
        word = str(raw).strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError("true or false")


@dataclass(frozen=True)
class Choice:
    """One of a few words; `values` maps each accepted word to what it means."""

    values: Mapping[str, Any]
    refused: Mapping[str, str] | None = None  # words we know and cannot do -> what to do instead

    @property
    def metavar(self) -> str:
        return "[" + "|".join(self.values) + "]"

    def read(self, raw: Any) -> Any:
        # YAML 1.1 reads a bare on/off as true/false.
        word = {True: "on", False: "off"}.get(raw) if isinstance(raw, bool) else None
        word = (word or str(raw)).strip().lower()
        if word in self.values:
            return self.values[word]
        if self.refused and word in self.refused:
            raise ValueError(f"something Livery does: {self.refused[word]}")
        near = _closest(word, self.values)
        hint = f" (did you mean {near}?)" if near else ""
        raise ValueError(f"one of: {', '.join(self.values)}{hint}")

    def check(self, name: str, value: Any) -> None:
        known = list(dict.fromkeys(self.values.values()))
        if value not in known:
            if self.refused and str(value) in self.refused:
                raise UserError(f"{name} is {value!r}, which Livery does not have: "
                                f"{self.refused[str(value)]}.")  # fmt: skip
            shown = ", ".join(repr(one) for one in known)
            near = _closest(str(value), self.values)
            hint = f" Did you mean {near}?" if near else ""
            raise UserError(f"{name} is {value!r}; choose one of: {shown}.{hint}")


def _closest(word: str, known: Iterable[str]) -> str:
    """The word that a mistyped one was probably meant to be, for a message."""
    found = difflib.get_close_matches(word, known, n=1)
    return found[0] if found else ""


@dataclass(frozen=True)
class Names:
    """A list of names, in a shell separated by commas."""

    metavar: str = "A,B,…"

    def read(self, raw: Any) -> tuple[str, ...]:
        items: list[Any] = raw.replace(",", " ").split() if isinstance(raw, str) else raw
        if not isinstance(items, list | tuple) or not all(isinstance(i, str) for i in items):
            raise ValueError("a list of names")
        return tuple(items)


@dataclass(frozen=True)
class Several:
    """Some of a few words, in a shell separated by commas or given again; "none" is none."""

    choices: tuple[str, ...]

    @property
    def metavar(self) -> str:
        return "|".join(self.choices)

    def read(self, raw: Any) -> tuple[str, ...]:
        found = [word.lower() for word in Names().read(raw)]
        found = [] if found == ["none"] else found
        if not set(found) <= set(self.choices):
            raise ValueError("none, or some of: " + ", ".join(self.choices))
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Columns:
    """A column mapping: {field: column or list of columns}, in a shell field=column,…; kept as
    words "field=column"."""

    metavar: str = "FIELD=COLUMN,…"

    def read(self, raw: Any) -> tuple[str, ...]:
        if isinstance(raw, str):
            raw = [word for word in raw.split(",") if word.strip()]
        if isinstance(raw, Mapping):
            raw = [
                f"{name}={column}"
                for name, columns in raw.items()
                for column in (columns if isinstance(columns, list | tuple) else [columns])
            ]
        if not isinstance(raw, list | tuple) or not all(isinstance(word, str) for word in raw):
            raise ValueError("a mapping such as {prompt: question, completion: answer}")
        words = tuple(word.strip() for word in raw)
        try:
            read_columns(words)
        except UserError as error:
            raise ValueError(f"a column mapping: {str(error).removeprefix('columns: ')}") from None
        return words

    def check(self, name: str, value: Any) -> None:
        read_columns(value)


@dataclass(frozen=True)
class Variables:
    """Names and values: a mapping, its JSON text, or name=value,… whose values are JSON or text."""

    metavar: str = "JSON"

    def read(self, raw: Any) -> dict[str, Any]:
        value = raw
        if isinstance(raw, str) and not raw.strip().startswith("{"):
            pairs = [word.partition("=") for word in raw.split(",") if word.strip()]
            value = {name.strip(): _json_or_text(text) for name, _, text in pairs}
            if not all(equals and name.strip() for name, equals, _ in pairs):
                value = None
        elif isinstance(raw, str):
            value = _json_or_text(raw)
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            raise ValueError('names and values, such as {"enable_thinking": false}')
        try:
            return json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            raise ValueError("names and values of JSON") from None


@dataclass(frozen=True)
class Date:
    """A day, as 2025-01-31; YAML reads such a word as a date by itself."""

    metavar: str = "YYYY-MM-DD"

    def read(self, raw: Any) -> str:
        text = str(raw).strip()
        try:
            return datetime.date.fromisoformat(text).isoformat()
        except ValueError:
            raise ValueError("a date such as 2025-01-31") from None


Bounded = Integer | Number | Choice | Columns


def one_of(*words: str) -> Choice:
    """A choice among words that mean themselves."""
    return Choice({word: word for word in words})


def _out_of_bounds(name: str, value: Any, bounds: str) -> UserError:
    return UserError(f"{name} is {value}; it must be {bounds}.")


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text.strip()


def _number(raw: Any) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
