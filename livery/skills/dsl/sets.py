"""The hand-written sets: schemas that no generator makes, and cases in a short form.

A line of NAME.jsonl is {"id", "schema", "language", "query", "date", and either "refusal", why it
cannot be expressed, or "steps" and "timeframe"}: a condition is [field, operator, value] or
{"any": [conditions]}, a timeframe [start, end]. Its schema is in schemas.json, as a spec.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livery.reading import read_json, read_jsonl
from livery.skills.dsl.ast import depth, make_steps
from livery.skills.dsl.schema import build_schema, vocabulary

Json = dict[str, Any]

_HERE = Path(__file__).parent
SETS = ("validation", "second")


@functools.cache
def schemas() -> Mapping[str, Json]:
    """schema_id -> schema of the hand-written sets."""
    specs: list[Json] = read_json(_HERE / "schemas.json")
    return {spec["schema_id"]: build_schema(spec, spec["operators"]) for spec in specs}


def hand_written(name: str) -> list[Json]:
    """The cases of a set: {"id", "schema_id", "schema", "language", "query", "current_date",
    "ast", "category"}."""
    return [read_short(row) for _, row in read_jsonl(_HERE / f"{name}.jsonl")]


def is_short(row: Mapping[str, Any]) -> bool:
    """Whether a row has the short form, of a schema that is here."""
    return row.get("schema") in schemas() if isinstance(row.get("schema"), str) else False


def read_short(row: Mapping[str, Any]) -> Json:
    """A case in its short form, in full."""
    schema = schemas()[row["schema"]]
    ast = _ast(row, schema)
    return {
        "id": row["id"],
        "schema_id": row["schema"],
        "schema": schema,
        "language": row["language"],
        "query": row["query"],
        "current_date": row["date"],
        "ast": ast,
        "category": depth(ast),
    }


def _ast(row: Mapping[str, Any], schema: Mapping[str, Any]) -> Json:
    if "refusal" in row:
        refusal = {"reason": row["refusal"], "suggestion": _suggestion(row, schema)}
        return {"prompt": row["query"], "refusal": refusal}
    steps = make_steps([_node(node) for node in nodes] for nodes in row["steps"])
    start, end = row.get("timeframe", ("", ""))
    return {"prompt": row["query"], "steps": steps, "timeframe": {"start": start, "end": end}}


def _suggestion(row: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What can be asked instead, in the words of the generated data."""
    words, french = vocabulary(schema), row["language"] == "fr"
    reason = row["refusal"]
    first = reason.split()[0]
    if reason.startswith(("Alternatives", "Les alternatives")):
        return "Demandez-en une à la fois." if french else "Ask for one of them at a time."
    if words.fields.get(first):
        label, listed = ("Valeurs :" if french else "Values:"), words.fields[first]
    elif reason.startswith(("No operator", "Aucun opérateur")):
        label, listed = ("Opérateurs :" if french else "Operators:"), words.operators
    else:
        label, listed = ("Champs :" if french else "Fields:"), tuple(words.fields)
    return f"{label} {', '.join(listed)}."


def _node(node: Any) -> Json:
    if isinstance(node, Mapping):
        return {"any": [_node(member) for member in node["any"]]}
    field, operator, value = node
    return {"field": field, "operator": operator, "value": value}
