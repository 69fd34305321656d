"""A question to the teacher, what it is known by, and what comes back."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

Messages = Sequence[Mapping[str, str]]

# Keywords that grammars of servers lack. A property of such a name costs one request more.
_RARE = (
    "if", "not", "oneOf", "allOf", "dependencies", "dependentRequired", "dependentSchemas",
    "patternProperties", "propertyNames", "contains",
)  # fmt: skip

_KEY_VERSION = 1  # another one where what is sent for the same question changes


@dataclass(frozen=True)
class Parameters:
    """What decides an answer beside the prompt, and how long it may be.

    Attributes:
        temperature: 0 takes the most likely token.
        top_p: sample from the most likely tokens with this share of the probability.
        seed: of sampling; sent where there is sampling, since some endpoints refuse it.
        effort: how much a reasoning model thinks, "low", "medium", "high"; None leaves it to it.
        max_tokens: longest answer. It decides no answer but a cut one, and so is not in the key.
    """

    temperature: float = 0.0
    top_p: float | None = None
    seed: int | None = None
    effort: str | None = None
    max_tokens: int = 2048


@dataclass(frozen=True)
class Question:
    """One thing that is asked.

    Attributes:
        name: what it is about, the same in each run: "queries/tickets/3".
        messages: the conversation, {"role", "content"} each.
        schema: JSON Schema that the answer must be valid under.
        check: what is wrong with an answer that is, in a sentence that the teacher is told; ""
            where nothing is.
    """

    name: str
    messages: Messages
    schema: Mapping[str, Any]
    parameters: Parameters = Parameters()
    check: Callable[[Any], str] | None = None

    @functools.cached_property
    def schema_text(self) -> str:
        """`schema` as JSON."""
        return json.dumps(self.schema)

    @functools.cached_property
    def rewritten(self) -> Mapping[str, Any] | None:
        """`schema` for an endpoint that refuses it: the same documents, in keywords that more of
        them compile; None where it has none of the others, or cannot be said without."""
        from livery.engines.schemas import NoGrammar, schema_grammar

        if not any(f'"{word}":' in self.schema_text for word in _RARE):
            return None
        try:
            return json.loads(schema_grammar(self.schema_text).text)
        except NoGrammar:
            return None


@dataclass(frozen=True)
class Ingredients:
    """What decides an answer, each part in a form that two runs can compare.

    Attributes:
        model: name.
        prompt, schema: sha256 of the messages, of the schemas.
        parameters: JSON of all but the token limit.
    """

    model: str
    prompt: str
    schema: str
    parameters: str

    @property
    def key(self) -> str:
        """sha256 of everything."""
        return _sha256([_KEY_VERSION, self.model, self.prompt, self.schema, self.parameters])

    def differences(self, other: Ingredients) -> list[str]:
        """Which parts are not those of `other`, an earlier one, for people."""
        found: list[str] = []
        if self.model != other.model:
            found.append(f"the model ({other.model} → {self.model})")
        if self.parameters != other.parameters:
            try:
                before, now = json.loads(other.parameters), json.loads(self.parameters)
                names = [n for n in sorted({*before, *now}) if before.get(n) != now.get(n)]
            except (ValueError, TypeError, AttributeError, RecursionError):  # a damaged record
                names = ["of a damaged record"]
            found.append(f"the parameters ({', '.join(names)})")
        found += ["the prompt"] if self.prompt != other.prompt else []
        return found + (["the schema"] if self.schema != other.schema else [])


def ingredients(question: Question, model: str) -> Ingredients:
    """What decides the answer to a question."""
    parameters = asdict(question.parameters)
    del parameters["max_tokens"]
    return Ingredients(
        model,
        _sha256([dict(message) for message in question.messages]),
        _sha256([question.schema_text, None]),  # two values, as in the keys of older records
        json.dumps(parameters, sort_keys=True),
    )


def characters(messages: Messages) -> int:
    """Of all messages together."""
    return sum(len(message["content"]) for message in messages)


@dataclass(frozen=True)
class Fault:
    """Why there is no answer.

    Attributes:
        cause: one of `wire.CAUSES`.
        message: for people.
        trail: every attempt, as in a result's provenance.
    """

    cause: str
    message: str
    trail: Sequence[Mapping[str, Any]] = ()

    def __str__(self) -> str:
        return f"{self.cause}: {self.message}"


@dataclass(frozen=True)
class Result:
    """What became of a question.

    Attributes:
        at: its place among those that were asked.
        value: valid under the schema; None where there is a fault.
        provenance: model, endpoint, key, asked_at, format, requests, repaired, trail, seconds,
            prompt_tokens, completion_tokens, answer_tokens (of those, the answer's own), counted
            ("by the endpoint" or "estimated"), cost.
        reused: it stood in the records.
    """

    at: int
    question: Question
    value: Any = None
    fault: Fault | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reused: bool = False


def _sha256(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))  # order of keys counts: a grammar keeps it
    return hashlib.sha256(text.encode()).hexdigest()
