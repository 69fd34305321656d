"""What a pipeline would ask of a teacher, found out without asking: a source that only counts.

    source = Planning(FromTeacher(..., send=False), Offline(seed), last="asts")
    make_dataset(source, ...)                       # raises Planned when it has seen enough
    source.plans                                    # [("specs", Plan), ...]

Later stages ask about what earlier ones answer. Where that is on record it is taken, and otherwise
the offline source stands in, whose schemas and queries are about as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from datagen.dsl.offline import Offline
from datagen.dsl.source import AstJob, Made, QueryJob, SpecJob
from datagen.dsl.teacher import FromTeacher
from livery.teacher import Plan


class Planned(Exception):
    """The last stage that asks was reached; there is nothing more to find out."""


class Planning:
    """See `datagen.dsl.source.Source`.

    Args:
        real: one that does not send.
        last: the kind of job after which no stage asks: "specs", "queries" or "asts".
    """

    def __init__(self, real: FromTeacher, stand_in: Offline, last: str):
        self.name, self.plans = real.name, list[tuple[str, Plan]]()
        self._real, self._stand_in, self._last = real, stand_in, last

    def specs(self, jobs: Sequence[SpecJob]) -> Iterator[Made]:
        """See Source."""
        return self._made("specs", jobs, self._real.specs, self._stand_in.specs)

    def queries(self, jobs: Sequence[QueryJob]) -> Iterator[Made]:
        """See Source."""
        return self._made("queries", jobs, self._real.queries, self._stand_in.queries)

    def asts(self, jobs: Sequence[AstJob]) -> Iterator[Made]:
        """See Source."""
        return self._made("asts", jobs, self._real.asts, self._stand_in.asts)

    def _made(
        self, kind: str, jobs: Sequence[Any],
        real: Callable[[Any], Iterator[Made]], stand_in: Callable[[Any], Iterator[Made]],
    ) -> Iterator[Made]:  # fmt: skip
        self.plans.append((kind, self._real.plan(jobs)))
        if kind == self._last:
            raise Planned
        known = {made.at: made for made in real(jobs) if made.row is not None}
        missing = [at for at in range(len(jobs)) if at not in known]
        yield from known.values()
        for made in stand_in([jobs[at] for at in missing]):
            yield replace(made, at=missing[made.at])
