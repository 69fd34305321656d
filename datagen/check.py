"""Check data before they are trained on: form, repeats, contradictions, leaks, lengths."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datagen.folder import SPLITS, read_manifest
from datagen.leaks import split_leaks
from livery.errors import UserError
from livery.files import sha256
from livery.skills import AnswerError, get_skill, skill_names

Row = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """Something wrong with the data.

    Attributes:
        kind: "form", "empty", "answer", "duplicate", "contradiction", "leak", "manifest" or
            "length".
        where: "file:line".
        message: what is wrong and what to do.
        serious: training on it would be wrong; else it is only worth knowing.
    """

    kind: str
    where: str
    message: str
    serious: bool = True


@dataclass(frozen=True)
class Lengths:
    """Lengths of one file's rows under one model's tokenizer.

    Attributes:
        examples: rows that would be trained on (or, for a test file, asked).
        dropped: rows that would be left out.
        shortest, median, longest: tokens of a row.
        supervised: tokens that carry loss, over all rows.
    """

    examples: int
    dropped: int
    shortest: int
    median: int
    longest: int
    supervised: int


@dataclass
class Findings:
    """What a check found.

    Attributes:
        path: what was checked.
        rows: well-formed rows of each file.
        problems: in the order of files and lines.
        lengths: of each file, where a model was given.
    """

    path: str
    rows: dict[str, int] = field(default_factory=dict[str, int])
    problems: list[Problem] = field(default_factory=list[Problem])
    lengths: dict[str, Lengths] = field(default_factory=dict[str, Lengths])

    @property
    def ok(self) -> bool:
        """Nothing serious was found."""
        return not any(problem.serious for problem in self.problems)


def check(path: Path, model: str | None = None, max_length: int = 2048) -> Findings:
    """Check a data folder, or one JSON-lines file.

    Args:
        model: folder or hub id of the model whose tokenizer counts the tokens; None counts none.
        max_length: longest row, in tokens, that would be trained on.

    Raises:
        UserError: there is nothing at `path`, or no training data in the folder.
    """
    files = _files(path)
    manifest = read_manifest(path) if path.is_dir() else {}
    skill = manifest.get("skill")
    parse = get_skill(skill).parse if skill in skill_names() else None
    findings = Findings(str(path))
    read: dict[str, list[tuple[str, Row]]] = {}
    for name, file in files.items():
        read[name] = list(_rows(file, findings.problems))
        findings.rows[name] = len(read[name])
        if not read[name]:
            findings.problems.append(Problem("form", str(file), "holds no rows."))
        _answers(read[name], parse, findings.problems)
        _repeats(read[name], findings.problems)
        recorded = manifest.get("splits", {}).get(name, {}).get("sha256")
        if recorded is not None and recorded != sha256(file):
            findings.problems.append(
                Problem(
                    "manifest",
                    str(file),
                    "was changed after it was made: its SHA-256 is not the manifest's.",
                    serious=False,
                )
            )
    _leaks(read, findings.problems)
    if model is not None:
        _lengths(read, model, max_length, findings)
    return findings


def _files(path: Path) -> dict[str, Path]:
    if path.is_file():
        return {path.stem: path}
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder.")
    found = {name: path / f"{name}.jsonl" for name in SPLITS if (path / f"{name}.jsonl").is_file()}
    if "train" not in found:
        raise UserError(
            f"{path}: holds no train.jsonl. Make data with `livery data date-keys --out {path}`, "
            "or give the folder that holds yours."
        )
    return found


def _rows(file: Path, problems: list[Problem]) -> Iterator[tuple[str, Row]]:
    """("file:line", row) of the well-formed rows; the others become problems."""
    from livery.dataset.rows import nothing_to_learn, read_row

    for number, raw in enumerate(file.read_bytes().splitlines(), start=1):
        if not raw.strip():
            continue
        where = f"{file}:{number}"
        try:
            row = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
            if not isinstance(row, dict):
                raise UserError(f"{where}: a {type(row).__name__}, where an object was expected.")
            reason = nothing_to_learn(read_row(row, where))
            if reason.startswith("no "):
                raise UserError(f"{where}: {reason}.")
        except UnicodeDecodeError as error:
            problems.append(Problem("form", where, f"not UTF-8 text ({error.reason})."))
        except (json.JSONDecodeError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep"
            problems.append(Problem("form", where, f"not valid JSON: {reason}."))
        except UserError as error:
            problems.append(Problem("form", where, str(error).removeprefix(f"{where}: ")))
        else:
            yield where, row


def _asked_and_answered(row: Row) -> tuple[str, str]:
    """(all that comes before the last answer, the last answer)."""
    from livery.dataset.rows import asked_and_answered, read_row

    return asked_and_answered(read_row(row, ""))


def _answers(
    rows: list[tuple[str, Row]], parse: Callable[[str], Any] | None, problems: list[Problem]
) -> None:
    for where, row in rows:
        _, answer = _asked_and_answered(row)
        if not answer.strip():
            problems.append(Problem("empty", where, "the answer is empty: nothing to learn."))
        elif parse is not None:
            try:
                parse(answer)
            except AnswerError as error:
                problems.append(Problem("answer", where, f"the answer is {error}."))


def _repeats(rows: list[tuple[str, Row]], problems: list[Problem]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for where, row in rows:
        asked, answer = _asked_and_answered(row)
        key = " ".join((asked or answer).casefold().split())
        first = seen.setdefault(key, (where, answer))
        if first[0] == where:
            continue
        if first[1] == answer:
            problems.append(Problem("duplicate", where, f"the same as {first[0]}.", serious=False))
        else:
            problems.append(
                Problem(
                    "contradiction",
                    where,
                    f"asks what {first[0]} asks and answers {answer!r}, not {first[1]!r}; "
                    "keep the right one.",
                )
            )


def _leaks(read: dict[str, list[tuple[str, Row]]], problems: list[Problem]) -> None:
    for one, other, leak in split_leaks(
        {name: [r for _, r in rows] for name, rows in read.items()}
    ):
        problems.append(
            Problem(
                "leak",
                read[other][leak.case][0],
                f"{leak.case_text!r} stands in {read[one][leak.train][0]} too "
                f"({leak.train_text!r}); scores on it would be too high.",
            )
        )


def _lengths(
    read: dict[str, list[tuple[str, Row]]], model: str, max_length: int, findings: Findings
) -> None:
    from livery.dataset.encode import encode_row
    from livery.dataset.template import load_tokenizer

    tokenizer = load_tokenizer(model)
    for name, rows in read.items():
        lengths: list[int] = []
        supervised = dropped = 0
        for where, row in rows:
            for example in encode_row(row, tokenizer, where):
                if len(example.tokens) > max_length:
                    dropped += 1
                    message = (
                        f"{len(example.tokens)} tokens, over the limit of {max_length}: dropped."
                    )
                    findings.problems.append(Problem("length", where, message, serious=False))
                else:
                    lengths.append(len(example.tokens))
                    supervised += int(example.supervised.sum())
        lengths.sort()
        if lengths:
            findings.lengths[name] = Lengths(
                examples=len(lengths),
                dropped=dropped,
                shortest=lengths[0],
                median=lengths[len(lengths) // 2],
                longest=lengths[-1],
                supervised=supervised,
            )
        elif rows:
            findings.problems.append(
                Problem("length", f"{name}.jsonl", f"no row fits into {max_length} tokens.")
            )
