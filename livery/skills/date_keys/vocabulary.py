"""What `GET /v1/adapters/date-keys` answers: the keys that a program has to understand."""

from __future__ import annotations

from typing import Any

from livery.skills.date_keys.contract import (
    ALIASES,
    DYNAMIC_PATTERNS,
    PERIODS,
    STATIC_KEYS,
    VERSION,
    WEEKDAYS,
)

PATTERNS: dict[str, str] = {
    "weekdays": f"{{this|next|last}}_{{{'|'.join(WEEKDAYS)}}}",
    "periods": f"{{this|next|last}}_{{{'|'.join(PERIODS)}}}",
    "day_parts": "{tomorrow|yesterday|this}_{morning|afternoon|evening}, tomorrow_night",
    "times": "at_{H}am, at_{H}pm, at_{H}_{MM}am, at_{H}_{MM}pm",
    "from_now": "in_{N}_minutes, in_{N}_days",
}
NOTES: tuple[str, ...] = (
    "An answer is a JSON array of keys in order of mention, [] where no moment is named.",
    "A bare weekday is the coming one: this_friday.",
    "12 am is midnight and 12 pm is noon; 24-hour clocks are turned into am and pm.",
    "A time that says neither am nor pm, with no part of the day beside it, has no key.",
    "Durations, recurrences, calendar dates and what is past by an amount have no key.",
    "Keys of one command compose: a weekday with a part of the day or a time.",
    "Read as aliases: " + ", ".join(f"{alias} for {key}" for alias, key in ALIASES.items()) + ".",
)


def vocabulary(adapter_trained: bool = False) -> dict[str, Any]:
    """The vocabulary as JSON-ready data.

    Returns:
        {"version", "static_keys", "dynamic_patterns": [{"pattern", "regex", "description"}],
        "patterns": {name: template}, "notes", "adapter_trained"}.
    """
    return {
        "version": VERSION,
        "static_keys": list(STATIC_KEYS),
        "dynamic_patterns": [dict(pattern) for pattern in DYNAMIC_PATTERNS],
        "patterns": dict(PATTERNS),
        "notes": list(NOTES),
        "adapter_trained": adapter_trained,
    }
