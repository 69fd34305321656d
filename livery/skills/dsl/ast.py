"""The AST: read from an answer, written as one text, and compared by what it means.

    {"prompt": "open tasks since May", "steps": [{"name": "step_1", "conditions": [{"field":
     "status", "operator": "is", "value": "open"}], "description": "status"}],
     "timeframe": {"start": "2026-05-01", "end": ""}}
    {"prompt": "delete it all", "refusal": {"reason": "...", "suggestion": "..."}}

A condition is {field, operator, value}, or, where the schema has groups, {"any": [conditions]}, of
which one must hold, or {"all": [...]}. All conditions of a step hold together; steps follow one
another. A side of the timeframe that is "" is open.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn, cast

from livery.skills.contract import AnswerError
from livery.skills.dsl.prompt import compact

Ast = dict[str, Any]

GROUPS = ("any", "all")
_ORDER = (
    "prompt", "steps", "timeframe", "refusal", "name", "conditions", "description",
    "field", "operator", "value", *GROUPS, "start", "end", "reason", "suggestion",
)  # fmt: skip
_PLACE = {key: place for place, key in enumerate(_ORDER)}
_FREE = ("name", "description", "prompt")  # texts that say again what stands elsewhere
_DEEPEST = 100


def parse(answer: str) -> Ast:
    """The JSON object of an answer. Whether a schema allows it, `schema.find_faults` says.

    Raises:
        AnswerError: the answer is not one JSON object, a key stands in it twice, or it holds what
            could not be written to a file: an endless number, half of a surrogate pair.
    """
    try:
        value = json.loads(answer, object_pairs_hook=_object, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except AnswerError:
        raise
    except json.JSONDecodeError as error:
        raise AnswerError(f"no valid JSON at character {error.pos + 1}: {error.msg}") from None
    except RecursionError:
        raise AnswerError("nested too deeply") from None
    except ValueError:
        raise AnswerError("a number is too long, or a character is only half there") from None
    if not isinstance(value, dict):
        raise AnswerError(f"a JSON {type(value).__name__} where an object must stand")
    _check_depth(value)
    return cast(Ast, value)


def _object(pairs: Sequence[tuple[str, Any]]) -> Ast:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise AnswerError(f"the key {twice!r} stands twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise AnswerError(f"{name} is no JSON")


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise AnswerError("nested too deeply")
        level = [child for node in level for child in _children(node)]


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def render(ast: Mapping[str, Any]) -> str:
    """The one text of an AST: compact JSON, keys in the order of the base schema."""
    return compact(_ordered(ast))


def _ordered(node: Any) -> Any:
    if isinstance(node, Mapping):
        last = len(_ORDER)
        keys = sorted(node, key=lambda key: _PLACE.get(key, last))  # others stay in their order
        return {key: _ordered(node[key]) for key in keys}
    if isinstance(node, list | tuple):
        return [_ordered(child) for child in node]
    return node


def canonical_text(ast: Mapping[str, Any]) -> str:
    """All of an AST as one text whose keys are sorted: two that are equal match exactly."""
    return json.dumps(ast, ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def canonical(ast: Mapping[str, Any]) -> Any:
    """What an AST means, as JSON: two ASTs mean the same where these are equal.

    The order of conditions has no meaning, nor has it in a group, nor does a condition that stands
    twice; that of steps has. `prompt`, names, descriptions and the words of a refusal say nothing
    that is not said elsewhere. "5" and "5.0" are one value. An object of another form than the AST
    is compared as it is. Never raises.
    """
    if "refusal" in ast:
        rest = {key: value for key, value in ast.items() if key not in ("refusal", "prompt")}
        return {"refusal": True, **_plain(rest)}
    steps = ast.get("steps")
    if not isinstance(steps, list):
        return _plain(ast)
    rest = {k: v for k, v in ast.items() if k not in ("steps", "prompt")}
    return {**_plain(rest), "steps": [_step(step) for step in steps]}


def same_meaning(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two ASTs of one schema mean the same."""
    return _key(canonical(one)) == _key(canonical(other))


