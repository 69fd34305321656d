"""What a run is given beside its settings, how it is asked to stop, and what it gives back."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from livery.training.backend import PortableState
from livery.training.events import Callback
from livery.training.plan import Example

Export = Callable[[PortableState, dict[str, Any]], Mapping[str, Any] | None]
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Job:
    """What a run works on, beside its settings.

    Attributes:
        train, valid: encoded examples; valid may be empty.
        train_digest, valid_digest: of the examples, as `livery.dataset.encode.digest` makes them;
            "" where nothing is evaluated.
        decode: token ids -> text, for samples.
        export: writes the adapter folder from a state and the run's facts; what it returns is
            recorded with them.
        callbacks: called with every event, in this order, after it is in the run's own files.
        resume: go on with the run in the folder.
        resume_anyway: although it was made from something else.
        overwrite: start over in a folder that holds a run.
        held: the caller holds the folder's lock, and claimed it.
        record: what run_config.json says beside the loop's own facts.
        begin: called when a new run is about to write its first file.
        resume_command: shown when the run is interrupted.
    """

    train: Sequence[Example]
    valid: Sequence[Example]
    train_digest: str
    decode: Decode
    export: Export
    valid_digest: str = ""
    callbacks: Sequence[Callback] = ()
    resume: bool = False
    resume_anyway: bool = False
    overwrite: bool = False
    held: bool = False
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    begin: Callable[[], None] = lambda: None
    resume_command: str = "the same command with --resume"


@dataclass(frozen=True)
class RunResult:
    """How a run ended: steps taken, the step whose weights were kept, and its facts."""

    steps: int
    kept_step: int
    eval_loss: float | None
    facts: dict[str, Any]


class Interrupts:
    """While the block runs, the first signal only sets `requested`.

    Outside the main thread, where Python delivers no signals, nothing is changed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
