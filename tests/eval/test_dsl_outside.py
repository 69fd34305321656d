"""Public sets as cases of dsl: rows of their shapes, made by us, and what is right in each."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from eval.scorers import dsl as scorer
from livery.engines.constrain import checker
from livery.errors import UserError
from livery.skills import dsl

Json = dict[str, Any]


def lines(path: Path, *rows: Json) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def score(case: Any, answer: Any) -> Any:
    return scorer.score_case(case, answer if isinstance(answer, str) else json.dumps(answer))


# -- Spider ----------------------------------------------------------------------------------------

TABLES = {
    "db_id": "zoo",
    "table_names_original": ["keeper", "Animal"],
    "table_names": ["keeper", "animal"],
    "column_names_original": [
        [-1, "*"], [0, "id"], [0, "Name"], [1, "keeper_id"], [1, "Kind"], [1, "age"],
    ],
    "column_names": [],
    "column_types": ["text", "number", "text", "number", "text", "number"],
    "primary_keys": [1],
    "foreign_keys": [[3, 1]],
}  # fmt: skip


def column(number: int, aggregate: int = 0, distinct: bool = False) -> list[Any]:
    return [aggregate, number, distinct]


def unit(number: int, aggregate: int = 0) -> list[Any]:
    return [0, column(number, aggregate), None]


def sql(select: list[Any], tables: list[int], **more: Any) -> Json:
    empty: Json = {
        "where": [], "groupBy": [], "having": [], "orderBy": [], "limit": None,
        "intersect": None, "union": None, "except": None,
    }  # fmt: skip
    join = [[False, 2, unit(3), column(1), None]] if len(tables) > 1 else []
    units = [["table_unit", table] for table in tables]
    return {"select": select, "from": {"table_units": units, "conds": join}, **empty, **more}


def spider_row(question: str, parsed: Json) -> Json:
    return {
        "db_id": "zoo", "question": question, "question_toks": question.split(),
        "query": "SELECT ...", "query_toks": [], "query_toks_no_value": [], "sql": parsed,
    }  # fmt: skip


INNER = sql([False, [[5, unit(5)]]], [1])
SPIDER_ROWS = (
    spider_row("How many keepers are there?", sql([False, [[3, unit(0)]]], [0])),
    spider_row(
        "Names of keepers of lions or of old tigers, the oldest animal first",
        sql(
            [True, [[0, unit(2)], [0, unit(5)]]],
            [0, 1],
            where=[
                [False, 2, unit(4), '"lion"', None], "or",
                [False, 2, unit(4), '"tiger"', None], "and",
                [False, 3, unit(5), 12.0, None],
            ],
            orderBy=["desc", [unit(5)]],
            limit=3,
        ),
    ),
    spider_row(
        "Kinds older than the average",
        sql([False, [[0, unit(4)]]], [1], where=[[False, 3, unit(5), INNER, None]]),
    ),
    spider_row(
        "Keepers who have no animal between 2 and 4",
        sql([False, [[0, unit(1)]]], [0],
            **{"except": sql([False, [[0, unit(3)]]], [1],
                             where=[[True, 1, unit(5), 2.0, 4.0]])}),
    ),
    spider_row(
        "Kinds with two animals or more",
        sql([False, [[0, unit(4)], [0, unit(0, 3)]]], [1], groupBy=[column(4)],
            having=[[False, 5, unit(0, 3), 2.0, None]]),
    ),
)  # fmt: skip


@pytest.fixture
def spider(tmp_path: Path) -> list[Any]:
    (tmp_path / "tables.json").write_text(json.dumps([TABLES]), encoding="utf-8")
    (tmp_path / "dev.json").write_text(json.dumps(SPIDER_ROWS, indent=1), encoding="utf-8")
    return scorer.cases(tmp_path / "dev.json")


def test_spider_becomes_queries_over_a_schema_of_its_database(spider: list[Any]) -> None:
    assert [case.category for case in spider] == [
        "plain", "join", "nested", "set operation", "grouped",
    ]  # fmt: skip
    assert spider[0].expected == {
        "select": [{"column": "*", "aggregate": "count"}],
        "from": ["keeper"],
    }
    assert spider[1].expected == {
        "select": [{"column": "keeper.Name"}, {"column": "Animal.age"}],
        "distinct": True,
        "from": ["keeper", "Animal"],
        "where": [
            [{"left": {"column": "Animal.Kind"}, "operator": "=", "right": "lion"}],
            [
                {"left": {"column": "Animal.Kind"}, "operator": "=", "right": "tiger"},
                {"left": {"column": "Animal.age"}, "operator": ">", "right": 12},
            ],
        ],
        "order_by": {"direction": "desc", "by": [{"column": "Animal.age"}]},
        "limit": 3,
    }
    assert spider[3].expected["except"]["where"][0][0] == {
        "left": {"column": "Animal.age"}, "operator": "not between", "right": 2, "and": 4,
    }  # fmt: skip
    asked = dsl.read_prompt(spider[2].messages[0]["content"])
    assert asked.query == "Kinds older than the average"
    assert "Animal.age: number" in asked.schema["description"]
    for case in spider:
        result = score(case, case.expected_text)
        assert result.correct
        assert result.metrics["schema_valid"]
        assert result.metrics["exact_match"]


def test_spider_compares_what_a_query_means(spider: list[Any], tmp_path: Path) -> None:
    right = spider[1].expected
    other = copy.deepcopy(right)
    other["select"].reverse()
    other["from"].reverse()
    other["where"].reverse()
    other["where"][0].reverse()
    other["where"][1][0]["right"] = "Lion"
    other["where"][0][0]["right"] = "12"
    result = score(spider[1], other)
    assert result.correct
    assert not result.metrics["exact_match"]
    changes: tuple[tuple[str, Any], ...] = (
        ("wrong_distinct", lambda a: a.pop("distinct")),
        ("wrong_select", lambda a: a["select"].pop()),
        ("wrong_where", lambda a: a["where"].append(a["where"][1][:1])),
        ("wrong_limit", lambda a: a.update(limit=4)),
        ("wrong_order_by", lambda a: a["order_by"].update(direction="asc")),
    )
    for kind, change in changes:
        wrong = copy.deepcopy(right)
        change(wrong)
        assert scorer.failure(score(spider[1], wrong)) == kind
    # `by` has an order: the one thing sorted by decides before the next.
    two = copy.deepcopy(right)
    two["order_by"]["by"].insert(0, {"column": "keeper.id"})
    assert not score(spider[1], two).correct
    # A town of Thailand, and what Python reads as no number.
    nan = sql([False, [[0, unit(1)]]], [0], where=[[False, 2, unit(2), '"Nan"', None]])
    (town,) = scorer.cases(lines(tmp_path / "dev.jsonl", spider_row("Who is of Nan?", nan)))
    assert score(town, town.expected_text).correct
    unknown = copy.deepcopy(right)
    unknown["from"][0] = "people"
    assert not score(spider[1], unknown).metrics["schema_valid"]


def test_spiders_grammar_lets_its_own_queries_through(spider: list[Any]) -> None:
    refused = checker(spider[2].grammar)
    assert all(case.grammar is not None for case in spider)
    assert refused(spider[2].expected_text) == ""
    assert refused(spider[2].expected_text.replace("Animal.age", "Animal.height"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda row: row.pop("sql"), r'dev.json:entry 1: no "sql"'),
        (lambda row: row.update(db_id="farm"), "database 'farm' is not in tables.json"),
        (lambda row: row["sql"].pop("limit"), "not as Spider writes them"),
        (lambda row: row["sql"]["select"][1].append([9, unit(2)]), "not as Spider writes them"),
    ],
)
def test_a_row_of_spider_that_lacks_something_is_named(
    tmp_path: Path, change: Any, said: str
) -> None:
    row = copy.deepcopy(SPIDER_ROWS[0])
    change(row)
    (tmp_path / "dev.json").write_text(json.dumps([row]), encoding="utf-8")
    (tmp_path / "tables.json").write_text(json.dumps([TABLES]), encoding="utf-8")
    with pytest.raises(UserError, match=said):
        scorer.cases(tmp_path / "dev.json")


def test_spider_without_its_tables_says_where_they_belong(tmp_path: Path) -> None:
    path = lines(tmp_path / "dev.jsonl", SPIDER_ROWS[0])
    with pytest.raises(UserError, match=r"tables.json: not there. Rows of Spider need"):
        scorer.cases(path)


# -- BFCL ------------------------------------------------------------------------------------------

FUNCTIONS: list[Json] = [
    {
        "name": "boat.rent",
        "description": "Rent a boat.",
        "parameters": {
            "type": "dict",
            "properties": {
                "harbour": {"type": "string", "description": "Where."},
                "hours": {"type": "float", "default": 1.0},
                "seats": {"type": "integer"},
                "extras": {"type": "array", "items": {"type": "string"}},
                "budget": {
                    "type": "dict",
                    "properties": {"min": {"type": "float"}, "max": {"type": "float"}},
                },
                "skipper": {"type": "boolean", "optional": True},
                "flag": {"type": "string", "enum": ["red", "blue"], "default": None},
            },
            "required": ["harbour", "hours"],
        },
    },
    {
        "name": "tide",
        "description": "Tides of a place.",
        "parameters": {
            "type": "dict",
            "properties": {"at": {"type": "tuple", "items": {"type": "float"}}},
            "required": ["at"],
        },
    },
]


def bfcl_row(id: str, *turns: str) -> Json:
    said = [{"role": "user", "content": text} for text in turns]
    return {"id": id, "question": [said], "function": copy.deepcopy(FUNCTIONS)}


RENT = {
    "boat.rent": {
        "harbour": ["Port St. Mary", "PSM"], "hours": [2], "seats": [4, ""],
        "extras": [["life jacket", "map"], ""], "budget": [{"min": [50.0], "max": [80]}, ""],
        "skipper": ["", False], "flag": ["", None],
    }
}  # fmt: skip
TIDE = {"tide": {"at": [[54.1, -4.7]]}}


@pytest.fixture
def bfcl(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "possible_answer").mkdir()
    lines(
        tmp_path / "BFCL_v4_parallel_multiple.json",
        bfcl_row("parallel_multiple_0", "A boat for two hours, and the tide there."),
        bfcl_row("multiple_1", "A boat for two hours at Port St Mary."),
        bfcl_row("live_irrelevance_3-4-0", "Who wrote Hamlet?"),
        bfcl_row("live_relevance_0-0-0", "Anything about the sea."),
    )
    lines(
        tmp_path / "possible_answer" / "BFCL_v4_parallel_multiple.json",
        {"id": "parallel_multiple_0", "ground_truth": [RENT, TIDE]},
        {"id": "multiple_1", "ground_truth": [RENT]},
    )
    return {c.category: c for c in scorer.cases(tmp_path / "BFCL_v4_parallel_multiple.json")}


def rent(**arguments: Any) -> Json:
    return {"name": "boat.rent", "arguments": {"harbour": "PSM", "hours": 2, **arguments}}


def test_bfcl_becomes_calls_under_a_schema_of_its_functions(bfcl: dict[str, Any]) -> None:
    assert [*bfcl] == ["parallel_multiple", "multiple", "live_irrelevance", "live_relevance"]
    case = bfcl["multiple"]
    assert case.expected == {
        "calls": [
            {"name": "boat.rent", "arguments": {"harbour": "Port St. Mary", "hours": 2}}
        ]
    }  # fmt: skip
    for name in ("parallel_multiple", "multiple", "live_irrelevance"):
        assert score(bfcl[name], bfcl[name].expected_text).correct
    assert checker(case.grammar)(case.expected_text) == ""
    assert checker(case.grammar)('{"calls":[{"name":"sail","arguments":{}}]}')


@pytest.mark.parametrize(
    ("calls", "kind"),
    [
        ([rent(harbour="port st mary", hours=2.0)], ""),  # case, spaces and dots say nothing
        ([rent(seats=4, extras=["Life-Jacket", "MAP"], skipper=False)], ""),
        ([rent(budget={"max": 80.0, "min": 50})], ""),
        ([rent(flag=None)], ""),  # what is not given has this default
        ([rent(flag="red")], "wrong_arguments"),
        ([rent(budget={"max": 80.0})], "wrong_arguments"),
        ([rent(seats=5)], "wrong_arguments"),
        ([rent(skipper=True)], "wrong_arguments"),
        ([rent(extras=["map", "life jacket"])], "wrong_arguments"),  # a list has an order
        ([{"name": "boat.rent", "arguments": {"hours": 2}}], "wrong_arguments"),
        ([rent(hours=True)], "wrong_arguments"),
        ([{"name": "tide", "arguments": {"at": [54.1, -4.7]}}], "wrong_function"),
        ([rent(), rent()], "wrong_count"),
        ([], "wrong_count"),
        ("boat", "no_calls"),
    ],
)
def test_bfcl_takes_what_its_own_check_takes(bfcl: dict[str, Any], calls: Any, kind: str) -> None:
    result = score(bfcl["multiple"], {"calls": calls})
    assert scorer.failure(result) == kind
    assert result.correct is (not kind)


def test_bfcl_calls_have_no_order_and_irrelevance_is_a_refusal(bfcl: dict[str, Any]) -> None:
    tide = {"name": "tide", "arguments": {"at": [54.1, -4.7]}}
    assert score(bfcl["parallel_multiple"], {"calls": [tide, rent()]}).correct
    refusal = {"refusal": {"reason": "Neither.", "suggestion": ""}}
    refused = score(bfcl["live_irrelevance"], refusal)
    assert refused.correct
    assert refused.metrics["refused"] is True
    called = score(bfcl["live_irrelevance"], {"calls": [rent()]})
    assert (scorer.failure(called), called.metrics["refused"]) == ("missing_refusal", False)
    over = score(bfcl["multiple"], refusal)
    assert (scorer.failure(over), over.metrics["over_refusal"]) == ("needless_refusal", True)
    # Of "relevance" any call is right, and none is wrong.
    assert score(bfcl["live_relevance"], {"calls": [tide]}).correct
    assert not score(bfcl["live_relevance"], refusal).correct
    assert not score(bfcl["live_relevance"], {"calls": [{"name": "sail"}]}).correct


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (bfcl_row("simple_0", "A boat."), "no answer to 'simple_0'. Put BFCL's folder"),
        ({**bfcl_row("simple_0", "A boat."), "ground_truth": ["f(x=1)"]}, '"ground_truth" is not'),
        (
            {**bfcl_row("simple_0", "A boat."), "ground_truth": [{"boat.rent": {"harbour": []}}]},
            '"ground_truth" is not',
        ),
        ({**bfcl_row("multi_turn_base_0", "A"), "function": []}, "not one call to functions"),
        ({**bfcl_row("simple_0"), "question": [[], []]}, "several turns"),
        (
            {
                **bfcl_row("java_0", "A boat."),
                "function": [
                    {"name": "f", "parameters": {"type": "dict", "properties": {"a": {"type":
                     "HashMap"}}, "required": []}}
                ],
            },
            "HashMap is of another language",
        ),
    ],
)  # fmt: skip
def test_a_row_of_bfcl_that_cannot_be_scored_is_named(tmp_path: Path, row: Json, said: str) -> None:
    with pytest.raises(UserError, match=said) as told:
        scorer.cases(lines(tmp_path / "BFCL_v4_x.json", row))
    assert "BFCL_v4_x.json:1: " in str(told.value)


# -- JSONSchemaBench -------------------------------------------------------------------------------

BOOK = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "pages": {"type": "integer", "minimum": 1}},
    "required": ["title"],
    "additionalProperties": False,
}


def test_any_document_under_a_schema_of_jsonschemabench_is_right(tmp_path: Path) -> None:
    numbers = {"type": "array", "items": {"type": "integer"}, "minItems": 2}
    cases = scorer.cases(
        lines(
            tmp_path / "bench.jsonl",
            {"json_schema": json.dumps(BOOK), "unique_id": "Github_easy---o1"},
            {"json_schema": numbers, "unique_id": "Github_easy---o2"},
            {
                "description": "a book",
                "schema": BOOK,
                "tests": [
                    {"description": "no", "valid": False, "data": {"pages": 1}},
                    {"description": "yes", "valid": True, "data": {"title": "Emma"}},
                ],
            },
        )
    )
    assert [case.id for case in cases] == ["Github_easy---o1", "Github_easy---o2", "a book"]
    assert [case.expected_text for case in cases] == ["", "", '{"title":"Emma"}']
    assert all(scorer.is_taught(case) and case.grammar is not None for case in cases)
    assert score(cases[0], {"title": "Emma", "pages": 3}).correct
    assert score(cases[1], [1, 2]).correct  # a document need not be an object
    wrong = score(cases[0], {"title": "Emma", "pages": 0})
    assert (scorer.failure(wrong), wrong.parsed) == ("invalid", True)
    cut = score(cases[1], "[1, 2")
    assert scorer.failure(cut) == "no_json"
    assert set(cut.metrics) == set(wrong.metrics) == {"schema_valid", "english"}
    assert score(cases[2], cases[2].expected_text).correct
    found = scorer.breakdown(cases, [score(case, "null") for case in cases])
    assert found["failures"] == {"invalid": 3}


def test_a_schema_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for schema, said in (
        ("{", "its schema: "),
        (True, "its schema is no JSON object"),
        ({"type": "text"}, "not a JSON Schema at type"),
    ):
        with pytest.raises(UserError, match=said) as told:
            scorer.cases(lines(tmp_path / "bench.jsonl", {"json_schema": schema}))
        assert "bench.jsonl:1" in str(told.value)
