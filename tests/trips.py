"""Trips: the files that somebody opens who reads the code in the order in which it runs.

Three things are done with a tiny model, and every function of the house that runs is followed the
first time it is called. A reader goes to its file and back to the caller's: `files` counts the
files that were opened, `returns` how often the reader came back to one already opened.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests import ROOT
from tests.architecture import FLOORS


@dataclass
class Trip:
    """Files in the order in which they are opened, again each time the file changes."""

    path: list[str] = field(default_factory=list[str])

    @property
    def files(self) -> int:
        return len(set(self.path))

    @property
    def returns(self) -> int:
        return len(self.path) - self.files


@contextlib.contextmanager
def followed(root: Path = ROOT, until: str = "") -> Generator[Trip]:
    """Follow what this thread calls within the block.

    Args:
        root: whose Python files count, those of the packages of the house.
        until: "file:function" whose call ends the trip.
    """
    trip, seen, stack = Trip(), set[CodeType](), list[tuple[CodeType, str]]()
    tops = tuple(str(root / top) + "/" for top in FLOORS)
    importing, over = 0, False

    def go(file: str) -> None:
        if file and (not trip.path or trip.path[-1] != file):
            trip.path.append(file)

    def watch(frame: FrameType, event: str, _: Any) -> None:
        nonlocal importing, over
        code = frame.f_code
        if over or not code.co_filename.startswith(tops):
            return
        if code.co_name == "<module>":  # what an import runs is not followed
            importing += {"call": 1, "return": -1}.get(event, 0)
        if importing:
            return
        file = code.co_filename.removeprefix(f"{root}/")
        if event == "call":
            over = f"{file}:{code.co_name}" == until
            if code not in seen and not over:
                seen.add(code)
                stack.append((code, trip.path[-1] if trip.path else ""))
                go(file)
        elif event == "return" and stack and stack[-1][0] is code:
            go(stack.pop()[1])

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield trip
    finally:
        sys.setprofile(before)


def read_adapter(folder: Path) -> Trip:
    """`read_adapter` of a PEFT folder, with its base."""
    from convert.adapters import formats, peft
    from convert.base import load_base
    from livery.adapter import from_portable
    from tests.runs import open_backend, tiny_settings

    settings = tiny_settings(folder)
    base = load_base(settings.model)
    state = open_backend("torch", settings).get_state()
    adapter = from_portable(
        state.weights, settings.lora, base_model=settings.model, model_type=base.model_type
    )
    peft.write(adapter, folder / "adapter", base)
    with followed() as trip:
        formats.read_adapter(folder / "adapter", base)
    return trip


def torch_step(folder: Path) -> Trip:
    """A training step of the torch backend."""
    from tests.cuda_train.test_torch_loss import draw
    from tests.runs import open_backend, tiny_settings

    backend = open_backend("torch", tiny_settings(folder))
    with followed() as trip:
        backend.train_step([draw()], step=1, learning_rate=1e-3)
    return trip


def train_request(folder: Path) -> Trip:
    """`livery train`, from the command line until its base is loaded."""
    from livery import cli
    from tests.runs import tiny_settings

    settings = tiny_settings(folder)
    arguments = [
        "train", "--backend", "torch", "--model", settings.model, "--data", settings.data,
        "--output-dir", settings.output_dir, "--max-steps", "1", "--device", "cpu",
    ]  # fmt: skip
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(SystemExit),
        followed(until="commands/training/backends.py:load") as trip,
    ):
        cli.main(arguments)
    return trip


TRIPS: dict[str, Callable[[Path], Trip]] = {
    "read_adapter": read_adapter,
    "a torch training step": torch_step,
    "a request to train": train_request,
}


def table(*, named: bool = False) -> str:
    """The trips as Markdown; `named` lists the files of each, too."""
    rows = ["| trip | files | returns |", "|---|---:|---:|"]
    paths: list[str] = []
    for name, take in TRIPS.items():
        with tempfile.TemporaryDirectory() as folder:
            trip = take(Path(folder))
        rows.append(f"| {name} | {trip.files} | {trip.returns} |")
        paths.append("\n".join([f"{name}:", *(f"  {file}" for file in trip.path)]))
    return "\n".join([*rows, *(["", *paths] if named else [])])
