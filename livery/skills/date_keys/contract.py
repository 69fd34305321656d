"""Vocabulary, prompt, answer text, parser, JSON Schema and grammar of date-keys, version 2.0."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from livery.skills.contract import AnswerError, Message
from livery.skills.date_keys.spellings import WEEKDAYS
from livery.skills.date_keys.typed import normalise

VERSION = "2.0"

# Nobody names more moments than this in one breath, and a bound keeps a lost model from listing
# keys for ever.
MAX_KEYS = 8

SYSTEM_PROMPT = (
    "List the dates and times of the voice command as a JSON array of keys, in order of mention, "
    'like ["tomorrow_morning","next_friday","at_3_30pm","in_45_minutes"], or [] if there are none.'
)

PARTS = ("morning", "afternoon", "evening")
PERIODS = ("week", "weekend", "month", "year")

STATIC_KEYS: tuple[str, ...] = (
    *("today", "tomorrow", "yesterday", "day_after_tomorrow", "day_before_yesterday"),
    *("tonight", "last_night"),
    *(f"{day}_{part}" for day in ("tomorrow", "yesterday") for part in PARTS),
    "tomorrow_night",
    *(f"this_{part}" for part in PARTS),
    *("morning", "afternoon", "evening", "night", "noon", "midnight"),
    *("at_breakfast", "during_breakfast", "during_lunch"),
    *("at_dinner", "during_dinner", "after_dinner"),
    *(f"{which}_{day}" for which in ("this", "next", "last") for day in WEEKDAYS),
    *(f"{which}_{period}" for which in ("this", "next", "last") for period in PERIODS),
    *(f"at_{hour}{half}" for half in ("am", "pm") for hour in range(1, 13)),
)

# Minutes up to 69 days and days up to 27 years: more than anybody says in those units.
_MINUTES = r"[1-9]\d{0,4}"
_DAYS = r"[1-9]\d{0,3}"
_CLOCK = r"(?:1[0-2]|[1-9])_(?:0[1-9]|[1-5]\d)"

DYNAMIC_PATTERNS: tuple[dict[str, str], ...] = (
    {
        "pattern": "in_{N}_minutes",
        "regex": rf"^in_({_MINUTES})_minutes$",
        "description": "N minutes from now; hours count as minutes (two hours: in_120_minutes).",
    },
    {
        "pattern": "in_{N}_days",
        "regex": rf"^in_({_DAYS})_days$",
        "description": "N days from today; a week is 7 days, a fortnight 14.",
    },
    {
        "pattern": "at_{H}_{MM}am",
        "regex": r"^at_(1[0-2]|[1-9])_(0[1-9]|[1-5]\d)am$",
        "description": "A time before noon on the 12-hour clock, H 1 to 12, MM 01 to 59.",
    },
    {
        "pattern": "at_{H}_{MM}pm",
        "regex": r"^at_(1[0-2]|[1-9])_(0[1-9]|[1-5]\d)pm$",
        "description": "A time after noon on the 12-hour clock, H 1 to 12, MM 01 to 59.",
    },
)

# Other names that are read, never written.
ALIASES = {"at_noon": "noon", "at_midnight": "midnight"}

# \d would admit digits of other scripts in Python, but not in JSON Schema or the grammar.
_KEY_BODY = "|".join(
    (*STATIC_KEYS, f"in_{_MINUTES}_minutes", f"in_{_DAYS}_days", f"at_{_CLOCK}[ap]m")
).replace(r"\d", "[0-9]")
_KEY = re.compile(_KEY_BODY)


def is_key(text: str) -> bool:
    """Whether `text` is a key of the vocabulary, static or dynamic."""
    return _KEY.fullmatch(text) is not None


def time_key(hour: int, minute: int = 0) -> str:
    """The key of a time on the 24-hour clock: (15, 30) -> "at_3_30pm", (12, 0) -> "noon".

    Raises:
        ValueError: there is no such time.
    """
    if not (0 <= hour < 24 and 0 <= minute < 60):
        raise ValueError(f"{hour}:{minute:02} is not a time of the day")
    if minute == 0 and hour in (0, 12):
        return "noon" if hour else "midnight"
    half = "pm" if hour >= 12 else "am"
    past = f"_{minute:02}" if minute else ""
    return f"at_{(hour - 1) % 12 + 1}{past}{half}"


def render(keys: Sequence[str]) -> str:
    """The answer that stands for `keys`: a JSON array without spaces.

    Raises:
        ValueError: a key is unknown or repeated, or there are more than MAX_KEYS.
    """
    wrong = _fault(keys)
    if wrong or len(set(keys)) != len(keys):
        raise ValueError(wrong or f"a key appears twice in {list(keys)}")
    return json.dumps(list(keys), separators=(",", ":"))


def parse(answer: str) -> tuple[str, ...]:
    """The keys of a model's answer, as it gave them. Space around and between them is forgiven,
    and an alias is read as its key.

    Raises:
        AnswerError: not JSON, not an array of strings, an unknown key, or more than MAX_KEYS.
    """
    try:
        value: Any = json.loads(answer)
    except (ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits
        where = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise AnswerError(f"not JSON{where}: {_shorten(answer)}") from None
    if not isinstance(value, list):
        raise AnswerError(f"not a JSON array: {_shorten(answer)}")
    keys: list[Any] = [plain(key) for key in value]  # pyright: ignore[reportUnknownVariableType]
    wrong = _fault(keys)
    if wrong:
        raise AnswerError(wrong)
    return tuple(keys)


def plain(key: Any) -> Any:
    """The key that an alias stands for; anything else as it is."""
    return ALIASES.get(key, key) if isinstance(key, str) else key


def messages(text: str, keys: Sequence[str] | None = None) -> list[Message]:
    """The conversation that asks for the keys of `text`, as `normalise` writes it; with `keys`,
    their answer ends it."""
    asked = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": normalise(text)},
    ]
    return asked if keys is None else [*asked, {"role": "assistant", "content": render(keys)}]


def json_schema() -> dict[str, Any]:
    """JSON Schema of an answer."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"date-keys {VERSION}",
        "type": "array",
        "maxItems": MAX_KEYS,
        "uniqueItems": True,
        "items": {"type": "string", "pattern": f"^(?:{_KEY_BODY})$"},
    }


def grammar() -> str:
    """Lark text for llguidance: the rendered lists and nothing else (save that a key may recur,
    which no context-free grammar of this size can forbid)."""
    return (
        f'start: "[" (KEY ("," KEY){{0,{MAX_KEYS - 1}}})? "]"\n'
        f'KEY: /"({_KEY_BODY})"/\n'
    )  # fmt: skip


def _fault(keys: Sequence[Any]) -> str:
    """What is wrong with a list of keys, or ""."""
    if len(keys) > MAX_KEYS:
        return f"{len(keys)} keys; at most {MAX_KEYS} are allowed"
    for key in keys:
        if not isinstance(key, str):
            return f"not a string in the array: {_shorten(json.dumps(key))}"
        if not is_key(key):
            return f"unknown key {_shorten(key)}"
    return ""


def _shorten(text: str, limit: int = 60) -> str:
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")
