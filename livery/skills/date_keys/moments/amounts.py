"""Amounts of time: "in an hour and ten", "two and a half hours from now", "for 20 minutes"."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from livery.skills.date_keys.contract import is_key
from livery.skills.date_keys.moments.tokens import (
    DAYS,
    FILLERS,
    HALVES,
    HOUR,
    MINUTE,
    QUARTERS,
    Kind,
    Token,
    follow,
    number_at,
    skip,
    word_at,
)

_FRACTIONS = {"half": Fraction(1, 2), "quarter": Fraction(1, 4)}


def relative(tokens: Sequence[Token], at: int) -> tuple[int, Kind, str] | None:
    """(end, kind, key) of an amount that begins here, with its "in", "from now" or "later"."""
    begin = at
    leads = word_at(tokens, at) in ("in", "within")
    if leads:
        begin = skip(tokens, at + 1, FILLERS)
    amount = _amount(tokens, begin)
    if amount is None:
        return None
    end, unit, count = amount
    follows = False
    if word_at(tokens, end) == "'":  # "an hour's time", "ten minutes' time"
        end += 1 + (word_at(tokens, end + 1) == "s")
    if leads and word_at(tokens, end) == "time":
        end += 1
    for words in (("from", "now"), ("from", "today"), ("hence",), ("later",), ("today",)):
        if follow(tokens, end, words):
            follows, end = words != ("today",) or unit == "days", end + len(words)
            break
    key = f"in_{count}_{unit}"
    if leads and "are" in (word_at(tokens, at - 1), word_at(tokens, at - 2)):
        leads = False  # how many minutes are in an hour
    if not leads and word_at(tokens, at - 1) == "not":
        follows = False  # and not a minute later
    if word_at(tokens, end) == "or" and number_at(tokens, end + 1) is not None:
        leads = follows = False  # in an hour or two
    if not (leads or follows) or not is_key(key) or word_at(tokens, end) == "ago":
        return end, "amount", ""
    return end, "minutes" if unit == "minutes" else "days", key


def _amount(tokens: Sequence[Token], at: int) -> tuple[int, str, int] | None:
    """(end, "minutes" or "days", count) of an amount: "an hour and ten", "2 hrs 15 min"."""
    part = _part_of_hour(tokens, at)
    if part is not None:
        return part[0], "minutes", part[1]
    read = _quantity(tokens, at)
    if read is None:
        return None
    end, count = read
    if word_at(tokens, end) == "and":
        fraction = _fraction(tokens, end + 1)
        if fraction is not None:
            end, count = fraction[0], count + fraction[1]
    if word_at(tokens, end) == "-":
        end += 1
    unit = word_at(tokens, end)
    if unit == "fort" and word_at(tokens, end + 1) == "night":
        unit, end = "fortnight", end + 1
    if unit in ("h", "m") and end and tokens[end].start != tokens[end - 1].end:
        return None
    end += 1
    if unit in MINUTE or unit == "m":
        return _whole(end, "minutes", count)
    if unit in HOUR or unit == "h":
        end, more = _after_hours(tokens, end)
        return _whole(end, "minutes", 60 * count + more)
    if unit in DAYS:
        count *= DAYS[unit]
        if DAYS[unit] > 1 and word_at(tokens, end) == "and":
            rest = _quantity(tokens, end + 1)
            if rest is not None and word_at(tokens, rest[0]) in ("day", "days"):
                end, count = rest[0] + 1, count + rest[1]
        more = _fraction(tokens, end + 1) if word_at(tokens, end) == "and" else None
        return _whole(
            *((end, "days", count) if more is None else (more[0], "days", Fraction(1, 2)))
        )
    return None


def _after_hours(tokens: Sequence[Token], end: int) -> tuple[int, Fraction]:
    """(end, minutes) of what follows an hour: "and a half", "and ten", "20 min"."""
    joined = end
    while word_at(tokens, joined) in ("and", "&", ","):
        joined += 1
    fraction = _fraction(tokens, joined) if joined > end else None
    if fraction is not None:
        return fraction[0], 60 * fraction[1]
    number = number_at(tokens, joined)
    if number is None or not 0 < number[1] < 60:
        return end, Fraction(0)
    stop, minutes = number
    word = word_at(tokens, stop)
    if word in MINUTE or word == "m":
        return stop + 1, minutes
    if word in HOUR or word in DAYS or word in HALVES or word in (":", "o", "past", "to"):
        return end, Fraction(0)
    touching = tokens[joined].start == tokens[joined - 1].end  # 1h30
    bare = joined == end and not touching and stop < len(tokens)
    return (end, Fraction(0)) if bare and minutes % 5 else (stop, minutes)


def _part_of_hour(tokens: Sequence[Token], at: int) -> tuple[int, int] | None:
    """(end, minutes) of "half an hour", "a quarter of an hour", "three quarters of an hour"."""
    words = [word_at(tokens, at + n) for n in range(5)]
    if words[0] in ("a", "an") and words[1] in ("half", *QUARTERS):
        at, words = at + 1, [word_at(tokens, at + 1 + n) for n in range(5)]
    if words[0] == "half":
        skipped = 2 if words[1] in ("a", "an", "-") else 1
        if word_at(tokens, at + skipped) in ("hour", "hr", "our"):
            return at + skipped + 1, 30
    length, minutes = (2, 45) if words[:2] == ["three", "quarters"] else (1, 15)
    if minutes == 15 and words[0] not in QUARTERS:
        return None
    if words[length : length + 2] == ["of", "an"] and words[length + 2] in HOUR:
        return at + length + 3, minutes
    return (at + 2, minutes) if length == 1 and words[1] in ("hour", "hr") else None


def _fraction(tokens: Sequence[Token], at: int) -> tuple[int, Fraction] | None:
    """(end, value) of "a half", "half", "a quarter", "three quarters"."""
    if word_at(tokens, at) == "three" and word_at(tokens, at + 1) in ("quarters", "quarter"):
        return at + 2, Fraction(3, 4)
    at += word_at(tokens, at) == "a"
    value = _FRACTIONS.get(word_at(tokens, at).replace("quater", "quarter"))
    return None if value is None else (at + 1, value)


def _quantity(tokens: Sequence[Token], at: int) -> tuple[int, Fraction] | None:
    """(end, value) of a number, an article for one, or "a couple of"."""
    number = number_at(tokens, at, decimals=True)
    if number is not None:
        return number
    if word_at(tokens, at) == "couple":
        return at + 1 + (word_at(tokens, at + 1) == "of"), Fraction(2)
    if word_at(tokens, at) not in ("a", "an"):
        return None
    if word_at(tokens, at + 1) == "couple":
        return at + 2 + (word_at(tokens, at + 2) == "of"), Fraction(2)
    return at + 1, Fraction(1)


def _whole(end: int, unit: str, count: Fraction) -> tuple[int, str, int]:
    """A count that is not whole becomes 0, which is no key."""
    return end, unit, int(count) if count.denominator == 1 else 0
