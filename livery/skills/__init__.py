"""Skills: one contract each, shared by data generation, scoring, decoding and users' programs.

    from livery.skills import get_skill
    skill = get_skill("date-keys")
    skill.parse('["tomorrow_morning"]')  # -> ("tomorrow_morning",)

A name is a skill that ships (a package in this folder with a `SKILL`; its generator is `datagen/X`,
its scorer `eval/scorers/X.py`), an entry point of group `livery.skills` in any installed package,
or the path of a Python file. None is registered anywhere; each is imported when asked for.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from livery.errors import UserError, shown
from livery.skills.contract import CORRECT as CORRECT
from livery.skills.contract import PARSED as PARSED
from livery.skills.contract import AnswerError as AnswerError
from livery.skills.contract import Message as Message
from livery.skills.contract import Metric as Metric
from livery.skills.contract import Skill as Skill
from livery.skills.module import OwnModule, load_entry, load_file
from livery.skills.own import skill_of

GROUP = "livery.skills"


@dataclass(frozen=True)
class Found:
    """A skill that was found by its name.

    Attributes:
        name: of the skill, "date-keys".
        said: as the user gave it: the name, or a path.
        module: its name as Python has it ("date_keys"), where the skill ships with Livery.
        own: its module, where it does not.
        folder: of its package, in which its hand-written sets are; None for a single file.
    """

    name: str
    said: str
    module: str = ""
    own: OwnModule | None = None
    folder: Path | None = None


def skill_names() -> tuple[str, ...]:
    """Names that `get_skill` knows: skills that ship, then those of installed packages."""
    return (*_shipped(), *_entries())


def get_skill(name: str) -> Skill:
    """The contract of the skill called `name`: "date-keys", an entry point, or "my_skill.py".

    Raises:
        UserError: there is no such skill, or its file is faulty.
    """
    found = find(name)
    if found.own is not None:
        return skill_of(found.own)
    return importlib.import_module(f"{__name__}.{found.module}").SKILL


def find(name: str) -> Found:
    """Where the skill called `name` is. A skill that ships is not imported; another one is.

    Raises:
        UserError: there is no such skill (the message lists those there are), two claim the name,
            or the file cannot be imported.
    """
    if name.endswith(".py") or os.sep in name:
        return _own(load_file(name), name)
    shipped = _shipped()
    dashed = name.replace("_", "-")
    if dashed in shipped:
        return Found(dashed, name, shipped[dashed].name, folder=shipped[dashed])
    entry = _entries().get(name) or _entries().get(dashed)
    if entry is not None:
        return _own(load_entry(entry), name)
    raise UserError(_unknown(name))


def _own(own: OwnModule, said: str) -> Found:
    if own.name in _shipped():
        raise UserError(
            f"{own.file}: its name, {own.name}, is that of a skill that ships with Livery. Give it "
            'another: NAME = "..." in the file.'
        )
    package = own.file.parent if own.file.name == "__init__.py" else None
    return Found(own.name, said, own=own, folder=package)


def _shipped() -> dict[str, Path]:
    """Name -> folder of each package here."""
    return {
        module.name.replace("_", "-"): Path(module.module_finder.path) / module.name  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType]
        for module in pkgutil.iter_modules(__path__)
        if module.ispkg
    }


def _entries() -> dict[str, metadata.EntryPoint]:
    """Name -> entry point of each installed skill.

    Raises:
        UserError: two packages bring different skills of one name.
    """
    found: dict[str, metadata.EntryPoint] = {}
    for entry in metadata.entry_points(group=GROUP):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            names = " and ".join(sorted(_package(e) for e in (entry, other)))
            raise UserError(
                f"Two installed packages bring a skill called {shown(entry.name)}: {names}. "
                "Uninstall one of them, or give the path of the file that is meant."
            )
    return found


def packages() -> Iterator[tuple[str, str]]:
    """(skill, package that brings it) of each entry point; nothing of theirs is imported."""
    for name, entry in _entries().items():
        yield name, _package(entry)


def _package(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _unknown(name: str) -> str:
    known = [*_shipped(), *(f"{skill} (of {package})" for skill, package in packages())]
    beside = Path(f"{name}.py")
    hint = (
        f"Did you mean the file {shown(beside)}?"
        if name and len(name) < 200 and name.isprintable() and beside.is_file()
        else "A skill of your own is given by its path, such as my_skill.py."
    )
    return f"There is no skill {shown(name)!r}; choose one of: {', '.join(known)}. {hint}"
