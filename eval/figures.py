"""Numbers as answers may write them, brought into one form: figures.

figures("forty-two per cent")          # "42 %"
seconds("an hour and a half")          # 5400.0
"""

from __future__ import annotations

import re

from livery.skills.date_keys.numbers import ONES, TENS

_GREAT = {"thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_VALUES: dict[str, tuple[str, int]] = {
    **{word: ("unit" if n < 10 else "teen", n) for n, word in enumerate(ONES)},
    **{word: ("ten", value) for word, value in TENS.items()},
    "hundred": ("hundred", 100),
    **{word: ("great", value) for word, value in _GREAT.items()},
}
_WORD = "|".join(_VALUES)
_SPELLED = re.compile(rf"\b(?:{_WORD})(?:(?:[ \t]+and[ \t]+|[ \t-]+)(?:{_WORD}))*\b", re.IGNORECASE)
# Which kinds of words go on with a number after which: "forty-two" is one, "two forty" are two.
_GOES_ON = {
    "unit": ("ten", "hundred", "great"),
    "teen": ("hundred", "great"),
    "ten": ("hundred", "great"),
    "hundred": ("unit", "teen", "ten"),
    "great": ("unit", "teen", "ten", "hundred"),
}


def figures(text: str) -> str:
    """The text with numbers in words as figures, "point" and "minus" as signs, thousands without
    separators, decimals without zeros at their end, and "per cent" as %."""
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}\b)", "", text)
    text = _SPELLED.sub(_in_figures, text)
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(
        r"\b(\d+) point (\d(?: \d)*)\b", lambda m: f"{m[1]}.{m[2].replace(' ', '')}", text
    )
    text = re.sub(
        r"(?:\b(?:minus|negative)\s+|[\u2212\u2012\u2013](?<!\d.))(?=\d)", "-", text, flags=re.I
    )
    text = re.sub(r"(?<=\d)\s*(?:and a half\b|½)", ".5", text)
    text = re.sub(r"(?<=\d)\s*([¼¾])", lambda m: ".25" if m[1] == "¼" else ".75", text)
    text = re.sub(r"(\d+)\.(\d*?)0+(?![\w.])", _without_zeros, text)
    return re.sub(r"(?<=\d)\s*(?:%|per\s?cent\b)", " %", text)


def _without_zeros(found: re.Match[str]) -> str:
    return f"{found[1]}.{found[2]}" if found[2] else found[1]


def _in_figures(found: re.Match[str]) -> str:
    """One run of number words; it may hold several numbers ("one two three")."""
    done: list[str] = []
    total = current = 0
    last = ""
    joined = True  # by a space or hyphen; "and" goes on only behind hundred and above
    for word in re.findall(r"[a-z]+", found[0].lower()):
        if word == "and":
            joined = last in ("hundred", "great")
            continue
        kind, value = _VALUES[word]
        if last and (not joined or last not in _GOES_ON[kind]):
            done += [str(total + current), *(["and"] if not joined else [])]
            total = current = 0
        joined = True
        if kind == "hundred":
            current = (current or 1) * 100
        elif kind == "great":
            total, current = total + (current or 1) * value, 0
        else:
            current += value
        last = kind
    if len(done) == 1 and 13 <= int(done[0]) <= 20 and 10 <= total + current <= 99:
        return f"{done[0]}{total + current}"  # a year: "nineteen sixty-nine"
    return " ".join([*done, str(total + current)])


_LENGTHS = {"h": 3600, "m": 60, "s": 1}
_LENGTH = re.compile(
    r"(\d+(?:\.\d+)?)\s*(h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?)\b(?:\s*(?:,|and))?\s*"
)
_SAID = (
    (r"\b(?:an?|1) hour and a half\b", "90 minutes"),
    (r"\b(?:a )?half (?:an hour|hour)\b", "30 minutes"),
    (r"\bthree quarters of an hour\b|\b3 quarters of an hour\b", "45 minutes"),
    (r"\b(?:a )?quarter of an hour\b", "15 minutes"),
    (r"\ban? (hour|minute|second)\b", r"1 \1"),
)


def seconds(text: str) -> float | None:
    """The seconds of a length of time; None where a text says something else."""
    plain = figures(" ".join(text.casefold().split()))
    for said, is_ in _SAID:
        plain = re.sub(said, is_, plain)
    parts = [*_LENGTH.finditer(plain)]
    if not parts or "".join(part[0] for part in parts) != plain:
        return None
    return sum(float(part[1]) * _LENGTHS[part[2][0]] for part in parts)
