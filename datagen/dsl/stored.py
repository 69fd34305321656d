"""Artefacts of the pipeline: made once, continued where they stopped, checked when read.

Beside the artefacts lies `made_from.json`: of each the key of what it was made from and the hash of
its bytes. An artefact whose key is the same is not made again; one that somebody edited is used as
it is. What a stage has so far lies in NAME.partial.jsonl, a line for each finished job.

A stage may be killed at any moment: `made_from.json` tells of an artefact before it takes its
place, and of the one before it as well, so whichever of them stands there is known.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datagen.dsl.source import Made
from livery import outputs
from livery.errors import UserError
from livery.files import (
    atomic_write,
    explain_os_errors,
    read_kept,
    sha256,
    write_json,
    write_jsonl,
)
from livery.reading import read_object

Json = dict[str, Any]

MADE_FROM = "made_from.json"
PRETTY = "pretty"
PRETTY_ROWS = 200


@dataclass(frozen=True)
class Done:
    """What a stage did.

    Attributes:
        out: the artefact.
        rows: in it.
        skipped: why it was not made, "made before"; "" where it was.
        faults: what failed, one line each.
        counts: of rows by kind, for people.
        notes: what is fewer than was asked for, one line each.
    """

    out: Path
    rows: int
    skipped: str = ""
    faults: tuple[str, ...] = ()
    counts: Mapping[str, int] | None = None
    notes: tuple[str, ...] = ()


def key_of(inputs: Iterable[Path], **parameters: Any) -> str:
    """What an artefact is made from: the bytes of files, and parameters."""
    files = {path.name: sha256(path) for path in inputs}
    text = json.dumps([files, parameters], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def check_out(out: Path, inputs: Iterable[Path]) -> None:
    """Raises UserError where an artefact would replace what no stage made, or what is read."""
    outputs.check_file(
        out, overwrite=True, inputs=inputs, what="an artefact of livery dsl",
        ours=lambda path: bool(known(path)),
    )  # fmt: skip


def made_before(out: Path, key: str) -> str:
    """Why `out`, which a stage made, need not be made again; "" where it must.

    Raises:
        UserError: it was edited, and its inputs changed too.
    """
    if not out.is_file():
        return ""
    told = known(out)
    edited = told.get("sha256") != sha256(out)
    if told.get("key") == key:
        return "edited by hand, used as it is" if edited else "made before"
    if edited:
        raise UserError(
            f"{out}: edited since it was made, and what it is made from has changed. Add --fresh "
            "to make it again without the edits, or name another file with --out."
        )
    return ""


def known(out: Path) -> Json:
    """{"key", "sha256"} of what a stage made at `out`: of the artefact that stands there, where a
    stage was killed before the newer one took its place; {} where none made it."""
    found = _log(out).get(out.name)
    told = found if isinstance(found, dict) else {}
    before = told.get("before")
    if not isinstance(before, dict) or not out.is_file():
        return told
    there = sha256(out)
    return before if there == before.get("sha256") != told.get("sha256") else told


def _log(out: Path) -> Json:
    place = out.parent / MADE_FROM
    return read_object(place) if place.is_file() else {}


def keep(out: Path, rows: Sequence[Mapping[str, Any]], key: str, *, whole: bool = True) -> None:
    """Write an artefact, its pretty copy, and what it was made from.

    Args:
        whole: False where jobs failed, so that the next run asks for those again.
    """
    before = {name: text for name, text in known(out).items() if name != "before"}
    with explain_os_errors(out, "writing an artefact"):
        write_json(out.parent / PRETTY / f"{out.stem}.json", rows[:PRETTY_ROWS])
        with atomic_write(out) as file:
            digest = hashlib.sha256()
            for row in rows:
                line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
                digest.update(line)
                file.write(line)
            facts = {"key": key if whole else "", "sha256": digest.hexdigest(), "before": before}
            write_json(out.parent / MADE_FROM, {**_log(out), out.name: facts})
        if whole:
            partial(out).unlink(missing_ok=True)


def partial(out: Path) -> Path:
    """Where a stage keeps what it has so far."""
    return out.with_suffix(".partial.jsonl")


def partial_queries(out: Path) -> Path:
    """Where the rows' stage keeps the queries that it asks for itself."""
    return out.with_suffix(".queries.partial.jsonl")


def check_kept(kept: Path, inputs: Iterable[Path]) -> None:
    """Raises UserError where a file holds anything but what `collect` keeps."""
    outputs.check_file(
        kept, overwrite=True, inputs=inputs, ours=outputs.holds("key", alone=True),
        what="a checkpoint of livery dsl (--checkpoint-path)",
    )  # fmt: skip


def collect(
    jobs: Sequence[Any],
    ask: Callable[[Sequence[Any]], Iterator[Made]],
    at: Path,
    key: str,
    advance: Callable[[int], None],
) -> tuple[dict[int, Made], list[str]]:
    """Ask for what is not there yet; each answer is on the disk before the next is taken.

    Args:
        at: the file of answers so far; one of another key is begun anew.
        advance: called with how many are done.

    Returns:
        What was made by the job's position, and the faults of those that failed.
    """
    head = {"key": key}
    lines = [
        line for line in read_kept(at, head)
        if line.keys() == {"at", "row", "provenance"} and line["at"] in range(len(jobs))
        and isinstance(line["row"], dict) and isinstance(line["provenance"], dict | None)
    ]  # fmt: skip
    found = {line["at"]: Made(**line) for line in lines}
    waiting = [number for number in range(len(jobs)) if number not in found]
    faults: list[str] = []
    advance(len(found))
    with explain_os_errors(at, "keeping what is made"):
        write_jsonl(at, [head, *lines])
        with at.open("a", encoding="utf-8") as file:
            for made in ask([jobs[number] for number in waiting]):
                number = waiting[made.at]
                if made.row is None:
                    faults.append(made.fault)
                else:
                    found[number] = made
                    line = {"at": number, "row": made.row, "provenance": made.provenance}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    file.flush()
                advance(len(found) + len(faults))
    return found, faults
