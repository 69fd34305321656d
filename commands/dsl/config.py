"""`config/defaults.json`: the defaults of the commands that make, train and align a dsl student.

A section's keys are those of the described system. A flag beats the file; a relative path in the
file is from where the command runs.
"""

from __future__ import annotations

import difflib
import functools
from pathlib import Path
from typing import Any

import click

from livery.config import file as config_file
from livery.errors import UserError, shown
from livery.paths import HOME
from livery.reading import read_object

Json = dict[str, Any]

PLACE = Path("config/defaults.json")


def made_from(run: Path) -> Path:
    """Beside a run's folder: what `livery dsl run` made it from."""
    return run.with_name(f"{run.name}.dsl_run.json")


def packaged() -> Path:
    """The file that comes with Livery: in a checkout, or in the installed wheel."""
    wheel = HOME / "livery" / "config" / "dsl_defaults.json"
    return wheel if wheel.is_file() else HOME / PLACE


def read_defaults(path: Path | None = None) -> dict[str, Json]:
    """The sections of a file over those that come with Livery.

    Args:
        path: None takes config/defaults.json of the working folder, where there is one.

    Raises:
        UserError: the file is not there, or holds a section or key that is not known.
    """
    known: dict[str, Json] = read_object(packaged())
    if path is None and not PLACE.is_file():
        return known
    place = path or PLACE
    given = read_object(place)
    _refuse_unknown(place, "section", given, known)
    for name, section in given.items():
        if not isinstance(section, dict):
            raise UserError(f"{place}: {name} must be an object.")
        if name == "dataset_generation":
            _refuse_unknown(place, f"key in {name}", section, known[name])
        else:  # also the other keys of a training run
            config_file.read(place, name)
    return {name: {**keys, **given.get(name, {})} for name, keys in known.items()}


def decides(path: Path | None, section: str) -> dict[str, Json]:
    """{the file: its section}, where it decides how a run trains: one that is named, or that of the
    working folder, unless that is Livery's own, whose values are for another machine and base."""
    place = path or PLACE
    if path is None and (not place.is_file() or is_ours()):
        return {}
    found = read_object(place).get(section)
    return {str(place): found} if found else {}


def is_ours() -> bool:
    """Whether the working folder's file is the one that comes with Livery."""
    return PLACE.resolve() == packaged().resolve()


def with_defaults(words: list[str]) -> list[str]:
    """A training command's words with the working folder's file, where they name none."""
    named = any(word.split("=")[0] in ("--config", "--resume", "--resume-anyway",
                                       "--resume-from-checkpoint") for word in words)  # fmt: skip
    return words if named or not PLACE.is_file() else ["--config", str(PLACE), *words]


def _refuse_unknown(place: Path, what: str, given: Json, known: Json) -> None:
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}."
            raise UserError(f"{place}: {shown(name)!r} is no {what}; {hint}")


def config_option(section: str) -> Any:
    """`--config`, whose section gives the defaults of a command's options by their names."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=functools.partial(_apply, section),
        help=f"Defaults of these options: its section {section}.  [default: {PLACE}]",
    )


def _apply(section: str, ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    if ctx.resilient_parsing:
        return
    found = read_defaults(path)[section]
    ctx.default_map = {**found, **(ctx.default_map or {})}
