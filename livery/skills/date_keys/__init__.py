"""Skill date-keys: a voice command in, a JSON array of semantic date and time keys out.

    from livery.skills import date_keys
    date_keys.messages("wake me at half seven tomorrow morning")     # what the model is asked
    keys = date_keys.parse('["at_7_30am","tomorrow_morning"]')       # what it answered
    date_keys.resolve_all(keys, datetime.now().astimezone())         # when that is

What gives a key, and which:

- A bare weekday is `this_`, the coming one; "tuesday of next week" is `next_tuesday`.
- "tomorrow morning" is one key where the vocabulary has one, else two: `this_friday`, `morning`.
- A part of the day that only says am or pm is spent on that ("nine in the morning" is `at_9am`);
  one that belongs to a day stays beside the time ("tomorrow morning at nine" is
  `tomorrow_morning`, `at_9am`; "half seven tonight" is `at_7_30pm`, `tonight`).
- 24-hour clocks become am/pm; twelve is `noon` or `midnight`.
- A time without am, pm or a part of the day beside it gives no key, nor do durations,
  recurrences, calendar dates, "three days ago" and "the weekend after next".
- Keys are in order of mention, each once.
"""

from livery.skills.contract import Skill
from livery.skills.date_keys.contract import (
    ALIASES,
    DYNAMIC_PATTERNS,
    MAX_KEYS,
    STATIC_KEYS,
    SYSTEM_PROMPT,
    VERSION,
    grammar,
    is_key,
    json_schema,
    messages,
    parse,
    plain,
    render,
    time_key,
)
from livery.skills.date_keys.extract import Extraction, Extractor, extract, extractor
from livery.skills.date_keys.resolve import Resolved, resolve, resolve_all
from livery.skills.date_keys.typed import normalise
from livery.skills.date_keys.vocabulary import vocabulary

SKILL = Skill(
    name="date-keys",
    version=VERSION,
    system_prompt=SYSTEM_PROMPT,
    messages=messages,
    render=render,
    parse=parse,
    grammar=grammar,
    json_schema=json_schema,
    vocabulary=vocabulary,
    summary="Voice commands with their date and time keys.",
)

__all__ = [
    "ALIASES",
    "DYNAMIC_PATTERNS",
    "MAX_KEYS",
    "SKILL",
    "STATIC_KEYS",
    "SYSTEM_PROMPT",
    "VERSION",
    "Extraction",
    "Extractor",
    "Resolved",
    "extract",
    "extractor",
    "grammar",
    "is_key",
    "json_schema",
    "messages",
    "normalise",
    "parse",
    "plain",
    "render",
    "resolve",
    "resolve_all",
    "time_key",
    "vocabulary",
]
