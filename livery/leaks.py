"""Evaluation cases that stand in the training data: the same sentence, or nearly so.

Texts are compared in lower case without punctuation, with numbers and names masked, so that "wake
me at 7 on Monday" and "wake me at eight on tuesday" are one sentence. A near-duplicate is a
training text that holds at least three quarters of a case's word pairs: wrapping it in "could you …
please" does not hide it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

NEAR = 0.75

Row = Mapping[str, Any] | str

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
        sizes: word pairs of each case.
        holders: word pair -> the cases that hold it.
    """

    texts: tuple[str, ...]
    normal: tuple[str, ...]
    names: frozenset[str]
    sizes: tuple[int, ...]
    holders: dict[tuple[str, str], tuple[int, ...]]

    def closest(self, text: str) -> tuple[int, float] | None:
        """(case, similarity) of the case that `text` gives away most, or None below NEAR."""
        words = normalise(text, self.names)
        counts: Counter[int] = Counter()
        for pair in _pairs(words):
            counts.update(self.holders.get(pair, ()))
        best = max(((n / self.sizes[case], -case) for case, n in counts.items()), default=None)
        return (-best[1], best[0]) if best is not None and best[0] >= NEAR else None


def normalise(text: str, names: Iterable[str] = ()) -> str:
    """Lower case, no punctuation, numbers as # and names as @; runs of either become one."""
    known = names if isinstance(names, frozenset) else frozenset(names)
    found: list[str] = []
    start = True
    for match in _WORD.finditer(text):
        word = match[0]
        lower = word.lower()
        stem = lower.removesuffix("'s")
        if lower in _NUMBERS or any(c.isdigit() for c in lower):
            mask = "#"
        elif stem in _NAMES or stem in known or (word[0].isupper() and word != "I" and not start):
            mask = "@"
        else:
            mask = lower
        if not (mask in "#@" and found and found[-1] == mask):
            found.append(mask)
        start = False
    return " ".join(found)


def index(rows: Iterable[Row], names: Iterable[str] = ()) -> LeakIndex:
    """Prepare evaluation rows (or plain texts) for `closest`."""
    texts = tuple(row_text(row) for row in rows)
    known = frozenset(name.lower() for name in names)
    normal = tuple(normalise(text, known) for text in texts)
    pairs = [_pairs(words) for words in normal]
    holders: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for case, held in enumerate(pairs):
        for pair in held:
            holders[pair].append(case)
    return LeakIndex(
        texts,
        normal,
        known,
        tuple(len(held) for held in pairs),
        {pair: tuple(cases) for pair, cases in holders.items()},
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
        counts: Counter[int] = Counter()
        for pair in _pairs(words):
            counts.update(prepared.holders.get(pair, ()))
        for case, shared in counts.items():
            similarity = shared / prepared.sizes[case]
            if similarity < NEAR or (case in found and found[case].similarity >= similarity):
                continue
            kind = "same" if words == prepared.normal[case] else "near"
            found[case] = Leak(kind, similarity, case, position, prepared.texts[case], text)
    return [found[case] for case in sorted(found)]


def count_leaks(train: Iterable[Row], cases: Iterable[Row], names: Iterable[str] = ()) -> int:
    """How many of the cases stand in the training rows, exactly or nearly."""
    return len(find_leaks(train, cases, names))


def row_text(row: Row) -> str:
    """What a user asks in a row: its text, prompt, user_input or last user message."""
    if isinstance(row, str):
        return row
    for name in ("text", "prompt", "user_input"):
        if isinstance(row.get(name), str):
            return row[name]
    messages: Sequence[Mapping[str, Any]] = row.get("messages") or ()
    return next((str(m["content"]) for m in reversed(messages) if m.get("role") == "user"), "")


def _pairs(words: str) -> set[tuple[str, str]]:
    """Neighbouring words, the ends counted, so that one word has pairs too."""
    each = ["", *words.split(" "), ""]
    return set(pairwise(each))
