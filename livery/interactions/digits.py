"""Numbers that name a person or an account: phones, cards, IBANs, and any of seven digits or more,
in figures or digit by digit in words, as they are dictated.

Dates, times, amounts with separators, decimals, ranges of years and IP addresses stay.
"""

from __future__ import annotations

import re
from itertools import pairwise

Span = tuple[int, int, str]

# Digits of a phone are grouped by these; the invisible ones hide a number from a reader of bytes.
_HIDDEN = "\u00ad\u200b-\u200f\u2060\ufeff"
_SPACE = "[ \\t\u00a0\u2007\u2009\u202f]"
_JOIN = (
    rf"(?:[{_HIDDEN}]+|{_SPACE}?[-·‐-―−]{_SPACE}?|\.|{_SPACE}{{1,2}}"
    rf"|/(?=\d{{3}})|{_SPACE}?\({_SPACE}?|{_SPACE}?\){_SPACE}?(?:[-.‐-―]{_SPACE}?)?)"
)
_NUMBER = re.compile(
    rf"(?<!\w)(?:[+＋(]{{1,2}}{_SPACE}?)?\d+(?:(?:{_JOIN}|,(?=\d{{4}}))\d+)*"
    rf"|(?<=[^\W\d])\d{{7,}}(?:{_JOIN}\d+)*"
)
_OCTET = r"(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])"
_ORDINARY = re.compile(
    r"(?:(?<![\w./+-])|(?<=[A-Za-z]-))(?:"
    # 2026-11-26, 2026-11-26T10:15:00.123Z, 26.11.2026, 11/26/2026
    r"(?:1[89]|2[01])\d\d(?P<s>[-./])(?:0?[1-9]|1[0-2])(?P=s)(?:0?[1-9]|[12]\d|3[01])"
    r"(?:[T _-]\d{1,2}(?P<u>[:.-])\d\d(?:(?P=u)\d\d(?:[.,]\d{1,9})?)?)?(?:Z|[+-]\d\d:?\d\d)?"
    r"|(?:0?[1-9]|[12]\d|3[01])(?P<t>[-./])(?:0?[1-9]|[12]\d|3[01])(?P=t)(?:(?:1[89]|2[01])\d\d)"
    r"|(?:1\d|2[01])\d\d[ ]?[-–—/][ ]?(?:1\d|2[01])\d\d"  # years
    r"|[-+]?\d{1,3}(?:[,'’]\d{3})+(?:\.\d+)?"  # 1,234,567.89
    r"|(?<!\d[ \u00a0])[1-9]\d?(?:[ \u00a0\u202f.]\d{3}){2}(?:,\d+)?(?![ \u00a0]\d)"  # 12 345 678
    r"|(?:0|[1-9]\d{0,5})[.,]\d{1,17}"  # 3.14159
    rf"|(?:{_OCTET}\.){{3}}{_OCTET}(?::\d{{1,5}})?"  # an IP address
    r"|\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?"
    r")(?![\w/-]|[.,]\d|:\d)"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d\d(?:[ \t\u00a0-]?[A-Za-z0-9]){11,30}")


def numbers(text: str) -> list[Span]:
    """(start, end, kind) of each."""
    found = _ibans(text)
    at = 0
    for start, end in _stops(text, found):
        while m := _NUMBER.search(text, at, start):
            at = max(m.end(), at + 1)
            if kind := _kind(m[0]):
                found.append((*m.span(), kind))
        at = end
    return sorted(found)


_WORDS = "zero one two three four five six seven eight nine".split()
_DIGIT = rf"(?:(?:double|triple|treble)[ -])?(?:{'|'.join(_WORDS)}|oh|nought|naught)"
_DICTATED = re.compile(
    rf"(?<![\w-]){_DIGIT}(?:[ ,.-]{{1,2}}{_DIGIT}){{2,}}(?![\w-])", re.IGNORECASE
)
_CODE = re.compile(
    r"\b(?:pin|otp|cvv2?|cvc|\w*code|password)(?: (?:number|code))?"
    r"(?: (?:is|was|for \S+ is))?[ :=]*\Z",
    re.IGNORECASE,
)


def dictated(text: str) -> list[Span]:
    """(start, end, kind) of each number said digit by digit: "oh seven seven double oh ...";
    counting ("one two three ...") stays."""
    found: list[Span] = []
    for match in _DICTATED.finditer(text):
        digits = _said(match[0])
        if _CODE.search(text, max(0, match.start() - 60), match.start()):
            found.append((*match.span(), "secret"))
        elif len(digits) >= 7 and not _counts([*digits]):
            found.append((*match.span(), "phone" if digits[0] == "0" else "number"))
    return found


def _said(text: str) -> str:
    """The digits of words that stand for them."""
    digits, times = "", 1
    for word in re.findall(r"[a-z]+", text.lower()):
        if word in ("double", "triple", "treble"):
            times = 2 if word == "double" else 3
            continue
        digits += times * str(_WORDS.index(word) if word in _WORDS else 0)
        times = 1
    return digits


def _stops(text: str, ibans: list[Span]) -> list[tuple[int, int]]:
    """What no other number goes into: IBANs, numbers that stay, and the end. A space and more
    digits behind one that stays do not make it a phone, but a date is none where it goes on as a
    longer number."""
    found: list[tuple[int, int]] = []
    at = 0
    for start, end, _ in [*ibans, (len(text), len(text), "")]:
        found += [m.span() for m in _ORDINARY.finditer(text, at, start)]
        found.append((start, end))
        at = end
    return found


def _kind(number: str) -> str:
    """What kind of long number it is; "" for one that stays."""
    groups = re.findall(r"\d+", number)
    digits = "".join(groups)
    count = len(digits)
    if count < 7:
        return ""
    if 13 <= count <= 19 and luhn(digits):
        return "card"
    marked = number[0] in "+＋(" or (len(groups[0]) > 1 and groups[0][0] == "0")
    if len(groups) == 1:
        return "phone" if marked and count <= 15 else "number"
    if not marked and all(len(group) <= 2 for group in groups) and _counts(groups):
        return ""  # 1 2 3 4 5 6 7
    spaced = re.search(rf"\d{_SPACE}[-‐-―−]{_SPACE}\d", number)
    if not marked and ("/" in number or (count < 9 and "(" in number)):  # 1000/3000, 2019 (2020)
        return "number" if any(len(group) >= 7 for group in groups) else ""
    if not marked and count < 9 and len(groups) == 2:
        # 555-1234 and 5512 3456 are phones; 1000 - 300 and 123-45678 sums
        if spaced or [*map(len, groups)] not in ([3, 4], [4, 4]):
            return "number" if any(len(group) >= 7 for group in groups) else ""
    elif not marked and spaced and len(groups) == 2:
        return "number" if any(len(group) >= 7 for group in groups) else ""
    return "phone" if count <= 15 else "number"


def _counts(groups: list[str]) -> bool:
    """Whether numbers go up or down by even steps."""
    steps = {int(b) - int(a) for a, b in pairwise(groups)}
    return len(steps) == 1 and steps != {0}


def luhn(digits: str) -> bool:
    """Whether the last digit is the check of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for at, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + at % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


def _ibans(text: str) -> list[Span]:
    found: list[Span] = []
    at = 0
    while m := _IBAN.search(text, at):
        ends = range(m.end(), m.start() + 14, -1)
        ends = (e for e in ends if text[e - 1].isalnum() and not text[e : e + 1].isalnum())
        end = next((e for e in ends if iban(text[m.start() : e])), 0)
        if end:
            found.append((m.start(), end, "iban"))
        at = end or m.start() + 2
    return found


def iban(text: str) -> bool:
    """Whether its check digits are right (ISO 7064, MOD 97-10) and its length is one."""
    plain = re.sub(r"[^A-Za-z0-9]", "", text).upper()
    if not 15 <= len(plain) <= 34:
        return False
    turned = plain[4:] + plain[:4]
    return int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1
