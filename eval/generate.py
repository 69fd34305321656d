"""Answer a few requests: what `livery generate` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.asking import OWN_OPTIONS, Asking, find_asking
from livery.adapter_origin import choose_model, complete_options, read_origin
from livery.dataset.conversation import RowError
from livery.dataset.turns import read_tools
from livery.engines import threads
from livery.engines.engine import (
    Decoding,
    Engine,
    Generation,
    Grammar,
    Message,
    OnText,
    Prompt,
    default_engine,
    open_engine,
)
from livery.engines.schemas import schema_grammar
from livery.errors import UserError
from livery.files import plain
from livery.reading import parse_json, read_json
from livery.skills import AnswerError, Skill, get_skill

Tell = Callable[[str], None]
Keep = Callable[[list[Message], Generation], None]


@dataclass(frozen=True)
class Request:
    """What to answer, and how. See `livery generate --help`."""

    texts: tuple[str, ...]
    adapter: str | None = None
    model: str | None = None
    engine: str = field(default_factory=default_engine)
    engine_options: dict[str, Any] = field(default_factory=dict[str, Any])
    skill: str | None = None
    unconstrained: bool = False
    system: str | None = None
    state: str | None = None
    shell: str | None = None
    address: str | None = None
    tools: str | None = None
    json_schema: str | None = None
    base: bool = False
    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 64
    threads: int | None = None


def unlogged(messages: list[Message], answer: Generation) -> None:
    """A `Keep` that keeps nothing."""


def answers(
    request: Request, tell: Tell = lambda text: None, keep: Keep = unlogged
) -> dict[str, Any]:
    """{"answers": [{"text", "answer", "finished", "tokens", "seconds", "value"?, "error"?}]}.

    Args:
        keep: given each conversation and its answer, for a log.

    Raises:
        UserError: model, adapter or skill are wrong.
    """
    ready = _prepare(request)
    _settle(ready.engine, ready.prompts, request, tell)
    found = ready.engine.generate(ready.prompts, ready.decoding)
    for messages, generation in zip(ready.asked, found, strict=True):
        keep(messages, generation)
    rows = zip(request.texts, found, strict=True)
    held = request.json_schema is not None
    return {"answers": [_row(text, generation, ready.skill, held) for text, generation in rows]}


def stream_answers(
    request: Request,
    on_text: OnText,
    *,
    before: Callable[[str], None],
    after: Callable[[Generation], None],
    tell: Tell = lambda text: None,
    keep: Keep = unlogged,
) -> None:
    """Answer one text after another, each piece by piece.

    Args:
        request: what to answer, and how.
        on_text: called with each piece of an answer, as it comes.
        before: called with a text, before its answer.
        after: called with the whole answer.
        tell: called with what the user is to know.
        keep: given each conversation and its answer, for a log.

    Raises:
        UserError: model, adapter or skill are wrong.
    """
    ready = _prepare(request)
    _settle(ready.engine, ready.prompts[:1], request, tell)
    for text, messages, prompt in zip(request.texts, ready.asked, ready.prompts, strict=True):
        before(text)
        found = ready.engine.stream(prompt, ready.decoding, on_text)
        after(found)
        keep(messages, found)


def _settle(engine: Engine, prompts: Sequence[Prompt], request: Request, tell: Tell) -> None:
    if note := threads.settle(engine, prompts, request.threads):
        tell(note)


@dataclass(frozen=True)
class _Ready:
    """An engine that is open, and what it is asked: a conversation and a prompt for each text."""

    engine: Engine
    skill: Skill | None
    asked: list[list[Message]]
    prompts: list[Prompt]
    decoding: Decoding


def _prepare(request: Request) -> _Ready:
    skill = get_skill(request.skill) if request.skill else None
    asking = _asking(request, skill)
    if skill and request.tools:
        raise UserError("--skill brings its own prompt; leave out --tools.")
    if skill and request.json_schema:
        raise UserError("--skill brings its own grammar; leave out --json-schema.")
    tools = _tools(request)  # before a model is loaded
    if request.unconstrained and not skill:
        raise UserError("--unconstrained needs --skill; without a skill there is no grammar.")
    origin = read_origin(None if request.engine == "http" else request.adapter)
    model = choose_model(request.model, origin)
    options = complete_options(
        request.engine, request.engine_options, origin, model, request.adapter
    )
    engine = open_engine(request.engine, model, request.adapter, **options)
    if request.base:
        engine.use_adapter(False)
    asked = [asking.messages(text) for text in request.texts]
    prompts = [engine.prompt(messages, tools) for messages in asked]
    return _Ready(engine, skill, asked, prompts, _decoding(request, asking))


def _tools(request: Request) -> tuple[dict[str, Any], ...]:
    """The tools of the file, as a row of training data would hold them.

    Raises:
        UserError: it is not there, or holds no tools.
    """
    if request.tools is None:
        return ()
    try:
        found = read_tools(read_json(request.tools), request.tools, "its content")
    except RowError as error:
        raise UserError(f"{error} A JSON list of tools is expected.") from None
    if not found:
        raise UserError(f"{request.tools}: holds no tools.")
    return found


def _asking(request: Request, skill: Skill | None) -> Asking:
    given = {name: getattr(request, name) for name in OWN_OPTIONS}
    if skill:
        return find_asking(skill, given, request.system)
    for name, value in given.items():
        if value is not None:
            raise UserError(f"--{name} needs --skill {OWN_OPTIONS[name]}.")
    system = [{"role": "system", "content": request.system}] if request.system else []
    grammar = _schema(request.json_schema) if request.json_schema else None
    return Asking(lambda text: [*system, {"role": "user", "content": text}], grammar)


def _schema(path: str) -> Grammar:
    """The grammar of a file with a JSON Schema.

    Raises:
        UserError: it cannot be read, is no JSON Schema, or has no grammar.
    """
    text = json.dumps(read_json(path), ensure_ascii=False)
    try:
        schema_grammar(text)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Grammar("json_schema", text)


def _decoding(request: Request, asking: Asking) -> Decoding:
    return Decoding(
        request.max_tokens,
        None if request.unconstrained else asking.grammar,
        request.temperature,
        request.seed,
        request.batch_size,
        request.top_p,
    )


def _row(text: str, generation: Generation, skill: Skill | None, held: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "text": text,
        "answer": generation.text,
        "finished": generation.finished,
        "tokens": generation.count,
        "seconds": round(generation.seconds, 4),
    }
    if held:
        try:
            row["value"] = parse_json(generation.text, "the answer")
        except UserError as error:
            row["error"] = str(error) if generation.finished else "cut off at --max-tokens"
    if skill:
        try:
            row["value"] = plain(skill.parse(generation.text))
        except AnswerError as error:
            row["error"] = str(error)
    return row
