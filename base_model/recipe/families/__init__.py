"""The families of tasks and their shares of the corpus."""

from __future__ import annotations

from ..dialogue import Family
from . import (
    casing,
    cleaning,
    commands,
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

# Shares by number of conversations, in the first, second and third course. Time normalising and
# listing weigh most: the first skill stands on them; snake-casing random words makes every piece
# of a key an output. The second course gives more to what the first left weak (score.py says what).
# The third takes its times from `commands` alone, for they keep to the contract where the older
# families do not ("10:30" by itself is neither morning nor evening), and keeps the rest alive.
FAMILIES: tuple[tuple[Family, float, float, float], ...] = (
    (copying.repeat, 6, 4, 3),
    (copying.words_of, 3.5, 5, 3),
    (casing.join, 9, 9, 6),
    (casing.split, 2, 4, 2),
    (casing.lookup, 2.5, 2.5, 1.5),
    (figures.words_to_digits, 2.5, 2.5, 1.5),
    (figures.in_sentence, 1, 1, 0.7),
    (figures.sums, 2, 1, 0.7),
    (figures.to_minutes, 4, 4, 4),
    (figures.compare, 0.7, 0.7, 0.5),
    (times.normalise, 11, 11, 0),
    (times.clock_forms, 2.5, 2.5, 1.5),
    (times.half_of_day, 1, 1, 0),
    (times.kind, 2, 2, 0.7),
    (listing.as_json, 16, 12, 0),
    (listing.as_text, 6, 6, 0),
    (listing.as_said, 2.5, 2.5, 0),
    (listing.without, 1.5, 2.5, 1),
    (extracting.field, 2.5, 2.5, 1.5),
    (extracting.items, 3, 5, 2.5),
    (extracting.numbers, 0.8, 1.5, 0.8),
    (extracting.quoted, 0.8, 0.8, 0.7),
    (structured.make_object, 1.5, 3, 1.7),
    (structured.make_array, 1.5, 2.5, 1.5),
    (structured.look_up, 1.2, 2.5, 1.5),
    (structured.nested, 1.5, 3, 1.8),
    (structured.validity, 0.8, 0.8, 0.5),
    (structured.escaping, 0.7, 0.7, 0.5),
    (structured.table, 0.7, 1.5, 0.7),
    (reading.facts, 2, 3, 1.5),
    (reading.block, 3, 6, 3),
    (reading.who_has, 0.7, 1.5, 0.7),
    (talking.chat, 0.8, 0.8, 0.6),
    (talking.named, 1.2, 1.2, 0.8),
    (talking.acknowledge, 0.8, 0.8, 0.6),
    (talking.classify, 1.2, 2, 1.2),
    (talking.french, 1, 1, 0.6),
    (talking.translate, 0.5, 0.5, 0.4),
    (talking.polite, 1, 1, 0.7),
    (cleaning.fillers, 1, 1, 0.8),
    (cleaning.spelling, 1.5, 1.5, 0.8),
    (cleaning.sentence, 0.7, 1.5, 0.7),
    (files.command, 1.2, 1.2, 0.8),
    (files.path_part, 0.7, 0.7, 0.5),
    (files.slot_line, 1, 1, 0.7),
    (listing.several, 0, 12, 0),
    (listing.numbered, 0, 3, 0),
    (casing.calendar, 0, 5, 4),
    (commands.times, 0, 0, 36),
    (commands.in_words, 0, 0, 6),
    (commands.alone, 0, 0, 9),
    (commands.quoted, 0, 0, 5),
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
    """The weight of each family in `course` 1 to 3; `early` is the first course's first shard."""
    return [
        weights[course - 1] * (EARLY.get(family, 1.0) if early else 1.0)
        for family, *weights in FAMILIES
    ]
