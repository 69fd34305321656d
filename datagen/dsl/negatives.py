"""Wrong ASTs: right ones with one thing changed, which they name.

    negative(ast, schema, "wrong_operator", rng)      # Negative, or None where there is none

They are never trained on as answers: they are the rejected side of preference pairs, and tests of
what a validator and a scorer find.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from livery.skills import dsl
from livery.skills.dsl import Vocabulary

Json = dict[str, Any]
_Change = Callable[[Json, Vocabulary, random.Random], bool]

# Names of operators that people take for a schema's.
_FOREIGN = ("equals", "not_equals", "contains", "starts_with", "gt", "gte", "lt", "lte", "between",
            "regex", "in", "like")  # fmt: skip


@dataclass(frozen=True)
class Negative:
    """A wrong AST, and what is wrong with it, in one line for people."""

    ast: Json
    fault: str


def negative(
    ast: Mapping[str, Any], schema: Mapping[str, Any], kind: str, rng: random.Random
) -> Negative | None:
    """A copy of an AST with one fault of a kind; None where it has no place for one.

    A kind of SCHEMA_KINDS is invalid under the schema by that fault first; one of MEANING_KINDS is
    another meaning.
    """
    changed = copy.deepcopy(dict(ast))
    if not _CHANGES[kind](changed, dsl.vocabulary(schema), rng):
        return None
    faults = dsl.find_faults(changed, schema)
    if kind in SCHEMA_KINDS:
        fits = bool(faults) and faults[0].kind == kind
    else:
        fits = not dsl.same_meaning(changed, ast)
    said = str(faults[0]) if faults else "valid, but it means something else than the query"
    return Negative(changed, said) if fits else None


def _step(ast: Json, rng: random.Random) -> Json | None:
    return rng.choice(ast["steps"]) if ast.get("steps") else None


def _condition(ast: Json, rng: random.Random) -> Json | None:
    found = dsl.conditions(ast)
    return rng.choice(found) if found else None


def _drop_timeframe(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    return ast.pop("timeframe", None) is not None


def _empty_conditions(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    if step := _step(ast, rng):
        step["conditions"] = []
    return step is not None


def _extra_property(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    places = [ast, *ast.get("steps", ()), *dsl.conditions(ast)]
    rng.choice(places)[rng.choice(("limit", "comment", "type", "sort"))] = "10"
    return True


def _bad_enum(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    closed = [c for c in dsl.conditions(ast) if words.fields.get(c["field"])]
    if not closed:
        return False
    condition = rng.choice(closed)
    value = condition["value"]
    tried = (value.swapcase(), f"{value}s", value.capitalize(), f"not_{value}")
    condition["value"] = rng.choice(
        [other for other in tried if other not in words.fields[condition["field"]]]
    )
    return True


def _unknown_field(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    if condition := _condition(ast, rng):
        name = condition["field"]
        tried = (name.rsplit(".", 1)[-1], name.upper(), f"{name}_id", f"{name}s", f"x.{name}")
        condition["field"] = rng.choice([n for n in tried if n not in words.fields])
    return condition is not None


def _wrong_operator(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    if condition := _condition(ast, rng):
        foreign = [name for name in _FOREIGN if name not in words.operators]
        condition["operator"] = rng.choice(foreign)
    return condition is not None


def _missing_description(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    step = _step(ast, rng)
    return step is not None and step.pop("description", None) is not None


def _missing_key(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    if "refusal" in ast:
        place, keys = ast["refusal"], ("reason", "suggestion")
    elif rng.random() < 0.3:
        place, keys = _step(ast, rng), ("name", "conditions")
    else:
        place, keys = _condition(ast, rng), ("field", "operator", "value")
    return place is not None and place.pop(rng.choice(keys), None) is not None


def _wrong_type(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    if "refusal" in ast:
        ast["refusal"] = ast["refusal"]["reason"]
        return True
    condition = _condition(ast, rng)
    if condition is None:
        return False
    value = condition["value"]
    numeric = value.replace(".", "", 1).isdigit()
    condition["value"] = rng.choice([[value], float(value) if numeric else None])
    return True


def _swapped_values(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    found = dsl.conditions(ast)
    pairs = [
        (one, other)
        for at, one in enumerate(found)
        for other in found[at + 1 :]
        if one["value"] != other["value"]
    ]
    if not pairs:
        return False
    one, other = rng.choice(pairs)
    one["value"], other["value"] = other["value"], one["value"]
    return True


def _wrong_timeframe(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    frame = ast.get("timeframe")
    if frame is None:
        return False
    sides = [side for side in ("start", "end") if frame[side]]
    if not sides:
        frame["start"] = date(rng.randrange(2023, 2028), rng.randrange(1, 13), 1).isoformat()
        return True
    days = rng.choice((-365, -31, -30, -7, -1, 1, 7, 30, 31, 365))
    for side in sides if rng.random() < 0.7 else sides[:1]:
        frame[side] = (date.fromisoformat(frame[side]) + timedelta(days=days)).isoformat()
    return not (len(sides) == 2 and frame["end"] < frame["start"])


def _needless_refusal(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    if "refusal" in ast:
        return False
    del ast["steps"], ast["timeframe"]
    listed = ", ".join(words.fields)
    ast["refusal"] = {"reason": "This is no query.", "suggestion": f"Fields: {listed}."}
    return True


def _missing_refusal(ast: Json, words: Vocabulary, rng: random.Random) -> bool:
    if ast.pop("refusal", None) is None or not words.fields or not words.operators:
        return False
    field = rng.choice([*words.fields])
    values = words.fields[field] or ("1",)
    condition = {"field": field, "operator": words.operators[0], "value": rng.choice(values)}
    ast["steps"] = dsl.make_steps([[condition]])
    ast["timeframe"] = {"start": "", "end": ""}
    return True


SCHEMA_KINDS = (
    "drop_timeframe", "empty_conditions", "extra_property", "bad_enum", "unknown_field",
    "wrong_operator", "missing_description", "missing_key", "wrong_type",
)  # fmt: skip
MEANING_KINDS = ("swapped_values", "wrong_timeframe", "needless_refusal", "missing_refusal")
KINDS = (*SCHEMA_KINDS, *MEANING_KINDS)
_CHANGES: Mapping[str, _Change] = {
    "drop_timeframe": _drop_timeframe,
    "empty_conditions": _empty_conditions,
    "extra_property": _extra_property,
    "bad_enum": _bad_enum,
    "unknown_field": _unknown_field,
    "wrong_operator": _wrong_operator,
    "missing_description": _missing_description,
    "missing_key": _missing_key,
    "wrong_type": _wrong_type,
    "swapped_values": _swapped_values,
    "wrong_timeframe": _wrong_timeframe,
    "needless_refusal": _needless_refusal,
    "missing_refusal": _missing_refusal,
}
