"""A data folder: train.jsonl, valid.jsonl, test.jsonl and manifest.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from livery.errors import UserError
from livery.files import sha256, write_json, write_jsonl
from livery.reading import read_object

SPLITS = ("train", "valid", "test")
MANIFEST = "manifest.json"


def write_folder(
    out: Path,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    skill: str,
    generator: str,
    version: str,
    seed: int,
) -> dict[str, Any]:
    """Write the splits and, last, their manifest; return the manifest.

    Raises:
        UserError: `out` is a file, or holds the data of another skill.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; give --out a folder.")
    if (out / MANIFEST).exists():
        other = read_manifest(out).get("skill")
        if other != skill:
            raise UserError(
                f"{out}: holds the data of skill {other}; give --out another folder, or remove it."
            )
    for name in SPLITS:
        write_jsonl(out / f"{name}.jsonl", splits[name])
    manifest = {
        "skill": skill,
        "generator": generator,
        "version": version,
        "seed": seed,
        "splits": {
            name: {
                "rows": len(splits[name]),
                "categories": _counts(splits[name]),
                "sha256": sha256(out / f"{name}.jsonl"),
            }
            for name in SPLITS
        },
    }
    write_json(out / MANIFEST, manifest)
    return manifest


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
