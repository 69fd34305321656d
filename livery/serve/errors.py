"""What a request can be refused for, with the HTTP status that says so."""

from __future__ import annotations

from typing import Any

from livery.errors import UserError


class Refused(UserError):
    """A request that cannot be done.

    Attributes:
        status: of the answer.
        key: the field of the request that is at fault, where it is one.
        more: further members of the problem document.
    """

    status = 400

    def __init__(
        self, detail: str, *, status: int | None = None, key: str | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status or self.status
        self.key = key
        self.more = more


class NotFound(Refused):
    """There is nothing of that name."""

    status = 404


class Conflict(Refused):
    """Not in the present state: something has to be done first, or is being done."""

    status = 409


class Unavailable(Refused):
    """What the request needs is not installed, or not running."""

    status = 503
