"""A JSON Schema as numbered subschemas, its references resolved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urldefrag, urljoin

from livery.engines.schemas.faults import NoGrammar
from livery.engines.schemas.leaves import compact, scalar
from livery.engines.schemas.state import Literal
from livery.errors import UserError, shown


@dataclass(frozen=True)
class Subschema:
    """One schema of a document.

    Attributes:
        base: what its references are relative to.
        path: JSON pointer of the first place where it stands.
    """

    schema: Any
    base: str
    path: str


class Document:
    """The subschemas of a schema, the same one once.

    Attributes:
        root: the whole.
        subschemas: by the number that a literal has.
        keywords: that the schema's draft asserts; without `$schema`, those of all drafts.
        siblings: whether what stands beside a `$ref` counts.
    """

    def __init__(self, schema: Any):
        """Raises UserError where it is not a JSON Schema."""
        from jsonschema import Draft7Validator, Draft202012Validator
        from jsonschema.validators import validator_for
        from jsonschema_specifications import REGISTRY
        from referencing import Resource
        from referencing.jsonschema import DRAFT202012

        if not isinstance(schema, dict | bool):
            raise UserError(f"This is not a JSON Schema: {shown(schema)} is no object.")
        named = isinstance(schema, dict) and isinstance(schema.get("$schema"), str)
        kind: Any = validator_for(schema, default=Draft202012Validator)
        try:
            _check(kind, schema)
        except UserError:
            if named:
                raise
            _check(Draft7Validator, schema)
        self.keywords = set(kind.VALIDATORS)
        if not named:
            self.keywords |= set(Draft7Validator.VALIDATORS)
        self.siblings = "dependentSchemas" in kind.VALIDATORS
        if self.siblings:  # a part of its `contains`, which is why the table does not list them
            self.keywords |= {"minContains", "maxContains"}
        resource = Resource.from_contents(schema, default_specification=DRAFT202012)
        base = resource.id() or ""
        self._registry = REGISTRY.with_resource(base, resource).with_resource("", resource)
        self.root = Subschema(schema, base, "#")
        self.subschemas: list[Subschema] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._constants: dict[str, tuple[Literal, ...]] = {}
        self._places: dict[str, str] = {}
        self.false: Literal = (self._number(Subschema(False, "", "#")), True)

    def literal(self, subschema: Subschema, holds: bool = True) -> tuple[Literal, ...]:
        """What it says as a literal; none where it says nothing."""
        schema = subschema.schema
        if schema is holds or (holds and schema == {}):
            return ()
        if isinstance(schema, bool) or schema == {}:
            return (self.false,)
        return ((self._number(subschema), holds),)

    def inside(self, outer: Subschema, *keys: str | int) -> Subschema:
        """The subschema under a keyword of another."""
        schema, path = outer.schema, outer.path
        for key in keys:
            schema = schema[key]
            path += "/" + str(key).replace("~", "~0").replace("/", "~1")
        base = outer.base
        if isinstance(schema, dict) and isinstance(schema.get("$id"), str):
            base = urldefrag(urljoin(base, schema["$id"])).url
        return Subschema(schema, base, path)

    def target(self, outer: Subschema) -> Subschema:
        """What a `$ref` refers to.

        Raises:
            NoGrammar: it is not in the schema.
        """
        from referencing.exceptions import Unresolvable

        reference = outer.schema["$ref"]
        try:
            resolved = self._registry.resolver(outer.base).lookup(reference)
        except (Unresolvable, ValueError, TypeError, LookupError):
            reason = f"refers to {shown(reference)}, which is not in the schema"
            raise NoGrammar("$ref", outer.path, reason) from None
        base = outer.base
        if not reference.startswith("#"):
            base = urldefrag(urljoin(base, reference)).url
        if not isinstance(resolved.contents, dict | bool):
            reason = f"refers to {shown(reference)}, which is no schema"
            raise NoGrammar("$ref", outer.path, reason)
        path = reference if reference.startswith("#") else f"{outer.path}/$ref"
        return Subschema(resolved.contents, base, path)

    def goes_in_circles(self, start: Subschema, goal: Subschema) -> bool:
        """Whether `goal` speaks of the same value as `start` by way of it."""
        wanted, seen, todo = self._number(goal), set[int](), [start]
        while todo:
            one = todo.pop()
            number = self._number(one)
            if number == wanted:
                return True
            if number in seen or not isinstance(one.schema, dict):
                continue
            seen.add(number)
            if isinstance(one.schema.get("$ref"), str):
                todo.append(self.target(one))
            for keyword in ("allOf", "anyOf", "oneOf"):
                todo += [
                    self.inside(one, keyword, n) for n in range(len(one.schema.get(keyword, ())))
                ]
            todo += [self.inside(one, k) for k in ("not", "if", "then", "else") if k in one.schema]
            for keyword in ("dependencies", "dependentSchemas"):
                needs: dict[str, Any] = one.schema.get(keyword, {})
                named = [n for n, value in needs.items() if isinstance(value, dict | bool)]
                todo += [self.inside(one, keyword, name) for name in named]
        return False

    def constant(self, value: Any) -> tuple[Literal, ...]:
        """That a value is this one; objects and lists by their parts, which can be negated."""
        text = compact(value)
        if text not in self._constants:
            schema: Any
            if isinstance(value, dict):
                schema = {
                    "type": "object",
                    "properties": {name: {"const": inner} for name, inner in value.items()},
                    "required": list(value),
                    "additionalProperties": False,
                }
            elif isinstance(value, list):
                schema = {
                    "type": "array",
                    "minItems": len(value),
                    "maxItems": len(value),
                    "prefixItems": [{"const": inner} for inner in value],
                }
                if "prefixItems" not in self.keywords:
                    schema["items"] = schema.pop("prefixItems")
            else:
                assert scalar(value) is not None
                schema = {"const": value}
            self._constants[text] = self.literal(Subschema(schema, "", "#"))
        return self._constants[text]

    def note(self, keyword: str, path: str) -> None:
        """Where a constraint came from, for messages."""
        self._places.setdefault(keyword, path)

    def where(self, keyword: str) -> str:
        return self._places.get(keyword, "#")

    def _number(self, subschema: Subschema) -> int:
        key = (json.dumps(subschema.schema, sort_keys=True), subschema.base)
        if key not in self._numbers:
            self._numbers[key] = len(self.subschemas)
            self.subschemas.append(subschema)
        return self._numbers[key]


def _check(kind: Any, schema: Any) -> None:
    from jsonschema import SchemaError

    try:
        kind.check_schema(schema, format_checker=None)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path))
        place = f" at {shown(where)}" if where else ""
        raise UserError(f"This is not a JSON Schema{place}: {shown(error.message)}.") from None
