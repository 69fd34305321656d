"""What each keyword of a schema says where the schema holds, and where it must not.

`holds` gives facts and choices; `fails` one choice, since a schema fails where one keyword does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from livery.engines.schemas.document import Document, Subschema
from livery.engines.schemas.faults import NoGrammar
from livery.engines.schemas.leaves import EMPTY, Scalar, fault, knows_format, scalar
from livery.engines.schemas.state import (
    NUMBERS,
    TYPES,
    ArrayFacet,
    Contains,
    Fact,
    Literal,
    ObjectFacet,
    Problem,
    Some,
    above,
    adding,
    below,
    between,
    none_of,
    nothing,
    of_types,
    one_of,
)


class Cases(Protocol):
    """What a keyword asks of the cases that are being worked out."""

    document: Document

    def spend(self, steps: int = 1) -> None: ...

    def disjoint(self, first: Literal, second: Literal) -> bool: ...

    def under(self, name: str, literals: tuple[Literal, ...]) -> Fact: ...


Option = Sequence[Literal | Fact]
Found = tuple[list[Literal | Fact], list[Sequence[Option]]]

_RECORD, _LIST, _TEXT = frozenset({"object"}), frozenset({"array"}), frozenset({"string"})
_OBJECT = of_types(_RECORD)
_ARRAY = of_types(_LIST)
_STRING = of_types(_TEXT)
_NUMBER = of_types(NUMBERS)

# Read together with another keyword, or saying nothing of documents.
_BESIDE = {"then", "else", "minContains", "maxContains", "additionalItems"}
_OBJECTS = ("properties", "patternProperties", "additionalProperties")


def holds(cases: Cases, outer: Subschema) -> Found:
    """(facts, choices) of a schema that holds.

    Raises:
        NoGrammar: a keyword that has none.
    """
    facts: list[Literal | Fact] = []
    branches: list[Sequence[Option]] = []
    for keyword, value in _asserted(cases, outer):
        say = _HOLDS.get(keyword)
        if say is None:
            facts.append(_problem(outer, keyword, TYPES, "is not supported"))
            continue
        more, choices = say(cases, outer, keyword, value)
        facts += more
        branches += choices
    return facts, branches


def fails(cases: Cases, outer: Subschema) -> Found:
    """(facts, choices) of a schema that must not hold: one of its keywords fails."""
    options: list[Option] = []
    for keyword, value in _asserted(cases, outer):
        deny = _FAILS.get(keyword)
        if deny is None:
            options.append([_problem(outer, keyword, TYPES, "is not supported")])
        else:
            options += deny(cases, outer, keyword, value)
    if not options:
        return [nothing], []
    return (list(options[0]), []) if len(options) == 1 else ([], [options])


def _asserted(cases: Cases, outer: Subschema) -> list[tuple[str, Any]]:
    schema, document = outer.schema, cases.document
    if schema is False:
        return [("false", None)]
    if isinstance(schema.get("$ref"), str) and not document.siblings:
        return [("$ref", schema["$ref"])]
    known = document.keywords
    found = [
        (k, v) for k, v in schema.items() if k in known and k not in _BESIDE and k not in _OBJECTS
    ]
    if any(k in schema for k in _OBJECTS):
        found.insert(0, ("properties", None))
    return found


def _problem(outer: Subschema, keyword: str, types: frozenset[str], reason: str) -> Fact:
    return adding("problems", Problem(types, keyword, outer.path, reason))


# -- keywords of every type --


def _false(*_: Any) -> Found:
    return [nothing], []


def _ref(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    return [*cases.document.literal(_target(cases, outer))], []


def _not_ref(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    return [cases.document.literal(_target(cases, outer), False)]


def _target(cases: Cases, outer: Subschema) -> Subschema:
    found = cases.document.target(outer)
    if cases.document.goes_in_circles(found, outer):
        raise NoGrammar("$ref", outer.path, "refers to itself, with nothing in between")
    return found


def _types(value: Any) -> frozenset[str]:
    names = [value] if isinstance(value, str) else value
    return frozenset(n for name in names for n in (NUMBERS if name == "number" else {name}))


def _type(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    return [of_types(_types(value))], []


def _not_type(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    return [[of_types(TYPES - _types(value))]]


def _values(keyword: str, value: Any) -> tuple[list[Scalar], list[Any]]:
    """(scalars, lists and objects) of an enum or const."""
    listed = value if keyword == "enum" else [value]
    found = [(scalar(one), one) for one in listed]
    return [s for s, _ in found if s], [one for s, one in found if not s]


def _enum(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    cases.document.note("enum", outer.path)
    simple, structured = _values(keyword, value)
    options: list[Option] = [[one_of(simple)]] if simple else []
    options += [cases.document.constant(one) for one in structured]
    return ([*options[0]], []) if len(options) == 1 else ([], [options])


def _not_enum(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    simple, structured = _values(keyword, value)
    facts: list[Literal | Fact] = [none_of(simple)]
    for one in structured:
        facts += [(number, not says) for number, says in cases.document.constant(one)]
    return [facts]


def _each(
    cases: Cases, outer: Subschema, keyword: str, says: bool = True
) -> list[tuple[Literal, ...]]:
    count = len(outer.schema[keyword])
    inside = [cases.document.inside(outer, keyword, n) for n in range(count)]
    return [cases.document.literal(one, says) for one in inside]


def _all_of(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    return [literal for literals in _each(cases, outer, keyword) for literal in literals], []


def _not_all_of(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    return [*_each(cases, outer, keyword, False)]


def _listed(cases: Cases, outer: Subschema, keyword: str) -> list[Scalar] | None:
    """The values of options that are constants, which many schemas write for an enum with
    descriptions; of oneOf those that one option has. None where an option says anything else."""
    found: list[Scalar] = []
    for n in range(len(outer.schema[keyword])):
        option = cases.document.inside(outer, keyword, n)
        said = _asserted(cases, option) if isinstance(option.schema, dict) else []
        one = scalar(said[0][1]) if [key for key, _ in said] == ["const"] else None
        if one is None:
            return None
        found.append(one)
    return [one for one, times in Counter(found).items() if times == 1 or keyword == "anyOf"]


def _any_of(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    if (values := _listed(cases, outer, keyword)) is not None:
        return [one_of(values)], []
    options = _each(cases, outer, keyword)
    return [], [] if any(not option for option in options) else [options]


def _not_any_of(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    return [[x for literals in _each(cases, outer, keyword, False) for x in literals]]


def _one_of(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    """Where two of the options exclude each other, neither needs to be denied beside the other."""
    if (values := _listed(cases, outer, keyword)) is not None:
        return [one_of(values)], []
    yes, no = _each(cases, outer, keyword), _each(cases, outer, keyword, False)
    options: list[Option] = []
    for at, chosen in enumerate(yes):
        facts = [*chosen]
        for n, other in enumerate(yes):
            cases.spend()
            apart = chosen and other and cases.disjoint(chosen[0], other[0])
            if n != at and not apart:
                facts += no[n]
        options.append(facts)
    return [], [options]


def _not_one_of(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    if (values := _listed(cases, outer, keyword)) is not None:
        return [[none_of(values)]]
    yes, no = _each(cases, outer, keyword), _each(cases, outer, keyword, False)
    options: list[Option] = [[x for literals in no for x in literals]]
    for at, first in enumerate(yes):
        for second in yes[at + 1 :]:
            cases.spend()
            options.append([*first, *second])
    return options


def _not(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    return [*cases.document.literal(cases.document.inside(outer, "not"), False)], []


def _not_not(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    return [cases.document.literal(cases.document.inside(outer, "not"))]


def _sides(cases: Cases, outer: Subschema, says: bool) -> list[Option]:
    """The two ways through an if, with `then` and `else` as `says` has them."""
    document, options = cases.document, list[Option]()
    for keyword, condition in (("then", True), ("else", False)):
        side = document.literal(document.inside(outer, "if"), condition)
        if keyword in outer.schema:
            side = (*side, *document.literal(document.inside(outer, keyword), says))
        elif not says:
            continue
        options.append(side)
    return options


def _if(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    if "then" not in outer.schema and "else" not in outer.schema:
        return [], []
    return [], [_sides(cases, outer, True)]


def _not_if(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    return _sides(cases, outer, False)


# -- numbers and strings --


def _range(
    cases: Cases, outer: Subschema, keyword: str, value: Any, deny: bool = False
) -> list[Fact]:
    cases.document.note(keyword, outer.path)
    schema = outer.schema
    if isinstance(value, bool):  # draft 4: the limit is under the other keyword
        return []
    strict = keyword.startswith("exclusive") or schema.get(f"exclusive{keyword.title()}") is True
    low = keyword.lower().endswith("minimum")
    if deny:
        return [below(value, not strict) if low else above(value, not strict)]
    return [above(value, strict) if low else below(value, strict)]


def _limit(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    return [*_range(cases, outer, keyword, value)], []


def _not_limit(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    denied = _range(cases, outer, keyword, value, deny=True)
    return [[_NUMBER, *denied]] if denied else []


def _multiple(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    cases.document.note(keyword, outer.path)
    return [adding("multiples", value)], []


def _undeniable(types: frozenset[str], outer: Subschema, keyword: str) -> list[Option]:
    """A keyword whose contrary no grammar says."""
    problem = _problem(outer, keyword, types, "has no contrary as a grammar")
    return [[of_types(types), problem]]


def _not_multiple(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    return _undeniable(NUMBERS, outer, keyword)


def _pattern(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    cases.document.note(keyword, outer.path)
    wrong = fault({"type": "string", "pattern": value})
    if wrong == EMPTY:
        return [of_types(TYPES - _TEXT)], []
    if wrong:
        return [_problem(outer, keyword, _TEXT, f"is a pattern that fails: {wrong}")], []
    return [adding("strings", ("pattern", value))], []


def _not_pattern(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    return _undeniable(_TEXT, outer, keyword)


def _format(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    return [adding("strings", ("format", value))] if knows_format(value) else [], []


def _not_format(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    if not knows_format(value):
        return []
    return _undeniable(_TEXT, outer, keyword)


# -- counts --

_COUNTS = {
    "minLength": ("shortest", "longest", _STRING),
    "maxLength": ("shortest", "longest", _STRING),
    "minItems": ("least", "most", _ARRAY),
    "maxItems": ("least", "most", _ARRAY),
    "minProperties": ("fewest", "largest", _OBJECT),
    "maxProperties": ("fewest", "largest", _OBJECT),
}


def _count(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    cases.document.note(keyword, outer.path)
    first, last, _ = _COUNTS[keyword]
    low = keyword.startswith("min")
    return [between(first, last, int(value)) if low else between(first, last, 0, int(value))], []


def _not_count(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    first, last, kind = _COUNTS[keyword]
    if keyword.startswith("max"):
        return [[kind, between(first, last, int(value) + 1)]]
    return [[kind, between(first, last, 0, int(value) - 1)]] if value else []


# -- arrays --


def _lists(outer: Subschema) -> tuple[str, str]:
    """The keywords of the first items and of all others."""
    if isinstance(outer.schema.get("items"), list):
        return "items", "additionalItems"
    return "prefixItems", "items"


def _items(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    document, (first, other) = cases.document, _lists(outer)
    if keyword == "prefixItems" and "items" in outer.schema:
        return [], []  # said under items
    prefix = _each(cases, outer, first) if _counts(cases, outer, first) else []
    rest: tuple[Literal, ...] = ()
    if _counts(cases, outer, other):
        rest = document.literal(document.inside(outer, other))
    return [adding("items", ArrayFacet(tuple(prefix), rest))], []


def _counts(cases: Cases, outer: Subschema, keyword: str) -> bool:
    return keyword in outer.schema and keyword in cases.document.keywords


def _not_items(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    document, (first, other) = cases.document, _lists(outer)
    if keyword == "prefixItems" and "items" in outer.schema:
        return []
    denied = _each(cases, outer, first, False) if _counts(cases, outer, first) else []
    options: list[Option] = []
    for at, literals in enumerate(denied):
        facet = ArrayFacet((*(((),) * at), literals))
        options.append([_ARRAY, between("least", "most", at + 1), adding("items", facet)])
    if _counts(cases, outer, other):
        literals = document.literal(document.inside(outer, other), False)
        # As though the first items were not there: one of the others is refused.
        beyond = Contains(literals[0] if literals else None, 1, None, outer.path, len(denied))
        options.append([_ARRAY, adding("contains", beyond)])
    return options


def _contains(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    document = cases.document
    inside = document.literal(document.inside(outer, "contains"))
    known = document.keywords
    least = int(outer.schema.get("minContains", 1)) if "minContains" in known else 1
    most = outer.schema.get("maxContains") if "maxContains" in known else None
    most = None if most is None else int(most)
    if least == 0 and most is None:
        return [], []
    if most is not None and least > most:
        return [of_types(TYPES - _LIST)], []
    return [
        adding("contains", Contains(inside[0] if inside else None, least, most, outer.path))
    ], []


def _not_contains(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    document, schema = cases.document, outer.schema
    if ("minContains" in schema or "maxContains" in schema) and "minContains" in document.keywords:
        return _undeniable(_LIST, outer, keyword)
    refused = document.literal(document.inside(outer, "contains"), False)
    return [[_ARRAY, adding("items", ArrayFacet(rest=refused))]]


def _unique(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    return [lambda state: replace(state, unique=outer.path)] if value else [], []


def _not_unique(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    if not value:
        return []
    return _undeniable(_LIST, outer, keyword)


# -- objects --


def _members(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    document = cases.document
    facts: list[Literal | Fact] = []
    if not any(key in outer.schema for key in _OBJECTS[1:]):
        names = outer.schema["properties"]
        inside = {name: document.inside(outer, "properties", name) for name in names}
        return [cases.under(n, document.literal(one)) for n, one in inside.items()], []
    if "patternProperties" in outer.schema:
        document.note("patternProperties", outer.path)
    parts: list[list[tuple[str, tuple[Literal, ...]]]] = []
    for key in ("properties", "patternProperties"):
        names = outer.schema.get(key, {})
        parts.append([(n, document.literal(document.inside(outer, key, n))) for n in names])
    patterns: list[tuple[str, tuple[Literal, ...]]] = []
    for pattern, literals in parts[1]:
        wrong = fault({"type": "string", "pattern": pattern})
        if wrong and wrong != EMPTY:
            reason = f"has a pattern that fails: {wrong}"
            facts.append(_problem(outer, "patternProperties", _RECORD, reason))
        elif not wrong:
            patterns.append((pattern, literals))
    rest: tuple[Literal, ...] = ()
    if "additionalProperties" in outer.schema:
        rest = document.literal(document.inside(outer, "additionalProperties"))
    return [*facts, adding("members", ObjectFacet(tuple(parts[0]), tuple(patterns), rest))], []


def _not_members(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    document, schema = cases.document, outer.schema
    options: list[Option] = []
    for name in schema.get("properties", {}):
        literals = document.literal(document.inside(outer, "properties", name), False)
        options.append([_OBJECT, cases.under(name, literals), adding("required", name)])
    patterns = tuple(schema.get("patternProperties", {}))
    for pattern in patterns:
        if fault({"type": "string", "pattern": pattern}):
            return _undeniable(_RECORD, outer, "patternProperties")
        literals = document.literal(document.inside(outer, "patternProperties", pattern), False)
        some = Some("patternProperties", outer.path, literals, inside=pattern)
        options.append([_OBJECT, adding("some", some)])
    if "additionalProperties" in schema:
        literals = document.literal(document.inside(outer, "additionalProperties"), False)
        known = frozenset(schema.get("properties", {}))
        some = Some("additionalProperties", outer.path, literals, known, patterns)
        options.append([_OBJECT, adding("some", some)])
    return [option for option in options if option]


def _required(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    return [adding("required", *value)] if isinstance(value, list) else [], []


def _absent(cases: Cases, name: str) -> Fact:
    return adding("members", ObjectFacet(names=((name, (cases.document.false,)),)))


def _not_required(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    return [[_OBJECT, _absent(cases, name)] for name in value] if isinstance(value, list) else []


def _needs(
    cases: Cases, outer: Subschema, keyword: str, name: str
) -> tuple[list[Literal | Fact], list[Option]]:
    """What a name brings with it, and the ways in which that fails."""
    value = outer.schema[keyword][name]
    value = [value] if isinstance(value, str) else value  # draft 3
    if isinstance(value, list):
        return [adding("required", *value)], [[_absent(cases, other)] for other in value]
    inside = cases.document.inside(outer, keyword, name)
    return [*cases.document.literal(inside)], [cases.document.literal(inside, False)]


def _dependencies(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    branches: list[Sequence[Option]] = []
    for name in value:
        brought, _ = _needs(cases, outer, keyword, name)
        others = of_types(TYPES - _RECORD)
        there = [_OBJECT, adding("required", name), *brought]
        branches.append([[_OBJECT, _absent(cases, name)], there, [others]])
    return [], branches


def _not_dependencies(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    options: list[Option] = []
    for name in value:
        _, failing = _needs(cases, outer, keyword, name)
        options += [[_OBJECT, adding("required", name), *option] for option in failing]
    return options


def _names(cases: Cases, outer: Subschema, keyword: str, value: Any) -> Found:
    document = cases.document
    document.note(keyword, outer.path)
    return [adding("names", *document.literal(document.inside(outer, keyword)))], []


def _not_names(cases: Cases, outer: Subschema, keyword: str, value: Any) -> list[Option]:
    named = cases.document.literal(cases.document.inside(outer, keyword))
    if not named:
        return []
    return [[_OBJECT, adding("some", Some(keyword, outer.path, named=named[0]))]]


_HOLDS: dict[str, Any] = {
    "false": _false, "$ref": _ref, "type": _type, "enum": _enum, "const": _enum,
    "allOf": _all_of, "anyOf": _any_of, "oneOf": _one_of, "not": _not, "if": _if,
    "minimum": _limit, "maximum": _limit, "exclusiveMinimum": _limit, "exclusiveMaximum": _limit,
    "multipleOf": _multiple, "pattern": _pattern, "format": _format,
    **dict.fromkeys(_COUNTS, _count),
    "items": _items, "prefixItems": _items, "contains": _contains, "uniqueItems": _unique,
    "properties": _members, "required": _required, "propertyNames": _names,
    "dependencies": _dependencies, "dependentRequired": _dependencies,
    "dependentSchemas": _dependencies,
}  # fmt: skip

_FAILS: dict[str, Any] = {
    "false": lambda *_: [()], "$ref": _not_ref, "type": _not_type, "enum": _not_enum,
    "const": _not_enum, "allOf": _not_all_of, "anyOf": _not_any_of, "oneOf": _not_one_of,
    "not": _not_not, "if": _not_if, "minimum": _not_limit, "maximum": _not_limit,
    "exclusiveMinimum": _not_limit, "exclusiveMaximum": _not_limit,
    "multipleOf": _not_multiple, "pattern": _not_pattern, "format": _not_format,
    **dict.fromkeys(_COUNTS, _not_count),
    "items": _not_items, "prefixItems": _not_items, "contains": _not_contains,
    "uniqueItems": _not_unique, "properties": _not_members, "required": _not_required,
    "propertyNames": _not_names, "dependencies": _not_dependencies,
    "dependentRequired": _not_dependencies, "dependentSchemas": _not_dependencies,
}  # fmt: skip
