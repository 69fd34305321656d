"""What a reviewer thinks of rows.

A status is kept in data/.approval/NAME.json by a digest of the row, so the file of rows is never
touched, and a row keeps its status when rows before it come or go.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from livery.errors import quoted
from livery.files import explain_os_errors, write_json
from livery.reading import read_object
from livery.serve.errors import Conflict, NotFound
from livery.serve.known import known
from livery.serve.lines import digest, lines_of
from livery.serve.settings import ServeSettings

Status = Literal["new", "approved", "rejected"]
_reviewing = threading.Lock()


def review(settings: ServeSettings, name: str) -> dict[str, str]:
    """Digest -> status of the rows that somebody looked at.

    Raises:
        UserError: the file is damaged. It is not taken for an empty one, which the next status
            would be written over.
    """
    path = review_file(settings, name)
    return known.of(("review", path), [path], lambda: read_object(path) if path.exists() else {})


def set_status(
    settings: ServeSettings,
    name: str,
    split: str,
    status: Status,
    *,
    n: int | None = None,
    expected: str | None = None,
    ids: Collection[str] | None = None,
) -> int:
    """Say what somebody thinks of rows; returns how many.

    Args:
        n: number of one row, from 1.
        expected: its digest, where the caller has seen it.
        ids: digests of rows; neither `n` nor `ids` means every row that is new.

    Raises:
        NotFound: there is no such row.
        Conflict: row `n` is not the one that was seen.
    """
    lines = lines_of(settings, name, split)
    with _reviewing:
        said = dict(review(settings, name))
        if n is not None:
            if not 1 <= n <= len(lines):
                raise NotFound(f"The dataset {name} has no row {n} in {split}.", key="n")
            chosen = {digest(raw) for _, raw in lines.some([n - 1])}
            if expected is not None and expected not in chosen:
                raise Conflict(f"Row {n} has changed since it was shown. Load it again.", key="id")
        else:
            every = {digest(raw) for _, raw in lines.some(range(len(lines)))}
            chosen = every - said.keys() if ids is None else every & {*ids}
            if ids is not None and (missing := {*ids} - every):
                raise NotFound(f"There is no row {quoted(min(missing))} in {split}.", key="ids")
        for one in chosen:
            if status == "new":
                said.pop(one, None)
            else:
                said[one] = status
        place = review_file(settings, name)
        with explain_os_errors(place, "keeping what was approved"):
            place.parent.mkdir(exist_ok=True)
        write_json(place, said)
    return len(chosen)


def forget(settings: ServeSettings, name: str) -> None:
    """Keep nothing that reviewers thought of the rows of a dataset that goes."""
    with _reviewing:
        review_file(settings, name).unlink(missing_ok=True)


def review_file(settings: ServeSettings, name: str) -> Path:
    """Where the statuses of a dataset's rows are kept."""
    return settings.data / ".approval" / f"{name}.json"
