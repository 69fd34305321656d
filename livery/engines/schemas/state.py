"""One case of a schema: what must hold at once of a document, with no choice left in it.

A case is changed by facts, functions that return the case with one more thing known or None where
nothing can satisfy it any more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from livery.engines.schemas.leaves import Scalar, accepts, compact, other_than, scalar

# JSON's types; numbers are integers and fractions, so that "no integer" can be said.
TYPES = frozenset({"null", "boolean", "integer", "fraction", "string", "array", "object"})
NUMBERS = frozenset({"integer", "fraction"})
SCALARS = TYPES - {"array", "object"}

Literal = tuple[int, bool]  # a subschema by number, and whether it holds or must not
Key = frozenset[Literal]  # all that is asked of one value


@dataclass(frozen=True)
class Bound:
    """An end of a range; `strict` leaves it out."""

    value: Any
    strict: bool


@dataclass(frozen=True)
class ObjectFacet:
    """What one schema says of an object's values: by name, by pattern, and of every other."""

    names: tuple[tuple[str, tuple[Literal, ...]], ...] = ()
    patterns: tuple[tuple[str, tuple[Literal, ...]], ...] = ()
    rest: tuple[Literal, ...] = ()

    @cached_property
    def named(self) -> dict[str, tuple[Literal, ...]]:
        return dict(self.names)


@dataclass(frozen=True)
class ArrayFacet:
    """What one schema says of an array's items: the first ones, and every other."""

    prefix: tuple[tuple[Literal, ...], ...] = ()
    rest: tuple[Literal, ...] = ()


@dataclass(frozen=True)
class Some:
    """A property that must be there: of the names in a region, with `literals` of its value.

    Attributes:
        known, patterns: names that the region leaves out.
        inside: the pattern of the names in it; None for all others.
        named: in place of a region: the names that this literal refuses.
    """

    keyword: str
    path: str
    literals: tuple[Literal, ...] = ()
    known: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    inside: str | None = None
    named: Literal | None = None


@dataclass(frozen=True)
class Contains:
    """Between `least` and `most` items from `start` on satisfy the literal; None is any item."""

    literal: Literal | None
    least: int
    most: int | None
    path: str
    start: int = 0


@dataclass(frozen=True)
class Problem:
    """What no grammar says of values of these types."""

    types: frozenset[str]
    keyword: str
    path: str
    reason: str


@dataclass(frozen=True)
class State:
    """One case. Each typed constraint holds of values of its type only, as in JSON Schema.

    Attributes:
        types: that a value may have.
        values: the scalars that it may be; None for all.
        excluded: scalars that it is not.
        strings: patterns and formats, each ("pattern" | "format", text).
        names: what property names must satisfy.
        items: facets of arrays, `members` of objects.
        fixed: by name, the few values that are left of what the members say.
    """

    types: frozenset[str] = TYPES
    values: tuple[Scalar, ...] | None = None
    excluded: frozenset[Scalar] = frozenset()
    low: Bound | None = None
    high: Bound | None = None
    multiples: tuple[Any, ...] = ()
    shortest: int = 0
    longest: int | None = None
    strings: tuple[tuple[str, str], ...] = ()
    items: tuple[ArrayFacet, ...] = ()
    least: int = 0
    most: int | None = None
    unique: str = ""  # the path that asks for it
    contains: tuple[Contains, ...] = ()
    members: tuple[ObjectFacet, ...] = ()
    fixed: tuple[tuple[str, tuple[Literal, ...]], ...] = ()
    required: tuple[str, ...] = ()
    fewest: int = 0
    largest: int | None = None
    some: tuple[Some, ...] = ()
    names: tuple[Literal, ...] = ()
    problems: tuple[Problem, ...] = ()


Fact = Callable[[State], State | None]


# -- facts --


def nothing(state: State) -> None:
    """Of a schema that is false."""
    return


def of_types(types: Iterable[str]) -> Fact:
    wanted = frozenset(types)

    def fact(state: State) -> State | None:
        values = state.values and tuple(v for v in state.values if v[0] in wanted)
        return settled(replace(state, types=state.types & wanted, values=values))

    return fact


def one_of(values: Iterable[Scalar]) -> Fact:
    wanted = tuple(dict.fromkeys(values))

    def fact(state: State) -> State | None:
        kept = wanted if state.values is None else tuple(v for v in state.values if v in wanted)
        return settled(replace(state, values=kept))

    return fact


def none_of(values: Iterable[Scalar]) -> Fact:
    unwanted = frozenset(values)
    return lambda state: settled(replace(state, excluded=state.excluded | unwanted))


def above(value: Any, strict: bool) -> Fact:
    def fact(state: State) -> State | None:
        old = state.low
        if old and (old.value, old.strict) >= (value, strict):
            return state
        return settled(replace(state, low=Bound(value, strict)))

    return fact


def below(value: Any, strict: bool) -> Fact:
    def fact(state: State) -> State | None:
        old = state.high
        if old and (old.value, not old.strict) <= (value, not strict):
            return state
        return settled(replace(state, high=Bound(value, strict)))

    return fact


def between(first: str, last: str, least: int = 0, most: int | None = None) -> Fact:
    """Of two fields of a state that count something, narrowed."""

    def fact(state: State) -> State | None:
        low = max(getattr(state, first), least)
        high = _smaller(getattr(state, last), most)
        return settled(replace(state, **{first: low, last: high}))

    return fact


