"""Evaluation cases that stand in the training data: the same sentence, or nearly so.

Texts are compared in lower case without punctuation, with numbers and names masked, so that "wake
me at 7 on Monday" and "wake me at eight on tuesday" are one sentence. A near-duplicate is a
training text that holds at least three quarters of a case's word pairs: wrapping it in "could you …
please" does not hide it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

NEAR = 0.75

Row = Mapping[str, Any] | str
Pair = tuple[str, str]

# The part of a prompt in blocks (livery/skills/dsl/prompt.py) that somebody asks; the schema beside
# it is the same for many.
_ASKED = re.compile(r"^\[SCHEMA\]\n.*^\[QUERY\]\n(.*?)\n\[/QUERY\]\s*^\[", re.M | re.S)
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_NUMBERS = frozenset(
    _WORD.findall(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy "
        "eighty ninety hundred thousand million first second third fourth fifth sixth seventh "
        "eighth ninth tenth eleventh twelfth"
    )
)
_NAMES = frozenset(
    _WORD.findall(
        "monday tuesday wednesday thursday friday saturday sunday january february march april "
        "june july august september october november december"
    )
)


@dataclass(frozen=True)
class Leak:
    """An evaluation case and the training text that gives it away.

    Attributes:
        kind: "same" when the normalised texts are equal, else "near".
        similarity: share of the case's word pairs that the training text holds.
        case, train: positions in what was compared.
        case_text, train_text: the two texts.
    """

    kind: str
    similarity: float
    case: int
    train: int
    case_text: str
    train_text: str


@dataclass(frozen=True)
class LeakIndex:
    """Evaluation texts, prepared for asking whether a text is close to one of them.

    Attributes:
        texts: the cases as they are written.
        normal: the same, normalised.
        names: what is masked besides weekdays, months and words with a capital.
        pairs: word pairs of each case.
        signs: word pair -> cases that it is a sign of. A text that holds NEAR of a case's pairs
            lacks so few that it cannot lack all of any few more: those that the fewest other cases
            hold are the case's signs, and a text without one of them need not be compared.
    """

    texts: tuple[str, ...]
    normal: tuple[str, ...]
    names: frozenset[str]
    pairs: tuple[frozenset[Pair], ...]
    signs: dict[Pair, tuple[int, ...]]

    def closest(self, text: str) -> tuple[int, float] | None:
        """(case, similarity) of the case that `text` gives away most, or None below NEAR."""
        near = self.near(normalise(text, self.names))
        best = max(((similarity, -case) for case, similarity in near), default=None)
        return (-best[1], best[0]) if best is not None else None

    def near(self, words: str) -> list[tuple[int, float]]:
        """(case, similarity) of each case that a normalised text gives away."""
        held = _pairs(words)
        suspects = {case for pair in held & self.signs.keys() for case in self.signs[pair]}
        shares = ((c, len(held & self.pairs[c]) / len(self.pairs[c])) for c in suspects)
        return [(case, share) for case, share in shares if share >= NEAR]


def normalise(text: str, names: Iterable[str] = ()) -> str:
    """Lower case, no punctuation, numbers as # and names as @; runs of either become one."""
    known = names if isinstance(names, frozenset) else frozenset(names)
    words = _WORD.findall(text)
    words[:1] = [word.lower() for word in words[:1]]  # a capital tells nothing of the first one
    masks = [_mask(word, known) for word in words]
    return " ".join(
        mask for before, mask in pairwise(["", *masks]) if mask not in "#@" or mask != before
    )


@lru_cache(maxsize=1 << 16)
def _mask(word: str, names: frozenset[str]) -> str:
    lower = word.lower()
    stem = lower.removesuffix("'s")
    if lower in _NUMBERS or any(c.isdigit() for c in lower):
        return "#"
    if stem in _NAMES or stem in names or (word[0].isupper() and word != "I"):
        return "@"
    return lower


def index(rows: Iterable[Row], names: Iterable[str] = ()) -> LeakIndex:
    """Prepare evaluation rows (or plain texts) for `closest`."""
    texts = tuple(row_text(row) for row in rows)
    known = frozenset(name.lower() for name in names)
    normal = tuple(normalise(text, known) for text in texts)
    pairs = tuple(_pairs(words) for words in normal)
    holders = Counter(pair for held in pairs for pair in held)
    signs: defaultdict[Pair, list[int]] = defaultdict(list)
    for case, held in enumerate(pairs):
        enough = len(held) - math.ceil(NEAR * len(held)) + 1
        for pair in sorted(held, key=lambda pair: (holders[pair], pair))[:enough]:
            signs[pair].append(case)
    return LeakIndex(
        texts, normal, known, pairs, {pair: tuple(cases) for pair, cases in signs.items()}
    )


def find_leaks(train: Iterable[Row], cases: Iterable[Row], names: Iterable[str] = ()) -> list[Leak]:
    """Each case that stands in the training rows, with the training text closest to it.

    A case is reported once; cases are rows, or plain texts.
    """
    prepared = index(cases, names)
    found: dict[int, Leak] = {}
    for position, row in enumerate(train):
        text = row_text(row)
        words = normalise(text, prepared.names)
        for case, similarity in prepared.near(words):
            if case in found and found[case].similarity >= similarity:
                continue
            kind = "same" if words == prepared.normal[case] else "near"
            found[case] = Leak(kind, similarity, case, position, prepared.texts[case], text)
    return [found[case] for case in sorted(found)]


def count_leaks(train: Iterable[Row], cases: Iterable[Row], names: Iterable[str] = ()) -> int:
    """How many of the cases stand in the training rows, exactly or nearly."""
    return len(find_leaks(train, cases, names))


def row_text(row: Row) -> str:
    """What a user asks in a row: its text, prompt, user_input or user messages, all of them: "yes,
    go ahead" alone is not a question."""
    if isinstance(row, str):
        return row
    for name in ("text", "prompt", "user_input"):
        if isinstance(row.get(name), str):
            return asked_in(row[name])
    messages: Sequence[Mapping[str, Any]] = row.get("messages") or ()
    return "\n".join(asked_in(str(m["content"])) for m in messages if m.get("role") == "user")


def asked_in(prompt: str) -> str:
    """What a user's text asks: all of it, or the query of a prompt that holds a schema too."""
    found = _ASKED.search(prompt) if "[QUERY]" in prompt else None
    return found[1] if found else prompt


def _pairs(words: str) -> frozenset[Pair]:
    """Neighbouring words, the ends counted, so that one word has pairs too."""
    return frozenset(pairwise(["", *words.split(" "), ""]))
