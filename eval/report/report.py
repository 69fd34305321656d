"""report.md and report.html of an adapter folder: its training run and its last evaluations."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from eval.record import Record, adapter_hashes
from eval.report import html, markdown
from eval.report.run_data import RunData, evaluation_files, read_run
from livery.errors import UserError, shown
from livery.files import atomic_write
from livery.outputs import check_way
from livery.paths import METADATA, RUN_CONFIG


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
    check_place(place)
    data = read_run(folder, place if evaluation_files(place) else folder)
    page, document = place / "report.html", place / "report.md"
    # The page first: it says whose both are.
    for path, text in zip((page, document), _texts(data), strict=True):
        with atomic_write(path, "w") as file:
            file.write(text)
    return document, page


def _texts(data: RunData) -> tuple[str, str]:
    """report.html and report.md."""
    try:
        data = marked_stale(data)
        return html.page(data), markdown.document(data)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"{shown(data.folder)}: a log or record in it is damaged, or of another version "
            f"({type(error).__name__}: {shown(error)}). Evaluate again, or move it away."
        ) from error


def check_place(place: Path) -> None:
    """Raises UserError where report.md or report.html there is not one that Livery wrote.

    Livery's are beside a run's or an evaluation's record, or the page says whose it is. A place
    that is no folder and cannot become one is refused too.
    """
    check_way(place)
    names = [name for name in ("report.md", "report.html") if (place / name).exists()]
    if not names or evaluation_files(place):
        return
    if any((place / n).is_file() for n in (RUN_CONFIG, METADATA)):
        return
    if not html.is_ours(place / "report.html"):
        raise UserError(
            f"{place / names[0]}: is not a report that Livery wrote, and is not replaced. Write to "
            "another folder."
        )


def marked_stale(data: RunData) -> RunData:
    """Mark evaluations that were made of other weights than the folder holds now."""
    now = adapter_hashes(data.folder)

    def mark(record: Record) -> Record:
        then = record["facts"]["adapter_sha256"]
        changed = any(name in now and now[name] != digest for name, digest in then.items())
        return {**record, "stale": True} if changed else record

    return dataclasses.replace(data, evaluations=tuple(mark(r) for r in data.evaluations))
