"""What a command may replace: its own earlier output, and nothing that anybody else made or reads.

A folder that a command writes whole holds a mark, with a fingerprint of every file in it:

    merged/.livery.json   {"written_by": "livery merge", "version": …, "files": {name: fingerprint}}

`--overwrite` takes away a folder with that command's mark and nothing in it but those files as they
were written; never one that holds something the command reads, the folder that the user is in, or
the user's home. A file is replaced by its own kind alone, and never where it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

from livery import __version__
from livery.errors import UserError, shown
from livery.files import atomic_directory, obstacle
from livery.reading import LARGEST_TEXT, open_file, parse_row, read_object

MARK = ".livery.json"
_SYSTEMS_OWN = (".DS_Store",)
_BLOCKS, _BLOCK = 64, 4096

Input = str | Path | None


@contextlib.contextmanager
def new_folder(
    path: str | Path, *, command: str, overwrite: bool = False, inputs: Iterable[Input] = ()
) -> Generator[Path]:
    """Yield a new folder that takes `path`'s place, marked, when the block ends well.

    Args:
        command: whose output it is, such as "livery merge".
        overwrite: replace what the same command wrote there before.
        inputs: every path that the command reads, and hub ids as they are; None is left out.

    Raises:
        UserError: something is there that may not be replaced; or see `files.atomic_directory`.
    """
    path, given = Path(path), tuple(inputs)

    def replaceable() -> None:
        check_folder(path, command=command, overwrite=overwrite, inputs=given)

    replaceable()
    with atomic_directory(path, replaceable) as fresh:
        yield fresh
        files = {name: fingerprint(fresh / name) for name in _files(fresh) if name != MARK}
        record = {"written_by": command, "version": __version__, "files": files}
        (fresh / MARK).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def check_folder(
    path: str | Path, *, command: str, overwrite: bool, inputs: Iterable[Input] = ()
) -> None:
    """Raises UserError where `path` is there and `new_folder` may not replace it."""
    path = Path(path)
    check_link(path)
    if not path.exists():
        check_way(path.parent)
        return
    if not path.is_dir():
        raise UserError(f"{path}: is a file; give a folder.")
    place = path.resolve()
    for read in _there(inputs):
        if read == place:
            raise UserError(f"{path}: is what the command reads; write to another folder.")
        if place in read.parents:
            raise UserError(
                f"{path}: holds {read}, which the command reads; write to another folder."
            )
    for what, kept in (("you are in", _here()), ("is your home", Path.home().resolve())):
        if kept is not None and (place == kept or place in kept.parents):
            raise UserError(f"{path}: is or holds the folder that {what}; write to another folder.")
    if not overwrite:
        raise UserError(f"{path}: exists. Add --overwrite to replace it.")
    if os.path.ismount(place):
        raise UserError(f"{path}: is where a disk is mounted; write to a folder below it.")
    strange = _strange(place, command)
    if strange:
        raise UserError(
            f"{path}: {strange}; --overwrite replaces only what {command} wrote. Write to another "
            "folder, or move this one away."
        )


def check_way(folder: Path) -> None:
    """Raises UserError where a folder cannot be made because of what is on the way to it: before
    the work whose result it is for."""
    if found := obstacle(folder):
        raise UserError(f"{folder}: cannot be made: {found}. Choose another place.")


def check_link(path: Path) -> None:
    """Raises UserError where `path` is a link that leads nowhere: its disk may not be mounted."""
    if path.is_symlink() and not path.exists():
        raise UserError(
            f"{path}: is a link to {shown(path.readlink())}, which is not there. Write to another "
            "place, or remove the link."
        )


def check_file(
    path: str | Path,
    *,
    overwrite: bool,
    inputs: Iterable[Input] = (),
    ours: Callable[[Path], bool],
    what: str,
) -> None:
    """Raises UserError where `path` is there and may not be replaced.

    Args:
        inputs: see `new_folder`; a file in a folder that is read may be replaced by its own kind.
        ours: whether a file is of the kind that is written; an empty one is nobody's.
        what: that kind, for people: "a GGUF file".
    """
    path = Path(path)
    check_link(path)
    if not path.exists():
        check_way(path.parent)
        return
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file.")
    for read in _there(inputs):
        if read == path.resolve() or (read.is_file() and path.samefile(read)):
            raise UserError(f"{path}: is what the command reads; write to another file.")
    if not overwrite:
        raise UserError(f"{path}: exists. Add --overwrite to replace it.")
    if not (path.is_file() and (path.stat().st_size == 0 or ours(path))):
        raise UserError(
            f"{path}: is not {what}, and Livery replaces nothing else. Write to another file, or "
            "move this one away."
        )


def of_kind(suffix: str, magic: bytes) -> Callable[[Path], bool]:
    """Whether a file is called as this kind is, or begins as it does."""

    def found(path: Path) -> bool:
        if path.suffix == suffix:
            return True
        try:
            with path.open("rb") as file:
                return file.read(len(magic)) == magic
        except OSError:
            return False

    return found


def holds(*keys: str, alone: bool = False) -> Callable[[Path], bool]:
    """Whether a file is a JSON object with these keys, or JSON lines whose first row has them.

    Args:
        alone: and no others.
    """

    def found(path: Path) -> bool:
        try:
            with open_file(path) as file:
                first = file.readline(LARGEST_TEXT)
            try:
                value = parse_row(first, path, 1)
            except UserError:  # an object on several lines
                value = read_object(path, limit=LARGEST_TEXT)
        except UserError:
            return False
        return value.keys() == set(keys) if alone else value.keys() >= set(keys)

    return found


def fingerprint(path: Path) -> str:
    """Digest of a file's size and of 64 blocks of it at even distances, both ends among them.

    Enough to tell weights that were trained on, or a file that was edited, from what was written;
    a large file is not read whole.
    """
    if path.is_symlink():
        return f"link {path.readlink()}"
    total = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        total.update(str(size).encode())
        last = max(0, size - _BLOCK)
        starts = (
            range(0, size, _BLOCK)
            if size <= _BLOCKS * _BLOCK
            else sorted({last * at // (_BLOCKS - 1) for at in range(_BLOCKS)})
        )
        for start in starts:
            file.seek(start)
            total.update(file.read(_BLOCK))
    return total.hexdigest()


def _strange(folder: Path, command: str) -> str:
    """What in a folder this command did not write; "" where there is nothing such."""
    found = _files(folder)
    if not found and not any(folder.iterdir()):
        return ""
    record = _record(folder)
    if record is None:
        return f"holds no {MARK}"
    if record["written_by"] != command:
        return f"was written by {record['written_by']}"
    written: dict[str, Any] = record["files"]
    changed: list[str] = []
    for name in found:
        if name == MARK or Path(name).name in _SYSTEMS_OWN:
            continue
        if name not in written or written[name] != fingerprint(folder / name):
            changed.append(name)
    if not changed:
        return ""
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"holds {', '.join(changed[:3])}{more}, new or changed since it was written"


def _record(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found: Any = json.loads((folder / MARK).read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("files"), dict):
            return found if isinstance(found.get("written_by"), str) else None
    return None


def _files(folder: Path) -> list[str]:
    """Names of all files below a folder; links, to folders too, count as files."""
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found += [str((Path(parent) / name).relative_to(folder)) for name in (*names, *links)]
    return sorted(found)


def _there(inputs: Iterable[Input]) -> list[Path]:
    """The inputs that are on this disk: where each is, and where it leads.

    What a folder that is read consists of may be elsewhere, behind links.
    """
    found: set[Path] = set()
    for given in inputs:
        if given is None or not str(given):
            continue
        path = Path(given).expanduser()
        with contextlib.suppress(OSError):
            if not os.path.lexists(path):
                continue
            found |= {path.resolve(), path.parent.resolve() / path.name}
            if path.is_dir():
                inner = [*path.iterdir(), *path.glob("*/*")]
                found |= {entry.resolve() for entry in inner if entry.is_symlink()}
    return sorted(found)


def _here() -> Path | None:
    try:
        return Path.cwd().resolve()
    except FileNotFoundError:
        return None
