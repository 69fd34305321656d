"""Evaluations of adapters: adapters/NAME/evaluation*.json, each with a summary."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.errors import UserError
from livery.reading import read_object
from livery.serve.errors import NotFound
from livery.serve.known import known
from livery.serve.settings import inside, is_name

_LARGEST = 256 << 20


@dataclass(frozen=True)
class Summary:
    """An evaluation at a glance.

    Attributes:
        file: in the adapter's folder.
        written: seconds since the epoch.
        set: of cases, by name.
        accuracy: of the headline's arm.
        target, passed: what was to be reached, and whether it was.
        arms: by name: {"correct", "total", "accuracy", "interval", "tuned", "constrained"}.
        engine: that answered.
    """

    adapter: str
    file: str
    written: float
    skill: str | None
    set: str | None
    cases: int | None
    accuracy: float | None
    target: float | None
    passed: bool | None
    headline: str | None
    arms: dict[str, dict[str, Any]]
    engine: str | None


def of_adapter(folder: Path) -> list[Summary]:
    """Summaries of an adapter's evaluations, the newest first."""
    found: list[Summary] = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.glob("evaluation*.json")):
            if is_name(path.name) and not path.is_symlink():
                said = known("evaluation", path, summarize, None)
                if said is not None:
                    found.append(said)
    return sorted(found, key=lambda one: -one.written)


def read(adapters: Path, adapter: str, file: str) -> dict[str, Any]:
    """A whole record. Raises NotFound."""
    place = inside(adapters, adapter, file, what="evaluation")
    if not (file.startswith("evaluation") and file.endswith(".json")):
        raise NotFound("There is no such evaluation.", key="file")
    return read_object(place, limit=_LARGEST)


def summarize(path: Path) -> Summary:
    """The summary of one record. Raises UserError where the file is none."""
    record = read_object(path, limit=_LARGEST)
    arms = record.get("arms")
    if not isinstance(arms, dict) or "headline" not in record:
        raise UserError(f"{path}: is not an evaluation.")
    cases = _of(record, "set").get("cases")
    return Summary(
        adapter=path.parent.name,
        file=path.name,
        written=path.stat().st_mtime,
        skill=_of(record, "skill").get("name"),
        set=_of(record, "set").get("name"),
        cases=cases if isinstance(cases, int) else None,
        accuracy=record.get("accuracy"),
        target=record.get("target"),
        passed=record.get("passed"),
        headline=record.get("headline"),
        arms={str(key): _arm(arm) for key, arm in arms.items() if isinstance(arm, dict)},
        engine=_of(record, "facts").get("engine"),
    )


def _arm(arm: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("correct", "total", "accuracy", "interval", "tuned", "constrained")
    return {key: arm.get(key) for key in kept}


def _of(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = record.get(key)
    return found if isinstance(found, dict) else {}
