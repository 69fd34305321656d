"""Approved interactions added to a folder of data, as a new folder.

    merge("interactions.jsonl", "persona", "data/persona", "data/persona-2")

What is in the training split already, and what gives a case of the validation or test data away, is
left out and named. The other splits are copied as they are; the manifest says what was added.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datagen.check import check
from datagen.folder import MANIFEST, read_manifest
from datagen.review import approved_rows
from livery import reading
from livery.dataset.conversation import RowError
from livery.dataset.leaks import index, row_text
from livery.dataset.rows import asked_and_answered, question, read_row
from livery.errors import UserError, counted, shown
from livery.files import sha256, write_json
from livery.outputs import MARK, new_folder
from livery.skills import find

COMMAND = "livery data merge"
TRAIN = "train.jsonl"
Row = dict[str, Any]


@dataclass
class Merged:
    """What a merge came to.

    Attributes:
        out: the new folder.
        added: ids of the interactions whose rows were added.
        replaced: how many rows of the data gave way to them.
        left_out: why others were not, one line each.
    """

    out: str
    added: list[str] = field(default_factory=list[str])
    replaced: int = 0
    left_out: list[str] = field(default_factory=list[str])


def merge(
    log: str | Path,
    skill: str,
    data: str | Path,
    out: str | Path,
    *,
    replace: bool = False,
    overwrite: bool = False,
) -> Merged:
    """Write `out`: the folder `data`, with the approved interactions in its training split.

    Args:
        replace: where a training row asks the same and answers otherwise, take the approved one.
        overwrite: replace what an earlier merge wrote to `out`.

    Raises:
        UserError: the data are no folder with train.jsonl, nothing is approved or left to add, or
            what was added does not stand `livery data check`; nothing is written.
    """
    data, out = Path(data), Path(out)
    if not (data / TRAIN).is_file():
        raise UserError(f"{shown(data)}: holds no {TRAIN}; give the folder of the skill's data.")
    rows, left = approved_rows(log, skill)
    merged = Merged(str(out), left_out=left)
    if not rows:
        raise UserError(
            f"{shown(log)}: nothing of it is approved for {find(skill).name}. Look it through with "
            f"livery data review {shown(log)} --skill {shown(skill)}. {' '.join(left[:3])}".rstrip()
        )
    known, lines = _training(data / TRAIN)
    fresh, gone = _choose(rows, known, _cases(data, skill), merged, replace=replace)
    if not fresh:
        raise UserError(
            f"{shown(log)}: nothing is left to add to {shown(data)}:\n" + "\n".join(merged.left_out)
        )
    kept = [line for at, line in enumerate(lines) if at not in gone]
    merged.replaced = len(gone)
    merged.added = [row["meta"]["interaction"] for row in fresh]
    with new_folder(out, command=COMMAND, overwrite=overwrite, inputs=(data, log)) as folder:
        for file in sorted(data.iterdir()):
            if file.is_file() and file.name not in (TRAIN, MANIFEST, MARK):
                shutil.copyfile(file, folder / file.name)
        with (folder / TRAIN).open("wb") as file:
            file.writelines(kept)
            file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in fresh)
        write_json(folder / MANIFEST, _manifest(data, folder, skill, merged, len(kept)))
        _stands_check(folder, len(kept))
    return merged


def _training(path: Path) -> tuple[dict[str, tuple[int, str]], list[bytes]]:
    """({what is asked: (line, answer)}, the lines that are no blank)."""
    known: dict[str, tuple[int, str]] = {}
    lines: list[bytes] = []
    with reading.open_file(path) as file:
        for number, raw in enumerate(reading.lines(file, path), start=1):
            if not raw.strip():
                continue
            try:
                row = read_row(reading.parse_row(raw, path, number), f"{path}:{number}")
            except RowError as error:
                raise UserError(str(error)) from None
            asked, answer = asked_and_answered(row)
            known.setdefault(asked.strip(), (len(lines), answer))
            lines.append(raw.rstrip(b"\r\n") + b"\n")
    return known, lines


def _cases(data: Path, skill: str) -> list[tuple[str, str]]:
    """("file", what is asked) of every case that training rows may not give away: the validation
    and test splits of the data, and the sets that come with the skill."""
    folder = find(skill).folder
    files = [data / "valid.jsonl", data / "test.jsonl"]
    files += sorted(folder.glob("*.jsonl")) if folder is not None else []
    found: list[tuple[str, str]] = []
    for path in files:
        for number, row in reading.read_jsonl(path) if path.is_file() else ():
            try:
                text = question(read_row(row, f"{path}:{number}"))
            except RowError:  # a skill's own cases are no rows to train on
                text = row_text(row) or _turns_text(row.get("turns"))
            if text:
                found.append((f"{path.name}:{number}", text))
    return found


def _turns_text(turns: Any) -> str:
    if not isinstance(turns, list):
        return ""
    said = [
        turn if isinstance(turn, str) else str(turn.get("content", ""))
        for turn in turns
        if isinstance(turn, str) or (isinstance(turn, Mapping) and turn.get("role") == "user")
    ]
    return "\n".join(said)


def _choose(
    rows: Sequence[Row],
    known: Mapping[str, tuple[int, str]],
    cases: Sequence[tuple[str, str]],
    merged: Merged,
    *,
    replace: bool,
) -> tuple[list[Row], set[int]]:
    """(the rows to add, the lines of the data that give way)."""
    closed = index([text for _, text in cases])
    chosen: dict[str, Row] = {}
    gone: set[int] = set()
    for row in sorted(rows, key=lambda row: row["meta"]["at"]):
        name = row["meta"]["interaction"]
        parsed = read_row(row, name)
        asked, answer = asked_and_answered(parsed)
        asked = asked.strip()
        if (near := closed.closest(question(parsed))) is not None:
            where, text = cases[near[0]]
            merged.left_out.append(f"{name}: gives away {where}, {shown(text, 80)!r}.")
            continue
        at, other = known.get(asked, (-1, answer))
        if at >= 0 and other == answer:
            merged.left_out.append(f"{name}: the same as row {at + 1} of the data.")
        elif at >= 0 and not replace:
            merged.left_out.append(
                f"{name}: row {at + 1} of the data asks the same and answers {shown(other, 80)!r}; "
                "add --replace to take the approved answer."
            )
        else:
            if (before := chosen.pop(asked, None)) is not None:
                merged.left_out.append(
                    f"{before['meta']['interaction']}: {name}, decided later, asks the same."
                )
            chosen[asked] = row
            gone |= {at} if at >= 0 else set()
    return list(chosen.values()), gone


def _manifest(data: Path, folder: Path, skill: str, merged: Merged, kept: int) -> dict[str, Any]:
    before = read_manifest(data)
    splits = dict(before.get("splits") or {})
    old = dict(splits.get("train") or {})
    categories = dict(old.get("categories") or {})
    categories["interaction"] = int(categories.get("interaction", 0)) + len(merged.added)
    splits["train"] = {
        "rows": kept + len(merged.added), "categories": categories,
        "sha256": sha256(folder / TRAIN),
    }  # fmt: skip
    return {
        "skill": find(skill).name, "generator": COMMAND, "seed": 0, **before,
        "version": f"{before.get('version', '')} + {counted(len(merged.added), 'interaction')}",
        "splits": splits,
        "merged": {
            "from": str(data), "train_sha256": sha256(data / TRAIN),
            "interactions": merged.added, "replaced": merged.replaced,
        },
    }  # fmt: skip


def _stands_check(folder: Path, kept: int) -> None:
    """Raises UserError where a row that was added does not stand `livery data check`."""
    for problem in check(folder).problems:
        line = re.fullmatch(r".*train\.jsonl:(\d+)", problem.where)
        if problem.serious and line and int(line[1]) > kept:
            raise UserError(f"Row {int(line[1]) - kept} of what was approved: {problem.message}")
