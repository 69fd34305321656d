"""A data folder: train.jsonl, valid.jsonl, test.jsonl, whatever other splits, and manifest.json.

Its splits may not contain each other's cases; `livery.dataset.leaks` says what counts as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from livery.dataset.leaks import Leak, Row, count_leaks, find_leaks, index, normalise
from livery.errors import UserError, counted
from livery.files import explain_os_errors, replace_together, sha256, write_json, write_jsonl
from livery.reading import read_object

__all__ = ["apportion", "count_leaks", "find_leaks", "index", "normalise", "refuse_leaks"]

# A split may be given away by those that are trained on before it is looked at.
_ORDER = ("train", "valid", "test")


def apportion(shares: Mapping[str, float], count: int) -> dict[str, int]:
    """Whole numbers that add up to `count`, as near to the shares as can be."""
    total = sum(shares.values())
    exact = {name: count * share / total for name, share in shares.items()}
    whole = {name: int(value) for name, value in exact.items()}
    by_rest = sorted(exact, key=lambda name: whole[name] - exact[name])
    for name in by_rest[: count - sum(whole.values())]:
        whole[name] += 1
    return whole


def split_leaks(
    splits: Mapping[str, Sequence[Row]], names: Iterable[str] = ()
) -> list[tuple[str, str, Leak]]:
    """(training split, evaluation split, leak) of every pair of splits."""
    present = [name for name in _ORDER if splits.get(name)]
    return [
        (one, other, leak)
        for at, one in enumerate(present)
        for other in present[at + 1 :]
        for leak in find_leaks(splits[one], splits[other], names)
    ]


def refuse_leaks(splits: Mapping[str, Sequence[Row]], names: Iterable[str] = ()) -> None:
    """Check every pair of splits.

    Raises:
        UserError: a case of one stands in another; the first ones are shown.
    """
    found = split_leaks(splits, names)
    if found:
        shown = "\n".join(
            f"  {other} {leak.case_text!r} ~ {one} {leak.train_text!r}"
            for one, other, leak in found[:5]
        )
        raise UserError(
            f"{counted(len(found), 'case is', 'cases are')} also in another split, so no data "
            f"was written:\n{shown}\n"
            "Take these sentences out of one of the splits."
        )


MANIFEST = "manifest.json"
_USUAL = ("train", "valid", "test")


def write_folder(
    out: Path,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    skill: str,
    generator: str,
    version: str,
    seed: int,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the splits and their manifest; return the manifest.

    Args:
        splits: name -> rows; each name is a file's.
        overwrite: replace splits that were changed since Livery made them.

    Raises:
        UserError: `out` is a file, or holds rows that are not this skill's, or were changed.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give --out a folder.")
    if (out / MANIFEST).exists():
        other = read_manifest(out).get("skill")
        if other != skill:
            raise UserError(
                f"{out}: holds the data of skill {other}; give --out another folder, or remove it."
            )
        if not overwrite and (changed := edited(out)):
            raise UserError(
                f"{out / changed[0]}: changed since Livery made it. Add --overwrite to make it "
                "again, or give --out another folder."
            )
    elif own := [name for name in map(_file, splits) if (out / name).exists()]:
        raise UserError(
            f"{out / own[0]}: not made by Livery (there is no {MANIFEST}), and not replaced. Give "
            "--out another folder."
        )
    with explain_os_errors(out, "making data"):
        out.mkdir(parents=True, exist_ok=True)
        # The manifest first: rows that are here without it are not taken for Livery's. Training
        # rows last: without them nobody trains on a part.
        files = sorted(map(_file, splits), key=lambda name: name == "train.jsonl")
        with replace_together(out, *files, first=MANIFEST) as fresh:
            for name in splits:
                write_jsonl(fresh / _file(name), splits[name])
            manifest = {
                "skill": skill,
                "generator": generator,
                "version": version,
                "seed": seed,
                "splits": {
                    name: {
                        "rows": len(splits[name]),
                        "categories": _counts(splits[name]),
                        "sha256": sha256(fresh / _file(name)),
                    }
                    for name in splits
                },
            }
            write_json(fresh / MANIFEST, manifest)
    return manifest


def edited(out: Path) -> list[str]:
    """Files of the manifest that hold something else than Livery wrote there."""
    splits = read_manifest(out).get("splits")
    known = splits if isinstance(splits, dict) else {}
    names = [*known, *(name for name in _USUAL if name not in known)]
    return [
        _file(name)
        for name in names
        if Path(_file(name)).name == _file(name)  # a name that leads elsewhere is none of ours
        and (out / _file(name)).is_file()
        and sha256(out / _file(name)) != dict(known.get(name) or {}).get("sha256")
    ]


def set_edited_aside(out: Path) -> list[str]:
    """Rename the files that were edited to NAME.edited, NAME.edited2, …; returns the new names."""
    moved: list[str] = []
    if not (out / MANIFEST).is_file():
        return moved
    for name in edited(out):
        places = (f"{name}.edited{number or ''}" for number in (0, *range(2, 1000)))
        place = next(place for place in places if not (out / place).exists())
        (out / name).rename(out / place)
        moved.append(place)
    return moved


def _file(split: str) -> str:
    return f"{split}.jsonl"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a data folder; {} where there is none.

    Raises:
        UserError: it is no JSON object.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    return read_object(path)


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        scenario = str(row["meta"]["scenario"])
        found[scenario] = found.get(scenario, 0) + 1
    return dict(sorted(found.items()))
