"""Rows written anew: datasets that appear whole or not at all, and files of rows to download."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from livery.errors import UserError, quoted
from livery.files import atomic_write, explain_os_errors
from livery.serve.commands import make_room, run
from livery.serve.errors import Conflict
from livery.serve.known import fingerprint
from livery.serve.lines import digest, lines_of, plain_file, sources_of, splits_of
from livery.serve.review import review, review_file
from livery.serve.settings import ServeSettings, is_name

_exporting = threading.Lock()


def add(settings: ServeSettings, name: str, fill: Callable[[Path], None]) -> Path:
    """Make a dataset whole or not at all.

    Args:
        fill: writes its files into a new folder.

    Raises:
        Conflict: there is one of that name.
    """
    if not is_name(name):
        raise UserError(
            f"name is {quoted(name)}: use letters, digits, dots, dashes and underscores."
        )
    place = settings.data / name
    if os.path.lexists(place):
        raise Conflict(f"There is a dataset named {name} already.", key="name")
    with explain_os_errors(place, "adding a dataset"):
        settings.uploads.mkdir(parents=True, exist_ok=True)
        settings.data.mkdir(exist_ok=True)
        fresh = settings.uploads / secrets.token_hex(8)
        fresh.mkdir()
        try:
            fill(fresh)
            if os.path.lexists(place):
                raise Conflict(f"There is a dataset named {name} already.", key="name")
            os.rename(fresh, place)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return place


def copy(settings: ServeSettings, name: str, new: str, leave_out: Collection[str]) -> Path:
    """A new dataset of the rows whose status is none of `leave_out`."""
    splits = splits_of(settings, name)
    chosen = [status for status in ("new", "approved", "rejected") if status not in leave_out]

    def fill(folder: Path) -> None:
        for split, _ in splits.items():
            if write_rows(settings, name, split, folder / f"{split}.jsonl", chosen) == 0:
                if split == "train":
                    raise UserError(f"No row of {name} would be left to train on.")
                (folder / f"{split}.jsonl").unlink()

    return add(settings, new, fill)


def write_rows(
    settings: ServeSettings,
    name: str,
    split: str,
    out: Path,
    status: Collection[str],
    wanted: Callable[[int, bytes], bool] | None = None,
) -> int:
    """Write the rows that have one of these statuses as JSON lines; returns how many.

    Args:
        wanted: (number from 0, row) -> whether it is written too.
    """
    lines = lines_of(settings, name, split)
    said = review(settings, name)
    count = 0
    with atomic_write(out, "wb") as file:
        for number, raw in lines.some(range(len(lines))):
            chosen = said.get(digest(raw), "new") in status
            if chosen and (wanted is None or wanted(number, raw)):
                file.write(raw + b"\n")
                count += 1
    return count


def export(
    settings: ServeSettings, name: str, split: str, form: str, status: Collection[str]
) -> Path:
    """A file of a split's rows, made where it is not there yet."""
    plain = plain_file(sources_of(settings, name, split))
    if plain is not None and form == "jsonl" and not status:
        return plain
    lines = lines_of(settings, name, split)
    files = (lines.path, review_file(settings, name))
    key = fingerprint(files, name, split, sorted(status))
    folder = settings.state / "exports" / "rows"
    with explain_os_errors(folder, "exporting"), _exporting:
        folder.mkdir(parents=True, exist_ok=True)
        chosen = folder / f"{key}.jsonl"
        if not chosen.exists():
            write_rows(settings, name, split, chosen, status or ("new", "approved", "rejected"))
        out = chosen if form == "jsonl" else folder / f"{key}.parquet"
        if not out.exists():
            run("livery.serve.rows", "parquet", str(chosen), str(out), cwd=settings.root)
        make_room(folder, {chosen, out})
        return out
