"""report.md and report.html of an adapter folder: its training run and its last evaluations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from eval import html, markdown
from eval.hashes import adapter_hashes
from eval.record import Record
from eval.run_data import RunData, evaluation_files, read_run
from livery.files import atomic_write


def write_report(folder: str | Path, to: str | Path | None = None) -> tuple[Path, Path]:
    """Write report.md and report.html.

    Args:
        folder: the adapter folder to report on.
        to: where the two files go, and whose evaluations are shown if it holds any; `folder`
            itself where it is None.

    Returns:
        Their paths.

    Raises:
        UserError: nothing to report on, or the place cannot be written.
    """
    place = Path(folder if to is None else to)
    data = marked_stale(read_run(folder, place if evaluation_files(place) else folder))
    paths = (place / "report.md", place / "report.html")
    for path, text in zip(paths, (markdown.document(data), html.page(data)), strict=True):
        with atomic_write(path, "w") as file:
            file.write(text)
    return paths


def marked_stale(data: RunData) -> RunData:
    """Mark evaluations that were made of other weights than the folder holds now."""
    now = adapter_hashes(data.folder)

    def mark(record: Record) -> Record:
        then = record["facts"]["adapter_sha256"]
        changed = any(name in now and now[name] != digest for name, digest in then.items())
        return {**record, "stale": True} if changed else record

    return dataclasses.replace(data, evaluations=tuple(mark(r) for r in data.evaluations))
