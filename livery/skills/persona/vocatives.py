"""Forms of address found in a text: "sir" where it is said to somebody, not "Sir Isaac Newton".

[v.form for v in vocatives("Very good, sir. Sir Isaac would agree, sir.")]      # ["sir", "sir"]
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from livery.skills.persona.kept import HIDDEN, masked

_FORMS = r"sir|madam|ma['’]am"
# After these the form stands without a comma: "Yes sir", "Good evening madam".
_CALLS = (
    r"yes|no|indeed|certainly|absolutely|course|well|good|right|you|morning|afternoon|evening|day|"
    r"night|sorry|please|welcome|once|pleasure|hello|goodbye|away|thanks"
)
_AFTER = r"(?=\s*(?:[.,;:!?…)—–]|-\s|\Z|\n))"
# What follows a form at the front of a sentence: the rest of it, or nothing ("Sir! Paris.").
_COMMA = r",[ \t]*"
_ALONE = r"[.!?…]+(?:[ \t]+|(?=\n)|\Z)"
# A name at the front is somebody spoken to only where a sentence of its own follows.
_GOES_ON = r"(?=(?:I|it|here|there|that|this|your|you|yes|no|good|shall|may|the answer)\b)"
# A form without a comma at the end of what is said, "Paris sir.", unless the word before it makes
# it a thing: "was made a sir", "called madam". Several in a row, "Paris sir sir.", end it together.
_BARE = re.compile(
    r"(?<=\w)(?P<gap>[ \t]+(?:(?:my )?(?:kind|dear) )?)(?P<form>sir|madam|ma['’]am)(?!\w)"
)
_ENDS = re.compile(_AFTER)
_THING = re.compile(
    r"\b(?:an?|the|this|that|of|as|to|is|was|be|been|become|or|and|nor|with|for|from|call(?:ed|s)?|"
    r"say|says|said|title|titled|word|form|term|style|address|every|each|any|some|one|kind|dear|"
    r"good|my|his|her|their|no|not)\Z",
    re.IGNORECASE,
)
_TITLE = re.compile(r"\b(Mr|Mrs|Ms|Dr|Prof|St|Rev|Jr|Sr)\\?\.?(?=\\ |$)")
_START = r"(?:(?<=[.!?:…]\s)|(?<=\n)|\A\s*)"
_NAMES = r"\s*[A-Z][\w'’.-]*(?:\s+[A-Z][\w'’.-]*)*\s*\Z"
_LISTED, _JOINED = re.compile(_NAMES), re.compile(rf"\b(?:and|or)\b{_NAMES}")
_NEAR = 200  # characters in front of a name in which the one before it in a list stands


@dataclass(frozen=True)
class Vocative:
    """A form of address in a text.

    Attributes:
        start, end: of all that goes if it is taken out, its comma and space included.
        word, past: of the form itself.
        form: as it is written.
        leads: it stands at the front of a sentence.
    """

    start: int
    end: int
    word: int
    past: int
    form: str
    leads: bool


def vocatives(text: str, name: str = "") -> list[Vocative]:
    """Where somebody is addressed outside of code, quotations and links, in order.

    Args:
        name: a form besides sir, madam and ma'am. In a list ("Ann, Bob, Ada") it is nobody's
            address.
    """
    plain = masked(text)
    forms = f"(?i:{_FORMS})"
    found = [*_closing(plain, forms), *_bare(plain)]
    found += [*_leading(plain, forms, _COMMA), *_leading(plain, forms, _ALONE)]
    found += _next_leading(plain, forms, found)
    if name and name.lower() not in ("sir", "madam"):
        exact = _spelt(name)
        found += _unlisted(plain, _closing(plain, exact))
        found += _leading(plain, exact, _COMMA + _GOES_ON)
    ordered = sorted(found, key=lambda v: (v.word, -v.end))
    return [v for at, v in enumerate(ordered) if not at or v.word >= ordered[at - 1].past]


def _closing(plain: str, forms: str) -> list[Vocative]:
    pattern = (
        rf"(?:(?<![ \t])[ \t]*,[ \t]*(?i:(?:my )?(?:dear |good |kind )?)"
        rf"|(?i:\b(?P<call>{_CALLS})[ \t]+))"
        rf"(?P<form>{forms}){_AFTER}"
    )
    return [
        _vocative(match, match.end("call") if match["call"] else match.start(), leads=False)
        for match in re.finditer(pattern, plain)
    ]


def _spelt(name: str) -> str:
    """A pattern of a name in any of its spellings: Mr and Mr., O'Brien and O’Brien."""
    exact = re.escape(name).replace("'", "['’]").replace("’", "['’]").replace("['['’]]", "['’]")
    return _TITLE.sub(r"\1\\.?", exact)


