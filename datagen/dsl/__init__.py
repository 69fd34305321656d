"""Training data for the skill dsl: schemas, queries in English and French, and their ASTs.

    splits = generate(seed=7)     # train, valid, test

Schemas of `train` and `valid` have no entity, field, value or wording in common; `test` is the
hand-written validation set, whose schemas are others again. Rows of a schema stand together, so
that a step runs it once. The stages that make the described system's files are
`datagen.dsl.stages`, with a teacher or, as here, without.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from datagen.dsl.offline import Offline, ast_of
from datagen.dsl.rows import VERSION, draw_day, schema_row
from datagen.dsl.source import QueryJob, SpecJob
from datagen.dsl.specs import read_catalog
from datagen.folder import index, refuse_leaks
from livery.skills import dsl
from livery.skills.dsl import hand_written

__all__ = ["NAME", "TRAIN_ROWS", "VERSION", "generate"]

NAME = "datagen.dsl"
TRAIN_ROWS, VALID_ROWS = 8_000, 160
# Rows of a schema, which share its prompt.
GROUP = 8

Row = dict[str, Any]


def generate(
    seed: int, count: int = TRAIN_ROWS, valid_count: int = VALID_ROWS
) -> dict[str, list[Row]]:
    """Rows by split: `count` for training, `valid_count` held out, and the hand-written test.

    Raises:
        UserError: a split gives another away.
    """
    test = [_hand_written(row) for row in hand_written("validation")]
    second = [row["query"] for row in hand_written("second")]
    closed = [*(row["meta"]["query"] for row in test), *second]
    valid = _make(seed, "valid", valid_count, closed)
    train = _make(seed, "train", count, [*closed, *(row["meta"]["query"] for row in valid)])
    splits = {"train": train, "valid": valid, "test": test}
    refuse_leaks({name: [row["meta"]["query"] for row in rows] for name, rows in splits.items()})
    return splits


def _make(seed: int, split: str, count: int, closed: Sequence[str]) -> list[Row]:
    """`count` rows, schema after schema, none close to a `closed` query."""
    forbidden = index(closed)
    rows: list[Row] = []
    for schema, asked in _schemas(seed, split):
        for query, ast, day in asked:
            if forbidden.closest(query["query"]) is None:
                rows.append(_row(schema, query, ast, day, split, len(rows) + 1, seed))
            if len(rows) == count:
                return rows
    raise AssertionError("schemas never end")


def _schemas(seed: int, split: str) -> Iterator[tuple[Row, list[tuple[Row, Row, str]]]]:
    """Rows of `d_02` without end, each with GROUP queries, their ASTs and days."""
    source, catalog = Offline(seed), read_catalog()
    number = 0
    while True:
        number += 1
        prompt = {"schema_id": f"{split}_{number:05}", "domain": "", "split": split}
        spec = next(source.specs([SpecJob(prompt, 0)])).row or {}
        schema = schema_row(spec, catalog, 4, 7, seed)
        made = next(source.queries([QueryJob(schema, GROUP)])).row or {}
        rng = random.Random(f"{NAME} {VERSION} {seed} {prompt['schema_id']}")
        asked: list[tuple[Row, Row, str]] = []
        for query in made["queries"]:
            day = draw_day(rng)
            asked.append((query, ast_of(query, day), day))
        yield schema, asked


def _row(schema: Row, query: Row, ast: Row, day: str, split: str, number: int, seed: int) -> Row:
    request = dsl.Request(schema["schema"], query["query"], day)
    return {
        "messages": dsl.SKILL.messages(request, ast),
        "meta": {
            "id": f"{split}-{number:05}",
            "split": split,
            "scenario": dsl.depth(ast),
            "source": "generated",
            "provenance": f"{NAME} {VERSION} seed {seed}",
            "schema_id": schema["schema_id"],
            "language": query["language"],
            "refused": query.get("refused", ""),
            "query": query["query"],
        },
    }


def _hand_written(row: Row) -> Row:
    """A case of a hand-written set as a row of the test split."""
    request = dsl.Request(row["schema"], row["query"], row["current_date"])
    return {
        "messages": dsl.SKILL.messages(request, row["ast"]),
        "meta": {
            "id": row["id"],
            "split": "test",
            "scenario": row["category"],
            "source": "hand-written",
            "provenance": "validation.jsonl",
            "schema_id": row["schema_id"],
            "language": row["language"],
            "query": row["query"],
        },
    }
