"""Clock times: "quarter past three in the afternoon", "3:15p", "17.30", "half 7 tonight"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from livery.skills.date_keys.contract import time_key
from livery.skills.date_keys.moments.tokens import (
    DAYS,
    FILLERS,
    HALVES,
    HOUR,
    MINUTE,
    NIGHTS,
    QUARTERS,
    SMALL,
    Kind,
    Token,
    below_hundred,
    follow,
    is_number,
    number_at,
    touches,
    word_at,
)

_BEFORE_CLOCK = frozenset("at @ by around about till until til before after from between".split())
_HEARD = {"ate": 8, "sicks": 6, "to": 2, "too": 2, "for": 4, "won": 1}  # before am and pm
_PAST = frozenset(("past", "passed", "after", "gone"))
_TO = frozenset(("to", "til", "till", "before"))
_TWELVES = {"noon": 12, "midday": 12, "midnight": 0}

Clock = tuple[int, int, int, bool, bool]  # end, hour, minute, on 24 hours, nothing but a number


def is_clock(tokens: Sequence[Token], at: int) -> bool:
    """Whether a time is found that could be read as an amount: "10 minutes past 5", "13h15"."""
    if _spoken(tokens, at) is not None:
        return True
    if not is_number(word_at(tokens, at)) or not touches(tokens, at, "h"):
        return False
    before = word_at(tokens, at - 1)
    return before in _BEFORE_CLOCK or (int(word_at(tokens, at)) > 12 and before != "for")


def clock_at(tokens: Sequence[Token], at: int) -> tuple[int, int, int, bool] | None:
    """(end, hour, minute, sure) of a clock time that begins here.

    `sure` says that am or pm was heard or that the clock has 24 hours; else the hour is 1 to 12 and
    only the rest of the command can tell.
    """
    if at and tokens[at].start == tokens[at - 1].end and tokens[at - 1].text.isalpha():
        return None  # "b4 noon", "gate a12"
    read = (
        _spoken(tokens, at) or _digits(tokens, at) or _said_in_two(tokens, at) or _bare(tokens, at)
    )
    if read is None:
        return None
    end, hour, minute, exact, plain = read
    if exact:
        return end, hour, minute, True
    for words in (("o", "'", "clock"), ("oclock",), ("o", "clock")):
        if follow(tokens, end, words):
            end, plain = end + len(words), False
            break
    ish = word_at(tokens, end) == "ish"
    end += ish
    half = _half(tokens, end)
    if half is not None:
        end, name = half
        end += not ish and word_at(tokens, end) == "ish"
        return end, *_on_24(hour, minute, name), True
    if plain and not (
        word_at(tokens, _back(tokens, at)) in _BEFORE_CLOCK or _leads_to_day(tokens, end)
    ):
        return None
    return end, hour, minute, False


def _spoken(tokens: Sequence[Token], at: int) -> Clock | None:
    """ "quarter past three", "twenty to noon", "half seven"."""
    begin, word = at, word_at(tokens, at)
    if word == "a" and word_at(tokens, at + 1) in QUARTERS:
        begin, word = at + 1, "quarter"
    number = None
    if word == "half" or word in QUARTERS:
        minutes, stop = (30 if word == "half" else 15), begin + 1
    else:
        number = number_at(tokens, begin)
        if number is None or not 0 < number[1] < 60:
            return None
        stop, minutes = number[0], int(number[1])
        if word_at(tokens, stop) in MINUTE:
            stop, number = stop + 1, None
    link = word_at(tokens, stop)
    if link == "of" and minutes in (5, 10, 15, 20, 25):  # "a quarter of seven", American
        hour = _hour(tokens, stop + 1)
        link = "to" if hour and (word in QUARTERS or _half(tokens, hour[0])) else link
    if link in _PAST or link in _TO:
        hour = _hour(tokens, stop + 1)
        ranged = number is not None and (
            word_at(tokens, at - 1) in ("from", "between") or minutes % 5 > 0
        )
        if hour is None or (link in _TO and ranged):
            return None  # "from ten to twelve", "7 to 9 pm"
        end, value = hour
        total = 60 * value + (minutes if link in _PAST else -minutes)
        return end, total // 60 % 24, total % 60, value in (0, 12) and _named(tokens, end), False
    if word == "half":
        hour = _hour(tokens, stop)
        if hour is not None and not _named(tokens, hour[0]):
            return hour[0], hour[1], 30, False, False
    return None


def _digits(tokens: Sequence[Token], at: int) -> Clock | None:
    """3:15, 17.30, 13h15, 15h, 6 30 am."""
    word = word_at(tokens, at)
    if not (is_number(word) and len(word) <= 2 and int(word) < 24):
        return None
    hour, mark = int(word), word_at(tokens, at + 1)
    minutes = word_at(tokens, at + 2)
    fits = len(minutes) == 2 and is_number(minutes) and int(minutes) < 60
    before = word_at(tokens, at - 1)
    if mark in (":", ".", "h") and touches(tokens, at, mark):
        if fits and tokens[at + 1].end == tokens[at + 2].start:
            if mark == "." and before in ("$", "£", "€", "version", "v"):
                return None
            on_24 = hour > 12 or word[0] == "0" or mark == "h"
            return at + 3, hour, int(minutes), on_24, mark == "."
        if mark == "h":
            return (at + 2, hour, 0, True, False) if hour > 12 else None
        return None
    if len(mark) == 2 and is_number(mark) and int(mark) < 60 and hour:
        if hour <= 12 and _half(tokens, at + 2) is not None:
            return at + 2, hour, int(mark), False, True
        if before in _BEFORE_CLOCK:
            return at + 2, hour, int(mark), hour > 12, False
    return None


def _said_in_two(tokens: Sequence[Token], at: int) -> Clock | None:
    """ "seven thirty", "five-thirty", "seven oh five", "nineteen thirty"."""
    first = SMALL.get(word_at(tokens, at), 0)
    if not first and word_at(tokens, at) == "twenty":
        ones = SMALL.get(word_at(tokens, at + 1), 0)
        first, at = (20 + ones, at + 1) if 0 < ones < 4 else (20, at)
    if not 0 < first < 24:
        return None
    stop = at + 1
    if word_at(tokens, stop) == "hundred" and first > 9:
        return stop + 1, first, 0, True, False
    while word_at(tokens, stop) == "-":
        stop += 1
    if word_at(tokens, stop) in ("oh", "o") and word_at(tokens, stop + 1) != "'":
        stop += 1
        while word_at(tokens, stop) == "-":
            stop += 1
        minute = SMALL.get(word_at(tokens, stop), 10)
        if minute > 9:
            return None
        return stop + 1, first, minute, first > 12, False
    rest = below_hundred(tokens, stop)
    if rest is None or not 10 <= rest[1] < 60 or word_at(tokens, rest[0]) in (MINUTE | HOUR):
        return None
    link = word_at(tokens, rest[0])
    if link in DAYS or (rest[1] < 30 and link in (_PAST | _TO)):
        return None
    return rest[0], first, rest[1], first > 12, True


def _bare(tokens: Sequence[Token], at: int) -> Clock | None:
    """An hour alone: "seven", "3"."""
    hour = _hour(tokens, at)
    if hour is None or _named(tokens, hour[0]):
        heard = _HEARD.get(word_at(tokens, at)) if word_at(tokens, at + 1) in ("am", "pm") else None
        return (at + 1, heard, 0, False, True) if heard else None
    return hour[0], hour[1], 0, False, True


def _hour(tokens: Sequence[Token], at: int) -> tuple[int, int] | None:
    """(end, hour) of 1 to 12 or noon (12) or midnight (0)."""
    word = word_at(tokens, at)
    if word in _TWELVES:
        return at + 1, _TWELVES[word]
    value = int(word) if is_number(word) and len(word) <= 2 else SMALL.get(word, 0)
    return (at + 1, value) if 1 <= value <= 12 else None


def _named(tokens: Sequence[Token], end: int) -> bool:
    return word_at(tokens, end - 1) in _TWELVES


def _half(tokens: Sequence[Token], at: int) -> tuple[int, str] | None:
    """(end, part) of what tells am from pm right behind a time: "pm", "in the morning". A "3p" that
    is an hour the contract has written out."""
    word = word_at(tokens, at)
    if word in ("am", "pm", "noon", "midnight"):
        return at + 1, word
    if word == "in" and word_at(tokens, at + 1) == "the":
        part = word_at(tokens, at + 2)
        if part == "after" and word_at(tokens, at + 3) == "noon":
            return at + 4, "afternoon"
        if part in HALVES and part != "noon" and part not in NIGHTS:
            return at + 3, part
    if word == "at" and word_at(tokens, at + 1) in NIGHTS:
        return at + 2, "night"
    return None


def _on_24(hour: int, minute: int, half: str) -> tuple[int, int]:
    """(hour, minute) on 24 hours, of an hour up to 12 and what was said beside it."""
    if hour > 12:
        return hour, minute
    hour %= 12
    if half == "night":  # eleven at night, twelve at night, two at night
        return (hour + 12 if hour > 4 else hour), minute
    return (hour + 12 if HALVES.get(half) == "pm" else hour), minute


def settle(
    tokens: Sequence[Token],
    loose: Sequence[tuple[int, int, int, int]],
    taken: Sequence[tuple[int, int]],
) -> Iterator[tuple[int, int, Kind, str]]:
    """Times without am or pm take it from the nearest part of a day: "tonight at eight"."""
    spoken_for = {n for begin, end in taken for n in range(begin, end)}
    parts = [
        (n, token.text)
        for n, token in enumerate(tokens)
        if token.text in HALVES
        and n not in spoken_for
        and (token.text != "noon" or word_at(tokens, n - 1) == "after")
        and word_at(tokens, n - 1) != "good"  # good morning
    ]
    for begin, end, hour, minute in loose:
        if not parts:
            yield begin, end, "hour", ""
            continue
        half = min((_distance(n, begin, end), text) for n, text in parts)[1]
        name = "night" if half in NIGHTS else half
        yield begin, end, "clock", time_key(*_on_24(hour, minute, name))


def _distance(part: int, begin: int, end: int) -> float:
    """Words between a part of a day and a time."""
    return part - end if part >= end else begin - part - 0.5


def _leads_to_day(tokens: Sequence[Token], at: int) -> bool:
    """Whether a part of a day follows at once: "8 tonight", "6 tomorrow morning"."""
    first, second, third = (word_at(tokens, at + n) for n in range(3))
    if not first and word_at(tokens, at - 2) in HALVES:  # "tomorrow morning 8"
        return True
    if first in ("tonight", "tonite", "this"):
        return first != "this" or second in HALVES or second == "after"
    if first in ("tomorrow", "yesterday"):
        return second in HALVES
    return first == "on" and third in HALVES


def _back(tokens: Sequence[Token], at: int) -> int:
    """The position of the word before, fillers left out."""
    at -= 1
    while at >= 0 and tokens[at].text in FILLERS and tokens[at].text not in _BEFORE_CLOCK:
        at -= 1
    return at
