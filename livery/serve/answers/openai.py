"""OpenAI's chat completions as this server takes them.

What would change the answer and cannot be done is refused with the field's name; nothing is left
out in silence.
"""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from livery.dataset.conversation import RowError
from livery.dataset.turns import read_tools, read_turns
from livery.errors import shown
from livery.serve.answers.models import Model
from livery.serve.answers.question import Question
from livery.serve.errors import Refused

LONGEST_ANSWER = 32_768  # tokens
TOKENS = 512  # of an answer, where nobody says
STOPS = 4

# Fields of the interface that are understood, and what is done without: only these values pass.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},),
    "logprobs": (False,), "top_logprobs": (0,), "parallel_tool_calls": (True,),
    "modalities": (["text"],), "repetition_penalty": (1,), "top_k": (0, -1), "min_p": (0,),
}  # fmt: skip
# Fields that change nothing of an answer.
_IGNORED = (
    "user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_retention",
)  # fmt: skip


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """A turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class Schema(_Strict):
    """A JSON Schema by its name."""

    name: str = "answer"
    description: str | None = None
    strict: bool | None = None
    schema_: Annotated[dict[str, Any] | bool, Field(alias="schema")]


class TextFormat(_Strict):
    """Free text."""

    type: Literal["text", "json_object"]


class SchemaFormat(_Strict):
    """A JSON Schema's documents."""

    type: Literal["json_schema"]
    json_schema: Schema


class SkillFormat(_Strict):
    """The answers that a skill's grammar admits; "auto" is the skill of the adapter."""

    type: Literal["livery_skill"]
    skill: str = "auto"


class StreamOptions(_Strict):
    """How a stream ends."""

    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class Extras(_Strict):
    """What Livery does beyond OpenAI's interface.

    Attributes:
        finish: have the answer finished by a skill ("auto": the adapter's); the result stands
            beside the answer, under `livery.finished`.
        address: the form of address for persona; by default as the system message says.
    """

    finish: str | None = None
    address: str | None = None


class ChatRequest(_Strict):
    """POST /v1/chat/completions."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=LONGEST_ANSWER)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=LONGEST_ANSWER)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=STOPS)] | None = None
    response_format: Annotated[
        TextFormat | SchemaFormat | SkillFormat | None, Field(discriminator="type")
    ] = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    store: bool | None = None
    livery: Extras | None = None


def request_schema() -> dict[str, Any]:
    """The JSON Schema of a request, without references, for the API's own description."""
    schema = ChatRequest.model_json_schema(by_alias=True)
    defined = schema.pop("$defs")

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(one) for one in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return resolved(defined[value["$ref"].rpartition("/")[2]])
        return {key: resolved(one) for key, one in value.items() if key != "discriminator"}

    found = resolved(schema)
    found["properties"] |= {name: {"enum": [*values]} for name, values in _NEUTRAL.items()}
    found["properties"] |= {name: {"description": "Changes nothing."} for name in _IGNORED}
    return found


def read_request(body: bytes) -> ChatRequest:
    """The request that a body holds.

    Raises:
        Refused: it is none, or asks for what cannot be done.
    """
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(f"The body is not JSON ({shown(error, 120)}).") from None
    if not isinstance(value, dict):
        raise Refused("The body is not a JSON object.")
    given = {key: found for key, found in value.items() if found is not None}
    for key in _IGNORED:
        given.pop(key, None)
    for key, passing in _NEUTRAL.items():
        if key in given and not _is_one_of(given.pop(key), passing):
            said = f"{key}: only {json.dumps(passing[0])} is possible here. Leave it out."
            raise Refused(said, key=key)
    try:
        return ChatRequest.model_validate_json(json.dumps(given))
    except ValidationError as error:
        _refuse(error)
    except (ValueError, RecursionError) as error:  # lone surrogates, nesting without end
        raise Refused(f"The body cannot be read ({shown(error, 120)}).") from None


def _is_one_of(value: Any, passing: tuple[Any, ...]) -> bool:
    """1 and 1.0 are one, True is not 1."""
    return any(
        value == good and isinstance(value, bool) == isinstance(good, bool) for good in passing
    )


# Where several things are wrong at one place: a wrong word says most, a field too many least.
_TOLD = {"literal_error": 2, "extra_forbidden": 0}


def _refuse(error: ValidationError) -> NoReturn:
    # Of the branches of a union, the one that got furthest is the one that was meant.
    found = max(
        reversed(error.errors()),
        key=lambda one: (len(one["loc"]), _TOLD.get(one["type"], 1)),
    )
    parts = [str(part) for part in found["loc"]]
    if parts[:1] == ["response_format"]:
        del parts[1:2]  # the branch
    place = ".".join(part for part in parts if part != "str" and "[" not in part)
    if found["type"] == "union_tag_invalid":
        place, about = f"{place}.type", found.get("ctx", {})
        said, known = shown(str(about.get("tag")), 80), about.get("expected_tags")
        raise Refused(f"{place}: {said} is not one of {known}.", key=place)
    if found["type"] == "extra_forbidden":
        raise Refused(f"{shown(place)}: this server does not know this field.", key=place)
    raise Refused(f"{shown(place) or 'The body'}: {found['msg']}.", key=place)


def question_of(request: ChatRequest, model: Model) -> Question:
    """What is asked of the engine.

    Raises:
        Refused: messages or tools are not understood, or fields contradict each other.
    """
    most = {request.max_tokens, request.max_completion_tokens} - {None}
    if len(most) > 1:
        raise Refused("max_tokens and max_completion_tokens differ; give one.", key="max_tokens")
    if request.stream_options is not None and not request.stream:
        raise Refused('stream_options: only with "stream": true.', key="stream_options")
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    if "" in stops:
        raise Refused("stop: a text that ends the answer is not empty.", key="stop")
    try:
        turns = read_turns(
            [m.model_dump(exclude_none=True) for m in request.messages], "the request", "messages"
        )
        tools = read_tools(request.tools or [], "the request", "tools")
    except RowError as error:
        key = "tools" if ": tools" in str(error) else "messages"
        raise Refused(str(error), key=key) from None
    if request.tool_choice == "none":
        tools = ()
    seed = request.seed
    if seed is None:
        seed = secrets.randbelow(2**31) if request.temperature else 0
    return Question(
        messages=tuple(turn.message for turn in turns),
        adapter=str(model.adapter) if model.adapter else None,
        tuned=model.tuned,
        tools=tools,
        max_tokens=next(iter(most), None) or TOKENS,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=seed,
        stop=tuple(stops),
        format=_format(request, model),
        template_kwargs=request.chat_template_kwargs or {},
    )


def _format(request: ChatRequest, model: Model) -> dict[str, Any]:
    form = request.response_format
    if isinstance(form, SchemaFormat):
        return {"type": "json_schema", "schema": form.json_schema.schema_}
    if isinstance(form, SkillFormat):
        return {"type": "livery_skill", "skill": own_skill(form.skill, model, "response_format")}
    return {"type": form.type if form else "text"}


def own_skill(name: str, model: Model, field: str) -> str:
    """The skill that is meant; "auto" is the adapter's.

    Raises:
        Refused: the adapter's is not known.
    """
    if name != "auto":
        return name
    if not model.skill:
        raise Refused(f"{field}: {model.name} does not say which skill it has; name it.", key=field)
    return model.skill
