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

# Shares by number of conversations. Time normalising and listing weigh most: the first skill
# stands on them; snake-casing random words makes every piece of a key an output.
FAMILIES: tuple[tuple[Family, float], ...] = (
    (copying.repeat, 6),
    (copying.words_of, 3.5),
    (casing.join, 9),
    (casing.split, 2),
    (casing.lookup, 2.5),
    (figures.words_to_digits, 2.5),
    (figures.in_sentence, 1),
    (figures.sums, 2),
    (figures.to_minutes, 4),
    (figures.compare, 0.7),
    (times.normalise, 11),
    (times.clock_forms, 2.5),
    (times.half_of_day, 1),
    (times.kind, 2),
    (listing.as_json, 16),
    (listing.as_text, 6),
    (listing.as_said, 2.5),
    (listing.without, 1.5),
    (extracting.field, 2.5),
    (extracting.items, 3),
    (extracting.numbers, 0.8),
    (extracting.quoted, 0.8),
    (structured.make_object, 1.5),
    (structured.make_array, 1.5),
    (structured.look_up, 1.2),
    (structured.nested, 1.5),
    (structured.validity, 0.8),
    (structured.escaping, 0.7),
    (structured.table, 0.7),
    (reading.facts, 2),
    (reading.block, 3),
    (reading.who_has, 0.7),
    (talking.chat, 0.8),
    (talking.named, 1.2),
    (talking.acknowledge, 0.8),
    (talking.classify, 1.2),
    (talking.french, 1),
    (talking.translate, 0.5),
    (talking.polite, 1),
    (cleaning.fillers, 1),
    (cleaning.spelling, 1.5),
    (cleaning.sentence, 0.7),
    (files.command, 1.2),
    (files.path_part, 0.7),
    (files.slot_line, 1),
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


def shares(early: bool) -> list[float]:
    return [weight * (EARLY.get(family, 1.0) if early else 1.0) for family, weight in FAMILIES]
