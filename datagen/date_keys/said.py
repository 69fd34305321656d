"""What the generator passes around: a wording with its keys, and pools split for held-out use."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Tense = Literal["future", "past", "any"]
T = TypeVar("T")

# One in six wordings of every pool is kept for the validation split.
_HELD_OUT_SHARE = 6
# Smaller pools are shared: they hold the wordings that a skill cannot be taught without.
_SMALLEST_SPLIT_POOL = 12


@dataclass(frozen=True)
class Said:
    """An expression as people say it.

    Attributes:
        text: where it answers "when", with its preposition: "on friday", "at 3 pm".
        keys: what it means, in order of mention; () for none.
        noun: as a noun, where it can be one ("move it to ..."): "friday", "3 pm"; "" if it cannot.
        owner: as an owner: "friday's"; "" if it cannot.
        tense: of the sentences that it fits.
    """

    text: str
    keys: tuple[str, ...] = ()
    noun: str = ""
    owner: str = ""
    tense: Tense = "future"


@dataclass(frozen=True)
class Source:
    """Random choices for one split.

    Attributes:
        rng: draws everything.
        held_out: choose among the held-out wordings of a pool instead of the others.
    """

    rng: random.Random
    held_out: bool = False

    def shared(self, pool: Sequence[T]) -> T:
        """One of a pool that both splits use."""
        return self.rng.choice(pool)

    def own(self, pool: Sequence[str], opening: str = "") -> str:
        """One of this split's share of a pool; of those that open so, if there are any."""
        share = part(tuple(pool), self.held_out)
        return self.rng.choice([w for w in share if w.startswith(opening)] or share)

    def chance(self, share: float) -> bool:
        """True in `share` of the draws."""
        return self.rng.random() < share


_PARTS: dict[tuple[tuple[str, ...], bool], tuple[str, ...]] = {}


def part(pool: tuple[str, ...], held_out: bool) -> tuple[str, ...]:
    """The wordings of `pool` that a split may use: disjoint for the two, whatever the seed."""
    known = _PARTS.get((pool, held_out))
    if known is None:
        if len(pool) < _SMALLEST_SPLIT_POOL:
            known = pool
        else:
            kept = {w for w in pool if zlib.crc32(w.encode()) % _HELD_OUT_SHARE == 0}
            kept = kept or {min(pool)}
            known = tuple(w for w in pool if (w in kept) == held_out)
        _PARTS[(pool, held_out)] = known
    return known
