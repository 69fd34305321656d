"""The reference's log-probabilities: of the adapter the run starts from, computed once, kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from livery.errors import UserError
from livery.training.backend import Backend
from livery.training.events import CheckpointSaved, Evaluated
from tests.runs import moved, open_backend, run, tiny_settings

pytest.importorskip("mlx.core")
pytestmark = pytest.mark.slow


class Killed(BaseException):
    """Stands for a kill."""


def settings(folder: Path, **changes: Any) -> Any:
    asked = {"loss_type": "sigmoid", "samples": 0, "max_steps": 6, "save_every": 3}
    return tiny_settings(folder, **{**asked, **changes})


def start(seed: int) -> Callable[[Backend], None]:
    """A run's start: an adapter that is not nothing."""
    return lambda made: moved(made, seed)


def stored(folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    header, *rest = map(json.loads, (folder / "run" / "reference.jsonl").read_text().splitlines())
    return header, {key: value for line in rest for key, value in line["rows"].items()}


class Counting:
    """Counts the micro-batches whose log-probabilities a run asks for, and may die of one."""

    def __init__(self, seed: int, die_at: int = 0) -> None:
        self.seed, self.die_at, self.count = seed, die_at, 0

    def __call__(self, made: Any) -> None:
        moved(made, self.seed)
        logprobs = made.logprobs

        def counted(batch: Any) -> Any:
            self.count += 1
            if self.count == self.die_at:
                raise Killed
            return logprobs(batch)

        made.logprobs = counted


def test_it_is_the_adapter_the_run_starts_from(tmp_path: Path) -> None:
    run(settings(tmp_path), prepare=start(1))
    _, values = stored(tmp_path)
    made = open_backend("mlx", settings(tmp_path))
    bare = dict(stored_of(made, tmp_path))
    moved(made, 1)
    ours = dict(stored_of(made, tmp_path))
    assert len(values) == len(ours) == 100
    for key, value in values.items():
        assert value == pytest.approx(ours[key], abs=1e-4)
    assert max(abs(values[key] - bare[key]) for key in values) > 0.1, "nor the bare base"


def stored_of(made: Backend, folder: Path) -> list[tuple[str, float]]:
    """Digest and log-probability of every row, each by itself."""
    from livery.dataset.load import load_dataset
    from livery.dataset.reader import Reader
    from livery.dataset.template import load_chat
    from livery.training.plan import Chunk, make_batch
    from livery.training.reference import row_digest

    asked = settings(folder)
    chat = load_chat(asked.model, asked.template)
    found: list[tuple[str, float]] = []
    for name in ("train", "valid"):
        path = folder / "data" / f"{name}.jsonl"
        rows = load_dataset(path, chat, max_length=200, reader=Reader(pairs=True)).examples
        for at, row in enumerate(rows):
            batch = make_batch(Chunk(0, (at,)), rows)
            found.append((row_digest(row), float(made.logprobs(batch)[0])))
    return found


def test_computed_once_and_a_stopped_computation_goes_on(tmp_path: Path) -> None:
    whole = Counting(1)
    run(settings(tmp_path / "whole"), prepare=whole)
    first = Counting(1, die_at=5)
    with pytest.raises(Killed):
        run(settings(tmp_path / "killed"), prepare=first)
    path = tmp_path / "killed" / "run" / "reference.jsonl"
    with path.open("a") as file:
        file.write('{"rows": {"abc')  # cut off by the kill
    second = Counting(1)
    run(settings(tmp_path / "killed"), prepare=second)
    assert stored(tmp_path / "killed") == stored(tmp_path / "whole")
    assert first.count - 1 + second.count == whole.count
    ours, theirs = (
        (tmp_path / name / "run" / "final.safetensors").read_bytes() for name in ("whole", "killed")
    )
    assert ours == theirs


@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_it_survives_evaluation_and_resume_even_on_the_other_backend(
    tmp_path: Path, backend: str
) -> None:
    """Whatever has become of the adapter that the run started from."""

    def stop(event: object) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 3:
            raise Killed

    with pytest.raises(Killed):
        run(settings(tmp_path), prepare=start(1), callbacks=(stop,))
    before = stored(tmp_path)
    counting = Counting(2)
    _, told = run(settings(tmp_path), backend, prepare=counting, resume=True)
    assert stored(tmp_path) == before
    evaluations = sum(isinstance(event, Evaluated) for event in told)
    assert counting.count <= 3 * evaluations, "nothing but evaluations"
    _, undisturbed = run(settings(tmp_path / "whole"), prepare=start(1))
    ends = [[e.eval_loss for e in each if isinstance(e, Evaluated)][-1]
            for each in (told, undisturbed)]  # fmt: skip
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)


def test_another_adapter_base_or_row_is_computed_anew(tmp_path: Path) -> None:
    run(settings(tmp_path), prepare=start(1))
    header, values = stored(tmp_path)
    counting = Counting(2)
    run(settings(tmp_path), prepare=counting, overwrite=True)
    other, others = stored(tmp_path)
    assert other["adapter"] != header["adapter"]
    assert other["base"] == header["base"]
    assert others.keys() == values.keys()
    assert all(abs(others[key] - values[key]) > 1e-4 for key in values)
    path = tmp_path / "data" / "train.jsonl"
    path.write_text(path.read_text().replace("about 14 or", "about 15 or"))
    run(settings(tmp_path), prepare=start(2), overwrite=True)
    assert len(stored(tmp_path)[1].keys() - others.keys()) == 2


def test_a_run_that_goes_on_never_takes_another_reference(tmp_path: Path) -> None:
    def stop(event: object) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 3:
            raise Killed

    with pytest.raises(Killed):
        run(settings(tmp_path), prepare=start(1), callbacks=(stop,))
    path = tmp_path / "run" / "reference.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))  # a line is lost
    with pytest.raises(UserError, match=r"not what the run started from.*--overwrite"):
        run(settings(tmp_path), prepare=start(2), resume=True)
    run(settings(tmp_path), prepare=start(1), resume=True)


def test_a_file_of_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "reference.jsonl").write_text('{"text": "my notes"}\n')
    with pytest.raises(UserError, match="not the log-probabilities of a reference"):
        run(settings(tmp_path))
    assert "my notes" in (tmp_path / "run" / "reference.jsonl").read_text()
    tiny_settings(tmp_path / "sft")
    run(tiny_settings(tmp_path / "sft", max_steps=1, samples=0))
    assert not (tmp_path / "sft" / "run" / "reference.jsonl").exists()
