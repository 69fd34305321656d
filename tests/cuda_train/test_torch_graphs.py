"""Recorded steps: their padding, their gradients, and how a run chooses.

Without a GPU a function stands in for a recorded graph: it runs again on what the inputs then hold,
as a replay does. What CUDA makes of it a run checks itself before it uses it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from cuda_train import graphs
from cuda_train.backend import TorchBackend
from cuda_train.graphs import Graphs, coarse, padded, padded_shape, why_not
from livery.config.settings import LoraSettings, TrainSettings
from livery.training.plan import MicroBatch
from tests.cuda_train.test_torch_loss import apart, draw, make, models, reference
from tests.tiny_models import tiny_model

__all__ = ["models"]
FAMILIES = ("llama", "gemma2", "gemma3", "phi3")


def again(function: Callable[[], None]) -> Callable[[], None]:
    """In place of recording: what was to be recorded, run once as the recorder does."""
    function()
    return function


def recording(backend: TorchBackend, record: Callable[..., Any] = again) -> Graphs:
    return Graphs(backend.loss.body, backend.loss.head, backend.device, record=record)


def eager(backend: TorchBackend, batch: MicroBatch) -> Callable[[], float]:
    return lambda: backend.loss.gradient([batch], "tree").loss_sum


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [0, 70])
@pytest.mark.parametrize("family", FAMILIES)
def test_recorded_gradients_are_the_plain_ones(family: str, prefix: int, models: Path) -> None:
    backend = make(tiny_model(family, models))
    found = recording(backend)
    for seed in range(3):  # of one shape, so that the later ones are replays on other inputs
        batch = draw(prefix, rows=5, seed=seed)
        found.record(padded_shape(batch), padded(batch, backend.device)) if seed == 0 else None
        loss, wanted = reference(backend, batch)
        backend.loss.flat.message.zero_()
        got = found.add_gradient(batch)
        assert got == pytest.approx(loss, rel=1e-4)
        assert apart(backend.loss.flat.grads, wanted) < 1e-4


def test_rows_count_as_much_as_they_weigh(models: Path) -> None:
    backend, batch = make(tiny_model("llama", models)), draw(rows=4)
    weighed = dataclasses.replace(batch, weights=np.asarray([1.0, 0.5, 0.0, 2.0], np.float32))
    found = recording(backend)
    found.record(padded_shape(weighed), padded(weighed, backend.device))
    backend.loss.flat.message.zero_()
    loss = found.add_gradient(weighed)
    got = backend.loss.flat.grads.clone()
    backend.loss.flat.message.zero_()
    assert loss == pytest.approx(backend.loss.gradient([weighed], "tree").loss_sum, rel=1e-4)
    assert apart(got, backend.loss.flat.grads) < 1e-4


def test_a_shape_is_recorded_when_it_comes_again(models: Path) -> None:
    backend, batch = make(tiny_model("llama", models)), draw()
    made: list[int] = []

    def counted(function: Callable[[], None]) -> Callable[[], None]:
        made.append(1)
        return again(function)

    found = recording(backend, counted)
    assert found.add_gradient(batch) is None
    assert not made
    assert [found.add_gradient(batch) is None for _ in range(3)] == [False] * 3
    assert len(made) == 1


def test_recording_adds_nothing_to_the_gradients(models: Path) -> None:
    backend, batch = make(tiny_model("llama", models)), draw()
    backend.loss.flat.grads.fill_(3.0)
    recording(backend).record(padded_shape(batch), padded(batch, backend.device))
    assert bool((backend.loss.flat.grads == 3.0).all())


@pytest.mark.parametrize(("prefix", "route"), [(70, "tree"), (0, "plain")])
def test_training_runs_recorded(prefix: int, route: str, models: Path) -> None:
    backend, batch = make(tiny_model("llama", models)), draw(prefix)
    backend.loss.body = dataclasses.replace(backend.loss.body, branches=False)
    assert backend.loss.route(batch) == route
    plain = backend.loss.gradient([batch]).loss_sum
    backend.loss.graphs = found = recording(backend)
    losses = [backend.loss.gradient([batch]).loss_sum for _ in range(3)]
    assert losses == pytest.approx([plain] * 3, rel=1e-5)
    assert len(found._kept) == 1


def test_a_trial_keeps_what_is_right_and_faster(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, batch = make(tiny_model("llama", models)), draw()
    grads = backend.loss.flat.grads
    for times, wanted in (((1.0, 2.0), True), ((2.0, 1.0), False)):
        given = iter(times)
        monkeypatch.setattr(graphs, "fastest", lambda *_, given=given: next(given))
        trial = recording(backend).try_out(batch, eager(backend, batch), grads, "float32")
        assert trial.right
        assert trial.faster is wanted
        assert ("are recorded" in trial.note) is wanted
        assert float(grads.abs().max()) == 0.0


@pytest.mark.slow
def test_a_replay_that_reads_what_was_recorded_is_found_out(models: Path) -> None:
    """As where an input was made within the graph instead of copied into it."""
    backend, batch = make(tiny_model("llama", models)), draw()
    found = recording(backend)
    first = padded(dataclasses.replace(batch, tokens=batch.tokens[:, ::-1]), backend.device)
    loss = found._loss
    found._loss = lambda inputs: loss({**inputs, "tokens": first["tokens"]})  # type: ignore[method-assign]
    trial = found.try_out(batch, eager(backend, batch), backend.loss.flat.grads, "float32")
    assert not trial.right
    assert "their gradients are" in trial.note


@pytest.mark.parametrize(
    "error", [RuntimeError("not while capturing"), torch.OutOfMemoryError("x")]
)
def test_a_trial_that_fails_is_told_and_nothing_is_recorded(error: Exception, models: Path) -> None:
    backend, batch = make(tiny_model("llama", models)), draw()

    def refusing(function: Callable[[], None]) -> Callable[[], None]:
        raise error

    found = recording(backend, refusing)
    trial = found.try_out(batch, eager(backend, batch), backend.loss.flat.grads, "float32")
    assert not trial.right
    assert not trial.faster
    assert "are not recorded" in trial.note


def test_memory_that_ends_ends_recording_alone(models: Path) -> None:
    backend, batch = make(tiny_model("llama", models)), draw()

    def full(function: Callable[[], None]) -> Callable[[], None]:
        raise torch.OutOfMemoryError("full")

    found = recording(backend, full)
    assert [found.add_gradient(batch) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("places", [1, 31, 32, 33, 500, 512, 513, 1500, 4097, 8192])
def test_padding_is_an_eighth_at_most(places: int) -> None:
    assert places <= coarse(places) <= max(places + 31, places * 1.125)
    assert coarse(coarse(places)) == coarse(places)


def test_nothing_attends_to_padding() -> None:
    batch = draw(prefix=3, rows=2, width=6)
    inputs = padded(batch, torch.device("cpu"))
    count = 3 + int(batch.lengths.sum())
    assert set(inputs["branch"][count:].tolist()) == {2}
    assert set(inputs["branch"][:count].tolist()) == {-1, 0, 1}
    assert float(inputs["weights"].sum()) == batch.supervised


def test_what_keeps_a_run_from_being_recorded() -> None:
    cuda = torch.device("cuda")
    settings = TrainSettings()
    assert why_not(settings, cuda) == ""
    assert "cpu" in why_not(settings, torch.device("cpu"))
    for changes in (
        {"compile": "off"}, {"grad_checkpoint": True}, {"quantize": 4}, {"shard_base": True},
        {"lora": LoraSettings(dropout=0.1)},
    ):  # fmt: skip
        assert why_not(dataclasses.replace(settings, **changes), cuda)
