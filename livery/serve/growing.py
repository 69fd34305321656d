"""Files of JSON lines that a run is still writing, read without parsing them again and again.

    log = lines_of(run / "training_metrics.jsonl")
    log.refresh()                 # reads what was added since
    log.after(step=200, limit=50)

A look at a file that has not grown costs one `stat`. Of a line only its place, length and step
are kept, however long it is.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from livery.errors import UserError
from livery.reading import parse_row
from livery.serve.known import Mark, mark, open_own

LONGEST = 4 << 20  # bytes of a line; longer ones are left out
_STEP = re.compile(rb'"step":\s*(\d{1,12})\b')
_CHUNK = 1 << 20
_KEPT = 512  # files that are remembered


class GrowingLines:
    """The lines of one file that have a step, as of the last `refresh`.

    Attributes:
        size: bytes read so far, up to the end of the last whole line.
        steps: of each line, ascending.
        losses: of each evaluation: (step, eval_loss).
        changed: when the file was last written, seconds since the epoch; 0 where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: Mark = None
        self._reset(0)

    def _reset(self, inode: int) -> None:
        self._inode = inode
        self.size = 0
        self.changed = 0.0
        self.places = array("Q")
        self.lengths = array("L")
        self.steps = array("Q")
        self.evaluations = array("L")
        self.losses: list[tuple[int, float]] = []
        self._newest: dict[bool, dict[str, Any] | bytes] = {}

    def refresh(self) -> GrowingLines:
        """Read what was added; begin again where the file was replaced."""
        with self._lock:
            if (seen := mark(self.path)) is not None and seen == self._seen:
                return self
            self._seen = seen
            try:
                with open_own(self.path) as file:
                    found = os.fstat(file.fileno())
                    if found.st_ino != self._inode or found.st_size < self.size:
                        self._reset(found.st_ino)
                    self.changed = found.st_mtime
                    if found.st_size > self.size:
                        self._read(file)
            except OSError:
                self._reset(0)
        return self

    def _read(self, file: Any) -> None:
        file.seek(self.size)
        while raw := file.readline(_CHUNK):
            length = len(raw)
            while not raw.endswith(b"\n"):
                more = file.readline(_CHUNK)
                if not more:
                    return  # still being written
                length += len(more)
                raw = raw + more if length <= LONGEST else more
            self._take(raw, length)
            self.size += length

    def _take(self, raw: bytes, length: int) -> None:
        found = _STEP.search(raw, 0, 4096)
        if found is None or length > LONGEST:
            return
        step = int(found[1])
        if self.steps and step < self.steps[-1]:
            return  # of a run that was cut off and taken up again by other hands
        evaluation = b'"eval_loss"' in raw
        self._newest[evaluation] = raw
        if evaluation:
            row = _parse(raw)
            loss = row.get("eval_loss") if row else None
            if isinstance(loss, int | float) and math.isfinite(loss):
                self.losses.append((step, float(loss)))
            self.evaluations.append(len(self.places))
        self.places.append(self.size)
        self.lengths.append(length)
        self.steps.append(step)

    def __len__(self) -> int:
        return len(self.places)

    def after(self, step: int | None, limit: int) -> tuple[list[dict[str, Any]], int]:
        """(the first `limit` lines of steps after `step`, the byte after them); of all lines where
        it is None."""
        with self._lock:
            first = 0 if step is None else bisect_right(self.steps, step)
            last = min(len(self.places), first + limit)
            told = self.size if last == len(self.places) else self.places[last]
            return self._rows(range(first, last)), told

    def thinned(self, points: int) -> list[dict[str, Any]]:
        """About `points` lines at even distances, the last among them, and as many evaluations."""
        with self._lock:
            evaluations = set(self.evaluations)
            others = [i for i in range(len(self.places)) if i not in evaluations]
            chosen = {*_evenly(others, points), *_evenly(self.evaluations, points)}
            return self._rows(sorted(chosen))

    def since(self, place: int, limit: int) -> list[tuple[dict[str, Any], int]]:
        """Lines that begin at or after a byte, at most `limit`, each with the byte after it."""
        with self._lock:
            first = bisect_left(self.places, place)
            chosen = range(first, min(len(self.places), first + limit))
            found = zip(chosen, self._each(chosen), strict=False)
            return [(row, self.places[i] + self.lengths[i]) for i, row in found if row]

    def last(self, *, evaluation: bool = False) -> dict[str, Any]:
        """The newest line that is, or is not, an evaluation; {} where there is none."""
        with self._lock:
            found = self._newest.get(evaluation, {})
            if isinstance(found, bytes):
                found = self._newest[evaluation] = _parse(found) or {}
            return found

    def _rows(self, chosen: Iterable[int]) -> list[dict[str, Any]]:
        return [row for row in self._each(chosen) if row]

    def _each(self, chosen: Iterable[int]) -> list[dict[str, Any] | None]:
        """Each line, None where it is not JSON; up to where the file was cut meanwhile."""
        rows: list[dict[str, Any] | None] = []
        with contextlib.suppress(OSError), open_own(self.path) as file:
            for i in chosen:
                file.seek(self.places[i])
                rows.append(_parse(file.read(self.lengths[i])))
        return rows


class Remembered:
    """The `GrowingLines` of the files asked for last."""

    def __init__(self, most: int = _KEPT) -> None:
        self._files: OrderedDict[Path, GrowingLines] = OrderedDict()
        self._lock = threading.Lock()
        self._most = most

    def __call__(self, path: Path) -> GrowingLines:
        """Of one file, refreshed."""
        with self._lock:
            found = self._files.pop(path, None) or GrowingLines(path)
            self._files[path] = found
            if len(self._files) > self._most:
                self._files.popitem(last=False)
        return found.refresh()


lines_of = Remembered()


def _evenly(indices: Sequence[int], count: int) -> list[int]:
    """`count` of some indices at even distances, both ends among them."""
    if len(indices) <= count:
        return list(indices)
    if count < 2:
        return [indices[-1]][:count]
    return [indices[round(i * (len(indices) - 1) / (count - 1))] for i in range(count)]


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        return parse_row(raw, "a line", 1, finite=False)
    except UserError:
        return None
