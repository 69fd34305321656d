"""Errors as RFC 9457 problem documents: type, title, status, detail, and the key at fault."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from livery.errors import UserError, printable
from livery.paths import HOME
from livery.serve.errors import Refused
from livery.serve.settings import ServeSettings

log = logging.getLogger("livery.serve")
MEDIA_TYPE = "application/problem+json"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "key": {"type": "string"},
    },
}
# What every operation may answer besides its own.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "The request was refused: a problem document.",
        "content": {MEDIA_TYPE: {"schema": SCHEMA}},
    }
}


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def document(status: int, detail: str, path: str = "") -> dict[str, Any]:
    """A problem document. Below /v1/ it holds the error as OpenAI's clients read it, too.

    Args:
        path: that was asked for.
    """
    said: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": printable(detail),
    }
    if path.startswith("/v1/"):
        kind = _OPENAI.get(status, "server_error" if status >= 500 else "invalid_request_error")
        code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(status)
        said["error"] = {"message": said["detail"], "type": kind, "param": None, "code": code}
    return said


_OPENAI = {403: "permission_error", 429: "rate_limit_error"}


def problem(
    status: int,
    detail: str,
    settings: ServeSettings,
    *,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    path: str = "",
    **more: Any,
) -> JSONResponse:
    """A problem document as an answer. It tells no path of this machine: what is in the root is
    named from there.

    Args:
        path: that was asked for (`document`).
    """
    said = document(status, detail, path)
    if key is not None:
        said["key"] = printable(key)
        if "error" in said:
            said["error"]["param"] = said["key"]
    return JSONResponse(without_paths(said | more, settings), status, headers, MEDIA_TYPE)


def without_paths(value: Any, settings: ServeSettings) -> Any:
    """A JSON value in whose texts places of this machine are named from the root, from where Livery
    is, or from the home folder ("~")."""
    if isinstance(value, dict):
        return {key: without_paths(one, settings) for key, one in value.items()}
    if isinstance(value, list):
        return [without_paths(one, settings) for one in value]
    if not isinstance(value, str):
        return value
    text = value
    for place, word in ((settings.root, ""), (HOME, ""), (Path.home(), "~/")):
        text = _shortened(text, place, word)
    return text


def from_root(value: Any, settings: ServeSettings) -> Any:
    """A JSON value in whose texts what is in the root is named from there, as a job's commands do
    that run in it; bases elsewhere keep their paths."""
    if isinstance(value, dict):
        return {key: from_root(one, settings) for key, one in value.items()}
    if isinstance(value, list):
        return [from_root(one, settings) for one in value]
    return _shortened(value, settings.root, "") if isinstance(value, str) else value


def _shortened(text: str, place: Path, word: str) -> str:
    if place == Path(place.anchor):  # every path would begin there
        return text
    here = rf"(?<![\w./~-]){re.escape(str(place))}"
    text = re.sub(rf"{here}/", word, text)
    return re.sub(rf"{here}(?![\w.-])", word or ".", text)


def of(error: Exception, settings: ServeSettings, path: str = "") -> JSONResponse:
    """The problem that an exception means; what nobody foresaw tells nothing of the server.

    Args:
        path: that was asked for (`document`).
    """
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # of a task that an answer was made in
    if isinstance(error, Refused):
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return problem(
            error.status, str(error), settings, key=error.key, headers=headers, path=path,
            **error.more,
        )  # fmt: skip
    if isinstance(error, UserError):
        return problem(400, str(error), settings, path=path)
    if isinstance(error, RequestValidationError):
        return _invalid(error, settings, path)
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        return problem(error.status_code, error.detail, settings, headers=headers, path=path)
    if isinstance(error, RecursionError):
        said = "The request has lists or objects that are nested too deep."
        return problem(400, said, settings, path=path)
    log.error("a fault of Livery's own", exc_info=error)
    said = "A fault of Livery's own; the server's log has the details."
    return problem(500, said, settings, path=path)


def install(app: FastAPI, settings: ServeSettings) -> None:
    """Have every error of the application answered as a problem."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, HTTPException) and error.status_code == 405:
            error = _not_so(app, request)
        return of(error, settings, request.scope["path"])

    for kind in (UserError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)


def _not_so(app: FastAPI, request: Request) -> HTTPException:
    """What is there, but not by this method; Starlette names the methods of the first route alone
    that has this path."""

    def takes(method: str) -> bool:
        scope = {"type": "http", "method": method, "path": request.scope["path"], "headers": []}
        return any(route.matches(scope)[0] is Match.FULL for route in app.router.routes)

    # The guard makes a GET of what is asked by HEAD.
    asked = {method: "GET" if method == "HEAD" else method for method in _METHODS}
    allowed = [method for method, of in asked.items() if takes(of)]
    said = f"{request.method} is not possible here, only {', '.join(allowed)}."
    return HTTPException(405, said, {"Allow": ", ".join(allowed)})


# Of a body that is missing, is another value, or is said to be no JSON by its Content-Type.
_NO_OBJECT = ("missing", "dict_type", "model_type", "model_attributes_type")


def _invalid(error: RequestValidationError, settings: ServeSettings, path: str) -> JSONResponse:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        said = f"The body is not JSON ({first['ctx']['error']} at character {first['loc'][1]})."
        return problem(422, said, settings, path=path)
    if first["loc"] == ("body",) and first["type"] in _NO_OBJECT:
        said = "The body must be a JSON object, sent with Content-Type: application/json."
        return problem(422, said, settings, path=path)
    place = ".".join(str(part) for part in first["loc"][1:])
    said = first["msg"].removeprefix("Value error, ")
    said = f"{place or first['loc'][0]}: {said}."
    return problem(422, said, settings, key=place or None, path=path)
