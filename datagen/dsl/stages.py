"""The five stages: domain specs, schemas, queries, (schema, query, AST) rows, a corpus.

Each reads the artefact before it and writes its own (`datagen.dsl.stored`). A row of the described
system's files is read as it is; what is malformed is refused with its file and line.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datagen.dsl.rows import (
    VERSION,
    corpus_row,
    day_of,
    made_by,
    queries_in,
    schema_row,
    spec_fault,
    valid_row,
    with_negatives,
)
from datagen.dsl.source import AstJob, QueryJob, Source, SpecJob
from datagen.dsl.specs import CATALOG, read_catalog
from datagen.dsl.stored import (
    Done,
    check_kept,
    check_out,
    collect,
    keep,
    key_of,
    made_before,
    partial,
    partial_queries,
)
from livery.errors import UserError
from livery.files import read_jsonl
from livery.reading import read_object
from livery.skills import dsl

Json = dict[str, Any]
# (what, total) -> called with how many are done
Show = Callable[[str, int], Callable[[int], None]]

SPLITS = ("train", "valid", "test")


def silent(what: str, total: int) -> Callable[[int], None]:
    """A `Show` that shows nothing."""
    return lambda done: None


def rows_of(path: Path, needs: Sequence[str]) -> list[Json]:
    """Rows of an artefact.

    Raises:
        UserError: no such file, no rows, or one lacks a key or has a text that is empty.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; make it with the stage before.")
    found: list[Json] = []
    for line, row in read_jsonl(path):
        lacking = [key for key in needs if row.get(key) in (None, "", [])]
        if lacking:
            raise UserError(f'{path}:{line}: needs "{lacking[0]}".')
        found.append(row)
    if not found:
        raise UserError(f"{path}: holds no rows.")
    return found


def _begin(out: Path, key: str, inputs: Sequence[Path], *, fresh: bool) -> Done | None:
    """What to return where nothing is to do.

    Raises:
        UserError: what is at `out` may not be replaced.
    """
    check_out(out, inputs)
    if fresh:
        for kept in (partial(out), partial_queries(out)):
            kept.unlink(missing_ok=True)
        return None
    skipped = made_before(out, key)
    return Done(out, sum(1 for _ in read_jsonl(out)), skipped) if skipped else None


# -- d_01: domain specs ----------------------------------------------------------------------------


def make_specs(
    source: Source,
    prompts: Path,
    out: Path,
    *,
    examples: int,
    seed: int,
    held_out: float = 0.1,
    fresh: bool = False,
    show: Show = silent,
) -> Done:
    """A spec for each domain prompt.

    Args:
        held_out: share of the schemas for `valid`, and again for `test`, where the prompts name
            no split.
    """
    asked = rows_of(prompts, ("domain",))
    key = key_of([prompts], examples=examples, seed=seed, source=source.name, held_out=held_out,
                 version=VERSION)  # fmt: skip
    if (done := _begin(out, key, [prompts], fresh=fresh)) is not None:
        return done
    named = [{**row, "schema_id": _id_of(row, at)} for at, row in enumerate(asked, start=1)]
    _refuse_twins(prompts, named)
    jobs = [SpecJob(row, examples) for row in _split(named, seed, held_out)]
    counter = show("specs", len(jobs))
    found, faults = collect(jobs, source.specs, partial(out), key, counter)
    rows: list[Json] = []
    for at, made in sorted(found.items()):
        job = jobs[at]
        row = {**(made.row or {}), "schema_id": job.prompt["schema_id"],
               "split": job.prompt["split"], **made_by(source, made)}  # fmt: skip
        if fault := spec_fault(row):
            faults.append(f"{row['schema_id']}: {fault}")
        else:
            rows.append(row)
    return _end(out, rows, key, faults)


def _id_of(row: Mapping[str, Any], at: int) -> str:
    named = row.get("schema_id") or row.get("id")
    words = "".join(c if c.isalnum() else "_" for c in str(row["domain"]).lower())
    return str(named or f"{words.strip('_')}_{at:03}")


def _refuse_twins(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    counts = Counter(str(row["schema_id"]) for row in rows)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"{path}: the schema_id {twice[0]!r} appears twice; give each its own.")


def _split(rows: Sequence[Json], seed: int, held_out: float) -> list[Json]:
    """The rows with their split; those that name none are drawn, the same for the same seed."""
    free = [row["schema_id"] for row in rows if row.get("split") not in SPLITS]
    random.Random(f"split {seed}").shuffle(free)
    share = math.ceil(held_out * len(free)) if len(free) >= 3 and held_out > 0 else 0
    drawn = dict.fromkeys(free[:share], "test")
    drawn |= dict.fromkeys(free[share : 2 * share], "valid")
    return [
        row if row.get("split") in SPLITS
        else {**row, "split": drawn.get(row["schema_id"], "train")}
        for row in rows
    ]  # fmt: skip


