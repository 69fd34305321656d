"""OpenAI's interface to this server's adapters: /v1/models and /v1/chat/completions."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from livery.errors import UserError, quoted
from livery.interactions import LOG_HEADER, Log
from livery.serve import improve
from livery.serve.answers import models, openai
from livery.serve.answers.asking import asking_of
from livery.serve.answers.completion import Completion
from livery.serve.answers.finish import finish
from livery.serve.answers.host import Asked
from livery.serve.answers.openai import ChatRequest
from livery.serve.answers.question import Answer, Busy, NoAnswer
from livery.serve.api.problems import problem, without_paths
from livery.serve.api.services import Livery, Services
from livery.serve.errors import Refused
from livery.skills import skill_names

router = APIRouter(prefix="/v1", tags=["answers"])

RETRY_AFTER = 2  # seconds, where the line is full


@router.get("/models")
def list_models(livery: Livery) -> dict[str, Any]:
    """The names that `model` may have: `base`, and each adapter, with its skill, the system prompt
    that it was trained with, and the `response_format` of its answers."""
    rows = [_model(model) for model in models.all_models(livery.settings)]
    return {"object": "list", "data": rows}


@router.get("/models/{name}")
def get_model(name: str, livery: Livery) -> dict[str, Any]:
    """One of them; also `NAME:base`, the base that an adapter was trained on."""
    return _model(models.find_model(livery.settings, name))


def _model(model: models.Model) -> dict[str, Any]:
    row: dict[str, Any] = {"id": model.name, "object": "model", "created": 0, "owned_by": "livery"}
    if model.adapter is not None:
        row["created"] = int(model.adapter.stat().st_mtime)
        skill = model.skill
        asked = asking_of(skill)
        row["livery"] = {
            "skill": skill,
            "base": f"{model.adapter.name}:{models.BASE}",
            "system_prompt": asked.system_prompt if asked else "",
            "response_format": asked.response_format if asked else None,
        }
    return row


@dataclass(frozen=True)
class Chat:
    """One request on its way.

    Attributes:
        request, model: what is asked of whom.
        asked: of the engine.
        finish: the skill that finishes the answer; "" for none.
        completion: how it is written.
        loggable: whether question and answer may go into the log, where there is one.
    """

    request: ChatRequest
    model: models.Model
    asked: Asked
    finish: str
    completion: Completion
    loggable: bool


@router.post(
    "/chat/completions",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": openai.request_schema()}},
        }
    },
)
async def complete_chat(request: Request, livery: Livery) -> Response:
    """Answer a conversation, as OpenAI's interface does; docs/serving.md has the differences."""
    try:
        loggable = _is_loggable(request)
        chat = await run_in_threadpool(_ask_of, livery, await request.body())
        chat = _started(livery, *chat, loggable)
    except Busy as error:
        headers = {"Retry-After": str(RETRY_AFTER)}
        return _error(livery, error, "rate_limit_error", "queue_full", headers)
    except Refused as error:
        found = "model_not_found" if error.status == 404 else None
        return _error(livery, error, "invalid_request_error", found)
    watching = asyncio.create_task(_watch(request, chat.asked))
    pieces = aiter(chat.asked)
    try:
        # What can be refused is refused before the first piece, and so with a status of its own.
        first = await anext(pieces, None)
        if chat.request.stream:
            return StreamingResponse(
                _events(livery, chat, first, pieces, watching), media_type="text/event-stream"
            )
        async for _ in pieces:
            pass
        answer = chat.asked.answer
        assert answer is not None
        extras = await run_in_threadpool(_extras, livery, chat, answer)
        watching.cancel()
        return JSONResponse(chat.completion.whole(answer, extras))
    except NoAnswer as error:
        watching.cancel()
        return _no_answer(livery, error)
    except BaseException:
        watching.cancel()
        chat.asked.stop()
        raise


