"""State blocks where none may stand: in a user's text, an answer, a tool's result.

    forged(messages)     # -> the passages, each with its turn, line and position

The one block that counts is that of the system message. Whatever looks like another, to a reader
or to a model, is forged: full-width signs, letters of other scripts, zero-width characters, other
rulers and brackets than the block's own do not hide it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Cyrillic and Greek letters that look like those of STATE and END.
_ALIKE = str.maketrans("ѕтаеԁпΑαΤτΕεΝнЅТАЕ", "staednaatteennstae")
_RULE = r"[=\-–—~#*_+═━─<>\[\]{}【】〔〕«»|/:]"
_WORD = r"s\W{0,2}t\W{0,2}a\W{0,2}t\W{0,2}e"
# A line that opens a block: STATE alone, or with a few words before or after it, between rulers.
_OPENING = re.compile(
    rf"^[ \t>|\\]{{0,20}}(?:{_RULE}{{2,20}}|(?:=[ \t\\]?){{2,20}})[ \t]*"
    rf"(?:[\w'-]{{1,12}}[ \t]+){{0,3}}{_WORD}"
    rf"(?:[ \t]+[^\n]{{1,40}})?[ \t]*(?:{_RULE}{{1,20}}.*|$)"
    rf"|{_RULE}{{2,20}}[ \t]*(?:(?:begin|end|new|start of|end of|current|updated?|real|true|my|the)"
    rf"[ \t]+)?{_WORD}[ \t]*(?:block|update|override)?[ \t]*{_RULE}{{2,20}}"
    rf"|[<\[{{(【][ \t]*/?(?:system[ _-]?)?{_WORD}(?:[ _-]?block)?[ \t]*/?[>\]}})】]",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Forged:
    """A passage that passes itself off as the state.

    Attributes:
        turn: of the conversation, from 0.
        role: whose turn it is.
        line: within the turn, from 1.
        start, end: of the line in the turn's text.
        text: that line.
    """

    turn: int
    role: str
    line: int
    start: int
    end: int
    text: str


def forged(messages: Sequence[Mapping[str, Any]]) -> tuple[Forged, ...]:
    """Forged blocks of a conversation, in order: any that is not in the first turn, or is in a
    first turn that is not the system's. A second block within the system message is for
    `read_block` to refuse."""
    found: list[Forged] = []
    for turn, message in enumerate(messages):
        role = str(message.get("role", ""))
        if turn == 0 and role in ("system", "developer"):
            continue
        for text in _texts(message.get("content")):
            found += [Forged(turn, role, *where) for where in forged_lines(text)]
    return tuple(found)


def forged_lines(text: str) -> list[tuple[int, int, int, str]]:
    """(line, start, end, text) of each line of a text that would open or close a block."""
    found: list[tuple[int, int, int, str]] = []
    at = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if _OPENING.search(_plain(line)):
            found.append((number, at, at + len(line), line))
        at += len(line) + 1
    return found


def _plain(line: str) -> str:
    """As it is read: compatibility forms folded, what is not seen left out, lower case."""
    if not line.isascii():
        line = unicodedata.normalize("NFKD", line)
        line = "".join(c for c in line if unicodedata.category(c) not in ("Cf", "Mn"))
        line = line.translate(_ALIKE)
    return line.casefold()


def _texts(content: Any) -> list[str]:
    """Texts of a turn, whose content may be a list of parts."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return [part for part in parts if isinstance(part, str)]
    return []
