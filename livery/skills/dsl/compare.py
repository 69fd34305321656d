"""How a wrong AST differs from the right one: the first of KINDS that fits, for failure tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from livery.skills.dsl.ast import canonical, conditions, same_meaning

# In the order in which they are told.
KINDS = (
    "missing_refusal",
    "needless_refusal",
    "wrong_steps",
    "missing_condition",
    "extra_condition",
    "swapped_values",
    "wrong_field",
    "wrong_operator",
    "wrong_value",
    "wrong_grouping",
    "wrong_timeframe",
    "other",
)


def difference(got: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """ "" where two ASTs mean the same, else a kind; both are valid under their schema."""
    if same_meaning(got, expected):
        return ""
    if "refusal" in expected or "refusal" in got:
        return "needless_refusal" if "refusal" in got else "missing_refusal"
    one, other = canonical(got), canonical(expected)
    if len(one.get("steps") or ()) != len(other.get("steps") or ()):
        return "wrong_steps"
    if one.get("steps") != other.get("steps"):
        return _condition_difference(got, expected)
    return "wrong_timeframe" if one.get("timeframe") != other.get("timeframe") else "other"


def _condition_difference(got: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    ours, theirs = (
        {json.dumps(c, sort_keys=True): c for c in conditions(ast)} for ast in (got, expected)
    )
    extra = [condition for key, condition in ours.items() if key not in theirs]
    missing = [condition for key, condition in theirs.items() if key not in ours]
    if not extra and not missing:
        return "wrong_grouping"
    if len(missing) > len(extra):
        return "missing_condition"
    if len(extra) > len(missing):
        return "extra_condition"
    same_rest = _without(extra, "value") == _without(missing, "value")
    if same_rest and _only(extra, "value") == _only(missing, "value"):
        return "swapped_values"
    for key in ("field", "operator", "value"):
        if _without(extra, key) == _without(missing, key):
            return f"wrong_{key}"
    return "wrong_field" if _only(extra, "field") != _only(missing, "field") else "wrong_value"


def _only(listed: Sequence[Mapping[str, str]], key: str) -> list[str]:
    return sorted(condition[key] for condition in listed)


def _without(listed: Sequence[Mapping[str, str]], key: str) -> list[list[str]]:
    return sorted([v for k, v in sorted(c.items()) if k != key] for c in listed)
