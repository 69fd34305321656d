"""The families of tasks and their shares of the corpus."""

from __future__ import annotations

from ..dialogue import Family
from . import (
    casing,
    cleaning,
    copying,
    extracting,
    figures,
    files,
    listing,
    reading,
    structured,
    talking,
    times,
)

# Shares by number of conversations, in the first course and in the second. Time normalising and
# listing weigh most: the first skill stands on them; snake-casing random words makes every piece
# of a key an output. The second course gives more to what the first left weak (score.py says what).
FAMILIES: tuple[tuple[Family, float, float], ...] = (
    (copying.repeat, 6, 4),
    (copying.words_of, 3.5, 5),
    (casing.join, 9, 9),
    (casing.split, 2, 4),
    (casing.lookup, 2.5, 2.5),
    (figures.words_to_digits, 2.5, 2.5),
    (figures.in_sentence, 1, 1),
    (figures.sums, 2, 1),
    (figures.to_minutes, 4, 4),
    (figures.compare, 0.7, 0.7),
    (times.normalise, 11, 11),
    (times.clock_forms, 2.5, 2.5),
    (times.half_of_day, 1, 1),
    (times.kind, 2, 2),
    (listing.as_json, 16, 12),
    (listing.as_text, 6, 6),
    (listing.as_said, 2.5, 2.5),
    (listing.without, 1.5, 2.5),
    (extracting.field, 2.5, 2.5),
    (extracting.items, 3, 5),
    (extracting.numbers, 0.8, 1.5),
    (extracting.quoted, 0.8, 0.8),
    (structured.make_object, 1.5, 3),
    (structured.make_array, 1.5, 2.5),
    (structured.look_up, 1.2, 2.5),
    (structured.nested, 1.5, 3),
    (structured.validity, 0.8, 0.8),
    (structured.escaping, 0.7, 0.7),
    (structured.table, 0.7, 1.5),
    (reading.facts, 2, 3),
    (reading.block, 3, 6),
    (reading.who_has, 0.7, 1.5),
    (talking.chat, 0.8, 0.8),
    (talking.named, 1.2, 1.2),
    (talking.acknowledge, 0.8, 0.8),
    (talking.classify, 1.2, 2),
    (talking.french, 1, 1),
    (talking.translate, 0.5, 0.5),
    (talking.polite, 1, 1),
    (cleaning.fillers, 1, 1),
    (cleaning.spelling, 1.5, 1.5),
    (cleaning.sentence, 0.7, 1.5),
    (files.command, 1.2, 1.2),
    (files.path_part, 0.7, 0.7),
    (files.slot_line, 1, 1),
    (listing.several, 0, 12),
    (listing.numbered, 0, 3),
    (casing.calendar, 0, 5),
)

# The first shard is mostly copying: what attends back to an earlier token is learned there within
# a million tokens, and everything else stands on it.
EARLY: dict[Family, float] = {
    copying.repeat: 6.0,
    extracting.quoted: 6.0,
    casing.join: 1.5,
    casing.split: 2.0,
    structured.make_array: 2.0,
}


def shares(early: bool, course: int = 1) -> list[float]:
    """The weight of each family in `course` 1 or 2; `early` is the first course's first shard."""
    return [
        (first if course == 1 else second) * (EARLY.get(family, 1.0) if early else 1.0)
        for family, first, second in FAMILIES
    ]
