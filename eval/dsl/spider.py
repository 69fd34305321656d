"""Rows of Spider (dev.json with tables.json beside it) as schemas and queries of dsl.

A database becomes a schema of queries over its columns, the parsed SQL of a row ("sql") the query
that is expected:

    {"select": [{"column": "singer.name"}], "from": ["singer"],
     "where": [[{"left": {"column": "singer.country"}, "operator": "=", "right": "France"}]],
     "order_by": {"direction": "desc", "by": [{"column": "singer.age"}]}, "limit": 1}

`where` and `having` list groups of which one must hold, each of conditions that all hold. How
tables are joined is not in it: their foreign keys say it, and Spider's own exact match leaves it
out too. Unlike that match, values count here.

Format: https://github.com/taoyds/spider, README.md and process_sql.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from livery.errors import UserError, shown
from livery.reading import read_json

Json = dict[str, Any]

# Each by its place in Spider's parser.
_AGGREGATES = ("", "max", "min", "count", "sum", "avg")
_ARITHMETIC = ("", "-", "+", "*", "/")
_OPERATORS = ("not", "between", "=", ">", "<", ">=", "<=", "!=", "in", "like", "is", "exists")
_SETS = ("union", "intersect", "except")
_KEYS = ("from", "select", "where", "group_by", "having", "order_by", "limit", *_SETS)


def read_tables(path: Path) -> Mapping[str, Json]:
    """db_id -> database. Raises UserError where the file is not there or is another."""
    if not path.is_file():
        raise UserError(f"{path}: not there. Rows of Spider need its tables.json beside them.")
    databases = read_json(path)
    if not isinstance(databases, list) or not all(
        isinstance(one, dict) and isinstance(one.get("db_id"), str) for one in databases
    ):
        raise UserError(f'{path}: must be a list of databases, each with its "db_id".')
    return {one["db_id"]: one for one in databases}


def read(row: Mapping[str, Any], where: str, tables: Mapping[str, Json]) -> tuple[Json, Json]:
    """(schema, expected query) of a row.

    Raises:
        UserError: its database is unknown, or it has no "sql" of Spider's parser.
    """
    if not isinstance(row.get("sql"), Mapping):
        raise UserError(
            f'{where}: no "sql", the parsed query. Use dev.json of Spider itself; copies with '
            "only the text of the query are not read."
        )
    database = tables.get(str(row["db_id"]))
    if database is None:
        raise UserError(f"{where}: the database {shown(row['db_id'], 60)!r} is not in tables.json.")
    try:
        names = _Names(database)
        return _schema(names), _query(row["sql"], names)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f'{where}: its "sql" or its database is not as Spider writes them ({error!r:.80}).'
        ) from None


class _Names:
    """A database's tables and columns by their numbers."""

    def __init__(self, database: Mapping[str, Any]) -> None:
        self.id: str = database["db_id"]
        self.tables: list[str] = [str(name) for name in database["table_names_original"]]
        self.columns = [
            f"{self.tables[table]}.{name}" if table >= 0 else str(name)
            for table, name in database["column_names_original"]
        ]
        self.types: list[str] = database["column_types"]
        self.foreign = [(self.columns[a], self.columns[b]) for a, b in database["foreign_keys"]]


# -- a database as a schema ------------------------------------------------------------------------


def _schema(names: _Names) -> Json:
    kinds = [f"{column}: {kind}" for column, kind in zip(names.columns, names.types, strict=True)]
    links = [f"{one} = {other}" for one, other in names.foreign]
    about = f"Columns and their types: {', '.join(kinds[1:])}. Foreign keys: {', '.join(links)}."
    value, groups = {"$ref": "#/definitions/value"}, {"$ref": "#/definitions/groups"}
    column = {"type": "string", "enum": names.columns}
    aggregate = {"enum": [*_AGGREGATES[1:]]}
    query = {"$ref": "#"}
    literal = {"type": ["string", "number"]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": names.id,
        "description": about,
        "definitions": {
            "value": {
                "anyOf": [
                    closed(
                        {"column": column, "aggregate": aggregate, "distinct": {"const": True}},
                        "column",
                    ),
                    closed(
                        {
                            "arithmetic": {"enum": [*_ARITHMETIC[1:]]},
                            "of": {"type": "array", "minItems": 2, "maxItems": 2, "items": value},
                            "aggregate": aggregate,
                        },
                        "arithmetic", "of",
                    ),
                ]
            },
            "groups": {
                "description": "One group must hold, and of it all conditions.",
                "type": "array", "minItems": 1,
                "items": {
                    "type": "array", "minItems": 1,
                    "items": closed(
                        {
                            "left": value,
                            "operator": {"enum": [*_OPERATORS[1:], *(f"not {o}" for o in
                                                                     ("between", "in", "like"))]},
                            "right": {"anyOf": [literal, value, query]},
                            "and": {"anyOf": [literal, value, query]},
                        },
                        "left", "operator", "right",
                    ),
                },
            },
        },
        **closed(
            {
                "select": {"type": "array", "minItems": 1, "items": value},
                "distinct": {"const": True},
                "from": {
                    "type": "array", "minItems": 1,
                    "items": {"anyOf": [{"enum": names.tables}, query]},
                },
                "where": groups,
                "group_by": {"type": "array", "minItems": 1, "items": value},
                "having": groups,
                "order_by": closed(
                    {
                        "direction": {"enum": ["asc", "desc"]},
                        "by": {"type": "array", "minItems": 1, "items": value},
                    },
                    "direction", "by",
                ),
                "limit": {"type": "integer"},
                **dict.fromkeys(_SETS, query),
            },
            "select", "from",
        ),
    }  # fmt: skip


