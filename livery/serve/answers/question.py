"""What a server asks the process that its engine runs in, and what comes back; both are JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from livery.serve.errors import Refused

# Who is to mend it: the caller, whoever keeps adapters and bases, or nobody (the engine died).
Why = Literal["request", "model", "engine"]
_STATUS = {"request": 400, "model": 409, "engine": 503}


@dataclass(frozen=True)
class Question:
    """A conversation that waits for its answer.

    Attributes:
        messages: turns as chat templates take them (`livery.dataset.turns`).
        adapter: its folder; None for a base alone.
        tuned: answer with the adapter, else as the base that it was trained on.
        model: the base; None takes the adapter's own, else the embedded one.
        tools: JSON Schemas, for templates that offer them.
        max_tokens, temperature, top_p, seed: as `livery.engines.engine.Decoding`.
        stop: texts that end the answer, which does not hold them.
        format: {"type": "text"}, {"type": "json_object"}, {"type": "json_schema", "schema": …} or
            {"type": "livery_skill", "skill": NAME}.
        template_kwargs: variables of the chat template.
    """

    messages: tuple[dict[str, Any], ...]
    adapter: str | None = None
    tuned: bool = True
    model: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    format: dict[str, Any] = field(default_factory=lambda: {"type": "text"})
    template_kwargs: dict[str, Any] = field(default_factory=dict[str, Any])

    def as_json(self) -> dict[str, Any]:
        """For `Question(**value)` on the other side."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Answer:
    """What the engine said.

    Attributes:
        text: the whole answer, without calls of tools.
        calls: [{"name", "arguments": object}] of tools.
        reason: "stop", "length", "tool_calls", or "gone": whoever asked went away.
        prompt_tokens, tokens: of the prompt and of the answer, the end token counted.
        seconds: that the answer took, without loading.
        engine: what answered: {"engine", "version", "model", "adapter", "device", "dtype"}.
    """

    text: str
    calls: list[dict[str, Any]]
    reason: Literal["stop", "length", "tool_calls", "gone"]
    prompt_tokens: int
    tokens: int
    seconds: float
    engine: dict[str, Any]


class NoAnswer(Refused):
    """No answer; `why` says whose fault it is."""

    def __init__(self, why: Why, message: str, key: str | None = None):
        super().__init__(message, status=_STATUS[why], key=key)
        self.why: Why = why


class Busy(Refused):
    """As many questions wait already as may."""

    def __init__(self) -> None:
        super().__init__("Too many questions are waiting. Ask again in a moment.", status=429)
