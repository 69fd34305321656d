"""What happens in a run, as a stream that can be taken up where it was left.

A position is four numbers: which run the folder holds, and the bytes already told of its metrics,
samples and log. They are places in files, so a server that was started anew goes on where the
last one was.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from livery.paths import METRICS, RUN_CONFIG, RUN_MARK, SAMPLES
from livery.serve.growing import lines_of
from livery.serve.known import facts
from livery.serve.runs import Run

_POSITION = re.compile(r"([0-9a-f]{1,16})-(\d{1,15})-(\d{1,15})-(\d{1,15})")
_LINES = 500  # of a file, between two looks at the others
_TEXT = 16 << 10  # bytes of the log that an event holds, and that are told of what was before


@dataclass(frozen=True)
class Position:
    """How far a watcher is.

    Attributes:
        run: tells the run from another that took its place in the folder, and from itself before it
            was resumed at an earlier step than its logs had come to.
        metrics, samples, log: bytes told of each file.
    """

    run: str
    metrics: int = 0
    samples: int = 0
    log: int = 0

    def __str__(self) -> str:
        return f"{self.run}-{self.metrics}-{self.samples}-{self.log}"


@dataclass(frozen=True)
class Happening:
    """One event: metric, sample, log, state, or restarted, and the position after it."""

    kind: str
    data: Any
    position: Position


class Watcher:
    """Tells what is new in a run's folder at each `look`.

    Args:
        describe: the run at a glance.
        log: the file that its processes print to, where there is one.
        after: a position told before; anything else begins at the beginning, and near the end of
            the log.
    """

    def __init__(
        self, folder: Path, describe: Callable[[], Run], log: Path | None, after: str | None
    ) -> None:
        self.folder = folder
        self.describe = describe
        self.log = log
        self.told: dict[str, Any] | None = None
        run = _mark(folder)
        found = _POSITION.fullmatch(after or "")
        self.restarted = found is not None and found[1] != run
        if found is not None and not self.restarted:
            self.position = Position(run, *(int(number) for number in found.groups()[1:]))
        else:
            self.position = beginning(folder, log)

    def look(self) -> list[Happening]:
        """What happened since the last look, metrics before samples before the log."""
        found: list[Happening] = []
        if (run := _mark(self.folder)) != self.position.run:
            self.position = replace(beginning(self.folder, self.log), run=run)
            self.restarted = True
        if self.restarted:
            self.restarted = False
            found.append(Happening("restarted", {}, self.position))
        self._lines("metric", METRICS, "metrics", found)
        self._lines("sample", SAMPLES, "samples", found)
        self._text(found)
        state = asdict(self.describe())
        if state != self.told:
            self.told = state
            found.append(Happening("state", state, self.position))
        return found

    def _lines(self, kind: str, file: str, part: str, found: list[Happening]) -> None:
        lines = lines_of(self.folder / file)
        place = min(int(getattr(self.position, part)), lines.size)
        for row, after in lines.since(place, _LINES):
            self.position = replace(self.position, **{part: after})
            found.append(Happening(kind, row, self.position))

    def _text(self, found: list[Happening]) -> None:
        if self.log is None:
            return
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, 2)
                place = min(self.position.log, size)
                file.seek(place)
                raw = file.read(_TEXT)
        except OSError:
            return
        # What ends within a character, or within a line that is still written, waits.
        end = raw.rfind(b"\n") + 1 or (len(raw) if len(raw) == _TEXT else 0)
        if end:
            self.position = replace(self.position, log=place + end)
            text = raw[:end].decode(errors="replace")
            found.append(Happening("log", {"text": text}, self.position))


def beginning(folder: Path, log: Path | None = None) -> Position:
    """Before everything a run has told, and near the end of its log."""
    try:
        size = log.stat().st_size if log is not None else 0
    except OSError:
        size = 0
    return Position(_mark(folder), log=max(0, size - _TEXT))


def _mark(folder: Path) -> str:
    """Which run the folder holds: the same when it is resumed, unless it has taken lines back."""
    said = facts(folder / RUN_MARK)
    found, cuts = said.get("id"), said.get("cuts")
    if isinstance(found, str) and re.fullmatch("[0-9a-f]{8}", found) and isinstance(cuts, int):
        return f"{found}{cuts & 0xFFFFFFFF:x}"
    try:  # of a version that had no marks
        stat = (folder / RUN_CONFIG).stat()
    except OSError:
        return "0"
    return f"{stat.st_mtime_ns & 0xFFFFFFFFFFFF:x}"
