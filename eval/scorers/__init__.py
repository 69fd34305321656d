"""The scorer of a skill, found by the skill's name, and the sets of cases it is asked.

Of a skill X that ships it is `eval/scorers/X.py`; of a user's own, its score() or exact match.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from eval.cases import Case, CaseResult
from eval.scorers.own import OwnScorer
from livery.errors import UserError, shown
from livery.reading import read_object
from livery.skills import Metric, Skill, find

VALIDATION, TEST = "validation", "test"


class Scorer(Protocol):
    """What a scorer's module holds.

    Attributes:
        CATEGORIES: in the order of reports; others follow by name.
        METRICS: further figures of each answer, beside `correct` and `parsed`.
        TAUGHT: what only the skill's data teach, for people: "a composite key (in_3_days)"; "" for
            nothing.
    """

    SKILL: Skill
    CATEGORIES: tuple[str, ...]
    METRICS: tuple[Metric, ...]
    TAUGHT: str

    def cases(self, source: str | Path | Iterable[Mapping[str, Any]]) -> list[Case]:
        """Cases of a file or of rows; raises UserError naming file and line."""
        ...

    def score_case(self, case: Case, answer: str) -> CaseResult: ...

    def is_taught(self, case: Case) -> bool:
        """Whether the right answer holds what only the skill's data teach."""
        ...


def get_scorer(skill: str) -> Scorer:
    """The scorer of a skill: by name, entry point or path.

    Raises:
        UserError: there is no such skill, or none for it.
    """
    found = find(skill)
    if found.own is not None:
        return cast(Scorer, OwnScorer(found.own))
    name = f"{__name__}.{found.module}"
    if importlib.util.find_spec(name) is None:
        raise UserError(f"Skill {found.name} has no scorer (eval/scorers/{found.module}.py).")
    return cast(Scorer, importlib.import_module(name))


def lacking(scorer: object) -> str:
    """What a scorer cannot score on this machine, and the remedy, for people; "" for nothing. A
    scorer that depends on what is installed says so by a function of this name."""
    return str(getattr(scorer, "lacking", str)())


def find_set(skill: str, name: str = "", data: str | Path | None = None) -> tuple[str, Path]:
    """(name, file) of a set of cases.

    A set NAME is NAME.jsonl in the skill's own folder (written by hand), else in the data that
    `livery data` made.

    Args:
        name: of the set; "" takes the skill's validation set, and where it has none the test split
            of its data.
        data: the data set that the adapter was trained on, looked into before data/SKILL.

    Raises:
        UserError: there is no such set.
    """
    found = find(skill)
    own = sorted(found.folder.glob("*.jsonl")) if found.folder is not None else []
    name = name or (VALIDATION if any(file.stem == VALIDATION for file in own) else TEST)
    folders = [Path("data") / found.name]
    if data is not None and Path(data).is_dir() and _made_for(Path(data)) in ("", found.name):
        folders.insert(0, Path(data))
    made = [file for folder in folders for file in sorted(folder.glob("*.jsonl"))]
    for file in (*own, *made):
        if file.stem == name:
            return name, file
    if not own and not made:
        raise UserError(
            f"There are no cases for the skill {found.name} yet. Make its data with `livery data "
            f"{shown(found.said)}`, or give your own cases with --data."
        )
    there = ", ".join(dict.fromkeys(shown(file.stem) for file in (*own, *made)))
    raise UserError(
        f"There is no set {shown(name)!r} of cases for the skill {found.name}; there are: {there}."
    )


def _made_for(folder: Path) -> str:
    """The skill whose data a folder holds by its manifest; "" where it says none."""
    manifest = folder / "manifest.json"
    return str(read_object(manifest).get("skill", "")) if manifest.is_file() else ""
