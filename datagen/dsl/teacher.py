"""The source that asks a teacher (docs/teacher.md): `source.Source`, from a model over HTTP.

    source = FromTeacher(find_teacher(), "outputs/teacher/records.sqlite")
    make_specs(source, ...)

What the teacher has answered is in its records and costs nothing a second time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datagen.dsl.rows import schema_of
from datagen.dsl.source import AstJob, Made, QueryJob, SpecJob
from livery.skills import dsl
from livery.skills.dsl import teaching
from livery.teacher import Fault, Plan, Question, Result, Teacher, ask_each, make_plan

Json = dict[str, Any]

# Rounds of questions for a schema's queries: later ones make up for repetitions of earlier ones.
ROUNDS = 4
_KNOWN = 60  # of the queries that a schema has, so many are shown as not wanted again


class FromTeacher:
    """See `datagen.dsl.source.Source`.

    Args:
        send: False takes what is on record, and fails the rest.
    """

    def __init__(self, teacher: Teacher, records: str | Path, *, send: bool = True):
        self.name = teacher.model
        self._teacher, self._records, self._send = teacher, records, send

    def specs(self, jobs: Sequence[SpecJob]) -> Iterator[Made]:
        """See Source."""
        for result in self._ask([_spec(job) for job in jobs]):
            job = jobs[result.at].prompt
            named = {"schema_id": job["schema_id"], "domain": job.get("domain")}
            yield _made(result, {**named, **_plain(result.value)} if result.value else None)

    def queries(self, jobs: Sequence[QueryJob]) -> Iterator[Made]:
        """See Source: batches of all schemas side by side; what they repeat is asked for again."""
        state = {at: _Queries(job) for at, job in enumerate(jobs)}
        for turn in range(ROUNDS):
            questions, owners = [], list[int]()
            for at, own in state.items():
                more = own.questions(turn)
                questions += more
                owners += [at] * len(more)
            left = {at: owners.count(at) for at in state}
            # In the order of the batches: which of two like queries stays depends on nothing else.
            for result in sorted(self._ask(questions), key=lambda result: result.at):
                at = owners[result.at]
                left[at] -= 1
                state[at].take(result)
                if not left[at] and (state[at].is_full or turn == ROUNDS - 1):
                    yield state.pop(at).made(at)
        for at, own in state.items():
            yield own.made(at)

    def asts(self, jobs: Sequence[AstJob]) -> Iterator[Made]:
        """See Source."""
        questions = [teaching.ast_question(_request(job), _id(job.schema)) for job in jobs]
        for result in self._ask(questions):
            query, ast = str(jobs[result.at].query["query"]), result.value
            # The AST repeats the query; a teacher that mends a word of it means the same query.
            yield _made(result, {**ast, "prompt": query} if ast and "prompt" in ast else ast)

    def plan(self, jobs: Sequence[Any]) -> Plan:
        """What jobs of one kind take; of queries only the first round."""
        questions: list[Question] = []
        for job in jobs:
            if isinstance(job, SpecJob):
                questions.append(_spec(job))
            elif isinstance(job, QueryJob):
                questions += _Queries(job).questions(0)
            else:
                questions.append(teaching.ast_question(_request(job), _id(job.schema)))
        return make_plan(questions, self._teacher, self._records)

    def _ask(self, questions: Sequence[Question]) -> Iterator[Result]:
        if not questions or not (self._send or Path(self._records).exists()):
            fault = Fault("not_asked", "there are no records")
            return iter([Result(at, q, fault=fault) for at, q in enumerate(questions)])
        return ask_each(questions, self._teacher, self._records, send=self._send)


class _Queries:
    """The queries of one schema so far."""

    def __init__(self, job: QueryJob):
        self._job = job
        self._seen = {_folded(text) for text in job.known}
        self._found: list[Json] = []
        self._results: list[Result] = []
        self._batch = 0

    @property
    def is_full(self) -> bool:
        return len(self._found) >= self._job.count

    def questions(self, turn: int) -> list[Question]:
        """One round's: as many as are lacking, and in a later round all of them not known."""
        lacking = self._job.count - len(self._found)
        known = [*self._job.known, *(entry["query"] for entry in self._found)][-_KNOWN:]
        # Queries that were known before this call make other batches than those that made them.
        first = 1000 * min(len(self._job.known), 1) + self._batch
        found: list[Question] = []
        while lacking > 0:
            count = min(lacking, teaching.MOST_AT_ONCE)
            found.append(
                teaching.query_question(
                    _id(self._job.schema), _schema(self._job.schema), count, first + len(found),
                    known if turn or self._job.known else (),
                )
            )  # fmt: skip
            lacking -= count
        self._batch += len(found)
        return found

    def take(self, result: Result) -> None:
        self._results.append(result)
        for entry in result.value["queries"] if result.value else ():
            folded = _folded(entry["query"])
            if folded and folded not in self._seen and not self.is_full:
                self._seen.add(folded)
                self._found.append({**entry, "query": " ".join(entry["query"].split())})

    def made(self, at: int) -> Made:
        provenance = _together(self._results)
        if self._found:
            return Made(at, {"queries": self._found}, provenance=provenance)
        faults = [str(result.fault) for result in self._results if result.fault]
        name = _id(self._job.schema)
        return Made(at, fault=f"{name}: {faults[0] if faults else 'no new queries'}")


def _spec(job: SpecJob) -> Question:
    prompt = job.prompt
    told = str(prompt.get("prompt") or prompt.get("description") or "")
    return teaching.spec_question(
        str(prompt["schema_id"]), str(prompt.get("domain") or ""), told, job.examples
    )


def _plain(spec: Mapping[str, Any]) -> Json:
    """A spec as the stages have it: `enum` only where a field has one."""
    fields = [
        {key: value for key, value in field.items() if key != "enum" or value}
        for field in spec["fields"]
    ]
    return {**spec, "fields": fields}


def _made(result: Result, row: Mapping[str, Any] | None) -> Made:
    if row is None:
        return Made(result.at, fault=f"{result.question.name}: {result.fault}")
    return Made(result.at, dict(row), provenance=result.provenance)


def _together(results: Sequence[Result]) -> Json:
    """The provenance of what several requests made."""
    each = [result.provenance for result in results]
    costs = [one["cost"] for one in each if one.get("cost") is not None]
    each = [one for one in each if one]
    sums = ("requests", "prompt_tokens", "completion_tokens")
    return {
        "model": each[0]["model"] if each else None,
        **{name: sum(int(one[name]) for one in each) for name in sums},
        "cost": sum(costs) if costs else None,
        "keys": [one["key"] for one in each],
    }


def _request(job: AstJob) -> dsl.Request:
    return dsl.Request(_schema(job.schema), str(job.query["query"]), job.current_date)


def _schema(row: Mapping[str, Any]) -> Json:
    return schema_of(row, _id(row))


def _id(row: Mapping[str, Any]) -> str:
    return str(row["schema_id"])


def _folded(text: str) -> str:
    return " ".join("".join(c if c.isalnum() else " " for c in text.casefold()).split())
