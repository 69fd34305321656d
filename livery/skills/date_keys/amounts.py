"""Amounts whose sum is arithmetic and no reading -> one number: "in 36 hours" -> "in 2160 minutes",
"1 week and 3 days" -> "10 days", "2 fortnights" -> "28 days".

The keys count minutes and days. Up to ten hours a model of any size learns by heart; beyond that a
small one makes the digits up, so they are counted here.
"""

from __future__ import annotations

import re

from livery.skills.date_keys.numbers import ONES, TENS

_WORDS = {
    **{word: number for number, word in enumerate(ONES)},
    **TENS,
    **{f"{ten} {ONES[one]}": value + one for ten, value in TENS.items() for one in range(1, 10)},
}
_NUMBER = rf"\d{{1,3}}|{'|'.join(sorted(_WORDS, key=len, reverse=True))}"
_LONG_HOURS = 11
# Nothing before that makes a number the end of a longer one: "a hundred and twenty hours".
_ON = r"(?<![\w.,:/-])(?<!hundred )(?<!hundred and )(?<!thousand )(?<!thousand and )"

_HOURS = re.compile(
    r"(?P<before>\bin (?:about |exactly |another |just |roughly |around |like )?)?"
    rf"{_ON}(?P<n>{_NUMBER}) hours(?P<after> from now| later| hence|'? time)?"
    rf"\b(?! (?:and|or|to|{_NUMBER}|ago)\b)"
)
_WEEKS = re.compile(
    rf"{_ON}(?P<w>an?|{_NUMBER}) weeks? (?:and )?(?P<d>an?|{_NUMBER}) days?\b(?! ago)"
)
_FORTNIGHTS = re.compile(rf"{_ON}(?P<n>{_NUMBER}) fortnights\b(?! ago)")


def add_up(text: str) -> str:
    """`text`, lower case, with its long hours from now, its weeks with days and its fortnights as
    one number."""
    if "hours" in text:
        text = _HOURS.sub(_minutes, text)
    if "fortnights" in text:
        text = _FORTNIGHTS.sub(lambda m: f"{14 * _number(m['n'])} days", text)
    return _WEEKS.sub(_days, text) if "week" in text else text


def _number(said: str) -> int:
    return 1 if said in ("a", "an") else _WORDS[said] if said in _WORDS else int(said)


def _minutes(match: re.Match[str]) -> str:
    hours = _number(match["n"])
    if hours < _LONG_HOURS or not (match["before"] or match["after"]):
        return match[0]  # a duration says no moment, and a short one is known by heart
    return f"{match['before'] or ''}{60 * hours} minutes{match['after'] or ''}"


def _days(match: re.Match[str]) -> str:
    return f"{7 * _number(match['w']) + _number(match['d'])} days"
