"""What is wrong with a document under a JSON Schema of somebody's; nothing is ever fetched."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from livery.errors import UserError, shown

if TYPE_CHECKING:
    from jsonschema import ValidationError


def offline(kind: Any, schema: Any) -> Any:
    """A validator of a jsonschema class for which a reference to another address is an error."""
    from referencing import Registry

    return kind(schema, registry=Registry())


def find_errors(validator: Any, value: Any) -> Iterator[ValidationError]:
    """Everything that is wrong with a document.

    Raises:
        UserError: the schema refers to what it does not hold, goes in circles, or has a pattern
            that Python cannot read.
    """
    from referencing.exceptions import Unresolvable

    try:
        yield from validator.iter_errors(value)
    except (Unresolvable, RecursionError, re.error) as error:
        raise UserError(f"The JSON Schema cannot be followed: {shown(error)}.") from None


@functools.lru_cache(maxsize=64)
def _validator(text: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for

    schema = json.loads(text)
    return offline(validator_for(schema, default=Draft202012Validator), schema)


def find_error(schema: str, value: Any) -> str:
    """What is wrong with a document under the text of a JSON Schema; "" for nothing.

    Raises:
        UserError: as `find_errors`.
    """
    error = next(find_errors(_validator(schema), value), None)
    if error is None:
        return ""
    where = "/".join(map(str, error.absolute_path))
    return shown(error.message) + (f" at {shown(where)}" if where else "")
