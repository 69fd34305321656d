"""Figures and names that tell no time: prices, codes, versions, rooms, ages, scores, addresses."""

from __future__ import annotations

import re

from datagen.date_keys.carriers import fill
from datagen.date_keys.numbers import ordinal, spoken
from datagen.date_keys.said import Source
from datagen.date_keys.words import POOLS

_MADE = re.compile(r"<(\w+)>")


def figures(source: Source) -> str:
    """ "update the app to version 2.30", "book room 12a"."""
    text = source.own(POOLS["figures"])
    return fill(source, _MADE.sub(lambda m: _MAKERS[m[1]](source), text))


def called(source: Source) -> str:
    """A name that holds a word of time: "open the friday app", "watch midnight live"."""
    word = source.shared(_CALLED)
    return fill(source, source.own(POOLS["called"]).replace("<called>", word))


def feast(source: Source) -> str:
    """A day of the calendar that is called by a weekday."""
    return source.shared(_FEASTS)


_CALLED = (
    *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
    *("morning", "afternoon", "evening", "night", "noon", "midnight", "today", "tomorrow"),
    *("yesterday", "tonight", "weekend", "saturday night", "sunday morning"),
    *("last night", "next year", "blue monday", "manic monday"),
    *("ruby tuesday", "good morning", "two weeks", "nine to five", "taco tuesday", "day and night"),
)
_FEASTS = (
    *("black friday", "cyber monday", "good friday", "easter sunday", "easter monday"),
    *("ash wednesday", "palm sunday", "shrove tuesday", "super tuesday", "maundy thursday"),
    *("memorial day", "labor day", "mother's day", "father's day", "mothers day", "fathers day"),
    *("thanksgiving", "thanksgiving day", "halloween", "valentine's day", "new year's eve"),
    *("christmas eve", "christmas day", "veterans day", "independence day", "st patrick's day"),
    *("memorial day weekend", "labor day weekend", "bank holiday weekend", "easter weekend"),
    *("mlk day", "columbus day", "earth day", "may day", "groundhog day", "presidents day"),
    *(
        "giving tuesday",
        "mothering sunday",
        "super bowl sunday",
        "boxing day",
        "bank holiday monday",
    ),
)


def _digits(source: Source, count: int) -> str:
    return "".join(source.rng.choice("0123456789") for _ in range(count))


def _letters(source: Source, count: int) -> str:
    return "".join(source.rng.choice("abcdefghjklmnprstuvwxyz") for _ in range(count))


def _price(source: Source) -> str:
    whole, rest = source.rng.randrange(1, 130), source.rng.randrange(100)
    unit = source.shared(("euros", "dollars", "pounds", "quid", "bucks"))
    return source.shared(
        (
            f"{whole}.{rest:02}",
            f"${whole}",
            f"£{whole}.{rest:02}",
            f"{whole} {unit}",
            f"{whole}.{rest:02} {unit}",
            f"{spoken(source, whole)} {unit}",
            f"€{whole}",
        )
    )


def _phone(source: Source) -> str:
    return source.shared(
        (
            f"555 {_digits(source, 4)}",
            f"+44 {_digits(source, 4)} {_digits(source, 6)}",
            f"0{_digits(source, 10)}",
            f"{_digits(source, 3)}-{_digits(source, 3)}-{_digits(source, 4)}",
            f"(0{_digits(source, 3)}) {_digits(source, 3)} {_digits(source, 4)}",
            f"+1 {_digits(source, 3)} {_digits(source, 3)} {_digits(source, 4)}",
        )
    )


def _code(source: Source) -> str:
    return source.shared(
        (
            f"{_digits(source, 4)}-{_digits(source, 2)}",
            f"{_letters(source, 2)}{_digits(source, 5)}",
            f"{_letters(source, 3)}-{_digits(source, 3)}",
            f"{_letters(source, 2)}{source.rng.randrange(6, 23):02}{source.rng.randrange(60):02}",
            f"#{_digits(source, 5)}",
            f"{_digits(source, 6)}",
            f"{_letters(source, 1)}{_digits(source, 2)}{_letters(source, 2)}{_digits(source, 4)}",
            f"20{source.rng.randrange(10, 30)}-{_digits(source, 3)}",
        )
    )


def _version(source: Source) -> str:
    first, second = source.rng.randrange(1, 24), source.rng.randrange(0, 60)
    return source.shared(
        (
            f"{first}.{second}",
            f"{first}.{second}.{source.rng.randrange(10)}",
            f"v{first}",
            f"v{first}.{second % 10}",
            f"{first}.0",
        )
    )


def _room(source: Source) -> str:
    number = source.rng.randrange(1, 420)
    letter = source.shared(("a", "a", "a", "p", "b", "c", _letters(source, 1)))
    small = f"{source.rng.randrange(1, 13)}{letter}"  # what could be an hour elsewhere
    return source.shared((str(number), f"{number % 30 + 1}{letter}", small, small, f"b{number}"))


def _small(source: Source) -> str:
    return spoken(source, source.rng.randrange(1, 13))


def _number(source: Source) -> str:
    return spoken(source, source.rng.randrange(2, 100))


def _address(source: Source) -> str:
    name = source.shared(("sam", "info", "anna", "support", "bob.lee", "hello", "kim"))
    site = source.shared(("today", "example", "mail", "friday", "weekend", "noon", "shop", "sun"))
    ending = source.shared(("com", "org", "net", "co.uk", "io"))
    return source.shared(
        (
            f"{name}@{site}.{ending}",
            f"www.{site}.{ending}",
            f"https://{site}.{ending}/{name}",
            f"{site}.{ending}",
            f"192.168.{source.rng.randrange(9)}.{source.rng.randrange(250)}",
        )
    )


def _age(source: Source) -> str:
    return spoken(source, source.rng.randrange(1, 96))


def _nth(source: Source) -> str:
    return ordinal(source.rng.randrange(1, 13), source.chance(0.4))


_MAKERS = {
    "price": _price,
    "phone": _phone,
    "code": _code,
    "version": _version,
    "room": _room,
    "small": _small,
    "number": _number,
    "address": _address,
    "age": _age,
    "nth": _nth,
}
