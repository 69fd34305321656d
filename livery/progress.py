"""Progress with its rate and the time left: a bar on a terminal, plain lines elsewhere.

with Progress("training", total=600, unit="steps") as progress:
    for step in range(600):
        progress.advance(note=f"loss {loss:.3f}")
        progress.say("a line that stays")
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Generator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

OnProgress = Callable[[int, int], None]  # called with (how many are done, how many in all)

# Seconds between plain lines: a log stays readable and still shows that something moves.
PLAIN_EVERY = 10.0
# The rate is that of the last so many seconds, so that a slow start does not spoil the estimate.
WINDOW = 30.0


class Progress:
    """A count on its way to a total, shown on stderr.

    Args:
        what: what is going on, "training".
        total: how many there will be.
        unit: what is counted, in the plural.
        done: how many were done before (a resumed run); they do not enter the rate.
        after: seconds before anything is shown, for work that may be over by then.
        file: where to; stderr unless said otherwise.
    """

    def __init__(
        self,
        what: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        after: float = 0.0,
        file: IO[str] | None = None,
    ) -> None:
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self.after = after
        self.file = file or sys.stderr
        self.note = ""
        self._began = 0.0
        self._bar: Bar | None = None
        self._task: Any = None
        self._marks: list[tuple[float, int]] = []
        self._last_line = 0.0

    def __enter__(self) -> Progress:
        now = time.monotonic()
        self._marks = [(now, self.done)]
        self._began = now
        self._last_line = now + self.after - (PLAIN_EVERY if self.after else 0.0)
        if self.file.isatty() and not self.after:
            self._open_bar()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self.done > self._marks[0][1] and self._is_due():
            self._line()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count `count` more; `note` stands behind the bar until the next one."""
        self.update(self.done + count, note)

    def update(self, done: int, note: str | None = None) -> None:
        """Set the count."""
        self.done = done
        self.note = self.note if note is None else note
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > WINDOW:
            del self._marks[0]
        if self._bar is None and self.after and self._is_due() and self.file.isatty():
            self._open_bar()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, state=self._state())
        elif now - self._last_line >= PLAIN_EVERY:
            self._last_line = now
            self._line()

    def say(self, text: str) -> None:
        """Print a line that stays, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.file, flush=True)

    def rate(self) -> float:
        """Per second, over the last half minute; 0 before anything was counted."""
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return (last - first) / (now - began) if now > began else 0.0

    def seconds_left(self) -> float | None:
        """None while there is no rate."""
        rate = self.rate()
        return (self.total - self.done) / rate if rate > 0 else None

    def _is_due(self) -> bool:
        return time.monotonic() - self._began >= self.after

    def _state(self) -> str:
        left = self.seconds_left()
        parts = [
            f"{show_rate(self.rate())} {self.unit}/s",
            f"{show_seconds(left)} left" if left is not None and self.done < self.total else "",
            self.note,
        ]
        return " · ".join(part for part in parts if part)

    def _line(self) -> None:
        share = self.done / self.total if self.total else 1.0
        print(
            f"{self.what}: {self.done}/{self.total} {self.unit} ({share:.0%}) · {self._state()}",
            file=self.file,
            flush=True,
        )

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(file=self.file),
            transient=True,
        )
        self._task = self._bar.add_task(self.what, total=self.total, completed=self.done, state="")
        self._bar.start()


@contextlib.contextmanager
def megabytes(what: str, *, shown: bool = True) -> Generator[OnProgress | None]:
    """Yield a callback for work that learns its size only when it starts to write.

    Its first call opens the progress that the block's end closes.

    Nothing is `shown`: yields None, for a program that reads the output.
    """
    if not shown:
        yield None
        return
    with contextlib.ExitStack() as stack:
        bar: Progress | None = None

        def moved(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                bar = stack.enter_context(Progress(what, total // 1_000_000, "MB"))
            bar.update(done // 1_000_000)

        yield moved


def show_seconds(seconds: float) -> str:
    """1.4 s, 12 s, 3:07, 1:02:03."""
    if 0 <= seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"


def show_rate(rate: float) -> str:
    """Three figures at most: 0.18, 5.3, 120."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.2g}" if rate < 10 else f"{rate:.1f}"


def show_bytes(count: float) -> str:
    """17 MB, 1.3 GB (decimal)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
