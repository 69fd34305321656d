"""Standard streams as they come: closed, full, gone, in another encoding.

A closed stream is read as the wish not to hear (or say) anything: it becomes /dev/null. Left
closed, its number would go to the next file that is opened, and what a library prints would be
written into that file.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, TextIO, cast

from livery.errors import UserError

LONGEST_REQUEST = 1 << 20


def prepare() -> None:
    """Open what is closed, and let no stream's own fault end a run. Call it once, at the start."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))
    # What the terminal's encoding lacks is printed as an escape.
    with contextlib.suppress(AttributeError):
        cast("Any", sys.stdout).reconfigure(errors="backslashreplace")
    sys.stdout = cast("TextIO", _Guarded(sys.stdout, forgiving=False))
    sys.stderr = cast("TextIO", _Guarded(sys.stderr, forgiving=True))


class OutputError(Exception):
    """Standard output did not take what was printed; `fault` is what the system said."""

    def __init__(self, fault: OSError) -> None:
        super().__init__(str(fault))
        self.fault = fault


class _Guarded:
    """A standard stream whose faults are told from those of files.

    Standard output raises OutputError until `output_fault` has asked for it. Standard error carries
    messages alone: where they cannot be written, the work continues without them.
    """

    def __init__(self, stream: IO[str], *, forgiving: bool) -> None:
        self._stream = stream
        self.forgiving = forgiving
        self.fault: OSError | None = None

    def write(self, text: str) -> int:
        try:
            count = self._stream.write(text)
        except OSError as error:
            count = len(text)
            self._give_up(error)
        self._tell()
        return count

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)
        self._tell()

    def _give_up(self, error: OSError) -> None:
        self.fault = error
        with contextlib.suppress(OSError):  # else closing it would fail once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def _tell(self) -> None:
        if self.fault is not None and not self.forgiving:
            raise OutputError(self.fault)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def output_fault() -> OSError | None:
    """What kept standard output from taking what was printed, if anything did."""
    stream = sys.stdout
    if not isinstance(stream, _Guarded):
        return None
    with contextlib.suppress(OutputError):
        stream.flush()
    stream.forgiving = True
    return stream.fault


def requests() -> Iterator[str]:
    """The non-blank lines of standard input.

    Raises:
        UserError: it is not UTF-8 text, or a line is longer than any model reads.
    """
    stream: IO[str] | None = sys.stdin
    if stream is None:
        return
    if stream.isatty():
        print("One request a line; Ctrl-D ends them.", file=sys.stderr)
    number = 0
    while True:
        number += 1
        try:
            line = stream.readline(LONGEST_REQUEST + 1)
        except UnicodeDecodeError as error:
            raise UserError(
                f"standard input: not {error.encoding} text ({error.reason})."
            ) from None
        if len(line) > LONGEST_REQUEST:
            raise UserError(f"standard input:{number}: a line of more than 1 MB.")
        if not line:
            return
        if line.strip():
            yield line.strip()
