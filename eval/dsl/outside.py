"""Public sets of schemas as cases of dsl, in the shapes they are published in; none is shipped.

- Spider dev (dev.json, a list, with tables.json beside it): `eval.dsl.spider`.
- BFCL (one object a line, in files called .json): {"id", "question": [[turns]], "function":
  [{"name", "description", "parameters"}]}; the answers are {"id", "ground_truth"} in a file of the
  same name under possible_answer/, or "ground_truth" in the row. The schema allows {"calls":
  [{"name", "arguments"}]} or a refusal. Rows of "irrelevance" must be refused, those of "relevance"
  answered with any call. An argument is right where it is one of those listed, as BFCL compares
  them: texts without case, spaces and ,./-_*^, and calls in any order.
- JSONSchemaBench (rows {"json_schema", "unique_id"}, the schema as an object or a text; its
  MaskBench {"schema", "tests": [{"valid", "data"}]}): any document that is valid under the schema
  is right. There is no request in it, so that figures say nothing about meaning.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.cases import Case, CaseResult, place
from eval.dsl import spider
from livery.errors import UserError, shown
from livery.json_schema import find_error
from livery.reading import parse_json, read_bytes, read_json, read_jsonl
from livery.skills import AnswerError, dsl
from livery.skills.dsl import Request

Json = dict[str, Any]

SPIDER, BFCL, BENCH = "Spider", "BFCL", "JSONSchemaBench"
DAY = "2026-01-01"  # of sets that know none
ANY = "Write one JSON document that is valid under the schema."
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}
_KEPT = ("description", "enum", "required")
_NO_CALLS = ("multi_turn", "memory", "web_search", "format_sensitivity")


def listed(path: str | Path) -> Iterator[tuple[str, Json]]:
    """("FILE:LINE", row) of JSON lines, ("FILE:entry N", row) of a JSON list in a .json file."""
    path = Path(path)
    if path.suffix == ".json" and read_bytes(path).lstrip()[:1] == b"[":
        for at, row in enumerate(read_json(path), start=1):
            if not isinstance(row, dict):
                raise UserError(f"{path}:entry {at} of its list is no JSON object.")
            yield f"{path}:entry {at}", row
    else:
        for line, row in read_jsonl(path):
            yield f"{path}:{line}", row


def is_outside(case: Case) -> bool:
    """Whether a case is of a public set."""
    return "outside" in case.meta


def reader(file: str | Path = "") -> Callable[[Mapping[str, Any], str], Case | None]:
    """What reads a public set's rows: (row, "file:line") -> the case, without its grammar; None
    where the row has none of their shapes. It raises UserError where one lacks something.

    Args:
        file: what the rows are read from; other files of the set lie beside it.
    """
    path = Path(file)
    tables = functools.cache(lambda: spider.read_tables(path.parent / "tables.json"))
    answers = functools.cache(lambda: _answers(path.parent / "possible_answer" / path.name))

    def read(row: Mapping[str, Any], where: str) -> Case | None:
        if "db_id" in row and "question" in row:
            schema, ast = spider.read(row, where, tables())
            kind = spider.kind(ast)
            return _case(SPIDER, row.get("id"), where, kind, schema, str(row["question"]), ast)
        if "function" in row and "question" in row:
            return _bfcl(row, where, path, answers)
        if "json_schema" in row or ("tests" in row and isinstance(row.get("schema"), Mapping)):
            return _bench(row, where)
        return None

    return read


def score_case(case: Case, answer: str) -> CaseResult:
    """How one raw answer did on its case."""
    name = case.meta["outside"]
    try:
        got = parse_json(answer, "the answer") if name == BENCH else dsl.parse(answer)
    except (AnswerError, UserError) as error:
        of = ("schema_valid",) if name == BENCH else ("schema_valid", "exact_match", "ast_match")
        missed: dict[str, bool] = dict.fromkeys(of, False)
        return _result(case, answer, None, f"no_json: {error}", missed)
    invalid = find_error(dsl.compact(case.meta["schema"]), got)
    if name == BENCH:
        return _result(case, answer, got, invalid and f"invalid: {invalid}",
                       {"schema_valid": not invalid})  # fmt: skip
    if name == SPIDER:
        wrong = spider.difference(got, case.expected)
    else:
        wrong = _call_fault(got, case.expected, case.meta["truth"])
    metrics = {
        "schema_valid": not invalid,
        "exact_match": dsl.canonical_text(got) == dsl.canonical_text(case.expected),
        "ast_match": not wrong,
    }
    refused = "refusal" in got
    metrics["refused" if "refusal" in case.expected else "over_refusal"] = refused
    return _result(case, answer, got, wrong or (invalid and f"invalid: {invalid}"), metrics)


def _result(
    case: Case, answer: str, got: Any, error: str, metrics: Mapping[str, bool]
) -> CaseResult:
    measured = {**metrics, "english": not error}
    return CaseResult(
        case.id, case.category, not error, got is not None, got, answer, error, metrics=measured
    )


def _case(
    name: str,
    id: Any,
    where: str,
    category: str,
    schema: Json,
    query: str,
    expected: Any,
    truth: Any = None,
) -> Case:
    try:
        request = Request(schema, query, DAY)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    named = str(id) if id not in (None, "") else place(where)
    return Case(
        id=named,
        category=category,
        messages=tuple(dsl.messages(request)),
        text=request.query,
        expected=expected,
        expected_text=dsl.compact(expected) if expected != {} else "",
        where=where,
        meta={
            "outside": name, "schema": schema, "schema_id": str(schema.get("$id") or named),
            "language": "en", "current_date": DAY, "truth": truth,
        },
    )  # fmt: skip


# -- BFCL ------------------------------------------------------------------------------------------


def _bfcl(
    row: Mapping[str, Any], where: str, file: Path, answers: Callable[[], Mapping[str, Any]]
) -> Case:
    id = str(row.get("id") or "")
    category = re.sub(r"_\d[\d-]*$", "", id) or file.stem
    if any(kind in category for kind in _NO_CALLS):
        raise UserError(f"{where}: its task ({shown(category, 40)}) is not one call to functions.")
    turns = row["question"]
    if not isinstance(turns, list) or len(turns) != 1:
        raise UserError(f"{where}: its question has several turns, which are not read.")
    try:
        said = [(str(turn["role"]), str(turn["content"])) for turn in turns[0]]
        schema = _calls_schema(row["function"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: no row of BFCL ({error}).") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    query = said[0][1] if len(said) == 1 else " ".join(f"{who}: {text}" for who, text in said)
    if "irrelevance" in category:
        expected: Json = {"refusal": {"reason": "No function fits.", "suggestion": ""}}
        return _case(BFCL, id, where, category, schema, query, expected)
    if "relevance" in category:
        return _case(BFCL, id, where, category, schema, query, {})
    truth = row.get("ground_truth") or answers().get(id)
    if truth is None:
        raise UserError(
            f"{where}: no answer to {shown(id, 60)!r}. Put BFCL's folder possible_answer beside "
            'the file, or "ground_truth" into the row.'
        )
    try:
        calls = [_first(call) for call in truth]
    except (AttributeError, LookupError, TypeError, ValueError):
        raise UserError(
            f'{where}: its "ground_truth" is not [{{"function": {{"argument": [values]}}}}].'
        ) from None
    return _case(BFCL, id, where, category, schema, query, {"calls": calls}, truth)


def _answers(file: Path) -> dict[str, Any]:
    """id -> ground truth; {} where there is no such file."""
    rows = read_jsonl(file) if file.is_file() else ()
    return {str(row.get("id")): row.get("ground_truth") for _, row in rows}


def _calls_schema(functions: Any) -> Json:
    """The schema of calls to some functions, or of a refusal to call one."""
    calls = [
        spider.closed({"name": {"const": one["name"]}, "arguments": _schema(one["parameters"])})
        | ({"description": one["description"]} if one.get("description") else {})
        for one in (functions if isinstance(functions, list) else [functions])
    ]
    text = {"type": "string"}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "anyOf": [
            spider.closed({"calls": {"type": "array", "minItems": 1, "items": {"anyOf": calls}}}),
            spider.closed({"refusal": spider.closed({"reason": text, "suggestion": text})}),
        ],
    }


def _schema(node: Mapping[str, Any]) -> Json:
    """A parameter's description, in Python's type names, as JSON Schema; what BFCL does not compare
    (formats, defaults, bounds) is left out.

    Raises:
        UserError: it has types of another language.
    """
    type_ = node.get("type", "any")
    kind = _TYPES.get(type_, type_) if isinstance(type_, str) else type_
    if kind not in (None, "object", "array", "string", "integer", "number", "boolean", "null"):
        raise UserError(
            f"the type {shown(kind, 40)} is of another language than Python; its files (java, "
            "javascript) are not read."
        )
    found: Json = {"type": kind} if kind else {}
    found |= {key: node[key] for key in _KEPT if key in node}
    if kind and "default" in node and node["default"] is None:  # BFCL lists null as right there
        found["type"] = [kind, "null"]
        found |= {"enum": [*node["enum"], None]} if "enum" in node else {}
    if isinstance(node.get("properties"), Mapping):
        found["properties"] = {name: _schema(part) for name, part in node["properties"].items()}
        found["additionalProperties"] = False
    if isinstance(node.get("items"), Mapping):
        found["items"] = _schema(node["items"])
    return found


def _first(call: Mapping[str, Any]) -> Json:
    """The first of the right calls; what may be left out is."""
    ((name, arguments),) = call.items()
    return {"name": name, "arguments": _firsts(arguments)}


def _firsts(arguments: Mapping[str, Any]) -> Json:
    return {key: _plain(values[0]) for key, values in arguments.items() if "" not in values}


def _plain(value: Any) -> Any:
    """A listed value as an answer has it: in an object, each key lists values of its own."""
    if isinstance(value, Mapping):
        return _firsts(value)
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _call_fault(got: Json, expected: Json, truth: Any) -> str:
    if "refusal" in expected:
        return "" if "refusal" in got else "missing_refusal"
    if "refusal" in got:
        return "needless_refusal"
    calls = got.get("calls")
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        return "no_calls"
    if truth is None:  # any call is right
        return "" if calls else "no_calls"
    if len(calls) != len(truth):
        return "wrong_count"
    left = list(calls)
    for wanted in truth:
        ((name, arguments),) = wanted.items()
        named = [call for call in left if call.get("name") == name]
        fits = [call for call in named if _fits(call.get("arguments"), [arguments])]
        if not fits:
            return "wrong_arguments" if named else "wrong_function"
        left.remove(fits[0])
    return ""


def _fits(value: Any, options: Sequence[Any]) -> bool:
    """Whether a value is one of those that BFCL lists for it; "" says that it may be left out."""
    return any(_is(value, option) for option in options if option != "" or value == "")


def _is(value: Any, option: Any) -> bool:
    if isinstance(option, Mapping):
        return (
            isinstance(value, Mapping)
            and all(key in option and _fits(value[key], option[key]) for key in value)
            and all(key in value or "" in listed for key, listed in option.items())
        )
    if isinstance(option, list):
        return (
            isinstance(value, list)
            and len(value) == len(option)
            and all(_is(one, other) for one, other in zip(value, option, strict=True))
        )
    if isinstance(option, str) and isinstance(value, str):
        return _standard(value) == _standard(option)
    return value == option and isinstance(value, bool) == isinstance(option, bool)


def _standard(text: str) -> str:
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


# -- JSONSchemaBench -------------------------------------------------------------------------------


def _bench(row: Mapping[str, Any], where: str) -> Case:
    schema = row["json_schema"] if "json_schema" in row else row["schema"]
    if isinstance(schema, str):
        schema = parse_json(schema, f"{where}: its schema")
    if not isinstance(schema, dict):
        raise UserError(f"{where}: its schema is no JSON object.")
    tests = row.get("tests")
    valid = [
        test["data"]
        for test in (tests if isinstance(tests, list) else ())
        if isinstance(test, Mapping) and test.get("valid") is True and "data" in test
    ]
    id = row.get("unique_id") or row.get("id") or row.get("description")
    return _case(BENCH, id, where, "schema", schema, ANY, valid[0] if valid else {})
