"""A skill's data with rows that keep the base as it is where the skill is not asked for.

    replay("data/persona", "data/persona-kept", base, count=800)

An adapter that sees the skill's prompt in every row also changes what is answered without it. The
rows that are added ask questions of the training split without a system prompt, and the base itself
has answered them: there is nothing to learn from them but to stay. Answers that were cut off are
left out, since they would teach to stop in mid-sentence.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datagen.folder import MANIFEST, read_manifest, write_folder
from livery.dataset.leaks import normalise
from livery.errors import UserError, counted, shown
from livery.files import append_jsonl, explain_os_errors, read_kept, write_jsonl
from livery.reading import read_jsonl

SCENARIO = "replay"
_FACTS = {"skill", "generator", "version", "seed"}  # of a manifest, which the new one takes over
EVERY = 64
Row = Mapping[str, Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Said:
    """What the base said to one question.

    Attributes:
        finished: it ended by itself, not at the limit.
    """

    text: str
    finished: bool


@dataclass(frozen=True)
class Base:
    """Who answers.

    Attributes:
        name: of the base, for the rows' provenance.
        made_from: what decides its answers, for going on after a stop.
        answer: questions -> what it says to each, asked without a system prompt.
    """

    name: str
    made_from: Mapping[str, Any]
    answer: Callable[[Sequence[str]], Sequence[Said]]


@dataclass(frozen=True)
class Replayed:
    """What was made: rows added, and why questions gave none."""

    out: str
    added: int
    cut: int
    empty: int


def replay(
    data: str | Path,
    out: str | Path,
    base: Base,
    *,
    count: int = 800,
    seed: int = 7,
    every: int = EVERY,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> Replayed:
    """Write `out`: the folder `data` with up to `count` more rows in its training split.

    Answers are kept in OUT.partial.jsonl as they come, and one that was stopped goes on.

    Args:
        seed: draws the questions.
        every: questions that the base is asked together, and answers between two writes.
        overwrite: replace splits of `out` that were changed since Livery made them.
        progress: told how many of how many questions are answered.

    Raises:
        UserError: `data` was not made by Livery, has no question to ask, or `out` holds other data.
    """
    data, out = Path(data), Path(out)
    manifest = check(data, out)
    splits: dict[str, list[Row]] = {
        name: [row for _, row in read_jsonl(data / f"{name}.jsonl")] for name in manifest["splits"]
    }
    asked = draw(splits.get("train", []), count, seed)
    if not asked:
        raise UserError(
            f"{shown(data / 'train.jsonl')}: no row is one question and one answer, so there is "
            "nothing to ask the base."
        )
    kept = out.with_name(f"{out.name}.partial.jsonl")
    said = _answers(kept, asked, base, every, progress)
    rows: list[Row] = [
        _row(number, question, one.text, base.name)
        for number, (question, one) in enumerate(zip(asked, said, strict=True), start=1)
        if one.finished and one.text.strip()
    ]
    splits["train"] += rows
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]
    write_folder(
        out, splits, skill=manifest["skill"], generator=manifest["generator"],
        version=f"{manifest['version']} replay {digest}", seed=manifest["seed"],
        overwrite=overwrite,
    )  # fmt: skip
    kept.unlink(missing_ok=True)
    cut = sum(not one.finished for one in said)
    return Replayed(str(out), len(rows), cut, len(said) - len(rows) - cut)


def check(data: Path, out: Path) -> dict[str, Any]:
    """The manifest of `data`, before a model is loaded.

    Raises:
        UserError: see `replay`.
    """
    manifest = read_manifest(data)
    if not manifest:
        raise UserError(f"{shown(data)}: no {MANIFEST}; give a folder that livery data made.")
    splits = manifest.get("splits")
    if (
        not manifest.keys() >= _FACTS
        or not isinstance(splits, dict)
        or not all(map(_plain, splits))
    ):
        raise UserError(
            f"{shown(data / MANIFEST)}: not what livery data writes; make the data again."
        )
    if data.resolve() == out.resolve():
        raise UserError(f"{shown(out)}: is the data itself; give --out another folder.")
    return manifest


def _plain(name: str) -> bool:
    """Whether a split's name leads nowhere else."""
    return Path(name).name == name


def draw(rows: Sequence[Row], count: int, seed: int) -> list[str]:
    """Up to `count` questions of rows that are one question and one answer, no two alike."""
    found: dict[str, str] = {}
    for row in rows:
        turns = [turn for turn in row.get("messages", ()) if turn.get("role") != "system"]
        if [turn.get("role") for turn in turns] != ["user", "assistant"]:
            continue
        text = turns[0].get("content")
        if isinstance(text, str) and text.strip():
            found.setdefault(normalise(text), text)
    drawn = list(found.values())
    random.Random(f"replay {seed}").shuffle(drawn)
    return drawn[:count]


def _answers(
    kept: Path, asked: Sequence[str], base: Base, every: int, progress: Progress
) -> list[Said]:
    said = json.dumps([list(asked), dict(base.made_from)], sort_keys=True)
    head = {"made_from": hashlib.sha256(said.encode()).hexdigest()}
    rows = read_kept(kept, head)[: len(asked)]
    found = [Said(str(row["text"]), bool(row["finished"])) for row in rows]
    with explain_os_errors(kept, "keeping the answers"):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(kept, [head, *map(asdict, found)])
        progress(len(found), len(asked))
        while len(found) < len(asked):
            more = base.answer(asked[len(found) : len(found) + every])
            append_jsonl(kept, map(asdict, more))
            found += more
            progress(len(found), len(asked))
    return found


def _row(number: int, question: str, answer: str, base: str) -> Row:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer.strip()},
        ],
        "meta": {
            "id": f"replay-{number:05}",
            "split": "train",
            "scenario": SCENARIO,
            "source": "base",
            "provenance": f"answered by {base}",
        },
    }


def describe(found: Replayed) -> str:
    """One line for people."""
    rows = counted(found.added, "row")
    return (
        f"{shown(found.out)}: {rows} added; left out: {found.cut:,} answers that were cut off, "
        f"{found.empty:,} empty ones."
    )
