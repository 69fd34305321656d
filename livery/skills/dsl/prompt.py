"""The prompt: schema, query and date in blocks, the same for training, evaluation and pairs.

    [SCHEMA]
    {"$schema":...}
    [/SCHEMA]

    [QUERY]
    open tasks of Mara since May
    [/QUERY]

    [CURRENT_DATE]
    2026-06-14
    [/CURRENT_DATE]

    [OUTPUT]

Nothing that differs from query to query stands before the schema, so that training and evaluation
run a schema once for all of its queries. The schema is compact JSON on one line, and a query is one
line too: a marker inside either is not a line of its own, and so is none.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livery.errors import UserError, shown
from livery.reading import parse_json
from livery.skills.contract import Message

INSTRUCTION = (
    "Answer with one JSON object that is valid under the schema and means the query. Where the "
    "schema cannot express the query, answer with a refusal."
)
_BLOCKS = ("SCHEMA", "QUERY", "CURRENT_DATE")
_OUTPUT = "[OUTPUT]"
_PROMPT = re.compile(
    "".join(rf"^\[{name}\]\n(?P<{name}>.*?)\n\[/{name}\]\s*" for name in _BLOCKS)
    + r"^\[OUTPUT\]\s*\Z",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Request:
    """What is asked of the model.

    Attributes:
        schema: JSON Schema, draft-07, of the query language.
        query: what somebody wants, in their words.
        current_date: the day of the query, which "last week" counts from; "YYYY-MM-DD".
    """

    schema: Mapping[str, Any]
    query: str
    current_date: str

    def __post_init__(self) -> None:
        """Raises UserError where the query is empty or the date is none."""
        if not self.query.strip():
            raise UserError("The query is empty; say what is wanted.")
        if not is_date(self.current_date):
            raise UserError(
                f"The current date is {shown(self.current_date)!r}; it must be a day as YYYY-MM-DD."
            )


def is_date(text: str) -> bool:
    """Whether a text is a day as YYYY-MM-DD."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except (TypeError, ValueError):
        return False


def compact(value: Any) -> str:
    """JSON without a space that is not in a text, keys in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def prompt_text(request: Request) -> str:
    """The prompt as one text: what `prompt` of a corpus row and `prompt_text` of a pair hold."""
    return f"{INSTRUCTION}\n\n{blocks(request)}\n\n{_OUTPUT}\n"


def blocks(request: Request) -> str:
    """Schema, query and date, each in its block; a teacher gets the same (`teaching`)."""
    texts = (compact(request.schema), " ".join(request.query.split()), request.current_date)
    return "\n\n".join(block(name, text) for name, text in zip(_BLOCKS, texts, strict=True))


def block(name: str, text: str) -> str:
    """A text between markers, each on a line of its own."""
    return f"[{name}]\n{text}\n[/{name}]"


def messages(request: Request | str, answer: str | None = None) -> list[Message]:
    """The conversation that puts a request to the model; with an answer, that too.

    Args:
        request: or a prompt that has its blocks already.
        answer: text of the answer.

    Raises:
        UserError: the text is no prompt with the four blocks.
    """
    text = prompt_text(read_prompt(request) if isinstance(request, str) else request)
    answered = [{"role": "assistant", "content": answer}] if answer is not None else []
    return [{"role": "user", "content": text}, *answered]


def read_prompt(text: str) -> Request:
    """What a prompt asks, whatever instruction and white space it was written with.

    Raises:
        UserError: a block is missing, the schema is no JSON object, or the date is none.
    """
    found = _PROMPT.search(text.rstrip() + "\n")
    if found is None:
        missing = next((f"[{name}]" for name in _BLOCKS if f"[{name}]\n" not in text), "")
        what = f"it has no {missing}" if missing else "its blocks are cut or out of order"
        raise UserError(
            f"The prompt cannot be read: {what}. It needs [SCHEMA], [QUERY] and [CURRENT_DATE], "
            "each closed as [/SCHEMA], then [OUTPUT], every marker on a line of its own."
        )
    schema = parse_json(found["SCHEMA"], "the [SCHEMA] block of the prompt")
    if not isinstance(schema, dict):
        raise UserError("The [SCHEMA] block of the prompt holds no JSON object.")
    return Request(schema, found["QUERY"].strip(), found["CURRENT_DATE"].strip())
