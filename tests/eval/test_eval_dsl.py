"""The scorer of dsl: forms of cases, metrics, and the kind of every failure."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from commands.eval import TOKENS_EVAL
from eval.evaluate import with_room
from eval.runner import without_grammar
from eval.scorers import dsl as scorer
from eval.scorers import find_set, get_scorer
from livery.engines.constrain import checker
from livery.engines.engine import Decoding
from livery.errors import UserError
from livery.skills import dsl
from tests import ROOT

CASES = {case.id: case for case in scorer.cases(find_set("dsl")[1])}


def named(category: str) -> Any:
    return next(case for case in CASES.values() if case.category == category)


def answer_of(case: Any, change: Any = None) -> str:
    ast = copy.deepcopy(case.expected)
    if change is not None:
        change(ast)
    return dsl.render(ast)


@pytest.mark.slow
def test_both_sets_are_found_and_their_own_answers_are_right() -> None:
    assert get_scorer("dsl") is scorer
    for name in ("validation", "second"):
        cases = scorer.cases(find_set("dsl", name)[1])
        assert len(cases) >= 100
        results = [scorer.score_case(case, case.expected_text) for case in cases]
        assert all(result.correct and result.parsed and not result.error for result in results)
        assert all(result.metrics["exact_match"] for result in results)
        found = scorer.breakdown(cases, results)
        assert set(found["depths"]) == set(scorer.CATEGORIES)
        assert len(found["schemas"]) >= 12
        assert sum(entry["cases"] for entry in found["languages"].values()) == len(cases)
        assert found["failures"] == {}


def test_no_answer_as_long_as_an_expected_one_is_cut() -> None:
    """The described system cut 14 of its 16 published answers."""
    tokenizer = Tokenizer.from_file(str(ROOT / "base_model" / "tokenizer.json"))
    cases = [*CASES.values()]
    longest = max(len(tokenizer.encode(case.expected_text).ids) for case in cases)
    assert longest > TOKENS_EVAL
    assert with_room(Decoding(TOKENS_EVAL), cases).max_tokens > longest
    assert with_room(Decoding(1000), cases) == Decoding(1000)
    short = [case for case in cases if len(case.expected_text) < 200]
    assert with_room(Decoding(TOKENS_EVAL), short) == Decoding(TOKENS_EVAL)


def test_a_case_asks_what_training_rows_ask() -> None:
    case = named("nested")
    assert case.messages == tuple(dsl.messages(dsl.read_prompt(case.messages[0]["content"])))
    assert case.asked == case.text
    assert "[SCHEMA]" not in case.text
    assert scorer.is_taught(case)
    assert not scorer.is_taught(named("refusal"))


def _set(path: str, value: Any) -> Any:
    def change(ast: dict[str, Any]) -> None:
        *above, last = [int(p) if p.isdigit() else p for p in path.split("/")]
        node: Any = ast
        for part in above:
            node = node[part]
        node[last] = value

    return change


def _swap(ast: dict[str, Any]) -> None:
    one, other = ast["steps"][0]["conditions"][:2]
    one["value"], other["value"] = other["value"], one["value"]


def _refuse(ast: dict[str, Any]) -> None:
    del ast["steps"], ast["timeframe"]
    ast["refusal"] = {"reason": "no", "suggestion": "no"}


def _add_step(ast: dict[str, Any]) -> None:
    ast["steps"].append(ast["steps"][0])


def _drop(ast: dict[str, Any]) -> None:
    ast["steps"][0]["conditions"].pop()


def _double(ast: dict[str, Any]) -> None:
    first = ast["steps"][0]["conditions"][0]
    ast["steps"][0]["conditions"].append({**first, "operator": "more", "field": "hive.frames",
                                          "value": "77"})  # fmt: skip


TWO = CASES["v002"]  # hive.frames more 8 & hive.strength same swarming, in September 2025


@pytest.mark.parametrize(
    ("change", "kind", "valid"),
    [
        (_set("timeframe/start", "2025-09-02"), "wrong_timeframe", True),
        (_set("timeframe/start", "2025-13-02"), "bad_timeframe", False),
        (_set("steps/0/conditions/0/value", "9"), "wrong_value", True),
        (_set("steps/0/conditions/0/operator", "no_less"), "wrong_operator", True),
        (_set("steps/0/conditions/0/operator", "gt"), "wrong_operator", False),
        (_set("steps/0/conditions/1/value", "large"), "bad_enum", False),
        (_set("steps/0/conditions/0/field", "frames"), "unknown_field", False),
        (_set("steps/0/conditions/0/field", "hive.keeper"), "wrong_field", True),
        (_refuse, "needless_refusal", True),
        (_add_step, "wrong_steps", True),
        (_drop, "missing_condition", True),
        (_double, "extra_condition", True),
        (_swap, "bad_enum", False),
        (lambda ast: ast.pop("timeframe"), "drop_timeframe", False),
        (lambda ast: ast.update(limit="3"), "extra_property", False),
    ],
)
def test_a_failure_is_told_by_its_kind(change: Any, kind: str, valid: bool) -> None:
    result = scorer.score_case(TWO, answer_of(TWO, change))
    assert scorer.failure(result) == kind
    assert result.parsed
    assert not result.correct
    assert result.metrics["schema_valid"] is valid
    assert not result.metrics["ast_match"]


def test_swapped_values_and_groups_are_told() -> None:
    case = next(
        case for case in CASES.values()
        if case.category == "several conditions" and case.meta["schema_id"] == "parking"
        and case.expected["steps"][0]["conditions"][0]["field"] == "Suspended"
    )  # fmt: skip
    ast = copy.deepcopy(case.expected)
    first, second = ast["steps"][0]["conditions"]
    first["field"], second["field"] = "Holder", "Holder"
    case_of = copy.copy(case)
    object.__setattr__(case_of, "expected", ast)
    swapped = copy.deepcopy(ast)
    _swap(swapped)
    assert scorer.failure(scorer.score_case(case_of, dsl.render(swapped))) == "swapped_values"
    group = next(c for c in CASES.values() if c.id == "v004")
    apart = copy.deepcopy(group.expected)
    apart["steps"][0]["conditions"] = apart["steps"][0]["conditions"][0]["any"]
    assert scorer.failure(scorer.score_case(group, dsl.render(apart))) == "wrong_grouping"


def test_an_answer_in_another_order_and_words_matches_but_not_exactly() -> None:
    ast = copy.deepcopy(TWO.expected)
    ast["steps"][0]["conditions"].reverse()
    ast["steps"][0]["description"] = "hives"
    result = scorer.score_case(TWO, json.dumps(ast, indent=2))
    assert result.correct
    assert not result.metrics["exact_match"]
    assert result.metrics["timeframe"]


@pytest.mark.parametrize("answer", ["", "Here it is:", "[]", '{"prompt": "x", "steps": [{"na'])
def test_an_answer_that_is_no_object_is_no_json(answer: str) -> None:
    for case in (TWO, named("refusal")):
        result = scorer.score_case(case, answer)
        assert not result.parsed
        assert scorer.failure(result) == "no_json"
        assert not any(result.metrics.values())


def test_refusals_are_counted_on_both_sides() -> None:
    refusal = named("refusal")
    right = scorer.score_case(refusal, dsl.render(refusal.expected))
    assert right.metrics["refused"]
    assert "over_refusal" not in right.metrics
    other_words = copy.deepcopy(refusal.expected)
    other_words["refusal"]["reason"] = "I cannot."
    assert scorer.score_case(refusal, dsl.render(other_words)).correct
    answered = {"prompt": "x", "steps": [{"name": "step_1", "conditions": [
        {"field": "hive.frames", "operator": "same", "value": "1"}], "description": "x"}],
        "timeframe": {"start": "", "end": ""}}  # fmt: skip
    hives = next(
        c for c in CASES.values() if c.category == "refusal" and c.meta["schema_id"] == "beehives"
    )
    assert scorer.failure(scorer.score_case(hives, dsl.render(answered))) == "missing_refusal"
    needless = scorer.score_case(TWO, answer_of(TWO, _refuse))
    assert needless.metrics["over_refusal"]
    assert "timeframe" not in needless.metrics


def row_of(case: Any, **more: Any) -> dict[str, Any]:
    """As the described system's d_04 has it."""
    return {
        "schema_id": case.meta["schema_id"], "domain": "x", "operators": ["same"],
        "schema_json": json.dumps(case.meta["schema"], indent=1), "query": case.text,
        "current_date": case.meta["current_date"],
        "ast_json": json.dumps(case.expected, sort_keys=True, indent=1), "is_valid": True,
        "validation_error": None, "error_type": None, **more,
    }  # fmt: skip


