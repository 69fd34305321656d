"""What a teacher is asked for this skill: specs, queries, ASTs, and a verdict on an answer.

    ast_question(request, "tickets")                # livery.teacher.Question
    for judged in judge(answers, teacher, records): # the teacher's own AST, accept or reject

`datagen` asks the first three and `eval` the last two, so the wordings are here, once. Whatever
comes back is valid under a JSON Schema and under the rules that no schema can say, or is none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.skills.dsl.ast import Ast, render
from livery.skills.dsl.prompt import Request, block, blocks, compact
from livery.skills.dsl.schema import find_faults
from livery.teacher import Parameters, Question, Result, Teacher, ask

Json = dict[str, Any]

FIELD_TYPES = ("enum", "text", "number", "date", "boolean")
MOST_AT_ONCE = 20  # queries of one request: of more, teachers begin to repeat themselves
_CONST = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,47}\Z")
_TOLD = 4  # faults of an AST that are told at once

_TEXT: Json = {"type": "string", "minLength": 1, "maxLength": 300}


def _object(**properties: Any) -> Json:
    """A closed object that has all of its keys, which every endpoint's strict mode takes."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_VALUE = _object(const=_TEXT, description=_TEXT)
_FIELD = _object(
    const=_TEXT,
    description=_TEXT,
    type={"enum": list(FIELD_TYPES)},
    enum={"type": "array", "items": _VALUE, "maxItems": 12},
)
SPEC_SCHEMA = _object(
    title=_TEXT,
    description=_TEXT,
    fields={"type": "array", "items": _FIELD, "minItems": 3, "maxItems": 10},
    example_queries={"type": "array", "items": _TEXT, "maxItems": 200},
)
QUERIES_SCHEMA = _object(
    queries={
        "type": "array",
        "items": _object(query=_TEXT, language={"enum": ["en", "fr"]}),
        "minItems": 1,
        "maxItems": 2 * MOST_AT_ONCE,
    }
)
# The reason stands first: a verdict that is given before it would not rest on it.
VERDICT_SCHEMA = _object(
    reason={"type": "string", "minLength": 1, "maxLength": 1000},
    verdict={"enum": ["accept", "reject"]},
)

_SPEC = """\
You design the vocabulary of a small query language for one domain: what people filter its records \
by. Answer with one JSON object with these keys:
- "title" and "description": what the records are, one short sentence each.
- "fields": 4 to 8 of them, each with "const" (an identifier such as ticket.status or openedAt: \
letters, digits, dots and underscores), "description", "type" (enum, text, number, date or \
boolean) and "enum": for the type enum 2 to 8 values with "const" and "description", for boolean \
its two, for any other type an empty list. Take at least two fields of the type enum and at least \
two other types.
- "example_queries": {examples} requests that people would type or say, half of them in English \
and half in French, each of which the fields can express."""

_QUERIES = """\
You write requests that people make of the records which a JSON Schema describes. You get the \
schema. Its fields, values and operators are what a request can be about, but people do not know \
their identifiers: they use ordinary words. Write {count} requests, half of them in English and \
half in French, no two of them alike in wording. Of this batch: {focus} Answer with one JSON \
object: {{"queries": [{{"query": "...", "language": "en"}}, ...]}}."""

# Each batch of a schema has another of these, so that batches asked side by side differ.
FOCUS = (
    "most have one condition, in a few words, as somebody in a hurry types them.",
    "most have two or three conditions that must all hold.",
    "most name a time: today, last month, since a day, between two days, the last days.",
    "most compare: at least, fewer than, after, other than, starting with, whatever the schema's "
    "operators can say.",
    "most are whole sentences, polite or chatty, as people speak.",
    "some leave a choice between two values, and some want one thing first and another after it.",
    "a third cannot be expressed: they ask for a field or value that the schema does not have, or "
    "to change or delete records.",
)

AST_RULES = """\
An AST has either "steps" and "timeframe", or "refusal", and always "prompt".
- "prompt" repeats the query word for word.
- "steps" are called step_1, step_2 and so on; a query needs a second step only where it asks for \
one thing after another. All conditions of a step hold together. A step's "description" lists the \
fields of its conditions, separated by a comma and a space.
- A condition has a field, an operator and a value of the schema; a value is always a text, also \
for a number. Where the schema allows {"any": [...]} in place of a condition, one of those in it \
must hold.
- "timeframe" holds the first and last day that the query is about, both included, as YYYY-MM-DD; \
a side that is open is "". Weeks begin on Monday. "The last 7 days" begin seven days before the \
current date and end with it. "Since" leaves the end open, "until" the start. Without a time both \
sides are "".
- Where the schema cannot express the query (a field or value that it does not have, an operator \
that is missing, a request to change something), "refusal" gives the reason and a suggestion, in \
the language of the query, and nothing is guessed."""

_AST = f"""\
You translate a query into an AST: one JSON object that is valid under the JSON Schema given and \
means what the query means, no more and no less.
{AST_RULES}
Answer with the JSON object alone."""

_VERDICT = f"""\
You judge whether an AST means what a query means. You get the JSON Schema that the AST must \
follow, the query, the current date and the AST.
{AST_RULES}
Accept an AST that finds exactly what the query asks for, whatever the order of its conditions and \
the words of its description; accept a refusal where the schema cannot express the query. Reject \
an AST that leaves out or adds a condition, takes another field, operator, value or timeframe, or \
refuses what can be expressed. Answer with one JSON object: {{"reason": what is right or wrong, in \
a sentence, "verdict": "accept" or "reject"}}."""