def adding(field: str, *more: Any) -> Fact:
    """To a field of a state that is a tuple."""

    def fact(state: State) -> State | None:
        old = getattr(state, field)
        new = tuple(value for value in more if value not in old)
        return settled(replace(state, **{field: (*old, *new)})) if new else state

    return fact


def without(field: str, value: Any) -> Fact:
    """A field that is a tuple, without one of its values: it has been dealt with."""
    return lambda state: replace(
        state, **{field: tuple(v for v in getattr(state, field) if v != value)}
    )


# -- what is left --


def settled(state: State) -> State | None:
    """The state without the types that nothing of can satisfy it; None where none are left."""
    types, values = state.types, state.values
    if values is not None:
        values = tuple(value for value in values if value[0] in types and _holds(state, value))
        types = frozenset(kind for kind, _ in values)
    else:
        types = frozenset(kind for kind in types if not _impossible(state, kind))
    if not types:
        return None
    same = types == state.types and values == state.values
    return state if same else replace(state, types=types, values=values)


def _impossible(state: State, kind: str) -> bool:
    if kind in ("null", "boolean"):
        of_kind = [None] if kind == "null" else [True, False]
        return all((kind, value) in state.excluded for value in of_kind)
    if kind == "string":
        return state.longest is not None and state.shortest > state.longest
    if kind == "array":
        return state.most is not None and state.least > state.most
    if kind == "object":
        largest = state.largest
        return largest is not None and max(state.fewest, len(state.required)) > largest
    if kind == "fraction" and any(scalar(step) == ("integer", step) for step in state.multiples):
        return True
    return _no_number(state.low, state.high, kind)


def _no_number(low: Bound | None, high: Bound | None, kind: str) -> bool:
    """Whether a range holds no number: no integer, no fraction, or neither ("number")."""
    if low is None or high is None:
        return False
    if kind == "integer":
        return _whole(low, 1) > _whole(high, -1)
    if low.value == high.value:
        return low.strict or high.strict or (kind == "fraction" and low.value == int(low.value))
    return low.value > high.value


def _whole(bound: Bound, way: int) -> int:
    """The integer nearest to a bound inside the range."""
    value = math.ceil(bound.value) if way > 0 else math.floor(bound.value)
    return value + way if bound.strict and value == bound.value else value


def _holds(state: State, value: Scalar) -> bool:
    """Whether a scalar satisfies what is known of scalars."""
    kind, content = value
    if value in state.excluded:
        return False
    if kind == "string":
        if len(content) < state.shortest:
            return False
        if state.longest is not None and len(content) > state.longest:
            return False
        return all(
            accepts({"type": "string", keyword: text}, compact(content))
            for keyword, text in state.strings
        )
    if kind in NUMBERS:
        low, high = state.low, state.high
        if low and (content < low.value or (low.strict and content == low.value)):
            return False
        if high and (content > high.value or (high.strict and content == high.value)):
            return False
        return all(is_multiple(content, step) for step in state.multiples)
    return True


def is_multiple(value: Any, step: Any) -> bool:
    """Exact on the decimals that JSON writes: 0.3 is a multiple of 0.1."""
    return (Fraction(str(value)) / Fraction(str(step))).denominator == 1


def _smaller(first: int | None, second: int | None) -> int | None:
    return first if second is None else second if first is None else min(first, second)


# -- scalars as llguidance takes them --


def scalar_schemas(state: State) -> list[dict[str, Any]]:
    """The scalars of a case, as schemas whose union they are."""
    if state.values is not None:
        return [{"enum": [value for _, value in state.values]}]
    found: list[dict[str, Any]] = []
    booleans = [v for v in (True, False) if ("boolean", v) not in state.excluded]
    if "boolean" in state.types:
        found.append({"type": "boolean"} if len(booleans) == 2 else {"enum": booleans})
    if "null" in state.types:
        found.append({"type": "null"})
    if "string" in state.types:
        found.append(string_schema(state))
    if "integer" in state.types:
        found += number_schemas(state)
    return found


def string_schema(state: State) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string"}
    if state.shortest:
        found["minLength"] = state.shortest
    if state.longest is not None:
        found["maxLength"] = state.longest
    held = [{keyword: text} for keyword, text in state.strings]
    if words := sorted(value for kind, value in state.excluded if kind == "string"):
        held.append({"pattern": other_than(words)})
    return _with_all(found, held)


def number_schemas(state: State) -> list[dict[str, Any]]:
    """The range of numbers of a case, split at those that are excluded."""
    kind = "number" if "fraction" in state.types else "integer"
    holes = sorted(value for found, value in state.excluded if found in NUMBERS)
    ends = [state.low, *(Bound(hole, True) for hole in holes)]
    starts = [*(Bound(hole, True) for hole in holes), state.high]
    found: list[dict[str, Any]] = []
    for low, high in zip(ends, starts, strict=True):
        if _no_number(low, high, kind):
            continue
        schema: dict[str, Any] = {"type": kind}
        if low:
            schema["exclusiveMinimum" if low.strict else "minimum"] = low.value
        if high:
            schema["exclusiveMaximum" if high.strict else "maximum"] = high.value
        found.append(_with_all(schema, [{"multipleOf": step} for step in state.multiples]))
    return found


def _with_all(schema: dict[str, Any], held: list[dict[str, Any]]) -> dict[str, Any]:
    return (
        {**schema, **held[0]} if len(held) == 1 else {**schema, "allOf": held} if held else schema
    )
