"""What can go wrong in ways a user should read without a traceback, and the exit code of each."""

from __future__ import annotations

import unicodedata


class LiveryError(Exception):
    """Something we understand well enough to explain. Shown as one message, never a traceback."""

    exit_code = 1


class UserError(LiveryError):
    """The user's data, configuration or files are wrong. The message says what, where, and the
    remedy."""


class TargetMissed(LiveryError):
    """Everything ran, but a score stayed below the target that was asked for."""

    exit_code = 3


class Interrupted(LiveryError):
    """The user stopped the run; what was done is saved and the message says how to go on."""

    exit_code = 130


def shown(name: object, limit: int = 200) -> str:
    """A name that somebody else chose (a path, key, tensor or model) as it may be printed.

    Control characters, line breaks, invisible and direction-changing characters and halves of
    surrogate pairs are shown as escapes; of more than `limit` characters only the first are shown,
    with how many there are. Other text is returned as it is.
    """
    text = str(name)
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() or c == "\u200d" else _escape(c) for c in cut)
    return cut if len(text) <= limit else f"{cut}… ({len(text):,} characters)"


def quoted(value: object, limit: int = 80) -> str:
    """A value out of somebody's file as Python writes it, as `shown` has it."""
    return shown(repr(value), limit)


def printable(message: str) -> str:
    """A whole message, its line breaks and tabs kept, everything else as `shown` has it."""
    if message.isprintable():
        return message
    return "".join(c if c in "\n\t" or c.isprintable() else shown(c) for c in message)


def counted(number: int, noun: str, many: str = "") -> str:
    """1 row, 2,000 rows; `many` where the plural is not a noun with an s."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def sentence(text: str) -> str:
    """A text that ends as sentences do; others may have ended it already."""
    return text if text.rstrip("\"'`)")[-1:] in tuple(".!?…") else f"{text}."


def _escape(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return character  # no-break and ideographic spaces: harmless, and usual in some languages
    return character.encode("unicode_escape").decode("ascii")