# -- questions -------------------------------------------------------------------------------------


def spec_question(schema_id: str, domain: str, prompt: str, examples: int) -> Question:
    """Asks for the fields and values of a domain.

    Args:
        prompt: what is special about it, in words; "" where nothing is.
        examples: how many example queries are wanted.
    """
    about = f"Domain: {domain}" + (f"\n{prompt}" if prompt.strip() else "")
    room = 1500 + 40 * examples
    return Question(
        f"spec/{schema_id}",
        _messages(_SPEC.format(examples=examples), about),
        SPEC_SCHEMA,
        Parameters(temperature=0.7, seed=_seed(schema_id), max_tokens=room),
        _spec_fault,
    )


def query_question(
    schema_id: str, schema: Mapping[str, Any], count: int, batch: int, known: Sequence[str] = ()
) -> Question:
    """Asks for queries of a schema.

    Args:
        count: how many, at most MOST_AT_ONCE.
        batch: its number among those of this schema; each has another seed and another focus.
        known: queries that are not wanted again.
    """
    wanted = _QUERIES.format(count=count, focus=FOCUS[batch % len(FOCUS)])
    about = block("SCHEMA", compact(schema))
    if known:
        about += "\n\n" + block("NOT THESE AGAIN", "\n".join(known))
    return Question(
        f"queries/{schema_id}/{batch}",
        _messages(wanted, about),
        QUERIES_SCHEMA,
        Parameters(temperature=0.9, seed=_seed(schema_id, batch), max_tokens=200 + 60 * count),
    )


def ast_question(request: Request, schema_id: str) -> Question:
    """Asks for the AST of a query."""

    def check(ast: Any) -> str:
        return "; ".join(map(str, find_faults(ast, request.schema)[:_TOLD]))

    return Question(
        f"ast/{schema_id}/{_short(request.query, request.current_date)}",
        _messages(_AST, blocks(request)),
        request.schema,
        Parameters(max_tokens=1536),
        check,
    )


def verdict_question(request: Request, schema_id: str, ast: Mapping[str, Any]) -> Question:
    """Asks whether an AST means its query. The answer that the data hold is not shown."""
    text = render(ast)
    return Question(
        f"verdict/{schema_id}/{_short(request.query, request.current_date, text)}",
        _messages(_VERDICT, f"{blocks(request)}\n\n{block('AST', text)}"),
        VERDICT_SCHEMA,
        Parameters(max_tokens=1024),
    )


def _messages(system: str, user: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def _short(*texts: str) -> str:
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]


def _seed(*what: object) -> int:
    return int(_short(*map(str, what))[:7], 16)


def _spec_fault(spec: Json) -> str:
    """What no schema can say of a spec."""
    names = [field["const"] for field in spec["fields"]]
    if twice := [name for at, name in enumerate(names) if name in names[:at]]:
        return f"two fields are called {twice[0]}"
    for field in spec["fields"]:
        name, values = field["const"], [value["const"] for value in field["enum"]]
        if not _CONST.match(name):
            return f"the const {name!r} is no identifier of letters, digits, dots and underscores"
        closed = field["type"] in ("enum", "boolean")
        if closed and len(values) < 2:
            return f"the field {name} of the type {field['type']} needs at least two values"
        if values and not closed:
            return f"the field {name} of the type {field['type']} must have an empty enum"
        if len(set(values)) < len(values):
            return f"the field {name} has a value twice"
    return ""


# -- the verdict -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """A student's answer to be judged.

    Attributes:
        ast: None where the answer could not be read as an AST.
    """

    request: Request
    schema_id: str
    ast: Ast | None


@dataclass(frozen=True)
class Judged:
    """What the teacher says of an answer.

    Attributes:
        teacher_ast: its own, made without seeing the student's; None where it gave none.
        verdict: "accept", "reject", or None where it gave none.
        reason: for the verdict.
        error: why something is missing; "" where nothing is.
        provenance: of the AST and of the verdict.
    """

    teacher_ast: Ast | None
    verdict: str | None
    reason: str
    error: str
    provenance: Mapping[str, Any]


UNREADABLE = "The answer is no JSON object."


def judge(
    answers: Sequence[Answer], teacher: Teacher, records: str | Path, *, what: str = "judging"
) -> list[Judged]:
    """The teacher's own AST of every query, and its verdict on every answer, in their order.

    An answer that cannot be read is rejected without asking. What the teacher fails at is missing
    in its Judged and told there; nothing stands in its place.

    Raises:
        UserError: as `livery.teacher.ask`.
    """
    questions = [ast_question(answer.request, answer.schema_id) for answer in answers]
    places: dict[int, int] = {}
    for at, answer in enumerate(answers):
        if answer.ast is not None:
            places[at] = len(questions)
            questions.append(verdict_question(answer.request, answer.schema_id, answer.ast))
    results = ask(questions, teacher, records, what=what)
    return [
        _judged(results[at], results[places[at]] if at in places else None)
        for at in range(len(answers))
    ]


def _judged(own: Result, verdict: Result | None) -> Judged:
    value: Json = {"verdict": "reject", "reason": UNREADABLE}
    if verdict is not None:
        value = verdict.value or {"verdict": None, "reason": ""}
    given = {"ast": own, "verdict": verdict}
    faults = [f"{name}: {r.fault}" for name, r in given.items() if r is not None and r.fault]
    provenance = {name: r.provenance for name, r in given.items() if r is not None}
    return Judged(own.value, value["verdict"], value["reason"], "; ".join(faults), provenance)
