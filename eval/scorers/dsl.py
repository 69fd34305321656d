"""The scorer of dsl: whether an answer parses, is valid under its schema, and means the query.

    cases = dsl.cases("outputs/d_04_dataset.jsonl")
    results = [dsl.score_case(case, answer) for case, answer in zip(cases, answers)]
    dsl.breakdown(cases, results)                 # by schema, language and depth; failures by kind

A case is a row of `d_04` ({"schema_json", "query", "current_date", "ast_json"}), of the data that
`livery data dsl` makes, of a corpus ({"prompt", "completion"}), or {"schema": {...}, "query",
"current_date", "ast": {...}}. Rows that are marked as wrong answers are no cases; where some rows
are of the split `test`, only those are. Rows of public sets are read too (`eval.dsl.outside`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.cases import Case, CaseResult, place, read_cases
from eval.dsl import outside
from livery.engines.engine import Grammar
from livery.engines.schemas import NoGrammar, schema_grammar
from livery.errors import UserError
from livery.skills import AnswerError, Metric, dsl
from livery.skills.dsl import Request

SKILL = dsl.SKILL

CATEGORIES = ("one condition", "several conditions", "nested", "steps", "refusal")
METRICS = (
    Metric("schema_valid", "The answer is valid under its schema."),
    Metric("exact_match", "The answer is the expected one to the letter, its order of keys aside."),
    Metric("ast_match", "The answer means what the expected one means."),
    Metric("refused", "Of queries that the schema cannot express: refused."),
    Metric("over_refusal", "Of queries that it can express: refused.", better="lower"),
    Metric("timeframe", "Of answers that are no refusals: the timeframe is right."),
    Metric("english", "Of queries in English: the answer means the query."),
    Metric("french", "Of queries in French: the answer means the query."),
)
TAUGHT = "an AST"
LANGUAGES = {"en": "english", "fr": "french"}
_EXAMPLE = (
    '{"schema": {...}, "query": "open tickets", "current_date": "2026-06-14", "ast": {"prompt": '
    '"open tickets", "steps": [...], "timeframe": {"start": "", "end": ""}}}'
)
Json = dict[str, Any]


def cases(source: str | Path | Iterable[Mapping[str, Any]]) -> list[Case]:
    """Cases of a JSON-lines file or of rows, in their order.

    Raises:
        UserError: a row is malformed or its AST invalid under its schema (file and line named),
            two rows share an id, or there are no rows.
    """
    if isinstance(source, str | Path):
        listed = list(outside.listed(source))
    else:
        listed = [(f"row {at}", row) for at, row in enumerate(source, start=1)]
    wanted = [(where, row) for where, row in listed if row.get("is_valid") is not False]
    tested = [(where, row) for where, row in wanted if row.get("split") == "test"]
    chosen = tested or wanted
    places = iter(where for where, _ in chosen)
    read_outside = outside.reader(source if isinstance(source, str | Path) else "")

    def read(row: Mapping[str, Any], _: str) -> Case:
        where = next(places)
        found = read_outside(row, where)
        return read_case(row, where) if found is None else _with_grammar(found)

    return read_cases((row for _, row in chosen), read, _EXAMPLE)


def is_taught(case: Case) -> bool:
    """Whether the right answer is an AST rather than a refusal."""
    return not isinstance(case.expected, Mapping) or "refusal" not in case.expected


def score_case(case: Case, answer: str) -> CaseResult:
    """How one raw answer did on its case."""
    if outside.is_outside(case):
        return outside.score_case(case, answer)
    expected = case.expected
    try:
        got = dsl.parse(answer)
    except AnswerError as error:
        return _result(case, answer, None, f"no_json: {error}", {})
    faults = dsl.find_faults(got, case.meta["schema"])
    kind = "" if faults else dsl.difference(got, expected)
    metrics = {
        "schema_valid": not faults,
        "exact_match": dsl.canonical_text(got) == dsl.canonical_text(expected),
        "ast_match": not faults and not kind,
    }
    refused = "refusal" in got
    if "refusal" in expected:
        metrics["refused"] = refused
    else:
        metrics["over_refusal"] = refused
        if not refused:
            metrics["timeframe"] = got.get("timeframe") == expected.get("timeframe")
    error = f"{faults[0].kind}: {faults[0]}" if faults else kind
    return _result(case, answer, got, error, metrics)


def _result(
    case: Case, answer: str, got: Json | None, error: str, metrics: dict[str, bool]
) -> CaseResult:
    language = LANGUAGES.get(str(case.meta.get("language")))
    if got is None:
        metrics = {"schema_valid": False, "exact_match": False, "ast_match": False}
        metrics["refused" if "refusal" in case.expected else "timeframe"] = False
    if language:
        metrics[language] = not error
    return CaseResult(
        case.id, case.category, not error, got is not None, got, answer, error, metrics=metrics
    )


def failure(result: CaseResult) -> str:
    """The kind of a failure; "" of an answer that is right."""
    return result.error.partition(":")[0]


def breakdown(cases: Sequence[Case], results: Sequence[CaseResult]) -> dict[str, Any]:
    """{"schemas", "languages", "depths": {name: {"cases", "correct"}}, "failures": {kind: n}}."""
    groups = {"schemas": "schema_id", "languages": "language", "depths": ""}
    found: dict[str, Any] = {}
    for name, key in groups.items():
        counts: defaultdict[str, list[bool]] = defaultdict(list)
        for case, result in zip(cases, results, strict=True):
            counts[str(case.meta.get(key) if key else case.category)].append(result.correct)
        found[name] = {
            value: {"cases": len(right), "correct": sum(right)}
            for value, right in sorted(counts.items())
        }
    kinds = Counter(failure(result) for result in results if result.error)
    return {**found, "failures": dict(kinds.most_common())}


# -- reading cases ---------------------------------------------------------------------------------


def read_case(row: Mapping[str, Any], where: str, *, wrong: bool = False) -> Case:
    """One case of a row in any of the forms.

    Args:
        wrong: its AST is marked as wrong, and may be invalid under its schema.

    Raises:
        UserError: it cannot be read, or its AST is invalid and may not be.
    """
    request, ast, more = read_row(row, where)
    if (faults := faults_of(ast, request.schema, where)) and not wrong:
        raise UserError(f"{where}: the expected AST is invalid under its schema: {faults[0]}.")
    meta = row.get("meta")
    said: Mapping[str, Any] = {**row, **(meta if isinstance(meta, Mapping) else {}), **more}
    case = Case(
        id=str(said.get("id") or place(where)),
        category=dsl.depth(ast),
        messages=tuple(dsl.messages(request)),
        text=request.query,
        expected=ast,
        expected_text=dsl.render(ast),
        where=where,
        meta={
            "schema": request.schema,
            "schema_id": str(said.get("schema_id") or request.schema.get("$id") or ""),
            "language": said.get("language") or "",
            "current_date": request.current_date,
        },
    )
    return _with_grammar(case)


def faults_of(ast: Json, schema: Mapping[str, Any], where: str) -> list[dsl.Fault]:
    """`dsl.find_faults` of a row. Raises UserError, naming it, where the schema is none."""
    try:
        return dsl.find_faults(ast, schema)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _with_grammar(case: Case) -> Case:
    """A case with the grammar of its schema's ASTs, or with why there is none.

    Raises:
        UserError: the schema is none.
    """
    text = dsl.compact(case.meta["schema"])
    try:
        schema_grammar(text)
    except NoGrammar as error:
        return replace(case, meta={**case.meta, "no_grammar": str(error)})
    except UserError as error:
        raise UserError(f"{case.where}: {error}") from None
    return replace(case, grammar=Grammar("json_schema", text), meta={**case.meta, "no_grammar": ""})


def read_row(row: Mapping[str, Any], where: str) -> tuple[Request, Json, Json]:
    """(what is asked, the right AST, what else is said) of a row of any form.

    Raises:
        UserError: it has none of them, or a part cannot be read.
    """
    try:
        if dsl.is_short(row):
            short = dsl.read_short(row)
            request = Request(short["schema"], short["query"], short["current_date"])
            return request, short["ast"], short
        if isinstance(row.get("messages"), list) and len(row["messages"]) > 1:
            user, answer = (str(message["content"]) for message in row["messages"][-2:])
            return dsl.read_prompt(user), dsl.parse(answer), {}
        if "prompt" in row and "completion" in row:
            return dsl.read_prompt(str(row["prompt"])), dsl.parse(str(row["completion"])), {}
        schema = _json(row, "schema")
        ast = _json(row, "ast")
        return Request(schema, str(row["query"]), str(row["current_date"])), ast, {}
    except AnswerError as error:
        raise UserError(f"{where}: the expected AST: {error}.") from None
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: no {error}. A case is {_EXAMPLE}.") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _json(row: Mapping[str, Any], name: str) -> Json:
    """An object, or the text of one under NAME_json."""
    value = row.get(name)
    return value if isinstance(value, dict) else dsl.parse(str(row[f"{name}_json"]))


__all__ = [
    "CATEGORIES", "METRICS", "SKILL", "TAUGHT", "breakdown", "cases", "failure", "is_taught",
    "read_case", "read_row", "score_case",
]  # fmt: skip
