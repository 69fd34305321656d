"""Which skills can be scored, and the sets that each brings; scorers are imported on demand."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from eval.cases import Case, CaseResult
from livery.errors import UserError
from livery.skills import Skill, date_keys

SETS = Path(date_keys.__file__).parent

# skill -> module, validation set, second set (looked at once)
_SCORERS = {
    "date-keys": ("eval.scorers.date_keys", "validation.jsonl", "second.jsonl"),
}


class Scorer(Protocol):
    """What a scorer's module holds."""

    SKILL: Skill
    CATEGORIES: tuple[str, ...]
    TAUGHT: str  # what only the skill's data teach, for people: "a composite key (in_3_days)"

    def cases(self, source: str | Path | Iterable[Mapping[str, Any]]) -> list[Case]:
        """Cases of a file or of rows; raises UserError naming file and line."""
        ...

    def score_case(self, case: Case, answer: str) -> CaseResult: ...

    def is_taught(self, case: Case) -> bool:
        """Whether the right answer holds what only the skill's data teach."""
        ...


def skill_names() -> tuple[str, ...]:
    """Skills that have a scorer."""
    return tuple(_SCORERS)


def get_scorer(skill: str) -> Scorer:
    """The scorer of a skill.

    Raises:
        UserError: there is none.
    """
    return cast(Scorer, importlib.import_module(_entry(skill)[0]))


def own_set(skill: str, *, second: bool = False) -> Path:
    """The cases that come with Livery for `skill`: validation, or the set to look at once."""
    return SETS / _entry(skill)[2 if second else 1]


def _entry(skill: str) -> tuple[str, str, str]:
    found = _SCORERS.get(skill.replace("_", "-"))
    if found is None:
        raise UserError(f"No scorer for skill {skill!r}; there are: {', '.join(_SCORERS)}.")
    return found