def _bare(plain: str) -> list[Vocative]:
    found: list[Vocative] = []
    row: list[re.Match[str]] = []
    for match in _BARE.finditer(plain):
        if row and row[-1].end() != match.start():
            found += _row(plain, row)
            row = []
        row.append(match)
    return found + _row(plain, row)


def _row(plain: str, row: list[re.Match[str]]) -> list[Vocative]:
    """Of forms without a comma that follow each other, those that are said to somebody."""
    if not row or not _ENDS.match(plain, row[-1].end()):
        return []
    gap = row[0].start("gap")
    # No word of these is longer: what stands before it decides nothing.
    thing = _THING.search(plain, max(0, gap - 40), gap)
    return [_vocative(match, match.start("gap"), leads=False) for match in row[bool(thing) :]]


def _leading(plain: str, forms: str, then: str) -> list[Vocative]:
    return [
        _vocative(match, match.start("form"), leads=True)
        for match in re.finditer(rf"{_START}(?P<form>{forms}){then}", plain)
    ]


def _next_leading(plain: str, forms: str, others: Sequence[Vocative]) -> list[Vocative]:
    """Forms that stand at the front of a sentence once those in front of them are gone."""
    front = re.compile(rf"(?P<form>{forms})(?:{_COMMA}|{_ALONE})")
    found: list[Vocative] = []
    known = {vocative.word for vocative in others}
    for end in [vocative.end for vocative in others if vocative.leads]:
        while end not in known and (match := front.match(plain, end)):
            found.append(_vocative(match, end, leads=True))
            end = match.end()
    return found


def _vocative(match: re.Match[str], start: int, *, leads: bool) -> Vocative:
    return Vocative(start, match.end(), *match.span("form"), match["form"], leads)


def _unlisted(plain: str, closing: list[Vocative]) -> list[Vocative]:
    """Those names that are said to somebody; one that is repeated at once is no list."""
    fronts = [0, *(match.end() for match in re.finditer(r"[.!?\n]\s", plain))]
    parted = [match.start() for match in re.finditer("[,:;]", plain)]
    found: list[Vocative] = []
    end, said = -1, False
    for vocative in closing:
        if vocative.start != end:
            front = fronts[bisect_right(fronts, vocative.start) - 1]
            said = not _in_a_list(plain, vocative.start, front, parted)
        end = vocative.end
        if said:
            found.append(vocative)
    return found


def _in_a_list(plain: str, at: int, front: int, parted: list[int]) -> bool:
    """Whether what stands before a name is another name after a comma.

    Args:
        at: where the name's comma stands.
        front: where its sentence begins.
        parted: where commas, colons and semicolons stand.
    """
    if plain[max(front, at - 1) : at] == HIDDEN or plain.find(",", front, at) < 0:
        return False
    last = parted[bisect_left(parted, at) - 1] + 1
    near = max(last, at - _NEAR)
    listed = near == last and _LISTED.match(plain, last, at)
    return bool(listed or _JOINED.search(plain, near, at))
