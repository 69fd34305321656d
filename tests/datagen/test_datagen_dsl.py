"""The generator of dsl: queries that mean their ASTs, splits, negatives, lengths, determinism."""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from datetime import date
from itertools import groupby
from typing import Any

import pytest

from datagen.dsl import generate, times
from datagen.dsl.negatives import KINDS, MEANING_KINDS, SCHEMA_KINDS, negative
from datagen.dsl.phrases import NUMBERS
from datagen.dsl.specs import read_catalog
from datagen.dsl.words import HELD_OUT_ENTITIES, HELD_OUT_KINDS
from livery.dataset.rows import read_row
from livery.skills import dsl
from tests import ROOT

ROWS = 480
# As schemas write true and false.
TRUTHS = (("true", "false"), ("yes", "no"), ("Y", "N"), ("1", "0"), ("on", "off"))
NO_FAULT = "valid, but it means something else than the query"


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, Any]]]:
    return generate(7, ROWS, 80)


def request_of(row: dict[str, Any]) -> dsl.Request:
    return dsl.read_prompt(row["messages"][0]["content"])


def ast_of(row: dict[str, Any]) -> dict[str, Any]:
    return dsl.parse(row["messages"][-1]["content"])


@pytest.mark.slow
def test_every_row_is_valid_compact_and_its_own_prompt(splits: Any) -> None:
    for row in (*splits["train"], *splits["valid"], *splits["test"]):
        request, answer = request_of(row), row["messages"][-1]["content"]
        ast = dsl.parse(answer)
        assert dsl.find_faults(ast, request.schema) == [], row["meta"]
        assert dsl.render(ast) == answer
        assert ast["prompt"] == request.query
        assert len(answer) <= dsl.LONGEST_ANSWER
        read_row(row, "row")


def test_queries_say_what_their_ast_means(splits: Any) -> None:
    """Every value stands in the query, as it is or as its schema describes it."""
    for row in splits["train"][:200]:
        ast, schema = ast_of(row), request_of(row).schema
        said = row["meta"]["query"].casefold()
        words = dsl.vocabulary(schema)
        described = _descriptions(schema)
        for condition in dsl.conditions(ast):
            field, value = condition["field"], condition["value"]
            if words.fields[field]:
                truth = words.fields[field] in TRUTHS
                names = described[field] if truth else described[field, value]
                # A schema that is not bilingual does not say what French calls it.
                french = row["meta"]["language"] == "fr" and len(names) == 1
                told = re.findall(r"\w{2,}", " ".join(names))
                found = {word for word in told if word[:5] in said}
                assert french or found - {"it", "is", "or", "not", "whether"}, (row["meta"], names)
                denied = re.search(r"\b(not|non|ne)\b", said) is not None
                assert not truth or denied or value == words.fields[field][0], row["meta"]
            elif re.fullmatch(r"\d{4}-\d\d-\d\d", value):
                assert value in said or str(date.fromisoformat(value).year) in said
            elif re.fullmatch(r"[0-9.]+", value):
                plain = said.replace(",", "").replace(" ", "")
                digits = value.replace(".", "") in plain.replace(".", "")
                number = NUMBERS[row["meta"]["language"]]
                assert digits or number[int(value)] in said, row["meta"]
            else:
                assert value.casefold() in said, row["meta"]


def _descriptions(schema: Any) -> dict[Any, list[str]]:
    """What fields and values are called, by (field) and (field, value)."""
    place = schema["properties"]["steps"]["items"]["properties"]["conditions"]["items"]
    condition = schema.get("definitions", {}).get("condition") or place
    found = {entry["const"]: _names(entry) for entry in condition["properties"]["field"]["oneOf"]}
    for rule in condition["allOf"]:
        when, value = rule["if"]["properties"]["field"], rule["then"]["properties"]["value"]
        listed = value.get("oneOf") or [{"const": const} for const in value.get("enum", ())]
        for field in when.get("enum") or [when["const"]]:
            found |= {(field, entry["const"]): _names(entry) for entry in listed}
    return found


def _names(entry: dict[str, str]) -> list[str]:
    text = entry.get("description") or entry["const"].replace("_", " ")
    return [name.partition(" (")[0].strip().casefold() for name in text.split(" / ")]