def test_cases_of_every_form_are_one_case(tmp_path: Path) -> None:
    prompt = TWO.messages[0]["content"]
    forms = [
        row_of(TWO),
        {"schema": TWO.meta["schema"], "query": TWO.text, "ast": TWO.expected,
         "current_date": TWO.meta["current_date"]},
        {"prompt": prompt, "completion": TWO.expected_text, "schema_id": "beehives"},
        {"messages": [TWO.messages[0], {"role": "assistant", "content": TWO.expected_text}],
         "meta": {"id": "m", "language": "en"}},
    ]  # fmt: skip
    path = tmp_path / "cases.jsonl"
    path.write_text("".join(json.dumps(form) + "\n" for form in forms))
    for case in scorer.cases(path):
        assert case.messages == TWO.messages
        assert case.expected == TWO.expected
        assert case.meta["schema_id"] == "beehives"
        assert scorer.score_case(case, TWO.expected_text).correct


def test_wrong_rows_and_rows_to_train_on_are_no_cases() -> None:
    one = named("one condition")
    rows = [
        row_of(TWO, split="train"),
        row_of(one, split="test"),
        row_of(TWO, split="test", is_valid=False, error_type="bad_enum"),
    ]
    (case,) = scorer.cases(rows)
    assert case.text == one.text
    assert len(scorer.cases([row_of(TWO), row_of(one, is_valid=False)])) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ast_json": "{"}, "expected AST"),
        ({"ast_json": '{"prompt":"x"}'}, "invalid under its schema"),
        ({"schema_json": "[]"}, "object"),
        ({"schema_json": '{"type":"objet"}'}, "No JSON Schema"),
        ({"schema_json": '{"$ref":"#/definitions/none"}'}, "cannot be followed"),
        ({"schema_json": '{"$ref":"http://127.0.0.1:9/x.json"}'}, "cannot be followed"),
        ({"schema_json": '{"$ref":"#"}'}, "cannot be followed"),
        ({"current_date": "soon"}, "YYYY-MM-DD"),
        ({"query": " "}, "empty"),
    ],
)
def test_a_malformed_case_is_refused_with_its_line(
    tmp_path: Path, change: dict[str, str], said: str
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(row_of(TWO)) + "\n" + json.dumps(row_of(TWO, **change)) + "\n")
    with pytest.raises(UserError) as error:
        scorer.cases(path)
    assert "mine.jsonl:2" in str(error.value)
    assert said in str(error.value)


