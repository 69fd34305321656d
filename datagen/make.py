"""A skill's data, made: whichever generator its name leads to, written into a folder."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from datagen.folder import MANIFEST, read_manifest, write_folder
from datagen.own import OwnGenerator
from livery.errors import UserError
from livery.files import sha256
from livery.skills import find


class Generator(Protocol):
    """What the module `datagen.X` of a skill X holds.

    Attributes:
        NAME, VERSION: written into the manifest; other ones make other data.
        TRAIN_ROWS: training rows where no number is asked for.
    """

    NAME: str
    VERSION: str
    TRAIN_ROWS: int

    def generate(self, seed: int, count: int = ..., /) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Rows by split: train, valid and test, and any further ones under names of their own
        (a part of train, another evaluation set). The same seed gives the same rows.

        Raises:
            UserError: a split gives another away (`datagen.folder.refuse_leaks`).
        """
        ...


def get_generator(skill: str) -> Generator:
    """The generator of a skill: by name, entry point or path.

    Raises:
        UserError: there is no such skill, or it has no generator.
    """
    found = find(skill)
    if found.own is not None:
        return cast(Generator, OwnGenerator(found.own))
    name = f"datagen.{found.module}"
    if importlib.util.find_spec(name) is None:
        raise UserError(
            f"Skill {found.name} has no data generator; give your own rows with --data."
        )
    return cast(Generator, importlib.import_module(name))


def has_generator(skill: str) -> bool:
    """Whether `get_generator` finds one; nothing is imported for a skill that ships."""
    found = find(skill)
    return found.own is not None or importlib.util.find_spec(f"datagen.{found.module}") is not None


def make_data(
    skill: str,
    out: str | Path,
    seed: int = 7,
    count: int | None = None,
    *,
    rows: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Generate a skill's data and write the folder; returns its manifest.

    Args:
        skill: a name, or the path of a file.
        out: the folder; it gets train, valid and test.jsonl and manifest.json.
        seed: the same one gives the same bytes.
        count: training rows; None takes as many as the generator makes.
        rows: a file of the user's own rows, in the skill's form, in place of generated ones.
        overwrite: replace splits that were changed since Livery made them.

    Raises:
        UserError: no such skill or generator, a fault in the user's, or the folder holds something
            else.
    """
    generator = get_generator(skill)
    version = generator.VERSION
    if rows is not None:
        splits = _from_rows(generator, skill, Path(rows))
        version += f" rows {sha256(rows)[:12]}"  # so that nobody takes them for generated ones
    else:
        splits = generator.generate(seed) if count is None else generator.generate(seed, count)
    return write_folder(
        Path(out),
        splits,
        skill=find(skill).name,
        generator=generator.NAME,
        version=version,
        seed=seed,
        overwrite=overwrite,
    )


def takes_rows(skill: str) -> bool:
    """Whether the skill's generator also reads rows of a form of its own."""
    return hasattr(get_generator(skill), "from_rows")


def _from_rows(
    generator: Generator, skill: str, path: Path
) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    read = getattr(generator, "from_rows", None)
    if read is None:
        raise UserError(f"The skill {skill} has no rows of its own form; leave out --rows.")
    return read(path)


def data_is_made(skill: str, folder: Path, seed: int) -> bool:
    """Whether the folder holds this generator's data, unchanged."""
    if not (folder / MANIFEST).is_file():
        return False
    manifest = read_manifest(folder)
    generator = get_generator(skill)
    made = (manifest.get("generator"), manifest.get("version"), manifest.get("seed"))
    return made == (generator.NAME, generator.VERSION, seed) and all(
        (folder / f"{name}.jsonl").is_file() and sha256(folder / f"{name}.jsonl") == entry["sha256"]
        for name, entry in manifest["splits"].items()
    )
