"""The outcome that a schema has no grammar."""

from __future__ import annotations

from livery.errors import UserError, shown


class NoGrammar(UserError):
    """A schema whose documents no grammar of ours describes exactly.

    Attributes:
        keyword: what it fails at, such as "uniqueItems"; "" where it is the schema as a whole.
        path: JSON pointer of it, such as "#/properties/tags".
        reason: why, for people.
    """

    def __init__(self, keyword: str, path: str, reason: str):
        self.keyword, self.path, self.reason = keyword, path, reason
        where = f" ({keyword})" if keyword else ""
        super().__init__(f"This JSON Schema has no grammar: at {shown(path)}{where} {reason}.")
