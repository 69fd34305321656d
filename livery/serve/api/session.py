"""The page's cookie: event streams, downloads and frames cannot send an Authorization header."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from livery.serve.api.security import COOKIE, SESSION, session_cookie
from livery.serve.api.services import Livery
from livery.serve.errors import Refused

router = APIRouter(tags=["session"])


class Token(BaseModel):
    """What opens a session."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=4096)


@router.get(SESSION)
def session(livery: Livery) -> dict[str, bool]:
    """Whether this server asks for a token."""
    return {"needs_token": livery.settings.token is not None}


@router.post(SESSION, status_code=204)
def open_session(token: Token, livery: Livery, response: Response) -> None:
    """Exchange the token for a cookie that scripts cannot read and other sites cannot send."""
    if livery.settings.token is None:
        return
    if not livery.settings.is_token(token.token):
        raise Refused("That is not this server's token.", status=401, key="token")
    response.set_cookie(
        COOKIE, session_cookie(livery.settings), httponly=True, samesite="strict", path="/"
    )


@router.delete(SESSION, status_code=204)
def close_session(response: Response) -> None:
    """Forget the cookie."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
