"""What a request can be refused for, with the HTTP status that says so."""

from __future__ import annotations

from typing import Any

from livery.errors import UserError


class Refused(UserError):
    """A request that cannot be done.

    Attributes:
        status: of the answer; 400 for this class itself.
        key: the field of the request that is at fault, where it is one.
        more: further members of the problem document.
    """

    status = 400

    def __init__(self, detail: str, *, key: str | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.key = key
        self.more = more


class Unauthorized(Refused):
    """No token, or a wrong one."""

    status = 401


class Forbidden(Refused):
    """Asked from a place that may not ask."""

    status = 403


class NotFound(Refused):
    """There is nothing of that name."""

    status = 404


class Conflict(Refused):
    """Not in the present state: something has to be done first, or is being done."""

    status = 409


class TooLarge(Refused):
    """More than the limit, as sent or unpacked."""

    status = 413


class TooMany(Refused):
    """More requests than the limit."""

    status = 429


class Unavailable(Refused):
    """What the request needs is not installed, or not running."""

    status = 503
