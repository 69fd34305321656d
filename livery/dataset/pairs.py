"""Rows of a chosen and a rejected answer, as two rows with one answer each.

Each side is read and encoded as supervised training reads a row of prompt and completion, so that a
prompt is the same tokens in both kinds of training; `livery.dataset.load.paired` puts them together
again. docs/preference.md shows every shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from livery.dataset.columns import ASKED, CONVERSATION, Columns
from livery.dataset.conversation import RowError
from livery.dataset.turns import ROLES, dialogue, is_dialogue, is_turns

SIDES = ("chosen", "rejected")
_BETTER = ("chosen", "preferred", "accepted", "winner", "winning", "win", "better", "best", "good")
_WORSE = (
    "rejected", "non_preferred", "nonpreferred", "dispreferred", "unpreferred", "not_preferred",
    "loser", "losing", "lose", "worse", "worst", "bad",
)  # fmt: skip
# Fields about a pair rather than of it: a teacher's verdict, scores of both sides.
_ABOUT = re.compile(
    r"(teacher|judge|student)_\w+|margin|(chosen|rejected)_(score|rating|model|reward)s?"
    r"|(score|rating|model|reward)s?_(chosen|rejected)"
)


def preferred(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(field of the better answer, of the worse one); None where a row is no pair."""
    names = {key.strip().lower(): key for key in row}
    for name, key in names.items():
        for better in _BETTER:
            at = re.search(rf"(?<![a-z]){better}(?![a-z])", name)
            if at is None or isinstance(row[key], int | float):
                continue
            for worse in _WORSE:
                other = names.get(name[: at.start()] + worse + name[at.end() :])
                if other is not None and not isinstance(row[other], int | float):
                    return key, other
    return None


def opens(turns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether turns begin a conversation, rather than answer one."""
    role = str(turns[0].get("role", turns[0].get("from"))).strip().lower()
    return ROLES.get(role) in ("system", "user")


def sides(
    row: Mapping[str, Any], where: str, columns: Columns
) -> list[tuple[str, dict[str, Any], Columns]]:
    """(place, row, columns) of the chosen answer and of the rejected one, as `read_row` takes them.

    Raises:
        RowError: the row is no pair, or its two conversations do not begin alike.
    """
    pair = preferred(row)
    if pair is None:
        raise RowError(
            where, f"no chosen and rejected answer among its keys ({', '.join(row) or 'none'}). "
            "Rows are prompt, chosen, rejected; `livery train` learns from single answers.",
        )  # fmt: skip
    plain = {key: value for key, value in row.items() if value is not None}
    ignored = {key for key in plain if _ABOUT.fullmatch(key.strip().lower())}
    named = {name: column for name, column in columns.named.items() if name != "completion"}
    values: list[Any] = [plain.get(key) for key in pair]
    whole: list[Any] = [dialogue(value) if is_dialogue(value) else value for value in values]
    talks = [key for key in plain if key.strip().lower() in CONVERSATION and key not in pair]
    asked = [key for key in plain if key.strip().lower() in ASKED]
    if all(is_turns(value) and opens(value) for value in whole):
        both: Iterable[tuple[Any, Any]] = zip(*whole, strict=False)
        alike = [turns[0] for turns in takewhile(lambda ab: ab[0] == ab[1], both)]
        while len(alike) in (0, *map(len, whole)) and alike:
            alike.pop()  # one side is the beginning of the other
        if not alike or not set(_texts(plain, asked)) <= {str(t.get("content")) for t in alike}:
            raise RowError(where, f"{pair[0]} and {pair[1]} do not begin with the same prompt.")
        plain = {key: value for key, value in plain.items() if key not in (*asked, *talks)}
        plain["prompt"] = alike
        named.pop("prompt", None)
        plain |= {key: value[len(alike) :] for key, value in zip(pair, whole, strict=True)}
    elif talks and not asked and "prompt" not in named:
        named["prompt"] = talks[0]
    return [
        (
            f"{where} ({side})",
            {key: value for key, value in plain.items() if key != other},
            Columns({**named, "completion": own}, columns.ignored | ignored),
        )
        for side, own, other in zip(SIDES, pair, reversed(pair), strict=True)
    ]


def _texts(row: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    return [row[key] for key in keys if isinstance(row[key], str)]