# -- d_02: schemas ---------------------------------------------------------------------------------


def make_schemas(
    specs: Path,
    out: Path,
    *,
    catalog: Path = CATALOG,
    template: Path = dsl.TEMPLATE,
    fewest: int,
    most: int,
    seed: int,
    fresh: bool = False,
) -> Done:
    """The schema of each spec, with operators of its own.

    Raises:
        UserError: a spec, the catalogue or the template is malformed, or fewest exceeds most.
    """
    if fewest > most:
        raise UserError(f"--min-operators {fewest} is more than --max-operators {most}.")
    rows = rows_of(specs, ("schema_id", "fields"))
    key = key_of([specs, catalog, template], fewest=fewest, most=most, seed=seed, version=VERSION)
    if (done := _begin(out, key, [specs, catalog, template], fresh=fresh)) is not None:
        return done
    for at, row in enumerate(rows, start=1):
        if fault := spec_fault(row):
            raise UserError(f"{specs}:{at}: {fault}.")
    _refuse_twins(specs, rows)
    operators, base = read_catalog(catalog), read_object(template)
    made = [schema_row(row, operators, fewest, most, seed, base) for row in rows]
    return _end(out, made, key, [])


# -- d_03: queries ---------------------------------------------------------------------------------


def make_queries(
    source: Source,
    schemas: Path,
    out: Path,
    *,
    per_schema: int,
    seed: int,
    fresh: bool = False,
    show: Show = silent,
) -> Done:
    """Queries for each schema."""
    rows = rows_of(schemas, ("schema_id", "fields", "operators"))
    key = key_of([schemas], per_schema=per_schema, seed=seed, source=source.name, version=VERSION)
    if (done := _begin(out, key, [schemas], fresh=fresh)) is not None:
        return done
    jobs = [QueryJob(row, per_schema) for row in rows]
    counter = show("queries", len(jobs))
    found, faults = collect(jobs, source.queries, partial(out), key, counter)
    made = [
        {
            "schema_id": rows[at]["schema_id"],
            "domain": rows[at].get("domain"),
            "split": rows[at].get("split", "train"),
            "example_queries": [q["query"] for q in queries_in(given.row or {})],
            "queries": queries_in(given.row or {}),
            **made_by(source, given),
        }
        for at, given in sorted(found.items())
    ]
    short = _short({str(row["schema_id"]): len(queries_in(row)) for row in made}, per_schema)
    return replace(_end(out, made, key, faults), notes=short)


def _short(counts: Mapping[str, int], wanted: int) -> tuple[str, ...]:
    """The schemas that a source had fewer queries for than were asked of it."""
    return tuple(
        f"{name}: {count:,} queries of the {wanted:,} asked for; the source had no more"
        for name, count in counts.items()
        if count < wanted
    )


# -- d_04: rows ------------------------------------------------------------------------------------


def make_dataset(
    source: Source,
    schemas: Path,
    queries: Path,
    out: Path,
    *,
    positives: int,
    negative_ratio: float,
    seed: int,
    current_date: str = "",
    checkpoint: Path | None = None,
    resume: bool = True,
    fresh: bool = False,
    show: Show = silent,
) -> Done:
    """Validated rows of each schema, and for each a share of ones with a fault.

    Args:
        positives: right rows per schema; where `queries` has fewer, the source is asked for more.
        negative_ratio: wrong rows per right one.
        current_date: of all rows; "" draws a day for each.
        checkpoint: where rows are kept until all are made; None takes a file beside `out`.
        resume: continue from what is kept there.

    Raises:
        UserError: an artefact is malformed, or `checkpoint` is a file that Livery did not make.
    """
    if current_date and not dsl.is_date(current_date):
        raise UserError(f"--current-date {current_date}: must be a day as YYYY-MM-DD.")
    rows = rows_of(schemas, ("schema_id", "fields", "operators"))
    key = key_of([schemas, queries], positives=positives, negative_ratio=negative_ratio, seed=seed,
                 current_date=current_date, source=source.name, version=VERSION)  # fmt: skip
    if (done := _begin(out, key, [schemas, queries], fresh=fresh)) is not None:
        return done
    listed = {row["schema_id"]: queries_in(row) for row in rows_of(queries, ("schema_id",))}
    known = [listed.get(row["schema_id"], [])[:positives] for row in rows]
    kept = checkpoint or partial(out)
    check_kept(kept, [schemas, queries])
    if not resume:
        kept.unlink(missing_ok=True)
    faults = _top_up(source, rows, known, positives, out, key, show)
    jobs = [
        AstJob(row, query, current_date or day_of(seed, row["schema_id"], query["query"]))
        for row, own in zip(rows, known, strict=True)
        for query in own
    ]
    counter = show("rows", len(jobs))
    # Queries that were lacking in the run before move the positions of those behind them.
    texts = [[query["query"] for query in own] for own in known]
    found, failed = collect(jobs, source.asts, kept, key_of((), of=key, queries=texts), counter)
    made: list[Json] = []
    for at, given in sorted(found.items()):
        row = valid_row(jobs[at], source, given)
        if isinstance(row, str):
            failed.append(row)
        else:
            made.append(row)
    done = _end(out, [*with_negatives(made, negative_ratio, seed)], key, [*faults, *failed])
    if not done.faults:
        kept.unlink(missing_ok=True)
    names = [row["schema_id"] for row in rows]
    counts = {name: len(own) for name, own in zip(names, known, strict=True)}
    return replace(done, notes=_short(counts, positives))


