"""Where a data set's rows are: a file, a folder, a zip, or a data set of the hub.

A folder (or zip) holds splits by name: train, valid (validation, val, dev, eval) and test, each one
file of a format in `packed.FORMATS` or shards of one (train-00000-of-00002.parquet), at its
top, in its folder `data`, or in folders of these names. A folder with one single file of rows holds
training data, whatever the file's name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import stat
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from livery.dataset.packed import FORMATS, PACKED, Source
from livery.errors import UserError, shown
from livery.files import sha256
from livery.reading import open_file

SPLITS = ("train", "valid", "test")

_MOST_ENTRIES = 100_000
_ALIASES = {"validation": "valid", "val": "valid", "dev": "valid", "eval": "valid"}
_ENDING = "(?:{})(?:{})?".format(
    "|".join(map(re.escape, FORMATS)), "|".join(map(re.escape, (*PACKED, ".zstd")))
)
_UNPACKED = re.compile("(?:{})$".format("|".join(map(re.escape, (*PACKED, ".zstd")))))
_SPLIT = r"(?P<split>train|valid|validation|val|dev|eval|test)"
# train.jsonl, train-00000-of-00002.parquet, also with the hash that hubs append.
_FILE = re.compile(
    rf"(?:data/)?{_SPLIT}(?:[-_](?P<shard>\d+)(?:[-_]of[-_](?P<of>\d+))?(?:-[0-9a-f]{{8,}})?)?"
    rf"(?P<ending>{_ENDING})",
    re.I,
)
_IN_FOLDER = re.compile(
    rf"(?:data/)?{_SPLIT}/[^/]*?(?P<shard>\d+)?(?:[-_]of[-_](?P<of>\d+))?(?P<ending>{_ENDING})",
    re.I,
)
_ANY = re.compile(rf"[^/]+{_ENDING}", re.I)
_ABOUT = re.compile(r"(?:manifest|dataset_infos?|config|metadata|state|package)\.json", re.I)
_HUB = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Splits:
    """The files of each split, in order; empty where there is none."""

    train: tuple[Source, ...] = ()
    valid: tuple[Source, ...] = ()
    test: tuple[Source, ...] = ()

    def items(self) -> Iterable[tuple[str, tuple[Source, ...]]]:
        """(name, files) of the splits that are there, in the order of SPLITS."""
        found = zip(SPLITS, (self.train, self.valid, self.test), strict=True)
        return [(name, files) for name, files in found if files]


def find(data: str | Path, valid: str | Path | None = None) -> Splits:
    """The files of a data set.

    Args:
        valid: whose training rows are the validation rows, instead of the data set's own.
        data: a folder; a zip of one; one file of rows, beside which a file train.* has its
            valid.*; or, where there is nothing of that name, a data set of the hub ("owner/name").

    Raises:
        UserError: there is nothing to train on, or two files claim to be one split.
    """
    if valid is not None:
        return dataclasses.replace(find(data), valid=find(valid).train)
    path = Path(data)
    if path.is_dir():
        names = sorted(
            file.relative_to(path).as_posix()
            for pattern in ("*", "*/*", "data/*/*")
            for file in path.glob(pattern)
            if file.is_file()
        )
        return _splits(shown(path, 1000), {name: Source(path / name) for name in names})
    if not path.exists():
        if _HUB.fullmatch(str(data)) and not path.parent.exists():
            return find(_from_hub(str(data)))
        raise UserError(
            f"{shown(path, 1000)}: no such folder or file. Make a skill's data with `livery data "
            f"date-keys --out {shown(path, 1000)}`, or name a folder that holds train.jsonl (and "
            "valid.jsonl) under --data."
        )
    if _is_zip(path):
        return _splits(shown(path, 1000), _members(path))
    own = _FILE.fullmatch(path.name)
    if own and own["split"].lower() == "train" and not own["shard"]:
        beside = {file.name: Source(file) for file in path.parent.iterdir() if file.is_file()}
        held = {n: s for n, s in beside.items() if _name(n) == "valid"}
        return Splits((Source(path),), _split(shown(path.parent, 1000), "valid", held))
    return Splits((Source(path),))


def digest(sources: Sequence[Source]) -> str:
    """Hex SHA-256 of a split's file; of several, of theirs."""
    each = [sha256(source.path) for source in sources]
    return each[0] if len(each) == 1 else hashlib.sha256(" ".join(each).encode()).hexdigest()


def _splits(where: str, files: Mapping[str, Source]) -> Splits:
    files = {n: s for n, s in files.items() if not _hidden(n) and not _ABOUT.fullmatch(n)}
    found = {
        split: _split(where, split, {n: s for n, s in files.items() if _name(n) == split})
        for split in SPLITS
    }
    if not found["train"]:
        rows = [name for name in files if _ANY.fullmatch(name)]
        if len(rows) == 1 and not found["valid"] and not found["test"]:
            return Splits((files[rows[0]],))
        holds = ", ".join(shown(name) for name in list(files)[:5]) or "nothing"
        raise UserError(
            f"{where}: holds no train.jsonl, nor a train file of another format (.json, .csv, "
            f".tsv, .parquet; it holds {holds}). Name the file itself, or call it train."
        )
    return Splits(**found)


