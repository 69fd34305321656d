"""A JSON Schema's grammar against jsonschema, by sampling both ways, and where there is none."""

from __future__ import annotations

import json
import math
import random
import re
from typing import Any

import jsonschema
import pytest

from livery.engines.constrain import checker
from livery.engines.engine import Grammar
from livery.engines.schemas import NoGrammar, SchemaGrammar, schema_grammar
from livery.engines.schemas.leaves import other_than
from livery.errors import UserError
from livery.skills import dsl

DRAFT = "http://json-schema.org/draft-07/schema#"
NEWER = "https://json-schema.org/draft/2020-12/schema"
NAMES = ["a", "b", "c", "name"]
SPEC = {
    "schema_id": "tickets",
    "domain": "tickets",
    "groups": True,
    "fields": [
        {"const": "status", "enum": [{"const": "open"}, {"const": "closed", "description": "-"}]},
        {"const": "owner", "description": "who"},
        {"const": "size", "type": "number"},
    ],
}
TICKETS = dsl.build_schema(SPEC, [{"const": "is"}, {"const": "after", "description": "later"}])


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def refuses(schema: Any, text: str) -> str:
    return checker(Grammar("json_schema", json.dumps(schema)))(text)


# -- the original's form ---------------------------------------------------------------------------


def ticket(**changed: Any) -> dict[str, Any]:
    condition = {"field": "status", "operator": "is", "value": "open"}
    step = {"name": "step_1", "conditions": [condition], "description": "status"}
    return {
        "prompt": "open ones",
        "steps": [step],
        "timeframe": {"start": "2026-01-01", "end": ""},
        **changed,
    }


def with_condition(**changed: Any) -> dict[str, Any]:
    found = ticket()
    found["steps"][0]["conditions"][0] |= changed
    return found


def test_the_originals_schema_has_a_grammar_that_holds_every_rule_of_it() -> None:
    validator = jsonschema.Draft7Validator(TICKETS)
    group = {"any": [{"field": "size", "operator": "is", "value": "3"}] * 2}
    grouped = ticket()
    grouped["steps"][0]["conditions"].append(group)
    no_frame = {k: v for k, v in ticket().items() if k != "timeframe"}
    refusal = {"reason": "no such field", "suggestion": "ask for the owner"}
    cases = [
        ticket(),
        grouped,
        with_condition(field="owner", value="anybody"),
        with_condition(value="anybody"),
        with_condition(operator="before"),
        with_condition(field="due"),
        with_condition(field="size", value="large"),
        with_condition(field="size", value="-2.5"),
        with_condition(extra=""),
        with_condition(value=3),
        no_frame,
        ticket(refusal=refusal),
        {"prompt": "x", "refusal": refusal},
        {"prompt": "x", "refusal": refusal, "timeframe": ticket()["timeframe"]},
        {"prompt": "x", "refusal": {"reason": "no"}},
        {"prompt": "x"},
        {"steps": ticket()["steps"], "timeframe": ticket()["timeframe"]},
    ]
    valid = [validator.is_valid(case) for case in cases]
    assert [not refuses(TICKETS, compact(case)) for case in cases] == valid
    assert valid.count(True) == 5
    # As training data are written: no blanks, and no escapes where none is needed.
    assert refuses(TICKETS, json.dumps(ticket()))
    assert not refuses(TICKETS, compact(ticket(prompt="où est-ce?")))
    assert refuses(TICKETS, json.dumps(ticket(prompt="où est-ce?"), separators=(",", ":")))


@pytest.mark.slow
def test_conditions_on_many_fields_stay_as_many_cases() -> None:
    fields = [
        {"const": f"f{n}", "enum": [{"const": f"v{n}_{m}"} for m in range(4)]} for n in range(40)
    ]
    schema = dsl.build_schema({**SPEC, "fields": fields, "groups": False}, [{"const": "is"}])
    assert len(schema_grammar(schema).text) < 20_000
    assert not refuses(schema, compact(with_condition(field="f7", value="v7_3")))
    assert refuses(schema, compact(with_condition(field="f7", value="v8_3")))


def test_a_document_is_written_with_its_names_in_the_grammars_order() -> None:
    turned = {key: ticket()[key] for key in reversed(ticket())}
    assert refuses(TICKETS, compact(turned))
    assert schema_grammar(TICKETS).render(turned) == compact(ticket())
    with pytest.raises(ValueError, match="does not admit"):
        schema_grammar(TICKETS).render(with_condition(operator="before"))


# -- any schema, both ways -------------------------------------------------------------------------


def scalar(draw: random.Random) -> Any:
    return draw.choice([None, True, False, 0, 1, 2, 3, -1, 1.5, "", "x", "xy", "red"])


