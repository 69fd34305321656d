"""What a run's folder holds, read for a report. Everything is optional: a converted adapter has no
training log, and a run that was just killed has no evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval import record
from livery.errors import UserError, shown
from livery.paths import DSL_SUMMARY, METADATA, METRICS, RUN_CONFIG, SAMPLES
from livery.reading import lines, open_file, parse_json, parse_row, read_object

Row = dict[str, Any]


@dataclass(frozen=True)
class RunData:
    """One adapter folder.

    Attributes:
        folder: where.
        losses: metrics rows with a training loss, by step.
        eval_losses: metrics rows with an evaluation loss, by step.
        samples: prompt -> {step: answer}, and what was expected, in order of first sight.
        metadata: facts of the finished run; {} where it has not finished.
        config: run_config.json; {} where there is none.
        evaluations: those stored in the folder, the validation set first.
    """

    folder: Path
    losses: tuple[Row, ...] = ()
    eval_losses: tuple[Row, ...] = ()
    samples: tuple[Sample, ...] = ()
    metadata: Row = field(default_factory=dict[str, Any])
    config: Row = field(default_factory=dict[str, Any])
    evaluations: tuple[record.Record, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One prompt that was answered at every evaluation of the training run."""

    prompt: str
    expected: str
    answers: tuple[tuple[int, str], ...]


def read_run(folder: str | Path, evaluations: str | Path | None = None) -> RunData:
    """Read an adapter folder.

    Args:
        folder: the adapter's.
        evaluations: where its evaluations are, if elsewhere.

    Raises:
        UserError: no such folder, or nothing in it to report on.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such adapter folder.")
    metrics = [_checked(row, folder / METRICS) for row in _log(folder / METRICS)]
    data = RunData(
        folder=folder,
        losses=tuple(row for row in metrics if "loss" in row),
        eval_losses=tuple(row for row in metrics if "eval_loss" in row),
        samples=_samples(folder / SAMPLES),
        metadata=_object(folder / METADATA),
        config=_object(folder / RUN_CONFIG),
        evaluations=tuple(
            record.read(path) for path in evaluation_files(Path(evaluations or folder))
        ),
    )
    if not (metrics or data.samples or data.metadata or data.evaluations):
        raise UserError(
            f"{folder}: nothing to report on yet: no {METRICS}, no {METADATA}, no {record.NAME}. "
            "Train here, or evaluate this adapter with: livery eval SKILL --adapter DIR"
        )
    return data


def evaluation_files(folder: Path) -> list[Path]:
    """Stored evaluations: the validation set's first, then others by name. What `livery dsl
    evaluate` may have written to the same folder is none of them."""
    found = [path for path in folder.glob("evaluation*.json") if path.name != DSL_SUMMARY]
    return sorted(found, key=lambda path: (path.name != record.NAME, path))


def _samples(path: Path) -> tuple[Sample, ...]:
    found: dict[tuple[str, str], dict[int, str]] = {}
    for row in _log(path):
        if all(key in row for key in ("step", "prompt", "expected", "answer")):
            key = (str(row["prompt"]), str(row["expected"]))
            found.setdefault(key, {})[_checked(row, path)["step"]] = str(row["answer"])
    return tuple(
        Sample(prompt, expected, tuple(sorted(answers.items())))
        for (prompt, expected), answers in found.items()
    )


def _log(path: Path) -> Iterator[Row]:
    """Rows of a growing log; a last line that a kill cut off is left out."""
    if not path.exists():
        return
    with open_file(path) as file:
        for number, line in enumerate(lines(file, path), start=1):
            if line.strip() and (line.endswith(b"\n") or _is_json(line)):
                yield parse_row(line, path, number, finite=False)


def _checked(row: Row, path: Path) -> Row:
    """A row whose step and losses are such as a run has, and a plot can show."""
    step = row.get("step")
    good = type(step) is int and 0 <= step < 1 << 50
    figures = [key for key in row if "rewards/" in key or "logps/" in key]
    for key in ("loss", "eval_loss", "learning_rate", *figures):
        value = row.get(key, 0.0)
        good = good and isinstance(value, int | float) and not 1e30 < abs(value) < float("inf")
    if not good:
        raise UserError(f"{path}: step {shown(step)}: a line that no run writes. Remove it.")
    return row


def _is_json(line: bytes) -> bool:
    try:
        parse_json(line, "")
    except UserError:
        return False
    return True


def _object(path: Path) -> Row:
    return read_object(path) if path.exists() else {}
