"""Schemas: a base schema filled with a domain's fields and operators, and what one allows.

    schema = build_schema(spec, operators)          # draft-07, of the described system's form
    words = vocabulary(schema)                      # fields, their values, operators
    find_faults(ast, schema)                        # [Fault("bad_enum", "steps/0/...", "...")]

A spec is a row of `d_01`: {schema_id, domain, description, fields: [{const, description, type?,
enum?: [{const, description}]}], groups?}. Operators are [{const, canonical, description}].
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.errors import UserError
from livery.json_schema import find_errors, offline
from livery.reading import read_object
from livery.skills.dsl.ast import GROUPS
from livery.skills.dsl.prompt import is_date

Json = dict[str, Any]

TEMPLATE = Path(__file__).with_name("base_schema_template.json")

# Values are texts always; these are the forms of a field's, beside a closed set of them.
PATTERNS = {
    "number": "^-?[0-9]+([.][0-9]+)?$",
    "date": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
}


@dataclass(frozen=True)
class Fault:
    """What is wrong with an AST.

    Attributes:
        kind: one of KINDS, the name that a negative with this fault carries as `error_type`.
        where: path to it, "steps/0/conditions/1/value".
        message: for people.
    """

    kind: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.message} @ {self.where or '<root>'}"


# Faults that a schema finds, in the order in which one is told before another.
KINDS = (
    "wrong_type",
    "drop_timeframe",
    "missing_description",
    "missing_key",
    "extra_property",
    "empty_conditions",
    "unknown_field",
    "wrong_operator",
    "bad_enum",
    "bad_value",
    "bad_timeframe",
    "refusal_and_steps",
    "other",
)


@dataclass(frozen=True)
class Vocabulary:
    """What a schema lets an AST say.

    Attributes:
        fields: field -> its values, () where they are free.
        operators: as an AST writes them.
        groups: whether conditions may stand in groups.
    """

    fields: Mapping[str, tuple[str, ...]]
    operators: tuple[str, ...]
    groups: bool


@functools.cache
def _template() -> str:
    return json.dumps(read_object(TEMPLATE))


def build_schema(
    spec: Mapping[str, Any],
    operators: Sequence[Mapping[str, str]],
    template: Mapping[str, Any] | None = None,
) -> Json:
    """The JSON Schema of a domain.

    Args:
        spec: a row of `d_01`; its `groups` lets conditions stand in groups {"any": [...]}.
        operators: {const, description} of each that the schema has.
        template: the base schema; None takes Livery's.

    Raises:
        UserError: the template lacks the place of conditions, or there are no fields or operators.
    """
    if not spec.get("fields") or not operators:
        raise UserError(f"The schema {spec.get('schema_id')} needs fields and operators.")
    schema: Json = json.loads(_template()) if template is None else copy.deepcopy(dict(template))
    schema["$id"] = spec["schema_id"]
    schema["title"] = str(spec.get("title") or f"{spec.get('domain', spec['schema_id'])} query")
    if spec.get("description"):
        schema["description"] = spec["description"]
    try:
        place = schema["properties"]["steps"]["items"]["properties"]["conditions"]
        condition = place["items"]
        properties = condition["properties"]
    except (KeyError, TypeError):
        raise UserError(
            "The base schema has no properties/steps/items/properties/conditions/items/properties, "
            "where fields and operators are put."
        ) from None
    properties["field"] = {"type": "string", "oneOf": [_const(f) for f in spec["fields"]]}
    properties["operator"] = {"type": "string", "oneOf": [_const(o) for o in operators]}
    if rules := _rules(spec["fields"]):
        condition["allOf"] = rules
    if spec.get("groups"):
        schema["definitions"] = {"condition": condition}
        one = {"$ref": "#/definitions/condition"}
        group = {
            "type": "object",
            "description": "One of these conditions must hold.",
            "properties": {"any": {"type": "array", "minItems": 2, "items": one}},
            "required": ["any"],
            "additionalProperties": False,
        }
        place["items"] = {"anyOf": [one, group]}
    return schema


def _const(entry: Mapping[str, Any]) -> Json:
    described = entry.get("description")
    return {"const": entry["const"], **({"description": described} if described else {})}


def _rules(fields: Sequence[Mapping[str, Any]]) -> list[Json]:
    """What values may be, once for all fields that have the same; none where they are free."""
    of: dict[str, list[str]] = {}
    for field in fields:
        if field.get("enum"):
            then = _values([_const(value) for value in field["enum"]])
        elif field.get("type") in PATTERNS:
            then = {"pattern": PATTERNS[field["type"]]}
        else:
            continue
        of.setdefault(json.dumps(then), []).append(field["const"])
    return [
        {
            "if": {"properties": {"field": _one_of(names)}, "required": ["field"]},
            "then": {"properties": {"value": json.loads(then)}},
        }
        for then, names in of.items()
    ]


def _one_of(names: Sequence[str]) -> Json:
    return {"const": names[0]} if len(names) == 1 else {"enum": list(names)}


def _values(entries: list[Json]) -> Json:
    """A closed set of values; each by itself only where one of them is described."""
    if any("description" in entry for entry in entries):
        return {"oneOf": entries}
    return {"enum": [entry["const"] for entry in entries]}


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises UserError where a schema is no JSON Schema of draft-07."""
    _validator(json.dumps(schema))


