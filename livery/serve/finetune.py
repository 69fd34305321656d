"""The modules of the described system's training page: datasets that are switched on and off, seen
by section, approved, and exported together.

A module is a dataset. What is exported is a dataset too: aios_combined of all modules, aios_base of
those that a generator made, MODULE_train of one, user_approved of what somebody approved.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from livery.errors import quoted
from livery.serve import datasets, exports
from livery.serve.datasets import Row
from livery.serve.errors import Conflict, NotFound
from livery.serve.lines import lines_of
from livery.serve.review import Status, set_status
from livery.serve.settings import ServeSettings
from livery.serve.switches import MADE, sections_off, switch

COMBINED, BASE, APPROVED = "aios_combined", "aios_base", "user_approved"
_exporting = threading.Lock()


@dataclass(frozen=True)
class Module:
    """A dataset as the data browser has it: rows by split, and how many have which status."""

    name: str
    enabled: bool
    skill: str | None
    rows: dict[str, int]
    review: dict[str, int]
    problem: str


@dataclass(frozen=True)
class Section:
    """Rows of one kind within a module, and whether the next export has them."""

    name: str
    rows: int
    review: dict[str, int]
    enabled: bool


def modules(settings: ServeSettings) -> list[Module]:
    """Every dataset but those that an export made."""
    return [
        module(settings, name) for name in datasets.names(settings)
        if not (settings.data / name / MADE).exists()
    ]  # fmt: skip


def module(settings: ServeSettings, name: str) -> Module:
    """One of them, its rows counted. Raises NotFound."""
    found = datasets.describe(settings, name)
    rows = {split: len(lines_of(settings, name, split)) for split in found.splits}
    return Module(
        name=name,
        enabled=found.enabled,
        skill=found.skill,
        rows=rows,
        review=found.review,
        problem=found.problem,
    )


def enable(settings: ServeSettings, name: str, enabled: bool, section: str | None = None) -> Module:
    """Switch a module on or off, or one of its sections: whether the next export and training have
    its rows.

    Raises:
        NotFound: there is no such module, or no row of that section.
    """
    found = module(settings, name)
    if section is not None and not any(
        section == one.name for split in found.rows for one in sections(settings, name, split)
    ):
        raise NotFound(f"{name} has no section {quoted(section)}.", key="section")
    switch(settings, name, enabled, section)
    return found if section is not None else dataclasses.replace(found, enabled=enabled)


def sections(settings: ServeSettings, name: str, split: str) -> list[Section]:
    """The kinds of rows that a module has, by what their metadata say."""
    found: dict[str, Counter[str]] = {}
    for row, kind in datasets.with_sections(settings, name, split):
        found.setdefault(kind, Counter())[row.status] += 1
    off = sections_off(settings, name)
    return [
        Section(kind, sum(counts.values()), dict(sorted(counts.items())), kind not in off)
        for kind, counts in sorted(found.items())
    ]


def rows_on(settings: ServeSettings, one: Module, split: str) -> int:
    """How many rows of a split are on."""
    return _on(settings, one, split, 0, 0)[1]


def approve(
    settings: ServeSettings,
    name: str,
    split: str,
    *,
    section: str | None = None,
    ids: Collection[str] | None = None,
    status: Status = "approved",
) -> int:
    """Approve the rows of a section, those of some digests, or all that are new."""
    if section is not None and ids is None:
        every = datasets.with_sections(settings, name, split)
        ids = [row.id for row, kind in every if kind == section]
        if not ids:
            raise NotFound(f"{name} has no section {quoted(section)}.", key="section")
    return set_status(settings, name, split, status, ids=ids)


def unified(
    settings: ServeSettings, split: str, offset: int, limit: int
) -> tuple[list[tuple[str, Row]], int]:
    """(module and row, of all modules that are on one after the other; how many rows there are)."""
    found: list[tuple[str, Row]] = []
    total = 0
    for one in modules(settings):
        first = max(0, offset - total)
        some, count = _on(settings, one, split, first, limit - len(found))
        found += [(one.name, row) for row in some]
        total += count
    return found, total


def _on(
    settings: ServeSettings, one: Module, split: str, first: int, limit: int
) -> tuple[list[Row], int]:
    """(some of the rows of a split that are on, how many are)."""
    count = one.rows.get(split, 0)
    if not (one.enabled and count):
        return [], 0
    if off := sections_off(settings, one.name):
        every = datasets.with_sections(settings, one.name, split)
        rows = [row for row, kind in every if kind not in off]
        return rows[first : first + limit], len(rows)
    if first >= count or not limit:
        return [], count
    return datasets.rows(settings, one.name, split, offset=first, limit=limit)[0], count


def export(settings: ServeSettings, which: str | None = None) -> tuple[str, dict[str, int]]:
    """(the dataset that was written, rows by split).

    Args:
        which: "base" for the modules that a generator made, a module, or "approved" for the rows
            that somebody approved; by default all modules that are on. Rejected rows stay out.

    Raises:
        NotFound: there is no such module.
        Conflict: there is nothing to export, or a dataset of that name that no export made.
    """
    on = [one for one in modules(settings) if one.enabled and not one.problem]
    keep: tuple[Status, ...] = ("new", "approved")
    approved: tuple[Status, ...] = ("approved",)
    nothing = "No module that is on has rows to train on."
    if which is None:
        name = COMBINED
    elif which == "base":
        name, on = BASE, [one for one in on if one.skill]
        nothing = "No module that a generator made is on."
    elif which == "approved":
        name, keep = APPROVED, approved
        nothing = "No training row of a module that is on has been approved."
    else:
        name, on = f"{which}_train", [module(settings, which)]
        nothing = f"{which} has no rows to train on."
    place = settings.data / name
    if place.exists() and not (place / MADE).exists():
        raise Conflict(f"There is a dataset named {name} that was not exported. Rename it.")
    written: Counter[str] = Counter()

    def fill(folder: Any) -> None:
        part = folder / ".part"
        for one in on:
            off = sections_off(settings, one.name)
            for split in one.rows:
                written[split] += exports.write_rows(
                    settings, one.name, split, part, keep, _is_none_of(off) if off else None
                )
                with (folder / f"{split}.jsonl").open("ab") as out, part.open("rb") as rows:
                    shutil.copyfileobj(rows, out)
                part.unlink()
        if not written["train"]:
            raise Conflict(nothing)
        for split in [split for split, rows in written.items() if not rows]:
            (folder / f"{split}.jsonl").unlink()
        (folder / MADE).touch()

    _replace(settings, name, fill)
    return name, {split: rows for split, rows in written.items() if rows}


def _is_none_of(off: Collection[str]) -> Callable[[int, bytes], bool]:
    return lambda number, raw: datasets.section_in(raw, number) not in off


def _replace(settings: ServeSettings, name: str, fill: Callable[[Any], None]) -> None:
    """A dataset in place of the one that an export made; the old one stays until then."""
    place = settings.data / name
    fresh = f"{name}.fresh"
    with _exporting:
        shutil.rmtree(settings.data / fresh, ignore_errors=True)  # of an export that was killed
        made = exports.add(settings, fresh, fill)
        old = settings.uploads / f"{name}.old"
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            os.rename(place, old)
        os.rename(made, place)
        shutil.rmtree(old, ignore_errors=True)
