"""Clock times and amounts of time in a command, with their keys: what no label can hold.

    find_moments("wake me at half seven tomorrow morning and call back in an hour and ten")
    # -> Moment(11, 21, "clock", "at_7_30am"), Moment(57, 78, "minutes", "in_70_minutes")

A hand-written grammar over the words of a command as `contract.normalise` writes it. It says what a
number would come to, not whether the command means it: "every day at 7 am" holds a clock time too.
That is for the classifier (`fasttext.py`), which reads the command with the moments masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from livery.skills.date_keys.contract import time_key
from livery.skills.date_keys.moments.amounts import relative
from livery.skills.date_keys.moments.clock import clock_at, is_clock, settle
from livery.skills.date_keys.moments.tokens import Kind as Kind
from livery.skills.date_keys.moments.tokens import Token, tokens_of


@dataclass(frozen=True)
class Moment:
    """A number of the command.

    Attributes:
        start, end: characters of the normalised command.
        kind: "clock", "minutes" or "days" with a key; "hour" is a time that is neither am nor pm,
            "amount" an amount that begins at no moment ("for two hours", "three days ago").
        key: "" for the last two.
    """

    start: int
    end: int
    kind: Kind
    key: str = ""


def find_moments(text: str) -> tuple[Moment, ...]:
    """The clock times and amounts of a normalised command, in order, none within another."""
    tokens = tokens_of(text)
    found: list[tuple[int, int, Kind, str]] = []
    loose: list[tuple[int, int, int, int]] = []  # (start, end, hour, minute): am or pm is unsaid
    at = 0
    while at < len(tokens):
        taken = None if is_clock(tokens, at) else relative(tokens, at)
        if taken is not None:
            found.append((at, *taken))
            at = taken[0]
            continue
        clock = clock_at(tokens, at)
        if clock is None:
            at += 1
            continue
        end, hour, minute, sure = clock
        if sure:
            found.append((at, end, "clock", time_key(hour, minute)))
        else:
            loose.append((at, end, hour, minute))
        at = end
    found += settle(tokens, loose, [(begin, end) for begin, end, *_ in found])
    return tuple(
        Moment(tokens[begin].start, tokens[end - 1].end, kind, key)
        for begin, end, kind, key in sorted(found)
    )


_MASKS = {
    "clock": "CLOCK",
    "minutes": "MINUTES",
    "days": "DAYS",
    "hour": "HOUR",
    "amount": "AMOUNT",
}


def mask(text: str, moments: Sequence[Moment]) -> str:
    """The command with a word in capitals for each moment; noon and midnight by their names."""
    parts: list[str] = []
    at = 0
    for moment in moments:
        named = moment.key if moment.key in ("noon", "midnight") else _MASKS[moment.kind]
        parts += [text[at : moment.start], named]
        at = moment.end
    return "".join([*parts, text[at:]])


def order(text: str, keys: Sequence[str], moments: Sequence[Moment]) -> tuple[str, ...]:
    """The keys in the order of mention, as far as words tell; those not found come last."""
    tokens = tokens_of(text)
    begins = {moment.key: moment.start for moment in reversed(moments)}
    places = {key: begins.get(key, _mention(key, tokens)) for key in keys}
    return tuple(sorted(dict.fromkeys(keys), key=lambda key: places[key]))


def _mention(key: str, tokens: Sequence[Token]) -> int:
    """Where a static key is named: its last word, best if its first one comes before it."""
    *before, last = [part for part in key.split("_") if part not in ("at", "during")]
    lead = before[-1] if before else ""
    found = [
        (before_it.text != lead, token.start if not lead else before_it.start)
        for before_it, token in pairwise([Token("", 0, 0), *tokens])
        if token.text.startswith(last[:3])
    ]
    return min(found)[1] if found else 1 << 30