def test_the_same_query_never_has_two_answers_under_one_schema(splits: Any) -> None:
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for row in splits["train"]:
        answers[row["messages"][0]["content"]].add(row["messages"][1]["content"])
    assert len(answers) == ROWS
    assert max(map(len, answers.values())) == 1


def test_there_is_something_of_everything(splits: Any) -> None:
    train = splits["train"]
    shapes = Counter(row["meta"]["scenario"] for row in train)
    assert set(shapes) == {"one condition", "several conditions", "nested", "steps", "refusal"}
    assert min(shapes.values()) > 0.05 * ROWS
    refused = {row["meta"]["refused"] for row in train} - {""}
    assert refused == {"unknown_field", "unknown_value", "no_operator", "action", "alternatives"}
    languages = Counter(row["meta"]["language"] for row in train)
    assert min(languages.values()) > 0.4 * ROWS
    timed = sum(bool((ast_of(row).get("timeframe") or {}).get("start")) for row in train)
    assert 0.25 * ROWS < timed < 0.6 * ROWS
    canonical = {o["const"]: o for o in read_catalog()}
    used = {c["operator"] for row in train for c in dsl.conditions(ast_of(row))}
    assert len(used - set(canonical)) > 15  # under names of their own


def test_rows_of_a_schema_stand_together_and_share_the_schema(splits: Any) -> None:
    names = [row["meta"]["schema_id"] for row in splits["train"]]
    assert len([name for name, _ in groupby(names)]) == len(set(names)) <= ROWS / 7
    for _, rows in groupby(splits["train"], lambda row: row["meta"]["schema_id"]):
        prompts = [row["messages"][0]["content"] for row in rows]
        assert len({prompt[: prompt.index("[/SCHEMA]")] for prompt in prompts}) == 1


def test_held_out_schemas_have_words_of_their_own(splits: Any) -> None:
    """Neither entity, nor field, nor a value of a closed set, nor a schema of the test's."""
    assert _said(splits["train"]) & _said(splits["valid"]) == set()
    schemas = {
        name: {dsl.compact(request_of(row).schema) for row in rows} for name, rows in splits.items()
    }
    assert not schemas["train"] & schemas["valid"]
    assert not schemas["train"] & schemas["test"]
    entities = {entity.name for entity in HELD_OUT_ENTITIES}
    queries = " ".join(row["meta"]["query"] for row in splits["train"]).casefold()
    assert not [name for name in entities if re.search(rf"\b{name}\b", queries)]
    names = {kind.english for kind in HELD_OUT_KINDS if " " in kind.english}
    assert not [name for name in names if name in queries]


def _said(rows: list[dict[str, Any]]) -> set[str]:
    """Names of the fields and values of schemas, but for true and false."""
    found: set[str] = set()
    for row in rows:
        for names in _descriptions(request_of(row).schema).values():
            found.update(names)
    return found - {word for pair in TRUTHS for word in pair} - {"yes", "no", "oui", "non"}