def document(draw: random.Random, depth: int = 0) -> Any:
    kind = draw.random()
    if depth > 2 or kind < 0.55:
        return scalar(draw)
    if kind < 0.8:
        names = draw.sample([*NAMES, "zz"], draw.randint(0, 3))
        return {name: document(draw, depth + 1) for name in names}
    return [document(draw, depth + 1) for _ in range(draw.randint(0, 3))]


KEYWORDS = (
    *["type"] * 4, *["enum"] * 2, "const", *["properties"] * 5, *["required"] * 3,
    *["additionalProperties"] * 4, "patternProperties", "propertyNames", "minProperties",
    "maxProperties", "dependencies", "items", "items", "additionalItems", "minItems", "maxItems",
    "uniqueItems", "contains", "minLength", "maxLength", "pattern", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "allOf", "allOf", "anyOf", "anyOf",
    "oneOf", "oneOf", "not", "if", "if", "then", "then", "else", "$ref",
)  # fmt: skip


def any_schema(draw: random.Random, depth: int = 0) -> Any:
    """A schema of draft-07 of any of its keywords."""
    if depth > 3:
        plain = {"type": draw.choice(["string", "integer", "boolean"])}
        return draw.choice([True, {}, plain, {"const": scalar(draw)}])
    found = {key: value_of(draw, key, depth) for key in draw.choices(KEYWORDS, k=2)}
    return {"$ref": found["$ref"]} if "$ref" in found else found


def value_of(draw: random.Random, keyword: str, depth: int) -> Any:
    def inner() -> Any:
        return any_schema(draw, depth + 1)

    if keyword in ("allOf", "anyOf", "oneOf"):
        return [inner() for _ in range(draw.randint(1, 3))]
    if keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        return draw.randint(-1, 3)
    if keyword.startswith(("min", "max")):
        return draw.randint(0, 3)
    if keyword == "properties":
        return {name: inner() for name in draw.sample(NAMES, draw.randint(1, 3))}
    single: dict[str, Any] = {
        "type": lambda: draw.choice(
            ["string", "integer", "number", "object", "array", ["null", "string", "object"]]
        ),
        "enum": lambda: [document(draw, 1) for _ in range(draw.randint(1, 4))],
        "const": lambda: document(draw, 1),
        "required": lambda: draw.sample(NAMES, draw.randint(1, 2)),
        "additionalProperties": lambda: draw.choice([False, False, True, inner()]),
        "patternProperties": lambda: {draw.choice(["^a", "b$", "^x", "e"]): inner()},
        "propertyNames": lambda: draw.choice([{"enum": NAMES[:2]}, {"pattern": "^[a-c]"}]),
        "dependencies": lambda: {draw.choice(NAMES): draw.choice([NAMES[1:2], inner()])},
        "items": lambda: draw.choice([inner(), [inner(), inner()]]),
        "additionalItems": lambda: draw.choice([False, inner()]),
        "uniqueItems": lambda: True,
        "pattern": lambda: draw.choice(["^x", "y$", "^[a-z]+$"]),
        "multipleOf": lambda: draw.choice([1, 2, 0.5]),
        "$ref": lambda: "#/definitions/" + draw.choice("DE"),
    }
    return single.get(keyword, inner)()


def mutated(draw: random.Random, value: Any) -> Any:
    """A near miss: one thing of a document changed."""
    if draw.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return document(draw, 1)
    changed: dict[Any, Any] = dict(value) if isinstance(value, dict) else dict(enumerate(value))
    at = draw.choice(list(changed))
    kind = draw.random()
    if kind < 0.25:
        del changed[at]
    elif kind < 0.45:
        changed[draw.choice(NAMES) if isinstance(value, dict) else -1] = document(draw, 1)
    else:
        changed[at] = mutated(draw, changed[at])
    return changed if isinstance(value, dict) else list(changed.values())


