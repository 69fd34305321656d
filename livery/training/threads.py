"""How many threads a run computes with on a CPU: measured at its start, under the load there is.

Two threads beside other programs may be forty times slower than one: each waits for the other,
which waits for a core. On an idle machine they are nearly twice as fast. No rule predicts this; a
few micro-batches show it. Sums round otherwise with another number, so a run records its own and is
resumed with it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from livery.errors import counted
from livery.machine import physical_cores
from livery.training.backend import Backend
from livery.training.forecast import is_out_of_memory
from livery.training.plan import MicroBatch, take_rows
from livery.training.self_check import FAMILY_ERRORS

ROWS = 8  # of a micro-batch, which are measured
# A micro-batch that takes less is not worth measuring: nobody waits for it.
WORTH = 0.25  # seconds
# Fewer threads win where more are not faster by this share.
_MARGIN = 0.95
# Fewer threads are not tried any further once they cost this much more.
_HOPELESS = 1.25
_SECOND_ROUND = 4.0  # seconds that it may take

# So many steps in a row, each slower than this many times the median, call for a new measurement.
SLOW, IN_A_ROW = 4.0, 3
_KNOWN = 8  # steps before the median says anything
_WINDOW = 64


@dataclass(frozen=True)
class Chosen:
    """The number of threads, and the seconds that a micro-batch took by number."""

    threads: int
    seconds: dict[int, float]

    def describe(self, of: str = "a micro-batch") -> str:
        """For people: "2 threads (0.41 s a micro-batch; 1: 0.78 s)"."""
        name = "thread" if self.threads == 1 else "threads"
        others = "; ".join(
            f"{number}: {seconds:.2g} s"
            for number, seconds in sorted(self.seconds.items())
            if number != self.threads
        )
        return (
            f"{self.threads} {name} ({self.seconds[self.threads]:.2g} s {of}"
            f"{f'; {others}' if others else ''})"
        )


def asked_by_environment(backend: str) -> tuple[str, int]:
    """(the variable by which the user chose the backend's number of threads, the number); ("", 0)
    for none."""
    names = ("OMP_NUM_THREADS",)  # torch's; a list gives the numbers of nested levels
    for name in ("OPENBLAS_NUM_THREADS", *names) if backend == "mlx" else names:
        number = os.environ.get(name, "").partition(",")[0].strip()
        if number.isdigit() and int(number):
            return name, int(number)
    return "", 0


def choose(most: int, seconds_with: Callable[[int], float]) -> Chosen | None:
    """The number of threads that makes a micro-batch fastest.

    Args:
        most: as many as there are cores for.
        seconds_with: computes a micro-batch with so many threads, and says how long it took.

    Returns:
        None where a micro-batch with `most` takes less than `WORTH` already.
    """
    seconds_with(most)  # the first one also loads and allocates
    found = {most: seconds_with(most)}
    if found[most] < WORTH:
        return None
    number = most
    while number > 1:
        number = max(1, number // 2)
        found[number] = seconds_with(number)
        if found[number] > _HOPELESS * min(found.values()):
            break
    close = [n for n, s in found.items() if s <= _HOPELESS * min(found.values())]
    if len(close) > 1 and sum(found[n] for n in close) < _SECOND_ROUND:
        for number in close:
            found[number] = (found[number] + seconds_with(number)) / 2
    return _fastest(found)


def choose_again(most: int, seconds_with: Callable[[int], float]) -> Chosen:
    """As `choose`, for a machine that has become busy: from one thread upwards, so that what takes
    many times too long is computed once."""
    found: dict[int, float] = {}
    number = 1
    while True:
        found[number] = seconds_with(number)
        if number == most or found[number] > _HOPELESS * min(found.values()):
            return _fastest(found)
        number = min(most, 2 * number)


def _fastest(found: dict[int, float]) -> Chosen:
    best = min(found.values())
    return Chosen(min(n for n, s in found.items() if s * _MARGIN <= best), found)


@dataclass(frozen=True)
class Settled:
    """How a run's number of threads was settled.

    Attributes:
        measured: by measurement, so that another one may change it.
        note: for the user; "" where there was no choice.
    """

    measured: bool
    note: str


def settle(asked: int | None, before: int | None, backend: Backend, batch: MicroBatch) -> Settled:
    """Choose the number of threads of a run on a CPU, and tell the backend.

    Args:
        asked: by the settings.
        before: of the run that is resumed.
        batch: of the run's first step.
    """
    if not backend.threads():  # on a GPU
        return Settled(False, "")
    if backend.world > 1:  # whoever started the processes has shared out the cores
        if asked:
            backend.use_threads(asked)
        return Settled(False, "")
    name, number = ("--threads", asked) if asked else asked_by_environment(backend.name)
    if name or before:
        number = number or before or backend.threads()
        backend.use_threads(number)
        why = f"as {name} says" if name else "as the run began (--threads sets another)"
        text = f"Computing with {counted(number, 'thread')}, {why}."
        if before and number != before:
            text += (
                f" The run computed with {before} until now: its sums round differently from "
                "here on."
            )
        return Settled(not name, text if name or physical_cores() > 1 else "")
    most = min(backend.threads(), physical_cores())
    if most < 2:
        return Settled(False, "")
    try:
        found = choose(most, _trial(backend, batch))
    except FAMILY_ERRORS as error:
        if is_out_of_memory(error):
            raise
        found = None  # the self-check, which comes next, says more of it
    backend.use_threads(found.threads if found else most)
    return Settled(True, f"Computing with {found.describe()}; --threads sets it." if found else "")


def settle_again(backend: Backend, batch: MicroBatch) -> Chosen:
    """Choose again in the middle of a run, of which the backend keeps its number until it is told
    the new one."""
    before = backend.threads()
    found = choose_again(physical_cores(), _trial(backend, batch))
    backend.use_threads(before)
    return found


def _trial(backend: Backend, batch: MicroBatch) -> Callable[[int], float]:
    """What computes a part of the batch with so many threads."""
    part = take_rows(batch, np.arange(min(ROWS, len(batch.tokens))))

    def seconds_with(number: int) -> float:
        backend.use_threads(number)
        began = time.perf_counter()
        backend.trial(part)
        return time.perf_counter() - began

    return seconds_with


class Pace:
    """Whether the steps of a run have become many times slower than they were."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_WINDOW)
        self._slow = 0

    def has_dropped(self, seconds: float, positions: int) -> bool:
        """Tell it of a step that computed so many positions; True for the third slow one in a row,
        after which it begins again."""
        each = seconds / max(1, positions)
        known = len(self._seen) >= _KNOWN
        if known and seconds > WORTH and each > SLOW * statistics.median(self._seen):
            self._slow += 1
        else:
            self._slow = 0
            self._seen.append(each)
        if self._slow < IN_A_ROW:
            return False
        self._seen.clear()
        self._slow = 0
        return True