def test_rows_fit_the_embedded_base(splits: Any) -> None:
    """Its context holds 2,048 tokens; the skill says so of its longest rows."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(ROOT / "base_model" / "tokenizer.json"))
    longest = sorted(
        (*splits["train"], *splits["test"]),
        key=lambda row: -sum(len(m["content"]) for m in row["messages"]),
    )[:20]
    counts = [
        sum(len(tokenizer.encode(m["content"]).ids) + 6 for m in row["messages"]) for row in longest
    ]
    assert max(counts) <= dsl.SKILL.max_length == 2048
    assert min(counts) > 1000  # a schema is a thousand tokens and more


def test_the_same_seed_gives_the_same_rows() -> None:
    assert generate(7, 24, 8) == generate(7, 24, 8)
    assert generate(8, 24, 8)["train"] != generate(7, 24, 8)["train"]
    assert generate(7, 40, 8)["train"][:24] == generate(7, 24, 8)["train"]


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "start", "end"),
    [
        (None, "", ""),
        ({"kind": "today"}, "2026-03-18", "2026-03-18"),
        ({"kind": "yesterday"}, "2026-03-17", "2026-03-17"),
        ({"kind": "this_week"}, "2026-03-16", "2026-03-22"),
        ({"kind": "last_week"}, "2026-03-09", "2026-03-15"),
        ({"kind": "this_month"}, "2026-03-01", "2026-03-31"),
        ({"kind": "last_month"}, "2026-02-01", "2026-02-28"),
        ({"kind": "next_month"}, "2026-04-01", "2026-04-30"),
        ({"kind": "this_year"}, "2026-01-01", "2026-12-31"),
        ({"kind": "last_year"}, "2025-01-01", "2025-12-31"),
        ({"kind": "last_days", "n": 20}, "2026-02-26", "2026-03-18"),
        ({"kind": "month", "year": 2024, "month": 2}, "2024-02-01", "2024-02-29"),
        ({"kind": "since", "day": "2026-01-02"}, "2026-01-02", ""),
        ({"kind": "until", "day": "2026-01-02"}, "", "2026-01-02"),
        ({"kind": "on", "day": "2026-01-02"}, "2026-01-02", "2026-01-02"),
        ({"kind": "between", "day": "2026-01-02", "end": "2026-02-03"}, "2026-01-02", "2026-02-03"),
    ],
)
def test_a_timeframe_is_of_its_day(time: Any, start: str, end: str) -> None:
    assert times.timeframe(time, "2026-03-18") == {"start": start, "end": end}


def test_months_at_the_ends_of_years() -> None:
    last, next_ = ({"kind": kind} for kind in ("last_month", "next_month"))
    assert times.timeframe(last, "2026-01-31")["start"] == "2025-12-01"
    assert times.timeframe(next_, "2026-12-01")["end"] == "2027-01-31"


# -- negatives -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(splits: Any) -> dict[str, list[tuple[Any, Any, Any]]]:
    """kind -> (Negative, right AST, schema)."""
    found: defaultdict[str, list[tuple[Any, Any, Any]]] = defaultdict(list)
    for row in splits["train"][:120]:
        schema, ast = request_of(row).schema, ast_of(row)
        for kind in KINDS:
            wrong = negative(ast, schema, kind, random.Random(f"{row['meta']['id']} {kind}"))
            if wrong is not None:
                found[kind].append((wrong, ast, schema))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_negative_has_the_fault_that_it_names(kind: str, made: Any) -> None:
    assert len(made[kind]) >= 5
    for made_wrong, right, schema in made[kind]:
        wrong, faults = made_wrong.ast, dsl.find_faults(made_wrong.ast, schema)
        assert dsl.canonical_text(wrong) != dsl.canonical_text(right)
        if kind in SCHEMA_KINDS:
            assert faults[0].kind == kind
            assert {fault.kind for fault in faults} <= {
                kind,
                "missing_key",
                "bad_enum",
                "bad_value",
            }
        elif kind != "swapped_values":
            assert faults == []
            assert kind in MEANING_KINDS
            assert dsl.difference(wrong, right) == kind
        assert made_wrong.fault == (str(faults[0]) if faults else NO_FAULT)


@pytest.mark.slow
def test_hand_written_sets_are_valid_and_of_schemas_of_their_own() -> None:
    seen: set[str] = set()
    for name in ("validation", "second"):
        cases = dsl.hand_written(name)
        schemas = {case["schema_id"] for case in cases}
        assert len(cases) >= 100
        assert len(schemas) >= 12
        assert not schemas & seen
        seen |= schemas
        for case in cases:
            dsl.check_schema(case["schema"])
            assert dsl.find_faults(case["ast"], case["schema"]) == [], case["id"]
            assert json.loads(dsl.render(case["ast"])) == case["ast"]
        kinds = Counter(case["category"] for case in cases)
        assert min(kinds[k] for k in ("nested", "steps", "refusal", "one condition")) >= 8
        assert Counter(case["language"] for case in cases)["fr"] >= 30
        timed = [c for c in cases if (c["ast"].get("timeframe") or {"start": ""}) != {
            "start": "", "end": ""}]  # fmt: skip
        assert len(timed) >= 25
