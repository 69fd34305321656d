"""The cases of a schema, written as the schema that llguidance compiles."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from livery.engines.schemas.cases import Cases
from livery.engines.schemas.document import Document
from livery.engines.schemas.faults import NoGrammar
from livery.engines.schemas.leaves import EMPTY, accepts, compact, fault, matches, other_than
from livery.engines.schemas.state import (
    SCALARS,
    Key,
    State,
    scalar_schemas,
    string_schema,
)

MOST_NODES = 20_000
MOST_CHARACTERS = 4_000_000
MOST_LISTS = 2_000  # of distinct items, written out

_MISSING = object()


class SchemaGrammar:
    """What a schema admits, for constrained decoding.

    Its documents are those that the schema validates, each written one way: compact, without an
    escape that JSON does not need, an object's names in the order in which the schema first names
    them and others behind. A `format` that llguidance knows is held to; any other says nothing.

    Attributes:
        text: the schema that llguidance compiles.
    """

    def __init__(self, schema: Any):
        """Raises:
        NoGrammar: no grammar admits exactly this schema's documents, or none does.
        UserError: it is not a JSON Schema.
        """
        self._cases = Cases(Document(schema))
        self._live: dict[Key, tuple[State, ...]] = {}
        self._find_live()
        if not self._live[self._cases.root]:
            raise NoGrammar("", "#", "no document satisfies it")
        self._names: dict[Key, str] = {}
        self._written: dict[str, Any] = {}
        root = self._node(self._cases.root)
        if isinstance(root, dict) and set(root) == {"$ref"}:
            name = root["$ref"].rpartition("/")[2]
            root = self._written[name]
        self.text = compact({**root, "$defs": self._written})
        if len(self.text) > MOST_CHARACTERS:
            raise NoGrammar("", "#", f"its cases take {len(self.text):,} characters")
        if wrong := fault(self.text):
            raise NoGrammar("", "#", f"cannot be compiled: {wrong}")

    def render(self, value: Any) -> str:
        """The document as the grammar writes it.

        Raises:
            ValueError: the schema does not admit it.
        """
        found = self._arranged(self._cases.root, value)
        if found is _MISSING:
            raise ValueError("the schema does not admit it")
        return compact(found)

    # -- which cases hold anything --

    def _find_live(self) -> None:
        """The cases that a finite document satisfies, of every value that can be reached."""
        cases, todo = self._cases, [self._cases.root]
        states: dict[Key, tuple[State, ...]] = {}
        while todo:
            key = todo.pop()
            if key in states:
                continue
            cases.spend()
            if len(states) >= MOST_NODES:
                raise NoGrammar("", "#", f"it has over {MOST_NODES:,} kinds of values")
            states[key] = cases.cases(key)
            for state in states[key]:
                todo += self._inner(state)
        live: set[State] = set()
        full: set[Key] = set()
        changed = True
        while changed:
            changed = False
            for key, found in states.items():
                for state in found:
                    if (state not in live or key not in full) and self._has_any(state, full):
                        live.add(state)
                        full.add(key)
                        changed = True
        for key, found in states.items():
            self._live[key] = tuple(state for state in found if state in live)

    def _inner(self, state: State) -> Iterator[Key]:
        """What is asked of the values inside."""
        cases = self._cases
        if "object" in state.types:
            for name in cases.known(state):
                yield cases.member(state, name)
            for pattern in cases.patterns(state):
                yield cases.fitting(state, pattern)
            yield cases.other(state)
        if "array" in state.types:
            for at in range(cases.prefix(state) + 1):
                yield cases.item(state, at)

    def _has_any(self, state: State, full: set[Key]) -> bool:
        cases = self._cases
        if state.types & SCALARS:
            return True
        if "object" in state.types:
            extra = [cases.other(state), *(cases.fitting(state, p) for p in cases.patterns(state))]
            count = sum(cases.member(state, name) in full for name in cases.known(state))
            enough = count >= state.fewest or any(key in full for key in extra)
            if enough and all(cases.member(state, name) in full for name in state.required):
                return True
        if "array" in state.types:
            return all(
                cases.item(state, at) in full
                for at in range(min(state.least, cases.prefix(state) + 1))
            )
        return False

    # -- writing --

    def _node(self, key: Key) -> Any:
        """The schema of a value: its cases' union, by name where it is more than scalars."""
        if key in self._names:
            return {"$ref": f"#/$defs/{self._names[key]}"}
        states = self._live[key]
        if not states:
            return False
        if any(state == State() for state in states):
            return {}
        simple = all(state.types <= SCALARS for state in states)
        if not simple:
            self._names[key] = f"n{len(self._names)}"
        options = list(_merged(s for state in states for s in self._schemas(state)))
        if not options:
            raise NoGrammar("", self._cases.path(key), "no document satisfies it")
        written = options[0] if len(options) == 1 else {"anyOf": options}
        if simple:
            return written
        self._written[self._names[key]] = written
        return {"$ref": f"#/$defs/{self._names[key]}"}

    def _schemas(self, state: State) -> Iterator[dict[str, Any]]:
        """The union of these is one case."""
        self._cases.spend()
        for problem in state.problems:
            if problem.types & state.types:
                raise NoGrammar(problem.keyword, problem.path, problem.reason)
        if "fraction" in state.types and "integer" not in state.types and state.values is None:
            raise NoGrammar("type", "#", "asks for numbers that are no integers")
        yield from self._scalars(state)
        if "array" in state.types:
            yield from self._array(state)
        if "object" in state.types:
            yield self._object(state)

    def _scalars(self, state: State) -> Iterator[dict[str, Any]]:
        where = self._cases.document.where
        for schema in scalar_schemas(state):
            wrong = fault(schema)
            if wrong and wrong != EMPTY:
                keyword = next((k for k in schema if k not in ("type", "enum", "allOf")), "enum")
                raise NoGrammar(keyword, where(keyword), f"cannot be compiled: {wrong}")
            for value in schema.get("enum", ()):
                if isinstance(value, int | float) and not accepts(schema, compact(value)):
                    raise NoGrammar("enum", where("enum"), f"holds {value}, which is out of range")
            if not wrong:
                yield schema

    def _array(self, state: State) -> Iterator[dict[str, Any]]:
        cases = self._cases
        most = cases.most_items(state, lambda key: not self._live[key])
        if most is not None and state.least > most:
            return
        if state.unique and (most is None or most > 1):
            yield self._distinct(state, most)
            return
        found: dict[str, Any] = {"type": "array"}
        count = cases.prefix(state) if most is None else min(cases.prefix(state), most)
        if count:
            found["prefixItems"] = [self._node(cases.item(state, at)) for at in range(count)]
        if most is not None and most <= count:
            found["items"] = False
        elif (rest := self._node(cases.item(state, cases.prefix(state)))) != {}:
            found["items"] = rest
        if state.least:
            found["minItems"] = state.least
        if most is not None and most > count:
            found["maxItems"] = most
        yield found

    def _distinct(self, state: State, most: int | None) -> dict[str, Any]:
        """Lists of distinct items written out, where these are few scalars."""
        cases = self._cases
        states = self._live[cases.item(state, cases.prefix(state))]
        values = [value for s in states for value in s.values or ()]
        few = not cases.prefix(state) and all(s.values is not None for s in states)
        distinct = list(dict.fromkeys(values))
        sizes = range(state.least, 1 + min(len(distinct), most or len(distinct)))
        chosen = itertools.chain.from_iterable(
            itertools.permutations(distinct, size) for size in sizes
        )
        lists = [[value for _, value in one] for one in itertools.islice(chosen, MOST_LISTS + 1)]
        if not few or len(lists) > MOST_LISTS:
            reason = "asks for distinct items, which a grammar cannot compare"
            raise NoGrammar("uniqueItems", state.unique, reason)
        if not lists:
            raise NoGrammar(
                "uniqueItems", state.unique, "asks for more items than there are values"
            )
        return {"enum": lists}

    def _object(self, state: State) -> dict[str, Any]:
        cases = self._cases
        known = cases.known(state)
        possible = [name for name in known if self._live[cases.member(state, name)]]
        found: dict[str, Any] = {"type": "object"}
        if possible:
            found["properties"] = {n: self._node(cases.member(state, n)) for n in possible}
        if state.required:
            found["required"] = [name for name in possible if name in state.required]
        found |= self._others(state, known)
        open_ = found.get("additionalProperties", True) is not False or "patternProperties" in found
        if state.fewest > len(state.required):
            found["minProperties"] = state.fewest
        if state.largest is not None and open_:
            found["maxProperties"] = state.largest
        return found

    def _others(self, state: State, known: list[str]) -> dict[str, Any]:
        """What an object may hold beside the names that are known.

        Those names are kept out by a pattern: llguidance's own way would admit one of them under
        another spelling, such as "\\u0061" for "a".
        """
        cases, where = self._cases, self._cases.document.where
        patterns = {p: cases.fitting(state, p) for p in cases.patterns(state)}
        other = cases.other(state)
        if patterns and len({*patterns.values(), other}) == 1:
            patterns = {}  # they all say the same
        live = {p: key for p, key in patterns.items() if self._live[key]}
        open_ = bool(self._live[other])
        free = cases.free_names(state) if state.names else []
        if not patterns and not open_:
            return {"additionalProperties": False}
        if free:
            if patterns or len(free) > 1:
                raise NoGrammar("propertyNames", where("propertyNames"), "beside other names")
            pattern = self._spelling(free[0], known)
            return {
                "patternProperties": {pattern: self._node(other)},
                "additionalProperties": False,
            }
        if not patterns:
            if not known:
                value = self._node(other)
                return {} if value == {} else {"additionalProperties": value}
            return {
                "patternProperties": {other_than(known): self._node(other)},
                "additionalProperties": False,
            }
        path = where("patternProperties")
        if open_:
            raise NoGrammar(
                "patternProperties", path, "leaves other names open, which no pattern describes"
            )
        for first, second in itertools.combinations(patterns, 2):
            both = {"type": "string", "allOf": [{"pattern": first}, {"pattern": second}]}
            if fault(both) != EMPTY:
                raise NoGrammar("patternProperties", path, "has patterns that fit the same name")
        if any(matches(p, name) for p in live for name in known):
            raise NoGrammar("patternProperties", path, "has a pattern that fits a listed name")
        return {
            "patternProperties": {p: self._node(key) for p, key in live.items()},
            "additionalProperties": False,
        }

    def _spelling(self, state: State, known: list[str]) -> str:
        """The one pattern of the names that are not listed."""
        where = self._cases.document.where("propertyNames")
        schema = string_schema(state)
        pattern = schema.get("pattern")
        if set(schema) <= {"type", "minLength", "maxLength"}:
            low, high = schema.get("minLength", 0), schema.get("maxLength", "")
            pattern = f"^(?s:.){{{low},{high}}}$"
        elif set(schema) != {"type", "pattern"}:
            raise NoGrammar("propertyNames", where, "asks more of names than one pattern")
        assert isinstance(pattern, str)
        if any(matches(pattern, name) for name in known):
            raise NoGrammar("propertyNames", where, "fits a listed name")
        return pattern

    # -- arranging --

    def _arranged(self, key: Key, value: Any) -> Any:
        """The value with its names in the grammar's order, by the first case that admits it."""
        for state in self._live.get(key, ()):
            found = self._by_case(state, value)
            if found is not _MISSING:
                return found
        return _MISSING

    def _by_case(self, state: State, value: Any) -> Any:
        cases = self._cases
        if isinstance(value, dict):
            if "object" not in state.types:
                return _MISSING
            if len(value) < state.fewest:
                return _MISSING
            if state.largest is not None and len(value) > state.largest:
                return _MISSING
            if any(name not in value for name in state.required):
                return _MISSING
            known = [name for name in cases.known(state) if name in value]
            found: dict[str, Any] = {}
            for name in [*known, *(name for name in value if name not in known)]:
                found[name] = self._arranged(cases.member(state, name), value[name])
                if found[name] is _MISSING:
                    return _MISSING
            return found
        if isinstance(value, list):
            if "array" not in state.types or len(value) < state.least:
                return _MISSING
            if state.most is not None and len(value) > state.most:
                return _MISSING
            items = [self._arranged(cases.item(state, at), item) for at, item in enumerate(value)]
            if any(item is _MISSING for item in items):
                return _MISSING
            if state.unique and len({compact(item) for item in items}) < len(items):
                return _MISSING
            return items
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = compact(value)
        fits = any(accepts(schema, text) for schema in scalar_schemas(state))
        return value if fits else _MISSING


