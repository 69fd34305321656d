"""A small real run for tests: a tiny Llama, a few dozen rows that share a system prompt.

As a program (`python -m tests.runs FOLDER BACKEND key=value …`) it trains in a process of its own,
which tests kill. `kills=[N, …]` has it killed as often, each time when it is about to change the
run's files for the Nth time, and resumed, in processes forked from one that has loaded everything;
`"step N"` among them kills it where it has said so, `"update N"` within its Nth update of the
weights.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from livery.config.settings import LoraSettings, TrainSettings
from livery.dataset.load import Dataset, load_dataset
from livery.dataset.reader import Reader
from livery.dataset.template import load_chat
from livery.training.backend import Backend, PortableState
from livery.training.events import CheckpointSaved, Event, Note, Stepped
from livery.training.job import Job, RunResult
from livery.training.loop import train
from tests import forks
from tests.tiny_models import tiny_model

SYSTEM = "Answer with the number that stands in the question, and nothing else at all, please."


def write_data(folder: Path, rows: int = 40, *, pairs: bool = False) -> None:
    """train.jsonl and valid.jsonl: rows, or pairs of answers, that share a system prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, first, count in (("train", 0, rows), ("valid", 1000, 10)):
        with (folder / f"{name}.jsonl").open("w") as file:
            for i in range(first, first + count):
                turns = [
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": f"what about {i * 7} or so"},
                    {"role": "assistant", "content": f"it is {i * 7}" + " indeed" * (i % 4)},
                ]
                row: dict[str, Any] = {"messages": turns}
                if pairs:
                    worse = "I could not say" + " at all" * (i % 3)
                    row = {"prompt": turns[:2], "chosen": turns[2]["content"], "rejected": worse}
                file.write(json.dumps(row) + "\n")


def tiny_settings(folder: Path, **changes: Any) -> TrainSettings:
    """Settings of a run of a second or two below `folder`, its data and model made."""
    data = folder / "data"
    if not data.exists():
        write_data(data, pairs=changes.get("loss_type", "sft") != "sft")
    base = TrainSettings(
        model=str(tiny_model("llama", folder / "models")),
        data=str(data),
        output_dir=str(folder / "run"),
        lora=LoraSettings(rank=4, alpha=8.0),
        batch_size=4,
        max_steps=12,
        learning_rate=1e-2,
        warmup_steps=2,
        steps_per_report=3,
        steps_per_eval=4,
        save_every=5,
        samples=2,
        sample_tokens=6,
        dtype="float32",
        compile="off",
    )
    lora = changes.pop("lora", {})
    return dataclasses.replace(base, lora=dataclasses.replace(base.lora, **lora), **changes)


def open_backend(name: str, settings: TrainSettings) -> Backend:
    """The backend called `name`."""
    if name == "mlx":
        from mlx_train.backend import MlxBackend

        return MlxBackend(settings)
    from cuda_train.backend import TorchBackend

    return TorchBackend(settings)


def moved(made: Backend, seed: int = 1, size: float = 0.1) -> None:
    """Give it an adapter that does something in every one of its tensors."""
    state, rng = made.get_state(), np.random.default_rng(seed)
    weights = {
        name: value + rng.normal(0, size, value.shape).astype(np.float32)
        for name, value in state.weights.items()
    }
    made.set_state(dataclasses.replace(state, weights=weights))


def run(
    settings: TrainSettings,
    backend: str = "mlx",
    *,
    prepare: Callable[[Backend], None] = lambda made: None,
    **job: Any,
) -> tuple[RunResult, list[Event]]:
    """Train; returns the result and every event. The weights land in `final.safetensors`.

    Args:
        prepare: changes the backend before the run begins, as an adapter to start from does.
        job: fields of Job.
    """
    chat = load_chat(settings.model, settings.template)
    files = [Path(settings.data) / f"{name}.jsonl" for name in ("train", "valid")]
    found = [
        load_dataset(f, chat, max_length=200, reader=Reader(pairs=settings.paired))
        if f.exists() else Dataset(()) for f in files
    ]  # fmt: skip
    events: list[Event] = []

    def export(state: PortableState, facts: dict[str, Any]) -> None:
        save_file(state.weights, Path(settings.output_dir) / "final.safetensors")

    given = {
        "train": found[0].examples,
        "valid": found[1].examples,
        "train_digest": found[0].digest,
        "valid_digest": found[1].digest,
        "decode": chat.tokenizer.decode,
        "export": export,
        "callbacks": (events.append,),
        **job,
    }
    made = open_backend(backend, settings)
    prepare(made)
    return train(settings, made, Job(**given)), events


