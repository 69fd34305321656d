"""Whether an answer is what was asked for: JSON, valid under the schema, and passed by the check.

Done for every answer, whatever form was asked for, and again for one that comes from the records.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from livery.errors import UserError, sentence, shown
from livery.json_schema import find_errors, offline
from livery.reading import parse_json
from livery.teacher.question import Fault, Question

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

_TOLD = 5  # faults that the teacher is told of at once


def find_fault(question: Question, text: str) -> tuple[Any, Fault | None]:
    """(value, None) of a good answer, (None, what is wrong with it) of another."""
    try:
        value = parse_json(text, "the answer", finite=True)
    except UserError as error:
        return None, Fault("invalid_json", sentence(shown(error, 500)))
    found = find_errors(_validator(question.schema_text), value)
    errors = sorted(found, key=lambda error: list(map(str, error.path)))
    if errors:
        deepest = [_deepest(error) for error in errors[:_TOLD]]
        told = [f"{shown(e.message, 300)} at {_place(e.absolute_path)}" for e in deepest]
        rest = f" (and {len(errors) - _TOLD} more faults)" if len(errors) > _TOLD else ""
        return None, Fault("wrong_schema", sentence("; ".join(told) + rest))
    if question.check is not None and (fault := question.check(value)):
        return None, Fault("wrong_answer", sentence(shown(fault, 1000)))
    return value, None


def _deepest(error: Any) -> Any:
    """Of an answer that fits no branch of a schema, what is wrong in the nearest one."""
    from jsonschema.exceptions import best_match

    return best_match(iter([error])) or error


def _place(path: Any) -> str:
    return "/".join(map(str, path)) or "its top"


@functools.lru_cache(maxsize=256)
def _validator(schema: str) -> Validator:
    import jsonschema.validators

    found = json.loads(schema)
    kind: Any = jsonschema.validators.validator_for(found, jsonschema.Draft7Validator)
    kind.check_schema(found)
    return offline(kind, found)