def _split(where: str, split: str, files: Mapping[str, Source]) -> tuple[Source, ...]:
    """The one file of a split, or its shards in order."""
    groups: dict[tuple[str, ...], list[tuple[int, str]]] = {}
    totals: dict[tuple[str, ...], set[int]] = {}
    for name in files:
        match = _FILE.fullmatch(name) or _IN_FOLDER.fullmatch(name)
        if match is None:
            continue
        folder = str(PurePosixPath(name).parent)
        stem = match["split"].lower() if match["shard"] else name
        # Parts may be packed, or not, each by itself.
        ending = _UNPACKED.sub("", match["ending"].lower()) if match["shard"] else match["ending"]
        group = (folder, stem, ending)
        if match["shard"] is None and match.re is _IN_FOLDER:
            group = (folder, match["split"].lower(), _UNPACKED.sub("", match["ending"].lower()))
        groups.setdefault(group, []).append((int(match["shard"] or 0), name))
        totals.setdefault(group, set()).update({int(match["of"])} if match["of"] else ())
    if len(groups) > 1:
        one, other, *_ = (names[0][1] for names in groups.values())
        raise UserError(
            f"{where}: holds both {shown(one)} and {shown(other)}: which of them is the {split} "
            "split? Remove one, or name the training file itself."
        )
    for group, shards in groups.items():
        for total in totals[group]:
            numbers = {number for number, _ in shards}
            first = 0 if 0 in numbers or total not in numbers else 1
            if missing := sorted(set(range(first, first + total)) - numbers):
                raise UserError(
                    f"{where}: the {split} split has {total} files, of which number {missing[0]} "
                    "is missing. Download or copy it again."
                )
        numbers = [number for number, _ in shards]
        twice = [name for number, name in sorted(shards) if number and numbers.count(number) > 1]
        if twice:
            raise UserError(
                f"{where}: holds both {shown(twice[0])} and {shown(twice[1])}, the same part of "
                f"the {split} split. Remove one."
            )
        return tuple(files[name] for _, name in sorted(shards))
    return ()


def _name(name: str) -> str:
    """Which split a file belongs to, by its name; "" for none."""
    match = _FILE.fullmatch(name) or _IN_FOLDER.fullmatch(name)
    split = match["split"].lower() if match else ""
    return _ALIASES.get(split, split)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)


def _is_zip(path: Path) -> bool:
    with open_file(path) as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _members(path: Path) -> dict[str, Source]:
    """The files of a zip by their names, below the one folder that holds all of them if one does.

    Raises:
        UserError: it is damaged, its entries overlap, or one is encrypted, a link, or leads out.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
        raise UserError(
            f"{shown(path, 1000)}: not a complete zip file: {shown(error, 200)}. Download or pack "
            "it again."
        ) from None
    where = shown(path, 1000)
    if len(entries) > _MOST_ENTRIES:
        raise UserError(f"{where}: holds {len(entries):,} files; a data set has a few.")
    if sum(entry.compress_size for entry in entries) > path.stat().st_size:
        raise UserError(f"{where}: its entries overlap: a zip bomb or a damaged file.")
    found: dict[str, Source] = {}
    for entry in entries:
        name = entry.filename
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\\" in name or not name.isprintable():
            raise UserError(
                f"{where}: '{shown(name)}' leads out of it or is not a plain file name."
            )
        if entry.is_dir() or _hidden(name):
            continue
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise UserError(f"{where}: '{shown(name)}' is a link or a device, not a file.")
        if entry.flag_bits & 1:
            raise UserError(f"{where}: '{shown(name)}' is encrypted; pack it without a password.")
        if name in found:
            raise UserError(f"{where}: '{shown(name)}' occurs twice; pack it again.")
        found[name] = Source(path, name)
    tops = {name.partition("/")[0] for name in found}
    if len(tops) == 1 and all("/" in name for name in found):
        (top,) = tops
        if _name(f"{top}/x.jsonl") == "" and top != "data":
            return {name.removeprefix(f"{top}/"): source for name, source in found.items()}
    return found


def _from_hub(name: str) -> Path:
    """The folder of a data set's files, downloaded, or as it was downloaded before."""
    from huggingface_hub import snapshot_download

    endings = [f"*{ending}{pack}" for ending in FORMATS for pack in ("", *PACKED, ".zstd")]
    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=endings))
    except Exception as error:  # a dozen types, for as many causes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: no such file or folder, and the hub's data set of that name could not be "
            f"fetched: {shown(reason)} Give a folder with train.jsonl and valid.jsonl under --data."
        ) from None
