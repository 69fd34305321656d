"""What a format has no form for; `convert.way_out` says what to do then."""

from __future__ import annotations

from livery.errors import UserError


class Unwritable(UserError):
    """A format has no form for something in an adapter.

    Attributes:
        without: what an adapter that fits does without, for advice.
    """

    def __init__(self, reason: str, without: str) -> None:
        super().__init__(reason)
        self.without = without
