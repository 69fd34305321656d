"""The source that needs no teacher: queries made together with the ASTs that they mean.

    source = Offline(seed=11)
    source.specs(jobs)      # domains put together from `words`
    source.queries(jobs)    # each with its meaning beside it
    source.asts(jobs)       # the meaning on a day

Every draw is seeded by what it is for, so that a row is the same whatever was made before it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datagen.dsl import times
from datagen.dsl.compose import Composer
from datagen.dsl.source import AstJob, Made, QueryJob, SpecJob
from datagen.dsl.specs import make_spec
from livery.skills import dsl

Json = dict[str, Any]

NAME = "offline"
# Draws in a row that give no new query before a schema is taken to be out of them.
_TRIES = 200


class Offline:
    """A `Source`. The same seed gives the same rows."""

    name = NAME

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def specs(self, jobs: Sequence[SpecJob]) -> Iterator[Made]:
        for at, job in enumerate(jobs):
            name, domain = str(job.prompt["schema_id"]), str(job.prompt.get("domain", ""))
            spec = make_spec(self._rng("spec", name), name, domain, held_out=_held_out(job.prompt))
            if "split" in job.prompt:
                spec["split"] = job.prompt["split"]
            # Examples may use any operator: which of them the schema has is drawn later.
            spec["example_queries"] = self._examples(spec, job.examples)
            yield Made(at, spec)

    def queries(self, jobs: Sequence[QueryJob]) -> Iterator[Made]:
        for at, job in enumerate(jobs):
            yield Made(at, {"queries": self._queries(job)})

    def asts(self, jobs: Sequence[AstJob]) -> Iterator[Made]:
        for at, job in enumerate(jobs):
            if "steps" in job.query or "refusal" in job.query:
                yield Made(at, ast_of(job.query, job.current_date))
            else:
                fault = f"{job.query['query']!r}: no query of the offline source; ask a teacher"
                yield Made(at, fault=fault)

    def _rng(self, *what: object) -> random.Random:
        return random.Random(" ".join(map(str, ("datagen.dsl", self._seed, *what))))

    def _queries(self, job: QueryJob) -> list[Json]:
        name = str(job.schema["schema_id"])
        rng = self._rng("queries", name, len(job.known))
        composer = Composer(job.schema, rng, held_out=_held_out(job.schema))
        seen = {_folded(text) for text in job.known}
        found: list[Json] = []
        tries = 0
        while len(found) < job.count and tries < _TRIES:
            query = composer.draw()
            tries += 1
            if query is None or (key := _folded(query["query"])) in seen:
                continue
            seen.add(key)
            found.append(query)
            tries = 0
        return found

    def _examples(self, spec: Mapping[str, Any], count: int) -> list[str]:
        """Queries on a spec that has no operators yet: by equality alone."""
        equality = [{"const": "equals", "canonical": "equals"}]
        schema = {**spec, "operators": equality, "groups": False}
        rng = self._rng("examples", spec["schema_id"])
        composer = Composer(schema, rng, held_out=_held_out(spec), refusals=0)
        texts: dict[str, None] = {}
        for _ in range(20 * count):
            if len(texts) == count:
                break
            if query := composer.draw():
                texts[query["query"]] = None
        return [*texts]


def _held_out(row: Mapping[str, Any]) -> bool:
    """Whether a prompt, spec or schema is none to train on: it then has words of its own."""
    return row.get("split", "train") != "train"


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".?! ")


def ast_of(query: Mapping[str, Any], current_date: str) -> Json:
    """The AST of a query of ours on a day."""
    if "refusal" in query:
        return {"prompt": query["query"], "refusal": dict(query["refusal"])}
    return {
        "prompt": query["query"],
        "steps": dsl.make_steps(query["steps"]),
        "timeframe": times.timeframe(query.get("time"), current_date),
    }
