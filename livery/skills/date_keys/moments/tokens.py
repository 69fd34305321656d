"""Words and numbers of a command: what the grammar of moments reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from livery.skills.date_keys.numbers import ONES, TENS
from livery.skills.date_keys.spellings import WEEKDAYS

Kind = Literal["clock", "minutes", "days", "hour", "amount"]

_TOKEN = re.compile(r"[0-9]+|[^\W\d_]+|\S")
# Said while thinking, between any two words of a number.
_HESITATION = frozenset("um uh er erm hmm".split())
# "tomorrow eve", but "christmas eve" is a day.
_EVES = frozenset("today tomorrow yesterday this".split()).union(WEEKDAYS)
_ASIDES = frozenset((("i", "mean"), ("you", "know")))
SMALL = {word: number for number, word in enumerate(ONES) if number}
LARGE = TENS | {"fourty": 40}

# What a recogniser hears for them is among them: "minuets", "ours", "weaks", "quater".
MINUTE = frozenset("minute minutes min mins minuet minuets".split())
HOUR = frozenset("hour hours hr hrs our ours".split())
DAYS = {
    **dict.fromkeys(["day", "days", "daze"], 1),
    **dict.fromkeys(["week", "weeks", "wk", "wks", "weak", "weaks"], 7),
    **dict.fromkeys(["fortnight", "fortnights", "fortnite"], 14),
}
QUARTERS = ("quarter", "quater")
# What may be between "in" or "at" and the number: "in like uh five minutes".
FILLERS = frozenset(
    "about around roughly approximately exactly like say just maybe another only".split()
)
NIGHTS = frozenset(("night", "knight", "tonight", "tonite"))
# Parts of a day, and which half of it they say.
HALVES = {
    **dict.fromkeys(["am", "morning", "mornin", "mourning"], "am"),
    **dict.fromkeys(["pm", "afternoon", "arvo", "evening", "evenin"], "pm"),
    **dict.fromkeys(NIGHTS, "pm"),
    "noon": "pm",  # as in "after noon"
}


@dataclass(frozen=True)
class Token:
    """A word, a number or a mark, and the characters it has."""

    text: str
    start: int
    end: int


def tokens_of(text: str) -> list[Token]:
    found = [Token(match[0], match.start(), match.end()) for match in _TOKEN.finditer(text)]
    kept: list[Token] = []
    for token in found:
        if token.text in _HESITATION:
            continue
        if token.text == "eve" and kept and kept[-1].text in _EVES:
            token = Token("evening", token.start, token.end)
        kept.append(token)
        if len(kept) > 1 and (kept[-2].text, token.text) in _ASIDES:
            del kept[-2:]
    return kept


def word_at(tokens: Sequence[Token], at: int) -> str:
    return tokens[at].text if 0 <= at < len(tokens) else ""


def is_number(word: str) -> bool:
    """Whether a token is a number in digits: they are the ASCII ones."""
    return word.isascii() and word.isdigit()


def follow(tokens: Sequence[Token], at: int, words: Sequence[str]) -> bool:
    return all(word_at(tokens, at + n) == word for n, word in enumerate(words))


def touches(tokens: Sequence[Token], at: int, mark: str) -> bool:
    """Whether the next token is `mark`, without a space between."""
    return word_at(tokens, at + 1) == mark and tokens[at + 1].start == tokens[at].end


def skip(tokens: Sequence[Token], at: int, words: frozenset[str]) -> int:
    while word_at(tokens, at) in words:
        at += 1
    return at


def number_at(
    tokens: Sequence[Token], at: int, *, decimals: bool = False
) -> tuple[int, Fraction] | None:
    """(end, value) of a number in digits or words up to 999."""
    word = word_at(tokens, at)
    if is_number(word):
        if len(word) > 5:
            return None
        if decimals and touches(tokens, at, ".") and is_number(word_at(tokens, at + 2)):
            return at + 3, Fraction(f"{word}.{tokens[at + 2].text}")
        return at + 1, Fraction(word)
    hundreds = 1 if word == "a" else SMALL.get(word, 10)
    if hundreds < 10 and word_at(tokens, at + 1) == "hundred":
        stop = at + 2
        rest = below_hundred(tokens, stop + (word_at(tokens, stop) == "and"))
        end, value = (stop, 0) if rest is None else rest
        return end, Fraction(100 * hundreds + value)
    small = below_hundred(tokens, at)
    return None if small is None else (small[0], Fraction(small[1]))


def below_hundred(tokens: Sequence[Token], at: int) -> tuple[int, int] | None:
    word = word_at(tokens, at)
    if word in LARGE:
        after = at + 1 + (word_at(tokens, at + 1) == "-")
        ones = SMALL.get(word_at(tokens, after), 10)
        return (after + 1, LARGE[word] + ones) if ones < 10 else (at + 1, LARGE[word])
    return (at + 1, SMALL[word]) if word in SMALL else None
