"""The number of threads of a run on a CPU: measured, said, recorded, kept on resuming."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from livery.training import loop, run_folder, threads
from livery.training.events import CheckpointSaved
from tests.runs import notes, open_backend, run, tiny_settings

BACKENDS = ("mlx", "torch")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """No number asked for, two cores, and the process left as it was found."""
    import torch

    from livery import blas

    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "physical_cores", lambda: 2)
    before, library = torch.get_num_threads(), blas.handle()
    blas_before = library.openblas_get_num_threads() if library else 1
    torch.set_num_threads(2)
    if library:
        library.openblas_set_num_threads(2)
    yield
    torch.set_num_threads(before)
    if library:
        library.openblas_set_num_threads(blas_before)


class Machine:
    """Seconds of a micro-batch by number of threads, and which numbers were tried."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds, self.tried = seconds, list[int]()

    def __call__(self, number: int) -> float:
        self.tried.append(number)
        return self.seconds[number]


def test_an_idle_machine_takes_all_cores_and_a_busy_one_as_many_as_help() -> None:
    for seconds, best in (
        ({1: 2.0, 2: 1.1}, 2),
        ({1: 1.2, 2: 51.0}, 1),
        ({1: 1.0, 2: 0.98}, 1),  # a thread that wins nothing is a thread for others
        ({1: 4.0, 2: 2.2, 4: 1.3, 8: 3.0}, 4),
    ):
        found = threads.choose(max(seconds), Machine(seconds))
        assert found is not None
        assert found.threads == best, seconds


def test_what_cannot_help_is_not_measured() -> None:
    idle = Machine({16: 1.0, 8: 1.9})  # 4, 2 and 1 are not tried
    found = threads.choose(16, idle)
    assert found is not None
    assert found.threads == 16
    assert threads.choose(2, Machine({2: threads.WORTH / 2})) is None, "too short to matter"
    busy = Machine({1: 2.0, 2: 25.0})
    assert threads.choose_again(8, busy).threads == 1
    assert busy.tried == [1, 2]


def test_only_many_times_slower_steps_in_a_row_call_for_another_measurement() -> None:
    pace = threads.Pace()
    steady = [pace.has_dropped(0.5 + 0.1 * (i % 3), 100) for i in range(20)]
    assert not any(steady)
    assert not any(pace.has_dropped(5.0, 1000) for _ in range(5)), "ten times the work"
    assert [pace.has_dropped(5.0, 100) for _ in range(2)] == [False, False]
    assert not pace.has_dropped(0.5, 100), "one that is not slow begins the count anew"
    assert [pace.has_dropped(5.0, 100) for _ in range(4)] == [False, False, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_number_that_was_asked_for_is_taken_recorded_and_kept(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(tmp_path, threads=1, max_steps=2)
    _, events = run(settings, backend)
    assert "Computing with 1 thread, as --threads says." in notes(events)
    assert run_folder.recorded_threads(Path(settings.output_dir)) == 1

    settings = tiny_settings(tmp_path, max_steps=2)
    _, events = run(settings, backend, resume=True)
    assert "Computing with 1 thread, as the run began (--threads sets another)." in notes(events)

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    _, events = run(settings, backend, resume=True)
    (said,) = [text for text in notes(events) if "thread" in text]
    assert said.startswith("Computing with 2 threads, as OMP_NUM_THREADS says. The run computed")
    assert run_folder.recorded_threads(Path(settings.output_dir)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_trial_changes_nothing(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(tmp_path, max_steps=3, lora={"dropout": 0.2})
    monkeypatch.setattr(threads, "WORTH", 1e9)  # on a slow machine too, the same number each time
    results = [run(settings, backend, overwrite=n > 0)[0] for n in range(2)]
    assert results[0].facts["eval_loss"] == results[1].facts["eval_loss"]
    plain = open_backend(backend, settings)
    before = plain.get_state().weights

    def tried(threads_: int, seconds_with: Any) -> None:
        for number in (threads_, 1, threads_):
            seconds_with(number)

    monkeypatch.setattr(threads, "choose", tried)
    again, _ = run(settings, backend, overwrite=True)
    assert again.facts["eval_loss"] == results[0].facts["eval_loss"]
    assert all((before[name] == w).all() for name, w in plain.get_state().weights.items())


class Clock:
    """Seconds that pass when the test says so, whatever the machine is busy with."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic


@pytest.mark.slow
def test_a_run_that_a_busy_machine_slows_down_goes_on_with_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the tenth step two threads wait for each other, as beside other programs."""
    from cuda_train.backend import TorchBackend

    clock = Clock()

    class Slowed(TorchBackend):
        def train_step(self, batches: Any, *, step: int, learning_rate: float) -> Any:
            result = super().train_step(batches, step=step, learning_rate=learning_rate)
            clock.now += 10.0 if step > 10 and self.threads() == 2 else 1.0
            return result

        def trial(self, batch: Any) -> None:
            super().trial(batch)
            clock.now += 10.0 if self.threads() == 2 else 1.0

    monkeypatch.setattr("tests.runs.open_backend", lambda _, settings: Slowed(settings))
    monkeypatch.setattr(threads, "choose", lambda most, seconds: None)
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(threads, "time", clock)
    settings = tiny_settings(tmp_path, max_steps=16, samples=0, save_every=0, steps_per_eval=0)
    _, events = run(settings, "torch")
    (said,) = [text for text in notes(events) if "thread" in text]
    assert said.startswith("The last 3 steps took over 4 times the usual: going on with 1 thread")
    folder = Path(settings.output_dir)
    assert run_folder.recorded_threads(folder) == 1
    saved = [event.step for event in events if isinstance(event, CheckpointSaved)]
    assert saved == [13, 16], "what two threads computed is not computed again by one"
