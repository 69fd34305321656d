"""Documents under a JSON Schema of somebody's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from livery.errors import UserError
from livery.json_schema import find_error


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema"},
        {"$ref": "#/$defs/none"},
        {"$ref": "#"},
        {"pattern": "^\\p{L}+$"},  # of ECMA 262 and llguidance, not of Python
    ],
)
def test_a_schema_that_cannot_be_followed_is_told_and_nothing_is_fetched(
    schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", asked.append)
    with pytest.raises(UserError, match="cannot be followed"):
        find_error(json.dumps(schema), "word")
    assert asked == []


def test_the_first_fault_is_told_with_its_place() -> None:
    schema = json.dumps({"properties": {"a": {"items": {"type": "string"}}}})
    assert find_error(schema, {"a": ["x"]}) == ""
    assert find_error(schema, {"a": ["x", 2]}) == "2 is not of type 'string' at a/1"