# -- what a schema allows --------------------------------------------------------------------------


def vocabulary(schema: Mapping[str, Any]) -> Vocabulary:
    """The fields, values and operators of a schema of the base form; empty for any other."""
    condition = _condition_of(schema)
    properties = condition.get("properties") if isinstance(condition, Mapping) else None
    if not isinstance(properties, Mapping):
        return Vocabulary({}, (), groups=False)
    fields: dict[str, tuple[str, ...]] = dict.fromkeys(_consts(properties.get("field")), ())
    rules = condition.get("allOf")
    for rule in rules if isinstance(rules, list) else ():
        try:
            when, value = rule["if"]["properties"]["field"], rule["then"]["properties"]["value"]
        except (KeyError, TypeError):
            continue
        names = [str(when["const"])] if "const" in _mapping(when) else _consts(when)
        fields.update(dict.fromkeys(names, _consts(value)))
    groups = "condition" in _mapping(schema.get("definitions"))
    return Vocabulary(fields, _consts(properties.get("operator")), groups)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _condition_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    defined = _mapping(schema.get("definitions")).get("condition")
    if isinstance(defined, Mapping):
        return defined
    node: Any = schema
    for key in ("properties", "steps", "items", "properties", "conditions", "items"):
        node = _mapping(node).get(key)
    return _mapping(node)


def _consts(node: Any) -> tuple[str, ...]:
    """The values of an enum, or of a oneOf of constants."""
    node = _mapping(node)
    listed = node.get("enum")
    if isinstance(listed, list):
        return tuple(map(str, listed))
    options = node.get("oneOf") or node.get("anyOf")
    found = options if isinstance(options, list) else ()
    return tuple(str(option["const"]) for option in found if "const" in _mapping(option))


# -- faults ----------------------------------------------------------------------------------------


def find_faults(ast: Any, schema: Mapping[str, Any]) -> list[Fault]:
    """What is wrong with an AST under its schema, the most telling first; [] where it is valid.

    A timeframe that ends before it begins, or names a day that there is not, is a fault too, which
    no JSON Schema can say.

    Raises:
        UserError: the schema is none of draft-07, or refers to what it does not hold.
    """
    errors = find_errors(_validator(json.dumps(schema)), ast)
    found = [_fault(error) for error in _leaves(errors)]
    if not found:
        found = _timeframe_faults(ast)
    return sorted(dict.fromkeys(found), key=lambda fault: KINDS.index(fault.kind))


@functools.lru_cache(maxsize=256)
def _validator(text: str) -> Any:
    import jsonschema

    schema = json.loads(text)
    try:
        jsonschema.Draft7Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        place = "/".join(map(str, error.absolute_path))
        raise UserError(
            f"No JSON Schema of draft-07: {error.message[:200]} at {place or 'its top'}."
        ) from None
    return offline(jsonschema.Draft7Validator, schema)


def _leaves(errors: Iterator[Any]) -> Iterator[Any]:
    """The errors themselves, in place of "is not valid under any of the given schemas"."""
    for error in errors:
        in_condition = "conditions" in error.absolute_path and error.validator == "anyOf"
        if not in_condition or not error.context:
            yield error
            continue
        # Of a condition or a group: the branch whose form the node has.
        group = isinstance(error.instance, Mapping) and set(GROUPS) & set(error.instance)
        branch = 1 if group else 0
        own = [e for e in error.context if e.relative_schema_path[0] == branch]
        yield from _leaves(iter(own or error.context))


def _fault(error: Any) -> Fault:
    path = [str(part) for part in error.absolute_path]
    return Fault(_kind(error, path), "/".join(path), error.message[:300])


def _kind(error: Any, path: Sequence[str]) -> str:
    rule, last = error.validator, path[-1] if path else ""
    if rule == "type":
        return "wrong_type"
    if rule == "additionalProperties":
        return "extra_property"
    if rule == "required":
        lacking = next((k for k in error.validator_value if k not in error.instance), "")
        return "missing_description" if lacking == "description" else "missing_key"
    if rule in ("minItems", "minLength"):
        return "empty_conditions" if last == "conditions" else "missing_key"
    if rule in ("oneOf", "anyOf", "not", "enum", "const") and not path:
        node = _mapping(error.instance)
        if "refusal" in node and ("steps" in node or "timeframe" in node):
            return "refusal_and_steps"
        return "drop_timeframe" if "steps" in node else "missing_key"
    if rule in ("oneOf", "anyOf", "enum", "const"):
        kinds = {"field": "unknown_field", "operator": "wrong_operator", "value": "bad_enum"}
        return kinds.get(last, "other")
    if rule in ("pattern", "format"):
        return "bad_timeframe" if "timeframe" in path else "bad_value"
    return "other"


def _timeframe_faults(ast: Any) -> list[Fault]:
    frame = _mapping(_mapping(ast).get("timeframe"))
    days = {side: frame[side] for side in ("start", "end") if frame.get(side)}
    for side, day in days.items():
        if not is_date(day):
            return [Fault("bad_timeframe", f"timeframe/{side}", f"{day!r} is no day")]
    if len(days) == 2 and days["end"] < days["start"]:
        return [Fault("bad_timeframe", "timeframe", "ends before it begins")]
    return []