def _step(step: Any) -> Any:
    if not isinstance(step, Mapping) or not isinstance(step.get("conditions"), list):
        return _plain(step)
    rest = {k: v for k, v in step.items() if k not in (*_FREE, "conditions")}
    return {**_plain(rest), "conditions": _joined(step["conditions"], "all")}


def _joined(nodes: Sequence[Any], kind: str) -> list[Any]:
    """Canonical members of a group, each once and sorted; a group in one of its kind is opened."""
    found: list[Any] = []
    for node in map(_condition, nodes):
        inner = node.get(kind) if isinstance(node, dict) and len(node) == 1 else None
        found += inner if isinstance(inner, list) else [node]
    return [json.loads(key) for key in sorted({_key(node) for node in found})]


def _condition(node: Any) -> Any:
    if isinstance(node, Mapping) and len(node) == 1:
        ((kind, members),) = node.items()
        if kind in GROUPS and isinstance(members, list) and members:
            joined = _joined(members, kind)
            return joined[0] if len(joined) == 1 else {kind: joined}
    plain = _plain(node)
    if isinstance(plain, dict) and isinstance(plain.get("value"), str):
        plain["value"] = _number(plain["value"])
    return plain


def _number(text: str) -> str:
    """A number's one way to be written; any other text as it is."""
    if not text[-1:].isdigit() or not text.isascii() or len(text) > 40:
        return text
    try:
        number = Decimal(text).normalize()
    except InvalidOperation:
        return text
    # A code with a leading zero is no number, and "1e5" is written by nobody who means one.
    digits = text.lstrip("-")
    if (len(digits) > 1 and digits[0] == "0" and digits[1] != ".") or not _is_plain(digits):
        return text
    return f"{number:f}" if number else "0"


def _is_plain(digits: str) -> bool:
    return all(c.isdigit() or c == "." for c in digits)


def _plain(node: Any) -> Any:
    """A node with its texts in one Unicode form, without white space around them."""
    if isinstance(node, str):
        return unicodedata.normalize("NFC", node).strip()
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items()}
    return [_plain(child) for child in node] if isinstance(node, list) else node


def _key(node: Any) -> str:
    return json.dumps(node, ensure_ascii=False, sort_keys=True)


def conditions(ast: Mapping[str, Any]) -> list[dict[str, str]]:
    """All conditions of all steps, groups opened, in their order; malformed ones are left out."""
    found: list[dict[str, str]] = []
    steps = ast.get("steps")
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, Mapping) and isinstance(step.get("conditions"), list):
            found += _opened(step["conditions"])
    return found


def _opened(nodes: Sequence[Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for node in nodes:
        if not isinstance(node, dict):
            continue
        groups = [node[kind] for kind in GROUPS if isinstance(node.get(kind), list)]
        if groups:
            for group in groups:
                found += _opened(group)
        elif all(isinstance(node.get(key), str) for key in ("field", "operator", "value")):
            found.append(node)
    return found


def depth(ast: Mapping[str, Any]) -> str:
    """How much an AST holds, for reports: what is most of it."""
    if "refusal" in ast:
        return "refusal"
    steps = ast.get("steps")
    if not isinstance(steps, list):
        return "other"
    if len(steps) > 1:
        return "steps"
    members = [c for step in steps for c in _members(step)]
    if any(isinstance(c, Mapping) and any(kind in c for kind in GROUPS) for c in members):
        return "nested"
    return "one condition" if len(members) == 1 else "several conditions"


def _members(step: Any) -> Sequence[Any]:
    found = step.get("conditions") if isinstance(step, Mapping) else None
    return found if isinstance(found, list) else ()


def make_steps(steps: Iterable[Sequence[Mapping[str, Any]]]) -> list[Ast]:
    """Steps as our own data have them, of the conditions of each: a number for a name, and the
    fields that it looks at, each once, for a description."""
    return [
        {
            "name": f"step_{number}",
            "conditions": nodes,
            "description": ", ".join(dict.fromkeys(c["field"] for c in _opened(nodes))),
        }
        for number, nodes in enumerate(steps, start=1)
    ]
