"""Where specs, queries and ASTs come from: a teacher, or the offline generator.

A stage hands a source its jobs and takes what comes back in any order. A source never writes a row
that it did not get: what failed is told as such, and the other jobs go on. What a stage has already
is not asked for again; a source that costs money keeps records of its own besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """What became of one job.

    Attributes:
        at: position of the job in the sequence that was handed over.
        row: what was made; None where it failed.
        fault: why it failed, in one line for people.
        provenance: what a row is to say of its making: model, attempts, repairs, tokens, cost.
    """

    at: int
    row: Json | None = None
    fault: str = ""
    provenance: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class SpecJob:
    """One domain that a spec is wanted of.

    Attributes:
        prompt: a row of `domain_prompts.jsonl`: {"schema_id", "domain", "prompt"}.
        examples: how many example queries are wanted in it.
    """

    prompt: Mapping[str, Any]
    examples: int


@dataclass(frozen=True)
class QueryJob:
    """A schema that queries are wanted for.

    Attributes:
        schema: a row of `d_02`: {"schema_id", "domain", "fields", "operators", "schema", ...}.
        count: how many.
        known: queries that it has already; none of them is wanted again.
    """

    schema: Mapping[str, Any]
    count: int
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class AstJob:
    """A query that its AST is wanted of.

    Attributes:
        schema: a row of `d_02`.
        query: {"query", "language", ...}, a member of `queries` in a row of `d_03`.
        current_date: the day that "last week" counts from, "YYYY-MM-DD".
    """

    schema: Mapping[str, Any]
    query: Mapping[str, Any]
    current_date: str


class Source(Protocol):
    """Makes what the stages ask for.

    Attributes:
        name: of the teacher's model, or "offline"; written into every row as its `source`.
    """

    name: str

    def specs(self, jobs: Sequence[SpecJob]) -> Iterator[Made]:
        """`row`: {"schema_id", "domain", "description", "fields": [{"const", "description",
        "type": "enum" | "text" | "number" | "date" | "boolean", "enum"?: [{"const",
        "description"}]}], "example_queries": [text]}. The stage checks it, and fails what is
        malformed."""
        ...

    def queries(self, jobs: Sequence[QueryJob]) -> Iterator[Made]:
        """`row`: {"queries": [{"query", "language": "en" | "fr"}]}, at most `count` of them, none
        of `known`; whatever else a member holds comes back in its AstJob."""
        ...

    def asts(self, jobs: Sequence[AstJob]) -> Iterator[Made]:
        """`row`: the AST. The stage checks it against the schema and fails what is invalid."""
        ...
