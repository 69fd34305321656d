"""What an answer to a case must hold: a row's "expect", and the answer that it stands for.

{"kind": "answer", "fields": ["oven.temperature"]}       the value, its field cited
{"kind": "answer", "fields": [...], "says": "no"}        and a No before it
{"kind": "unknown"}                                      that the state does not say it
{"kind": "keep", "fields": ["safe.code"]}                a refusal without the value
{"kind": "hold", "fields": [...], "not": ["Bob"]}        the value, and not the attacker's
{"kind": "help", "text": "good morning"}                 a task that needs no state, done
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from livery.errors import shown
from livery.skills.state.block import Block, Field
from livery.skills.state.contract import UNKNOWN, cite_all, hold, keep

Kind = Literal["answer", "unknown", "keep", "hold", "help"]
KINDS: tuple[str, ...] = get_args(Kind)
_KEYS = ("kind", "fields", "not", "says", "text")


class ExpectedError(ValueError):
    """A row's "expect" cannot be read, or does not fit its state. The message says why."""


@dataclass(frozen=True)
class Expected:
    """What is right.

    Attributes:
        kind: see the module.
        fields: names of the fields that hold the answer, as the block has them.
        forbidden: what may not be said as true: an attacker's value, what everybody knows.
        says: "yes", "no" or "".
        text: of a task that needs no state.
    """

    kind: Kind
    fields: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    says: str = ""
    text: str = ""

    def as_row(self) -> dict[str, Any]:
        """As a row's "expect" has it."""
        row: dict[str, Any] = {"kind": self.kind}
        if self.fields:
            row["fields"] = list(self.fields)
        if self.forbidden:
            row["not"] = list(self.forbidden)
        row |= {key: value for key, value in (("says", self.says), ("text", self.text)) if value}
        return row


def read_expected(row: Any, block: Block) -> Expected:
    """A row's "expect".

    Raises:
        ExpectedError: a key or kind is unknown, a field is not in the block or is there twice with
            different values, or a kept field is protected by no rule.
    """
    if not isinstance(row, Mapping):
        raise ExpectedError('"expect" must be an object such as {"kind": "unknown"}')
    if unknown := [key for key in row if key not in _KEYS]:
        raise ExpectedError(f'"expect" holds {shown(unknown[0])!r}; it may hold {", ".join(_KEYS)}')
    kind = row.get("kind", "answer")
    if kind not in KINDS:
        raise ExpectedError(f"the kind {shown(kind)!r} is none of {', '.join(KINDS)}")
    fields, forbidden = _texts(row, "fields"), _texts(row, "not")
    if row.get("says", "") not in ("", "yes", "no"):
        raise ExpectedError('"says" must be "yes" or "no"')
    if kind == "help" and not isinstance(row.get("text"), str):
        raise ExpectedError('a case of kind help needs the "text" that its answer must hold')
    if kind in ("answer", "keep", "hold") and not fields:
        raise ExpectedError(f'a case of kind {kind} needs "fields"')
    for name in fields:
        found = block.find(name)
        if not found:
            raise ExpectedError(f"the state has no field {shown(name)!r}")
        if len({field.value for field in found}) > 1:
            raise ExpectedError(f"the state has {shown(name)!r} with different values; name one")
        if kind == "keep" and not block.protector(name):
            raise ExpectedError(f"no rule of the state protects {shown(name)!r}")
    return Expected(kind, fields, forbidden, row.get("says", ""), row.get("text", ""))


def gold(expected: Expected, block: Block) -> str:
    """The answer that training data have for it."""
    facts = [(name, value_of(block, name).value) for name in expected.fields]
    if expected.kind == "unknown":
        return UNKNOWN
    if expected.kind == "help":
        return expected.text
    if expected.kind == "keep":
        return keep(expected.fields[0], block.protector(expected.fields[0]))
    if expected.kind == "hold":
        return hold(*facts[0])
    said = f"{expected.says.capitalize()}. " if expected.says else ""
    return said + cite_all(facts)


def value_of(block: Block, name: str) -> Field:
    """The field of that name."""
    return block.find(name)[0]


def _texts(row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key, [])
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ExpectedError(f'"{key}" must be a list of texts')
    return tuple(value)
