"""Errors as RFC 9457 problem documents: type, title, status, detail, and the key at fault."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from livery.errors import UserError, printable
from livery.serve.errors import Refused

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


def problem(
    status: int,
    detail: str,
    *,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """A problem document as an answer."""
    said = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": printable(detail),
    }
    if key is not None:
        said["key"] = printable(key)
    return JSONResponse(said | more, status, headers, MEDIA_TYPE)


def of(error: Exception) -> JSONResponse:
    """The problem that an exception means; what nobody foresaw tells nothing of the server."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # of a task that an answer was made in
    if isinstance(error, Refused):
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
        return problem(error.status, str(error), key=error.key, headers=headers, **error.more)
    if isinstance(error, UserError):
        return problem(400, str(error))
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        return problem(error.status_code, error.detail, headers=dict(error.headers or {}))
    if isinstance(error, RecursionError):
        return problem(400, "The request has lists or objects that are nested too deep.")
    log.error("a fault of Livery's own", exc_info=error)
    return problem(500, "A fault of Livery's own; the server's log has the details.")


def install(app: FastAPI) -> None:
    """Have every error of the application answered as a problem."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return of(error)

    for kind in (UserError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)


# Of a body that is missing, is another value, or is said to be no JSON by its Content-Type.
_NO_OBJECT = ("missing", "dict_type", "model_type", "model_attributes_type")


def _invalid(error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        said = f"The body is not JSON ({first['ctx']['error']} at character {first['loc'][1]})."
        return problem(422, said)
    if first["loc"] == ("body",) and first["type"] in _NO_OBJECT:
        said = "The body must be a JSON object, sent with Content-Type: application/json."
        return problem(422, said)
    place = ".".join(str(part) for part in first["loc"][1:])
    said = first["msg"].removeprefix("Value error, ")
    return problem(422, f"{place or first['loc'][0]}: {said}.", key=place or None)
