"""What of an answer is shown while it grows: nothing behind a stop, and no call of a tool."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from livery.engines.engine import Enough


class Gate:
    """An `OnText` before another one.

    Attributes:
        text: all that was heard, up to a stop.
        stopped: a stop ended the answer.
    """

    def __init__(
        self, show: Callable[[str], None], stops: Sequence[str] = (), opening: str | None = None
    ) -> None:
        """Args:
        stops: texts that end the answer.
        opening: what a call of a tool begins with; "" where a call is the whole answer, an
            object of JSON. None where there are no tools.
        """
        self.text, self.stopped = "", False
        self._show, self._stops, self._opening = show, tuple(stops), opening
        self._shown = 0

    def hear(self, piece: str) -> None:
        """Take the next piece.

        Raises:
            Enough: a stop is there.
        """
        self.text += piece
        found = [at for stop in self._stops if (at := self.text.find(stop, self._shown)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True
            raise Enough
        self._show_to(self._open_to())

    def end(self, whole: str | None = None) -> None:
        """Show what was held back; `whole` is the answer without its calls, where it has any."""
        if whole is not None:
            self.text = whole
        self._show_to(len(self.text))

    def _open_to(self) -> int:
        """How much cannot turn out to be a stop or a call."""
        marks = [*self._stops]
        if self._opening == "" and self.text.lstrip()[:1] in ("", "{"):
            return 0
        if self._opening:
            if (at := self.text.find(self._opening, self._shown)) >= 0:
                return at
            marks.append(self._opening)
        return len(self.text) - max((_overlap(self.text, mark) for mark in marks), default=0)

    def _show_to(self, end: int) -> None:
        if end > self._shown:
            self._show(self.text[self._shown : end])
            self._shown = end


def _overlap(text: str, mark: str) -> int:
    """Characters at the end of `text` that `mark` begins with, fewer than all of it."""
    for size in range(min(len(text), len(mark) - 1), 0, -1):
        if text.endswith(mark[:size]):
            return size
    return 0