def test_a_row_without_its_parts_is_shown_one_that_has_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"query": "x"}\n')
    with pytest.raises(UserError, match=r"mine\.jsonl:1.*A case is"):
        scorer.cases(path)


@pytest.mark.slow
def test_the_grammar_of_a_case_is_its_schemas() -> None:
    seen: dict[str, Any] = {}
    for case in CASES.values():
        assert case.grammar is not None, case.meta["no_grammar"]
        refused = seen.setdefault(case.grammar.text, checker(case.grammar))
        assert not refused(case.expected_text)
        assert refused(answer_of(case, lambda ast: ast.update(extra="")))
        assert refused(json.dumps(case.expected))  # with blanks


def test_a_schema_without_a_grammar_leaves_its_case_free_and_is_counted() -> None:
    case = named("one condition")
    schema = {**case.meta["schema"], "patternProperties": {"^(?=x)": {}}}
    row = {
        "schema": schema,
        "query": case.text,
        "current_date": case.meta["current_date"],
        "ast": case.expected,
    }
    held, free = scorer.cases([{**row, "schema": case.meta["schema"]}, row])
    assert held.grammar is not None
    assert free.grammar is None
    [(reason, count)] = without_grammar(get_scorer("dsl"), [held, free]).items()
    assert count == 1
    assert "(patternProperties)" in reason
