"""Words that the persona does not use, and signs that speech has no sound for."""

from __future__ import annotations

import re

from livery.skills.persona.kept import masked

# American spellings that have one British form. -ize is left out where dictionaries of British
# English allow it; "program", "meter" and "license" are right in some sense.
_AMERICAN = (
    "color colors colored colorful favor favors favorite favorites honor honors honored neighbor "
    "neighbors neighborhood flavor flavors labor rumor rumors harbor humor behavior behaviors "
    "center centers centered theater theaters liter liters fiber fibers defense offense analyze "
    "analyzed analyzing catalog dialog gray traveled traveling traveler canceled canceling "
    "jewelry aluminum airplane plow mom pajamas cozy skeptical fulfill math apologize apologized "
    "organize organized realize realized recognize recognized modeling labeled labeling "
    "counselor mustache specialty archeology maneuver sulfur checkbook gotten"
).split()
_AMERICAN_WORDS = re.compile(rf"\b(?:{'|'.join(_AMERICAN)})\b", re.IGNORECASE)

BANNED = (
    "as an ai", "as a language model", "as an artificial", "language model", "i am an ai",
    "i'm an ai", "i am just a", "i'm just a", "no worries", "awesome", "hey there", "you guys",
    "great question", "i hope this helps", "feel free to", "certainly! here",
    "is there anything else i can help you with", "my training data", "knowledge cutoff",
    "absolutely!", "sure thing", "happy to help!",
)  # fmt: skip
_BANNED = re.compile("|".join(rf"(?<!\w){re.escape(phrase)}(?!\w)" for phrase in BANNED))
_THIRD = re.compile(
    r"\b(?:(?:this|your) (?:butler|assistant|ai|bot|model|chatbot)|the butler)(?:'s)? "
    r"(?:is|was|has|will|can|cannot|would|does|thinks|believes|suggests|recommends)\b|"
    r"\byour (?:humble |faithful )?(?:butler|servant|assistant) here\b",
    re.IGNORECASE,
)
_FIRST = re.compile(r"\b(?:I|me|my|mine|myself|I['’](?:m|ve|ll|d))\b")
EMOJI = re.compile(
    "[\U0001f000-\U0001faff\U0001f1e6-\U0001f1ff\u2600-\u27bf\u2b50\u2b55\u2b1b\u2b1c]"
    "[\ufe0f\u200d\u20e3\U0001f3fb-\U0001f3ff]*|[\ufe0f\u20e3]"
)


def american(text: str) -> list[str]:
    """American spellings in a text; a name written with a capital amid a sentence is none, nor is
    what stands in code, a quotation or a link."""
    text = masked(text)
    found = _AMERICAN_WORDS.finditer(text)
    return [
        m[0]
        for m in found
        if not (
            m[0][0].isupper() and re.search(r"[\w,] \Z", text[max(0, m.start() - 2) : m.start()])
        )
    ]


def banned(text: str) -> list[str]:
    """Phrases in a text that the persona never says."""
    plain = masked(text).casefold().replace("’", "'")
    return _BANNED.findall(plain)


def third_person(text: str) -> bool:
    """Whether the speaker speaks of himself as of somebody else."""
    return _THIRD.search(masked(text)) is not None


def first_person(text: str) -> bool:
    """Whether the speaker says I, me or my."""
    return _FIRST.search(text) is not None
