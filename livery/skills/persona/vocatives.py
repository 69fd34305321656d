"""Forms of address found in a text: "sir" where it is said to somebody, not "Sir Isaac Newton".

[v.form for v in vocatives("Very good, sir. Sir Isaac would agree, sir.")]      # ["sir", "sir"]
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from livery.skills.persona.kept import HIDDEN, masked

_FORMS = r"sir|madam|ma['’]am"
# After these the form stands without a comma: "Yes sir", "Good evening madam".
_CALLS = (
    r"yes|no|indeed|certainly|absolutely|course|well|good|right|you|morning|afternoon|evening|day|"
    r"night|sorry|please|welcome|once|pleasure|hello|goodbye|away|thanks"
)
_AFTER = r"(?=\s*(?:[.,;:!?…)—–]|-\s|\Z|\n))"
# A name at the front is somebody spoken to only where a sentence of its own follows.
_GOES_ON = r"(?=(?:I|it|here|there|that|this|your|you|yes|no|good|shall|may|the answer)\b)"
_START = r"(?:(?<=[.!?:]\s)|(?<=\n)|\A\s*)"
_LIST = re.compile(r"(?:^|[,:;]|\band\b|\bor\b)\s*(?:[A-Z][\w'’.-]*\s*)+\Z")


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
    found = [*_closing(plain, f"(?i:{_FORMS})"), *_leading(plain, f"(?i:{_FORMS})", "")]
    if name and name.lower() not in ("sir", "madam"):
        exact = re.escape(name)
        found += [v for v in _closing(plain, exact) if not _in_a_list(plain, v)]
        found += _leading(plain, exact, _GOES_ON)
    ordered = sorted(found, key=lambda v: (v.word, -v.end))
    return [v for at, v in enumerate(ordered) if not at or v.word >= ordered[at - 1].past]


def _closing(plain: str, forms: str) -> list[Vocative]:
    pattern = (
        rf"(?:[ \t]*,[ \t]*(?:(?i:my (?:dear |good )?|dear ))?|(?i:\b(?P<call>{_CALLS})[ \t]+))"
        rf"(?P<form>{forms}){_AFTER}"
    )
    return [
        Vocative(
            match.end("call") if match["call"] else match.start(), match.end(),
            match.start("form"), match.end("form"), match["form"], False,
        )
        for match in re.finditer(pattern, plain)
    ]  # fmt: skip


def _leading(plain: str, forms: str, then: str) -> list[Vocative]:
    return [
        Vocative(
            match.start("form"), match.end(), match.start("form"), match.end("form"),
            match["form"], True,
        )
        for match in re.finditer(rf"{_START}(?P<form>{forms}),[ \t]*{then}", plain)
    ]  # fmt: skip


def _in_a_list(plain: str, vocative: Vocative) -> bool:
    """Whether what stands before a name is another name after a comma."""
    before = plain[: vocative.start]
    sentence = re.split(r"[.!?\n]\s", before)[-1]
    return HIDDEN not in sentence[-1:] and "," in sentence and bool(_LIST.search(sentence))