def _ask_of(livery: Services, body: bytes) -> tuple[ChatRequest, models.Model, Any, str]:
    """(request, model, question, skill that finishes)."""
    request = openai.read_request(body)
    model = models.find_model(livery.settings, request.model)
    question = openai.question_of(request, model)
    skill = request.livery.finish if request.livery else None
    if skill:
        skill = openai.own_skill(skill, model, "livery.finish")
        if skill not in skill_names():
            known = ", ".join(skill_names())
            said = f"livery.finish: no such skill; there are: {known}."
            raise Refused(said, key="livery.finish")
    return request, model, question, skill or ""


def _started(
    livery: Services, request: ChatRequest, model: models.Model, question: Any, skill: str,
    loggable: bool,
) -> Chat:  # fmt: skip
    loggable = loggable and request.store is not False
    return Chat(request, model, livery.host.ask(question), skill, Completion(request), loggable)


def _is_loggable(request: Request) -> bool:
    """Whether an answer may go into the log: not if the header says that nobody uses it, as an
    evaluation says of its cases.

    Raises:
        Refused: the header says something else.
    """
    said = request.headers.get(LOG_HEADER, "on").strip().lower()
    if said not in ("on", "off"):
        raise Refused(f"{LOG_HEADER} is on or off, and not {quoted(said)}.", key=LOG_HEADER)
    return said == "on"


async def _events(
    livery: Services, chat: Chat, first: str | None, pieces: AsyncIterator[str],
    watching: asyncio.Task[None],
) -> AsyncIterator[str]:  # fmt: skip
    """The answer as server-sent events."""
    try:
        yield _event(chat.completion.first())
        if first is not None:
            yield _event(chat.completion.piece(first))
            async for piece in pieces:
                yield _event(chat.completion.piece(piece))
        assert chat.asked.answer is not None
        extras = await run_in_threadpool(_extras, livery, chat, chat.asked.answer)
        for chunk in chat.completion.last(chat.asked.answer, extras):
            yield _event(chunk)
        yield "data: [DONE]\n\n"
    except NoAnswer as error:
        yield _event(json.loads(bytes(_no_answer(livery, error).body)))
    finally:
        watching.cancel()
        chat.asked.stop()


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


async def _watch(request: Request, asked: Asked) -> None:
    """Stop the answer of a client that goes away."""
    with contextlib.suppress(Exception):
        while (await request.receive())["type"] != "http.disconnect":
            pass
    asked.stop()


def _extras(livery: Services, chat: Chat, answer: Answer) -> dict[str, Any]:
    """What stands beside an answer: who gave it, what a skill makes of it, its number in the log.

    The answer is there: whatever goes wrong here is told, and does not take it away.
    """
    question, facts = chat.asked.question, {**answer.engine}
    facts["adapter"] = chat.model.adapter.name if chat.model.adapter and chat.model.tuned else None
    extras: dict[str, Any] = {"engine": facts, "seconds": round(answer.seconds, 4)}
    if chat.finish:
        address = chat.request.livery.address if chat.request.livery else None
        try:
            extras["finished"] = finish(chat.finish, answer.text, question.messages, address)
        except (UserError, ValueError) as error:
            extras["finished"] = {"skill": chat.finish, "error": str(error)}
    if chat.loggable and improve.is_logging(livery.settings):
        try:
            extras["interaction"] = Log(improve.log_file(livery.settings)).record(
                list(question.messages), answer.text, skill=chat.model.skill,
                finished=answer.reason != "length", adapter=facts["adapter"],
                model=facts["model"],
            )  # fmt: skip
        except UserError as error:
            extras["not_logged"] = without_paths(str(error), livery.settings)
    return extras


# -- errors ----------------------------------------------------------------------------------------


def _no_answer(livery: Services, error: NoAnswer) -> JSONResponse:
    kind = "server_error" if error.why == "engine" else "invalid_request_error"
    code = {"model": "model_not_usable", "engine": "engine_failed"}.get(error.why)
    return _error(livery, error, kind, code)


def _error(
    livery: Services, error: Refused, kind: str, code: str | None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """A problem document that holds OpenAI's error too."""
    key = error.key or None
    said = {"message": str(error), "type": kind, "param": key, "code": code}
    settings = livery.settings
    return problem(error.status, str(error), settings, key=key, headers=headers, error=said)