def walk(draw: random.Random, grammar: SchemaGrammar) -> Any:
    """A document drawn from the grammar byte by byte; None where it grows too long."""
    from llguidance import LLMatcher, LLTokenizer

    compiled = LLMatcher.grammar_from_json_schema(
        grammar.text, overrides={"whitespace_flexible": False}
    )
    matcher = LLMatcher(LLTokenizer("byte"), compiled)
    written = bytearray()
    for step in range(120):
        if matcher.is_accepting() and (matcher.is_stopped() or draw.random() < 0.3):
            return json.loads(written)
        bits = matcher.compute_bitmask()
        allowed = [n for n in range(256) if bits[n // 8] >> n % 8 & 1]
        closing = [n for n in allowed if chr(n) in '"}],:']
        plain = [n for n in allowed if 32 <= n < 127 and chr(n) not in "\\eE"]
        assert allowed or matcher.is_accepting(), bytes(written)
        if not allowed:
            return json.loads(written)
        soon = closing and draw.random() < (0.3 if step < 60 else 0.9)
        token = draw.choice(closing if soon else plain or allowed)
        assert matcher.consume_token(token)
        written.append(token)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_grammar_and_jsonschema_agree_on_any_schema(part: int) -> None:
    found = {"grammars": 0, "drawn": 0, "valid": 0, "invalid": 0}
    for seed in range(part, 100, 4):
        draw = random.Random(seed)
        schema = {
            **any_schema(draw),
            "$schema": DRAFT,
            "definitions": {"D": any_schema(draw, 2), "E": any_schema(draw, 1)},
        }
        validator = jsonschema.Draft7Validator(schema)
        try:
            grammar = schema_grammar(schema)
        except NoGrammar:
            continue
        found["grammars"] += 1
        refused = checker(Grammar("json_schema", json.dumps(schema)))
        drawn = [one for one in (walk(draw, grammar) for _ in range(3)) if one is not None]
        for one in drawn:
            assert validator.is_valid(one), (schema, one)
        documents = drawn + [document(draw) for _ in range(8)]
        documents += [mutated(draw, draw.choice(documents)) for _ in range(20)]
        for one in documents:
            valid = validator.is_valid(one)
            found["valid" if valid else "invalid"] += 1
            if valid:
                assert not refused(grammar.render(one)), (schema, one)
            else:
                assert refused(compact(one)), (schema, one)
        found["drawn"] += len(drawn)
    assert found["grammars"] >= 10
    assert min(found.values()) >= 10


# -- single keywords -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"not": {"type": "string"}}, ["1", "null", "[]"], ['"a"']),
        ({"type": "integer", "not": {"const": 5}}, ["4", "6", "55"], ["5"]),
        ({"type": "string", "not": {"enum": ["ab", ""]}}, ['"a"', '"abc"'], ['"ab"', '""']),
        (
            {"allOf": [{"properties": {"a": {"minimum": 3}}},
                       {"properties": {"a": {"maximum": 4}}}], "type": "object"},
            ['{"a":3}', '{"b":9}'], ['{"a":5}', "3", '{"\\u0061":5}'],
        ),
        (
            {"type": "object", "required": ["a"], "dependencies": {"a": ["b"]},
             "additionalProperties": {"type": "integer"}},
            ['{"a":1,"b":2}'], ['{"a":1}', '{"b":1}'],
        ),
        (
            {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties":
             {"left": {"$ref": "#/$defs/tree"}}, "additionalProperties": False}}},
            ["{}", '{"left":{"left":{}}}'], ['{"right":{}}', '{"left":1}'],
        ),
        (
            {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True, "minItems": 1},
            ["[1]", "[2,1]"], ["[1,1]", "[]"],
        ),
        ({"type": "array", "maxItems": 2, "contains": {"const": 1}}, ["[2,1]"], ["[2]", "[]"]),
        (
            {"$schema": DRAFT, "type": "array", "items": [{"enum": [0, 1]}, {"enum": [0, 1]}],
             "additionalItems": False, "contains": {"const": 1}},
            ["[1]", "[0,1]", "[1,1]"], ["[]", "[0]", "[0,0]", "[0,0,1]"],
        ),
        (
            {"$schema": NEWER, "type": "array", "items": {"const": 1}, "contains": {"const": 1},
             "minContains": 2, "maxContains": 3},
            ["[1,1]", "[1,1,1]"], ["[1]", "[1,1,1,1]"],
        ),
        (
            {"$schema": NEWER, "type": "array", "items": {"enum": [1, 2]}, "maxContains": 0,
             "contains": {"const": 1}, "minContains": 0},
            ["[]", "[2,2]"], ["[2,1]"],
        ),
        (
            {"$schema": NEWER, "contains": {"const": 1}, "minContains": 2, "maxContains": 0},
            ["1", "{}"], ["[]", "[1]", "[2]"],
        ),
        (  # of a draft that does not know it
            {"$schema": DRAFT, "type": "array", "contains": {"const": 1}, "minContains": 2,
             "maxItems": 2},
            ["[1]", "[2,1]"], ["[]", "[2,2]"],
        ),
        (
            {"oneOf": [{"required": ["a"]}, {"required": ["b"]}], "type": "object",
             "properties": {"a": True, "b": True}, "additionalProperties": False},
            ['{"a":1}', '{"b":1}'], ['{"a":1,"b":1}', "{}"],
        ),
        ({"const": {"b": [1, "é"], "a": None}}, ['{"b":[1,"é"],"a":null}'], ['{"b":[1]}']),
        ({"type": "string", "format": "date"}, ['"2024-02-29"'], ['"2024-02-30"', '"soon"']),
        ({"type": "string", "format": "of-my-own"}, ['"soon"'], ["1"]),
        (
            {"if": {"type": "integer"}, "then": {"minimum": 3}, "else": {"type": "string"}},
            ["3", '"a"'], ["2", "[]"],
        ),
        ({"prefixItems": [{"const": 1}], "items": False, "minItems": 1}, ["[1]"], ["[2]", "[1,1]"]),
        (
            {"$schema": DRAFT, "properties": {"a": {"$ref": "#/definitions/x", "minimum": 9}},
             "definitions": {"x": {"type": "integer"}}, "type": "object"},
            ['{"a":1}'], ['{"a":"x"}'],
        ),
    ],
)  # fmt: skip
def test_keywords(schema: Any, valid: list[str], invalid: list[str]) -> None:
    assert [text for text in valid if refuses(schema, text)] == []
    assert [text for text in invalid if not refuses(schema, text)] == []


