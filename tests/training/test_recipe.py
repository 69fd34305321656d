"""What a run is trained with where nobody said: from the base's size and the number of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.training import session
from commands.training.data import load_data
from livery.config.layers import resolve
from livery.models import read_config
from livery.paths import HOME
from livery.training.recipe import Recipe, count_parameters, fit, recipe
from livery.weights import read_tensors
from tests.tiny_models import tiny_model


def test_what_was_measured_good():
    assert recipe(134_515_008, 11_200) == Recipe(1.0, 16, 32, 6e-4)


@pytest.mark.parametrize(
    ("parameters", "rows", "wanted"),
    [
        (135e6, 1_000, Recipe(3.0, 16, 32, 6e-4)),
        (1.2e9, 1_000, Recipe(3.0, 16, 16, 3.1e-4)),
        (7e9, 100_000, Recipe(1.0, 16, 16, 1.8e-4)),
        (None, 300, Recipe(5.0, 8, 16, 3.3e-4)),
        (135e6, 40, Recipe(5.0, 4, 32, 6e-4)),
        (1e6, 0, Recipe(5.0, 4, 32, 1e-3)),
    ],
)
def test_sizes_and_rows(parameters: float | None, rows: int, wanted: Recipe):
    assert recipe(parameters, rows) == wanted


@given(st.floats(1e5, 1e12), st.integers(1, 10**7), st.integers(1, 10**6))
def test_more_rows_and_larger_bases_never_take_more(size: float, rows: int, more: int):
    one, other = recipe(size, rows), recipe(size, rows + more)
    assert other.epochs <= one.epochs
    assert recipe(size * 2, rows).learning_rate <= one.learning_rate
    assert 1 <= one.epochs <= 5
    assert 1e-4 <= one.learning_rate <= 1e-3


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def test_what_was_said_stays():
    flags: dict[str, Any] = {"model": "real", "learning_rate": 3e-5, "lora.rank": 4}
    fitted, note = fit(resolve(flags, environment={}), 135e6, 11_200)
    assert fitted.settings.learning_rate == 3e-5
    assert (fitted.settings.lora.rank, fitted.settings.lora.alpha) == (4, 32.0)
    assert (fitted.settings.epochs, fitted.settings.batch_size) == (1.0, 16)
    assert fitted.values["epochs"].source == "chosen for base and data"
    assert "135 M parameters and 11,200 rows: epochs 1, batch_size 16." in note
    every = {**flags, "max_steps": 9, "batch_size": 2}
    config = resolve(every, environment={})
    assert fit(config, 135e6, 11_200) == (config, "")


def test_the_embedded_bases_numbers_are_its_own(tmp_path: Path):
    """A file of the working folder that is written for base_model does not decide for another."""
    (tmp_path / "mlx_config.yaml").write_bytes((HOME / "mlx_config.yaml").read_bytes())
    own = resolve({}, environment={})
    assert (own.settings.learning_rate, own.settings.max_steps) != (1e-3, None)
    other = resolve({"model": "real"}, environment={})
    assert (other.settings.learning_rate, other.settings.max_steps) == (1e-3, None)
    assert other.settings.data == "data/date-keys"
    assert any("written for base_model" in note for note in other.notes)
    fitted, _ = fit(other, 135e6, 11_200)
    assert (fitted.settings.lora.rank, fitted.settings.learning_rate) == (32, 6e-4)
    named = resolve({"model": "real"}, file="mlx_config.yaml", environment={})
    assert named.settings.learning_rate == own.settings.learning_rate
    (tmp_path / "mlx_config.yaml").write_text("model: mine\nlearning_rate: 2e-5\n")
    assert resolve({"model": "real"}, environment={}).settings.learning_rate == 2e-5


def test_a_run_takes_it_from_base_and_data(root: Path, tmp_path: Path):
    rows = [{"prompt": f"Say {n}.", "completion": "yes"} for n in range(250)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    base = tiny_model("llama", root)
    assert count_parameters(read_tensors(base), read_config(base)) == pytest.approx(131e3, rel=0.3)
    config = resolve({"model": str(base), "data": str(tmp_path)}, environment={})
    settings, note = session.fit_to_base(config, config.settings, load_data(config.settings))
    assert (settings.batch_size, settings.lora.rank, settings.learning_rate) == (8, 32, 1e-3)
    assert "250 rows" in note
    embedded = resolve({"data": str(tmp_path)}, environment={})
    kept = session.fit_to_base(embedded, embedded.settings, load_data(embedded.settings))
    assert kept == (embedded.settings, "")