def closed(properties: Json, *required: str) -> Json:
    """The schema of an object with these properties alone, all required where none is named."""
    return {
        "type": "object", "properties": properties, "required": [*(required or properties)],
        "additionalProperties": False,
    }  # fmt: skip


# -- parsed SQL as a query -------------------------------------------------------------------------


def _query(sql: Mapping[str, Any], names: _Names) -> Json:
    distinct, selected = sql["select"]
    found: Json = {"select": [_value(unit, names, aggregate) for aggregate, unit in selected]}
    if distinct:
        found["distinct"] = True
    found["from"] = [
        names.tables[unit] if kind == "table_unit" else _query(unit, names)
        for kind, unit in sql["from"]["table_units"]
    ]
    if sql["where"]:
        found["where"] = _groups(sql["where"], names)
    if sql["groupBy"]:
        found["group_by"] = [_column(unit, names) for unit in sql["groupBy"]]
    if sql["having"]:
        found["having"] = _groups(sql["having"], names)
    if sql["orderBy"]:
        direction, units = sql["orderBy"]
        found["order_by"] = {"direction": direction, "by": [_value(u, names) for u in units]}
    if sql["limit"] is not None:
        found["limit"] = int(sql["limit"])
    return found | {key: _query(sql[key], names) for key in _SETS if sql[key]}


def _value(unit: Sequence[Any], names: _Names, aggregate: int = 0) -> Json:
    operator, left, right = unit
    outer = {"aggregate": _AGGREGATES[aggregate]} if aggregate else {}
    if not operator:
        return _column(left, names) | outer
    both = [_column(left, names), _column(right, names)]
    return {"arithmetic": _ARITHMETIC[operator], "of": both} | outer


def _column(unit: Sequence[Any], names: _Names) -> Json:
    aggregate, column, distinct = unit
    found: Json = {"column": names.columns[column]}
    if aggregate:
        found["aggregate"] = _AGGREGATES[aggregate]
    return found | ({"distinct": True} if distinct else {})


def _groups(conditions: Sequence[Any], names: _Names) -> list[list[Json]]:
    """A flat list of conditions with "and" and "or" between them; "and" binds closer."""
    groups: list[list[Json]] = [[]]
    for part in conditions:
        if part == "or":
            groups.append([])
        elif part != "and":
            groups[-1].append(_condition(part, names))
    return groups


def _condition(part: Sequence[Any], names: _Names) -> Json:
    negated, operator, left, right, other = part
    word = _OPERATORS[operator]
    found = {
        "left": _value(left, names),
        "operator": f"not {word}" if negated else word,
        "right": _right(right, names),
    }
    return found if other is None else found | {"and": _right(other, names)}


def _right(value: Any, names: _Names) -> Any:
    if isinstance(value, Mapping):
        return _query(value, names)
    if isinstance(value, list):
        return _column(value, names)
    if isinstance(value, str):
        return value.strip("\"'")
    return int(value) if float(value).is_integer() else float(value)


# -- comparing -------------------------------------------------------------------------------------


def kind(query: Mapping[str, Any]) -> str:
    """What a query holds most of, for reports."""
    if any(key in query for key in _SETS):
        return "set operation"
    if '"select"' in json.dumps({k: v for k, v in query.items() if k != "select"}):
        return "nested"
    if len(query["from"]) > 1:
        return "join"
    return "grouped" if "group_by" in query else "where" if "where" in query else "plain"


def difference(got: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """ "" where two queries mean the same, else "wrong_" with the first clause that differs.

    The order of what is selected, of tables, conditions and groups has no meaning, nor has the case
    of a text; 5, 5.0 and "5" are one value.
    """
    one, other = _canonical(got), _canonical(expected)
    if one == other:
        return ""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return "wrong_query"
    keys = ("distinct", *_KEYS)
    return next((f"wrong_{key}" for key in keys if one.get(key) != other.get(key)), "wrong_query")


def _canonical(node: Any, key: str = "") -> Any:
    if isinstance(node, Mapping):
        return {name: _canonical(child, name) for name, child in node.items()}
    if isinstance(node, list):
        # Groups and the conditions in them; `by` and `of` have an order.
        inner = key if key in ("where", "having") else ""
        children = [_canonical(child, inner) for child in node]
        if key in ("select", "from", "where", "having", "group_by"):
            return sorted(children, key=lambda child: json.dumps(child, sort_keys=True))
        return children
    if isinstance(node, bool) or node is None:
        return node
    text = str(node).strip().casefold()
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text  # the name Nan equals itself