def notes(events: list[Event]) -> list[str]:
    """What the user was told."""
    return [event.text for event in events if isinstance(event, Note)]


def die_at(kill: int | str, folder: Path) -> None:
    """Kill this process before its `kill`th change of a file below `folder`, or before a file of
    that name takes its place there."""
    left = kill if isinstance(kill, int) else 1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"):
            return
        reads = event == "open" and not (arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if reads or not str(Path(str(arguments[0])).absolute()).startswith(str(folder)):
            return
        if isinstance(kill, str) and not (
            event == "os.rename" and Path(str(arguments[1])).name == kill
        ):
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def die_within(function: Callable[..., Any], count: int) -> None:
    """Kill this process in the middle of the `count`th call of a function."""
    code = function.__code__
    lines = sorted({line for _, _, line in code.co_lines() if line})
    middle, left = lines[len(lines) // 2], count

    def each(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "line" and frame.f_lineno == middle:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return each

    sys.settrace(lambda frame, *_: each if frame.f_code is code else None)


def optimizer_step(backend: str) -> Callable[..., Any]:
    """What moves the weights once a step."""
    if backend == "mlx":
        from mlx_train.adamw import AdamW

        return AdamW.update
    from cuda_train.optim import AdamW as TorchAdamW

    return inspect.unwrap(TorchAdamW.step)  # within torch.no_grad()


def main() -> int:
    """Train, printing each step; options are fields of TrainSettings or Job.

    Behind the line that `waits` names, one run waits for a line on standard input. Several runs,
    one after the other, have "--" between them.
    """
    jobs: list[list[str]] = [[]]
    for word in sys.argv[1:]:
        if word == "--":
            jobs.append([])
        else:
            jobs[-1].append(word)
    return max([job(*words) for words in jobs])


def job(folder: str, backend: str, *pairs: str) -> int:
    """One run, or one that is killed and resumed."""
    changes = {k: json.loads(v) for k, _, v in (p.partition("=") for p in pairs)}
    if "kills" not in changes:
        return one(Path(folder), backend, changes)
    for kill in changes.pop("kills"):
        forked(Path(folder), backend, changes, kill)
    return forked(Path(folder), backend, changes, 0)


def forked(folder: Path, backend: str, changes: dict[str, Any], kill: int | str) -> int:
    """`one` in a child, killed at its `kill`th change or line; returns the child's exit status."""

    def work() -> int:
        if isinstance(kill, int) and kill:
            die_at(kill, folder / "run")
        elif isinstance(kill, str) and kill.startswith("update "):
            die_within(optimizer_step(backend), int(kill.split()[1]))
        resume = (folder / "run" / "run_config.json").exists()
        return one(folder, backend, {**changes, "resume": resume}, str(kill))

    for module in loaded(backend):
        importlib.import_module(module)  # once, for all children
    return forks.child(work)


def loaded(backend: str) -> tuple[str, ...]:
    """What takes long of what a run imports."""
    of_backend = ("mlx.core", "mlx_lm") if backend == "mlx" else ("torch", "cuda_train.backend")
    return *of_backend, "transformers"


def one(folder: Path, backend: str, changes: dict[str, Any], last: str = "") -> int:
    """One run in this process, which dies of the line `last`; returns its exit code."""
    from livery.errors import LiveryError

    changes = dict(changes)
    job = {k: changes.pop(k) for k in ("resume", "overwrite") if k in changes}
    waits = changes.pop("waits", "")

    def show(event: Event) -> None:
        if isinstance(event, Stepped | CheckpointSaved):
            kind = "step" if isinstance(event, Stepped) else "checkpoint"
            print(kind, event.step, flush=True)
            if f"{kind} {event.step}" == last:
                os.kill(os.getpid(), signal.SIGKILL)
            if f"{kind} {event.step}" == waits:
                sys.stdin.readline()

    try:
        run(tiny_settings(folder, **changes), backend, callbacks=(show,), **job)
    except LiveryError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