def _merged(schemas: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Alternatives without those that are there twice; lists of values and bare types as one."""
    values: dict[str, Any] = {}
    types: list[str] = []
    rest: dict[str, dict[str, Any]] = {}
    for schema in schemas:
        if set(schema) == {"enum"}:
            values |= {compact(value): value for value in schema["enum"]}
        elif set(schema) == {"type"}:
            types.append(schema["type"])
        else:
            rest.setdefault(compact(schema), schema)
    if types:
        kinds = list(dict.fromkeys(types))
        yield {"type": kinds[0] if len(kinds) == 1 else kinds}
    if values:
        yield {"enum": list(values.values())}
    yield from rest.values()


@functools.lru_cache(maxsize=64)
def _of_text(text: str) -> SchemaGrammar | NoGrammar:
    schema = json.loads(text)
    try:
        json.dumps(schema, allow_nan=False)
    except ValueError:
        return NoGrammar("", "#", "holds a number that is out of range")
    try:
        return SchemaGrammar(schema)
    except NoGrammar as error:
        return error


def schema_grammar(schema: Any) -> SchemaGrammar:
    """The grammar of a JSON Schema, a value or its text; kept for the last 64.

    Raises:
        NoGrammar: there is none, with the keyword and its place.
        UserError: it is not a JSON Schema.
    """
    try:
        found = _of_text(schema if isinstance(schema, str) else json.dumps(schema))
    except RecursionError:
        raise NoGrammar("", "#", "is nested too deeply") from None
    if isinstance(found, NoGrammar):
        raise found
    return found
