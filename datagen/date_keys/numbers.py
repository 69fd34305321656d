"""Numbers as a recogniser writes them: words or digits."""

from __future__ import annotations

from datagen.date_keys.said import Source
from livery.skills.date_keys.numbers import ONES, TENS

_TEN_WORDS = {value: word for word, value in TENS.items()}


def words(number: int) -> str:
    """0..999 in words: 45 -> "forty five", 120 -> "a hundred and twenty"."""
    if number >= 100:
        head = "a hundred" if number < 200 else f"{ONES[number // 100]} hundred"
        return f"{head} and {words(number % 100)}" if number % 100 else head
    if number < 20:
        return ONES[number]
    ten, one = _TEN_WORDS[number // 10 * 10], number % 10
    return f"{ten} {ONES[one]}" if one else ten


def spoken(source: Source, number: int, digits: float = 0.4) -> str:
    """The number in digits in a share of the draws, in words otherwise."""
    return str(number) if source.chance(digits) else words(number)


def ordinal(number: int, as_digits: bool) -> str:
    """1..31: 5 -> "5th" or "fifth"."""
    if as_digits:
        ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
        return f"{number}{'th' if 11 <= number <= 13 else ending}"
    irregular = {
        1: "first",
        2: "second",
        3: "third",
        5: "fifth",
        8: "eighth",
        9: "ninth",
        12: "twelfth",
        20: "twentieth",
        30: "thirtieth",
    }
    if number in irregular:
        return irregular[number]
    if number > 20:
        return f"{_TEN_WORDS[number // 10 * 10]} {ordinal(number % 10, False)}"
    return f"{words(number)}th"