def _top_up(
    source: Source,
    rows: Sequence[Json],
    known: list[list[Json]],
    positives: int,
    out: Path,
    key: str,
    show: Show,
) -> list[str]:
    """Ask for the queries that schemas lack; returns what failed."""
    short = [at for at, own in enumerate(known) if len(own) < positives]
    if not short:
        return []
    jobs = [
        QueryJob(rows[at], positives - len(known[at]), tuple(q["query"] for q in known[at]))
        for at in short
    ]
    place = partial_queries(out)
    found, faults = collect(jobs, source.queries, place, key, show("more queries", len(jobs)))
    for number, made in found.items():
        known[short[number]] += queries_in(made.row or {})[: jobs[number].count]
    if not faults:
        place.unlink(missing_ok=True)
    return faults


# -- d_05: corpus ----------------------------------------------------------------------------------


def make_corpus(
    dataset: Path,
    out: Path,
    *,
    include_invalid: bool,
    max_samples: int | None = None,
    fits: Callable[[str, str], str] | None = None,
    fresh: bool = False,
) -> Done:
    """Prompts and completions of the training rows.

    Args:
        include_invalid: also wrong rows, marked `is_valid: false`; training leaves those out.
        max_samples: at most so many rows, evenly from all schemas.
        fits: (prompt, completion) -> why the row is too long, "" where it fits. Such a row is
            refused whole and told with its length; nothing is cut.
    """
    rows = rows_of(dataset, ("schema_id", "schema_json", "query", "ast_json"))
    key = key_of([dataset], include_invalid=include_invalid, max_samples=max_samples,
                 fits=fits is not None, version=VERSION)  # fmt: skip
    done = _begin(out, key, [dataset], fresh=fresh)
    # What fits depends on a tokenizer, which may have changed.
    if done is not None and fits is None:
        return done
    kept = [
        row for row in rows
        if row.get("split", "train") == "train" and (include_invalid or row.get("is_valid", True))
    ]  # fmt: skip
    if max_samples is not None and max_samples < len(kept):
        kept = [kept[at * len(kept) // max_samples] for at in range(max_samples)]
    made: list[Json] = []
    faults: list[str] = []
    for at, row in enumerate(kept, start=1):
        corpus = corpus_row(row, f"{dataset}, row {at}")
        reason = fits(corpus["prompt"], corpus["completion"]) if fits else ""
        if reason:
            faults.append(f"{row['schema_id']}: {row['query']!r}: {reason}")
        else:
            made.append(corpus)
    if not made:
        _end(out, made, key, faults)
    done = _end(out, made, key, [])
    return Done(done.out, done.rows, "", tuple(faults), done.counts)


# -- all -------------------------------------------------------------------------------------------


def _end(out: Path, rows: Sequence[Json], key: str, faults: Sequence[str]) -> Done:
    if not rows:
        first = f" The first: {faults[0]}." if faults else ""
        raise UserError(f"{out}: no row could be made, so nothing was written.{first}")
    keep(out, rows, key, whole=not faults)
    kinds = [row.get("error_type") or ("valid" if row["is_valid"] else "wrong")
             for row in rows if "is_valid" in row]  # fmt: skip
    counts = Counter(map(str, kinds))
    return Done(out, len(rows), "", tuple(faults), dict(counts) or None)
