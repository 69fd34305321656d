"""The rows that an order trains on: named, hashed, and kept as they were when it came."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from livery.dataset.sources import find
from livery.errors import quoted
from livery.files import explain_os_errors, sha256
from livery.serve.errors import Conflict, Refused
from livery.serve.settings import ServeSettings, inside


def dataset_hash(place: Path) -> str:
    """Hex SHA-256 of a dataset: of its file, or of the lines that `sha256sum` prints of the files
    of its train, valid and test rows, in the order of their names.

    cd data/NAME && sha256sum test.jsonl train.jsonl valid.jsonl | sha256sum
    """
    if place.is_file():
        return sha256(place)
    lines = [f"{sha256(place / name)}  {name}\n" for name in _files(place)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def freeze(settings: ServeSettings, name: str, expected: str | None) -> tuple[Path, str]:
    """(a copy of the dataset that nobody changes, its hash); one copy for each content.

    Raises:
        NotFound: there is no such dataset in root/data.
        Conflict: its hash is not the expected one.
    """
    place = inside(settings.data, name, what="dataset")
    kept = settings.state / "queue" / "data"
    with explain_os_errors(kept, "keeping the rows of an order"):
        kept.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=kept, prefix=".new-"))
    try:
        with explain_os_errors(scratch, "keeping the rows of an order"):
            copy = scratch / place.name if place.is_file() else scratch / "rows"
            if place.is_file():
                shutil.copyfile(place, copy)
            for file in [] if place.is_file() else _files(place):
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(place / file, copy / file)
            found = dataset_hash(copy)
            if expected is not None and found != expected.lower():
                raise Conflict(
                    f"dataset_hash is {quoted(expected)}, and the dataset {name} has {found}: it "
                    "is not the one that was meant.",
                    key="request.dataset_hash",
                )
            final = kept / (found + (place.suffix if place.is_file() else ""))
            if not final.exists():
                os.rename(copy, final)
            return final, found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _files(place: Path) -> list[str]:
    """Files of the rows, by name, relative to the folder."""
    found = {source.path for _, sources in find(place).items() for source in sources}
    for path in found:
        if not path.resolve().is_relative_to(place.resolve()):
            raise Refused(f"The dataset {place.name} has a link out of its folder: {path.name}.")
    return sorted(str(path.relative_to(place)) for path in found)