@pytest.mark.parametrize(
    ("schema", "keyword", "path"),
    [
        ({"properties": {"tags": {"type": "array", "uniqueItems": True}}}, "uniqueItems",
         "#/properties/tags"),
        ({"properties": {"a": {"pattern": "^(?!x)"}}}, "pattern", "#/properties/a"),
        ({"$ref": "http://example.com/other"}, "$ref", "#"),
        ({"properties": {"a": {"$ref": "#/definitions/none"}}}, "$ref", "#/properties/a"),
        ({"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "$ref", "#/anyOf/0"),
        ({"unevaluatedProperties": False, "type": "object"}, "unevaluatedProperties", "#"),
        ({"contains": {"const": 1}, "type": "array"}, "contains", "#"),
        ({"contains": {"const": 1}, "type": "array", "minContains": 2, "maxItems": 3}, "contains",
         "#"),
        ({"type": "string", "not": {"pattern": "a"}}, "pattern", "#/not"),
        ({"type": "string", "enum": [1]}, "", "#"),
        # Only an endless document satisfies it.
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "", "#"),
        (False, "", "#"),
        ({"properties": {"a": {"patternProperties": {"^x": {"type": "string"}}}}},
         "patternProperties", "#/properties/a"),
        ({"properties": {"a": {"enum": [10**400]}}}, "enum", "#/properties/a"),
        ({"type": "number", "minimum": -math.inf, "maximum": 3}, "", "#"),
        ({"enum": [1, 2], "multipleOf": math.inf}, "", "#"),
    ],
)  # fmt: skip
def test_a_schema_without_a_grammar_says_what_and_where(
    schema: Any, keyword: str, path: str
) -> None:
    with pytest.raises(NoGrammar) as caught:
        schema_grammar(schema)
    assert (caught.value.keyword, caught.value.path) == (keyword, path)
    assert path in str(caught.value)


@pytest.mark.parametrize("schema", [{"type": "strin"}, 5, {"properties": []}])
def test_what_is_no_schema_is_told_as_such(schema: Any) -> None:
    with pytest.raises(UserError, match="not a JSON Schema"):
        schema_grammar(schema)


def chosen(count: int) -> dict[str, Any]:
    choices = [{"anyOf": [{"required": [f"a{n}"]}, {"required": [f"b{n}"]}]} for n in range(count)]
    return {"type": "object", "allOf": choices}


def doubled(count: int) -> dict[str, Any]:
    """2^count paths to one schema."""
    both = [{"allOf": [{"$ref": f"#/definitions/d{n + 1}"}] * 2} for n in range(count)]
    defined = {f"d{n}": schema for n, schema in enumerate([*both, {"type": "string"}])}
    return {"$ref": "#/definitions/d0", "definitions": defined}


@pytest.mark.parametrize("count", [30, 300])
def test_choices_that_multiply_are_given_up_on(count: int) -> None:
    with pytest.raises(NoGrammar, match=r"over 2,000 cases|multiply"):
        schema_grammar(chosen(count))


@pytest.mark.slow
def test_what_only_looks_hostile_is_compiled() -> None:
    assert not refuses(doubled(60), '"a"')
    # Catastrophic for a regular expression that backtracks.
    assert refuses({"type": "string", "pattern": "^(a+)+$"}, f'"{"a" * 50}b"')
    assert not refuses({"enum": [f"value {n}" for n in range(3_000)]}, '"value 2999"')
    deep: Any = {"type": "string"}
    for _ in range(2_000):
        deep = {"properties": {"a": deep}}
    with pytest.raises(UserError, match=r"nested too deeply|JSON Schema"):
        schema_grammar(deep)


def test_a_grammar_is_the_same_in_every_process() -> None:
    """A pattern of other names followed the order of a set, which is another in each process."""
    names = [chr(code) for code in range(ord("a"), ord("z"))]
    found = re.findall(r"(?<=\|)[a-y](?=\()", other_than(names))
    assert found == names
