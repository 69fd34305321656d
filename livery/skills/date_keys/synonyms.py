"""Wordings of days and periods that have one reading in every context -> the plainest of them:
"the current month" -> "this month", "thursday next week" -> "next thursday", "today evening" ->
"this evening". What a sentence must settle ("past", "following") stays for the model.
"""

from __future__ import annotations

import re

from livery.skills.date_keys.spellings import WEEKDAYS

_DAY = rf"(?:{'|'.join(WEEKDAYS)})"
_PERIOD = "(?:week|weekend|month|year)"
_END = r"(?![\w-])"
_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), plain)
    for pattern, plain in (
        # Nobody needs the apostrophe to be understood: "todays news", "this weeks menu".
        (r"\b(today|tonight|tomorrow|yesterday)s\b", r"\1's"),
        (r"\bthis (week|weekend|month|year)s(?= [a-z])", r"this \1's"),
        (rf"\btoday (morning|afternoon|evening){_END}", r"this \1"),
        (rf"\btoday night{_END}", "tonight"),
        (rf"(?:\b(?:the|this) )?\bcurrent ({_PERIOD}|{_DAY}){_END}", r"this \1"),
        (rf"(?:\bthe )?\bprevious ({_PERIOD}|{_DAY}){_END}", r"last \1"),
        (rf"\b(?:the|this) (?:up)?coming (weekend|{_DAY}){_END}", r"this \1"),
        (rf"(?:\b(?:the|this) )?\bupcoming (weekend|{_DAY}){_END}", r"this \1"),
        (rf"\b(?:the|this) (?:up)?coming (week|month|year){_END}", r"next \1"),
        (rf"\bupcoming (week|month|year){_END}", r"next \1"),
        (rf"(?<!next )(?<!last )(?<!this )\b({_DAY}) (?:of |in )?(next|last) week{_END}(?!')",
         r"\2 \1"),
        (rf"\b(next|last) week's ({_DAY}){_END}", r"\1 \2"),
        (r"\bfrom (?:right|just) now\b", "from now"),
    )
)  # fmt: skip


def plainest(text: str) -> str:
    """`text`, lower case without commas, with its synonyms in one wording."""
    for pattern, plain in _RULES:
        text = pattern.sub(plain, text)
    return text
