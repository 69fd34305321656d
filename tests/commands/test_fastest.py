"""`--backend auto` on a CPU: measured once, told, and never against an explicit choice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from commands.training import backends, fastest
from commands.training.fastest import Candidate
from livery.config.settings import TrainSettings
from livery.training.plan import MicroBatch, Plan
from tests.runs import tiny_settings

Measure = Callable[..., Candidate]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainSettings:
    """Of a tiny run on an idle machine with a cache of its own."""
    monkeypatch.setenv("LIVERY_CACHE", "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fastest, "busy", lambda: False)
    monkeypatch.setattr(fastest, "multiplies_bfloat16", lambda: True)
    return tiny_settings(tmp_path, dtype="auto")


@pytest.fixture
def batch(settings: TrainSettings) -> MicroBatch:
    from commands.training.data import load_data

    rows = load_data(settings).train.examples
    return Plan(rows, 4, 1, settings.seed, True).step(0)[0]


def measured(*seconds: float | None) -> Measure:
    """Candidates in their order take so long; None cannot train."""
    left = list(seconds)

    def measure(candidate: Candidate, *_: object) -> Candidate:
        took = left.pop(0)
        return dataclasses.replace(candidate, seconds=took, why="" if took else "it fails")

    return measure


def test_the_fastest_is_taken_told_and_remembered(
    settings: TrainSettings, batch: MicroBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(fastest, "measure", measured(1.0, 0.95, 0.6))
    best = fastest.fastest(settings, batch, 200, said.append)
    assert (best and best.backend, best and best.dtype) == ("torch", "bfloat16")
    assert "once for this machine" in said[0]
    assert "mlx in float32 1 s, torch in float32 0.95 s, torch in bfloat16 0.6 s" in said[1]
    # Nothing is left to be measured: the verdict is known, for short runs too.
    assert fastest.fastest(settings, batch, 1, said.append) == best
    assert "when it was measured" in said[-1]
    wider = dataclasses.replace(settings, lora=dataclasses.replace(settings.lora, rank=64))
    assert fastest.fastest(wider, batch, 1, said.append) is None, "another shape"


def test_mlx_stays_where_nothing_is_clearly_faster_and_what_fails_is_told(
    settings: TrainSettings, batch: MicroBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(fastest, "measure", measured(1.0, 0.95, None))
    best = fastest.fastest(settings, batch, 200, said.append)
    assert best is not None
    assert best.backend == "mlx"
    assert "torch in bfloat16 no (it fails)" in said[-1]


def test_short_runs_and_busy_machines_are_not_measured(
    settings: TrainSettings, batch: MicroBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(fastest, "measure", measured())  # would fail
    assert fastest.fastest(settings, batch, fastest.WORTH_STEPS - 1, said.append) is None
    assert said == []
    monkeypatch.setattr(fastest, "busy", lambda: True)
    assert fastest.fastest(settings, batch, 200, said.append) is None
    assert "not measured" in said[0]


def test_a_dtype_that_was_asked_for_is_the_only_one_tried(settings: TrainSettings) -> None:
    def tried(dtype: str) -> list[tuple[str, str]]:
        asked = dataclasses.replace(settings, dtype=dtype)
        return [(c.backend, c.dtype) for c in fastest.candidates(asked)]

    assert tried("bfloat16") == [("mlx", "bfloat16"), ("torch", "bfloat16")]
    assert tried("float32") == [("mlx", "float32"), ("torch", "float32")]
    assert tried("float16") == []


def test_on_one_backend_the_dtype_is_measured(
    settings: TrainSettings, batch: MicroBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fastest.candidates(settings, ("mlx",)) == [Candidate("mlx", "float32")], "nothing to do"
    said: list[str] = []
    monkeypatch.setattr(fastest, "measure", measured(1.0, 0.6))
    best = fastest.fastest(settings, batch, 200, said.append, ("torch",))
    assert (best and best.backend, best and best.dtype) == ("torch", "bfloat16")
    assert "mlx" not in said[-1]


def test_what_was_asked_for_is_what_is_measured_among(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from commands.training import session
    from commands.training.data import load_data

    among: list[object] = []

    def note(*given: object) -> Candidate:
        among.append(given[-1])
        return Candidate("torch", "bfloat16", 0.5)

    monkeypatch.setattr(fastest, "on_a_cpu", lambda _: True)
    monkeypatch.setattr(fastest, "fastest", note)
    examples = load_data(settings).train.examples
    asked = dataclasses.replace(settings, backend="torch", dtype="auto")
    found, _ = session.choose_fastest(asked, asked, examples, False, print)
    assert (found.backend, found.dtype) == ("torch", "bfloat16")
    session.choose_fastest(
        asked, dataclasses.replace(asked, backend="auto"), examples, False, print
    )
    assert among == [["torch"], ["mlx", "torch"]]


def test_a_resumed_run_is_not_measured_again_and_keeps_its_own(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from commands.training import session
    from livery.training import run_folder

    def none(*_: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(fastest, "fastest", none)
    named = dataclasses.replace(settings, backend="mlx")
    assert session.choose_fastest(named, settings, (), True, print)[0] == named, "no record yet"
    ran = dataclasses.replace(settings, backend="torch", dtype="bfloat16")
    Path(settings.output_dir).mkdir(parents=True)
    run_folder.write_run_config(Path(settings.output_dir), ran, {})
    again, _ = session.choose_fastest(named, settings, (), True, print)
    assert (again.backend, again.dtype) == ("torch", "bfloat16")
    # What is asked for now takes precedence over what the run began with.
    again, _ = session.choose_fastest(named, named, (), True, print)
    assert (again.backend, again.dtype) == ("mlx", "auto")
    wide = dataclasses.replace(settings, dtype="float32")
    again, _ = session.choose_fastest(wide, wide, (), True, print)
    assert (again.backend, again.dtype) == ("torch", "float32")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["mlx", "torch"])
def test_a_candidate_is_timed_in_a_process_of_its_own(
    backend: str, settings: TrainSettings, batch: MicroBatch
) -> None:
    measure = fastest.measure
    found = measure(Candidate(backend, "float32"), settings, batch)  # pyright: ignore[reportArgumentType]
    assert found.why == ""
    assert found.seconds is not None
    assert found.seconds > 0
    broken = dataclasses.replace(settings, model=settings.data)
    failed = measure(Candidate(backend, "float32"), broken, batch)  # pyright: ignore[reportArgumentType]
    assert failed.seconds is None
    assert failed.why


def test_quantized_weights_on_a_cpu_are_warned_of_before(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.sys, "platform", "linux")
    monkeypatch.setattr(
        backends, "version", lambda package: "0.32" if package == "mlx-cpu" else None
    )
    asked = dataclasses.replace(settings, backend="mlx", quantize=4)
    _, notes = backends.choose(asked)
    assert any("ten times slower" in note and "Leave it out" in note for note in notes)
    _, notes = backends.choose(dataclasses.replace(asked, quantize=None))
    assert notes == []
    config = Path(settings.model) / "config.json"
    config.write_text(config.read_text().replace("{", '{"quantization": {"bits": 4},', 1))
    _, notes = backends.choose(dataclasses.replace(asked, quantize=None))
    assert any("livery merge --base" in note and "--dequantize" in note for note in notes)


@pytest.mark.parametrize(
    ("backend", "dtype", "both", "words"),
    [
        (
            "mlx",
            "auto",
            False,
            ("half the time of MLX", "pip install torch", "index of CPU builds"),
        ),
        ("mlx", "auto", True, ()),  # measured
        ("torch", "auto", False, ()),  # its dtypes are measured, too
        ("torch", "bfloat16", False, ()),
        ("torch", "float32", False, ()),
    ],
)
def test_whoever_trains_a_real_base_by_the_slower_way_is_told(
    backend: Literal["mlx", "torch"],
    dtype: Literal["auto", "float32", "bfloat16"],
    both: bool,
    words: tuple[str, ...],
) -> None:
    settings = TrainSettings(model="smollm2-135m", backend=backend, dtype=dtype)
    said = fastest.faster_way(settings, gpu=False, bfloat16=True, both=both)
    assert all(word in said for word in words)
    assert bool(said) == bool(words)
    assert fastest.faster_way(settings, gpu=True, bfloat16=True, both=both) == ""
    without = fastest.faster_way(settings, gpu=False, bfloat16=False, both=both)
    assert ("--dtype float32" in without) == ((backend, dtype) == ("torch", "bfloat16"))
    assert bool(without) == ("--dtype float32" in without)
    embedded = dataclasses.replace(settings, model="base_model")
    assert fastest.faster_way(embedded, gpu=False, bfloat16=True, both=both) == ""
