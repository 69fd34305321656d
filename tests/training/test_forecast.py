"""What a run needs in memory, as far as both backends say it alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("peft")

from cuda_train.memory import forecast as torch_forecast
from livery.config.settings import TrainSettings
from livery.training.plan import Example
from mlx_train.memory import forecast
from tests.tiny_models import tiny_model


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("llama", tmp_path_factory.mktemp("base"))


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(8, 300), min_size=1, max_size=40),
    shared=st.integers(0, 280),
    size=st.sampled_from([1, 4, 16]),
    checkpoint=st.booleans(),
)
def test_a_run_whose_bound_fits_is_not_planned(
    family: Path, lengths: list[int], shared: int, size: int, checkpoint: bool
) -> None:
    """The bound is at least the estimate of the run's own micro-batches, on both backends."""
    random = np.random.default_rng(len(lengths))
    prompt = random.integers(5, 50, 300)
    rows = [
        Example(
            np.concatenate([prompt[: min(shared, n - 4)], random.integers(5, 50, 300)])[:n].astype(
                np.int32
            ),
            np.arange(n) >= n - 3,
        )
        for n in lengths
    ]
    run = TrainSettings(model=str(family), batch_size=size, grad_checkpoint=checkpoint)
    for ahead in (forecast(run, rows), torch_forecast(run, rows, torch.device("cpu"))):
        assert ahead.bound is not None
        assert ahead.bound(run).total >= ahead.need().total
