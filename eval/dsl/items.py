"""What a student is asked: rows of a dataset that no training row gives away."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.cases import Case
from eval.evaluate import spread
from eval.scorers import dsl as scorer
from livery.dataset.conversation import RowError
from livery.dataset.raw import raw_rows
from livery.dataset.sources import find
from livery.errors import UserError, counted
from livery.files import read_jsonl
from livery.skills import dsl
from livery.skills.dsl import Request

Json = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One query of the evaluation.

    Attributes:
        case: as the scorer takes it; `expected` is the target.
        target_error: why the target is wrong, of a row that is marked so; "" for a right one.
    """

    case: Case
    target_error: str = ""

    @property
    def request(self) -> Request:
        meta = self.case.meta
        return Request(meta["schema"], self.case.text, meta["current_date"])


def read_items(
    dataset: str | Path,
    *,
    split: str = "",
    include_invalid: bool = False,
    train: str | Path | None = None,
    limit: int | None = None,
    seed: int | None = None,
) -> tuple[list[Item], dict[str, int]]:
    """Rows to evaluate on, and how many were refused by why.

    Args:
        split: rows of this one alone; "" takes `test` where rows name their split, else all.
        include_invalid: also rows whose target is marked as wrong.
        train: data the student has learned from. A row whose schema it holds is refused.
        limit: at most so many, spread over the file; with a seed, drawn at random.

    Raises:
        UserError: the dataset or the training data cannot be read, or no row is left.
    """
    listed = [(f"{dataset}:{line}", row) for line, row in read_jsonl(dataset)]
    if not split and any(row.get("split") == "test" for _, row in listed):
        split = "test"
    chosen = [(where, row) for where, row in listed if not split or row.get("split") == split]
    if not chosen:
        splits = ", ".join(sorted({str(row.get("split")) for _, row in listed})) or "no rows"
        raise UserError(f"{dataset}: no row is of the split {split!r}; there are: {splits}.")
    items: list[Item] = []
    for place, (where, row) in enumerate(chosen, start=1):
        wrong = row.get("is_valid") is False
        if wrong and not include_invalid:
            continue
        case = scorer.read_case({"id": f"row-{place}", **row}, where, wrong=wrong)
        items.append(Item(case, _what_is_wrong(row, case) if wrong else ""))
    items, refused = _unseen(items, train)
    if not items:
        raise UserError(
            f"{dataset}: every row has a schema that the student was trained on ({train}). "
            "Evaluate on rows of other schemas: those of the splits valid and test are held out "
            "of the corpus."
        )
    if seed is None or limit is None or limit >= len(items):
        return spread(items, limit), refused
    places = sorted(random.Random(seed).sample(range(len(items)), limit))
    return [items[at] for at in places], refused


def _what_is_wrong(row: Mapping[str, Any], case: Case) -> str:
    """Of a row that is marked as wrong."""
    if said := row.get("validation_error"):
        return str(said)
    faults = dsl.find_faults(case.expected, case.meta["schema"])
    return str(faults[0]) if faults else "marked as wrong"


def _unseen(items: Sequence[Item], train: str | Path | None) -> tuple[list[Item], dict[str, int]]:
    if train is None:
        return list(items), {}
    schemas, rows = _seen(train)
    kept: list[Item] = []
    refused: Counter[str] = Counter()
    for item in items:
        schema = schema_digest(item.case.meta["schema"])
        if _row_digest(schema, item.case.text) in rows:
            refused["training_row"] += 1
        elif schema in schemas:
            refused["training_schema"] += 1
        else:
            kept.append(item)
    return kept, dict(refused)


def _seen(train: str | Path) -> tuple[set[str], set[str]]:
    """Digests of the schemas, and of schemas with a query, that training rows hold."""
    schemas: set[str] = set()
    rows: set[str] = set()
    for source in find(train).train:
        for _, row in raw_rows(source):
            if isinstance(row, RowError):
                raise row
            if row.get("split", "train") != "train" or (request := _asked(row)) is None:
                continue
            schema = schema_digest(request.schema)
            schemas.add(schema)
            rows.add(_row_digest(schema, request.query))
    if not schemas:
        raise UserError(f"{train}: holds no row of this skill, so nothing can be compared with it.")
    return schemas, rows


def _asked(row: Mapping[str, Any]) -> Request | None:
    """What a training row asks; None where it is of another skill."""
    try:
        if isinstance(row.get("messages"), list):
            asked = [m["content"] for m in row["messages"] if m.get("role") == "user"]
            return dsl.read_prompt(str(asked[-1]))
        if isinstance(row.get("prompt"), str):
            return dsl.read_prompt(row["prompt"])
        return scorer.read_row(row, "a training row")[0]
    except (UserError, LookupError, AttributeError, TypeError):
        return None


def schema_digest(schema: Mapping[str, Any]) -> str:
    """Of what a schema says: another name or title makes it no other schema."""
    said = {k: v for k, v in schema.items() if k not in ("$id", "$schema", "title", "description")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _row_digest(schema: str, query: str) -> str:
    return hashlib.sha256(f"{schema} {' '.join(query.casefold().split())}".encode()).hexdigest()


def describe(refused: Mapping[str, int]) -> str:
    """What was refused, for people; "" for nothing."""
    kinds = {"training_row": "a training row", "training_schema": "a schema of training data"}
    said = [f"{counted(n, 'row')} with {kinds[why]}" for why, n in refused.items()]
    return f"Refused: {', '.join(said)}." if said else ""
