"""A row of each artefact: how it is made from one of the stage before, and what is wrong with it.

    schema_row(spec, catalog, 4, 7, seed)           # d_02 of d_01
    valid_row(job, source, made)                    # d_04, or what is wrong with what a source gave
    corpus_row(row, "d_04_dataset.jsonl, row 3")    # d_05 of d_04

What is made from whole files: `datagen.dsl.stages`.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from datagen.dsl.negatives import KINDS, negative
from datagen.dsl.source import AstJob, Made, Source
from datagen.dsl.specs import choose_operators
from livery.errors import UserError
from livery.skills import AnswerError, dsl

Json = dict[str, Any]

# Other ones make other rows: written into manifests, and part of every artefact's key.
VERSION = "2"
# Current dates of rows, where none is given: so many days from the first.
_FIRST_DAY, _DAYS = date(2024, 1, 1), 1461


# -- d_01: specs -----------------------------------------------------------------------------------


def spec_fault(spec: Mapping[str, Any]) -> str:
    """What is malformed in a spec; "" where nothing is."""
    fields = spec.get("fields")
    if not isinstance(fields, list) or not fields:
        return 'needs "fields", a list'
    names: list[str] = []
    for field in fields:
        if not isinstance(field, Mapping) or not isinstance(field.get("const"), str):
            return f'each of "fields" needs a text "const": {json.dumps(field)[:80]}'
        names.append(field["const"])
        values = field.get("enum") or []
        fine = isinstance(values, list) and all(
            isinstance(v, Mapping) and isinstance(v.get("const"), str) and v["const"]
            for v in values
        )
        if not fine:
            return f'the "enum" of {field["const"]} must be a list of {{"const": text}}'
        consts = [value["const"] for value in values]
        if len(set(consts)) < len(consts):
            return f'the "enum" of {field["const"]} holds a value twice'
    if len(set(names)) < len(names) or "" in names:
        return "two fields have one name, or a field has none"
    return ""


# -- d_02: schemas ---------------------------------------------------------------------------------


def schema_row(
    spec: Mapping[str, Any],
    catalog: Sequence[Json],
    fewest: int,
    most: int,
    seed: int,
    template: Mapping[str, Any] | None = None,
) -> Json:
    """A row of `d_02`."""
    rng = random.Random(f"operators {seed} {spec['schema_id']}")
    operators = choose_operators(spec, catalog, rng, fewest, most)
    schema = dsl.build_schema(spec, operators, template)
    dsl.check_schema(schema)
    return {**spec, "operators": operators, "schema": schema, "schema_json": dsl.compact(schema)}


def schema_of(row: Mapping[str, Any], where: str) -> Json:
    """The schema in a row of `d_02` to `d_04`, as an object or a text.

    Raises:
        UserError: it holds none.
    """
    found = row.get("schema")
    if not isinstance(found, dict):
        try:
            found = dsl.parse(str(row.get("schema_json")))
        except AnswerError as error:
            raise UserError(f'{where}: "schema_json": {error}.') from None
    return found


# -- d_03: queries ---------------------------------------------------------------------------------


def queries_in(row: Mapping[str, Any]) -> list[Json]:
    """The queries of a row: ours with their meaning, or texts as the described system has them."""
    listed = row.get("queries") or row.get("example_queries") or ()
    found = [{"query": entry} if isinstance(entry, str) else dict(entry) for entry in listed]
    return [entry for entry in found if str(entry.get("query", "")).strip()]


# -- d_04: rows ------------------------------------------------------------------------------------


def draw_day(rng: random.Random) -> str:
    """A current date."""
    return (_FIRST_DAY + timedelta(days=rng.randrange(_DAYS))).isoformat()


def day_of(seed: int, schema_id: str, query: str) -> str:
    """The current date of a row where none is given."""
    return draw_day(random.Random(f"day {seed} {schema_id} {query}"))


def valid_row(job: AstJob, source: Source, made: Made) -> Json | str:
    """A row of `d_04`; a text where what the source gave is invalid."""
    name, query = job.schema["schema_id"], job.query["query"]
    schema = schema_of(job.schema, str(name))
    ast = made.row or {}
    faults = dsl.find_faults(ast, schema)
    if faults:
        return f"{name}: {query!r}: {faults[0]}"
    return {
        "schema_id": name,
        "domain": job.schema.get("domain"),
        "operators": [_const(operator) for operator in job.schema["operators"]],
        "schema_json": dsl.compact(schema),
        "query": query,
        "current_date": job.current_date,
        "ast_json": dsl.render(ast),
        "is_valid": True,
        "validation_error": None,
        "error_type": None,
        "language": job.query.get("language"),
        "split": job.schema.get("split", "train"),
        **made_by(source, made),
    }


def _const(operator: Any) -> str:
    return str(operator["const"] if isinstance(operator, Mapping) else operator)


def with_negatives(rows: Sequence[Json], ratio: float, seed: int) -> Iterator[Json]:
    """Right rows and, after those of a schema, its wrong ones."""
    by_schema: dict[str, list[Json]] = {}
    for row in rows:
        by_schema.setdefault(row["schema_id"], []).append(row)
    for name, own in by_schema.items():
        yield from own
        yield from _negatives(own, math.ceil(ratio * len(own)), random.Random(f"{seed} {name}"))


def _negatives(rows: Sequence[Json], count: int, rng: random.Random) -> Iterator[Json]:
    """`count` wrong rows, no two alike, all kinds in turn as far as rows have a place for them."""
    schema, kinds = json.loads(rows[0]["schema_json"]), rng.sample(KINDS, len(KINDS))
    seen: set[tuple[str, str]] = set()
    made, tries = 0, 0
    while made < count and tries < 20 * count:
        kind = kinds[tries % len(kinds)]
        tries += 1
        row = rng.choice(rows)
        wrong = negative(json.loads(row["ast_json"]), schema, kind, rng)
        if wrong is None or (row["query"], text := dsl.render(wrong.ast)) in seen:
            continue
        seen.add((row["query"], text))
        made += 1
        yield {**row, "ast_json": text, "is_valid": False,
               "validation_error": wrong.fault, "error_type": kind}  # fmt: skip


# -- d_05: corpus ----------------------------------------------------------------------------------


def request_of(row: Mapping[str, Any], where: str) -> dsl.Request:
    """What a row of `d_04` asks.

    Raises:
        UserError: its schema is none. A row of the described system's first files has no date.
    """
    when = row.get("current_date") or _FIRST_DAY.isoformat()
    return dsl.Request(schema_of(row, where), str(row["query"]), str(when))


def corpus_row(row: Mapping[str, Any], where: str) -> Json:
    """A row of `d_05` from one of `d_04`; both JSONs become compact."""
    try:
        ast = dsl.parse(row["ast_json"])
    except AnswerError as error:
        raise UserError(f'{where}: "ast_json": {error}.') from None
    return {
        "schema_id": row["schema_id"],
        "domain": row.get("domain"),
        "prompt": dsl.prompt_text(request_of(row, where)),
        "completion": dsl.render(ast),
        "is_valid": bool(row.get("is_valid", True)),
    }


# -- all -------------------------------------------------------------------------------------------


def made_by(source: Source, made: Made) -> Json:
    """What a row says of its making."""
    told = {"provenance": dict(made.provenance)} if made.provenance else {}
    return {"source": source.name, **told}
