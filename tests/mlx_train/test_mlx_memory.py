"""The estimate that `--dry-run` prints against the peak that MLX measures."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from livery.config.settings import LoraSettings, TrainSettings
from livery.errors import UserError
from livery.training.plan import Example
from mlx_train import deal
from mlx_train.backend import MlxBackend
from mlx_train.memory import Shape, estimate, forecast
from tests.mlx_train.mlx_exact import micro_batch
from tests.tiny_models import tiny_model

SIZES: dict[str, Any] = {"hidden_size": 192, "intermediate_size": 448, "num_hidden_layers": 3}


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("llama", (0, 8, 64, 4)),
        ("llama_tied", (96, 8, 24, 8)),
        ("qwen3", (32, 4, 128, 16)),
        ("gemma3", (64, 8, 32, 8)),
        ("llama", (640, 8, 24, 8)),  # in stretches
    ],
)
def test_the_estimate_is_near_the_peak(
    family: str, shape: Shape, checkpoint: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deal, "STRETCH", 128)
    prefix, rows, suffix, answers = shape
    folder = tiny_model(family, tmp_path, **SIZES)
    settings = TrainSettings(
        model=str(folder), lora=LoraSettings(rank=8), grad_checkpoint=checkpoint
    )
    made = MlxBackend(settings)
    made.cores.use(1)  # whatever an earlier run in this process left
    gc.collect()  # what earlier tests left would otherwise be freed while we measure
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    batch = micro_batch(prefix, (suffix,) * rows, (answers,) * rows, pad=0)
    # A single step's peak depends by some percent on when MLX frees what: the largest of several.
    for step in range(1, 6):
        made.train_step([batch], step=step, learning_rate=1e-3)
    config = json.loads((folder / "config.json").read_text())
    guess = estimate(
        settings, config, [(prefix, rows, suffix, rows * answers)], folder=folder, on_cpu=True
    )
    measured = mx.get_peak_memory() - held
    # Beside other work MLX may free arrays earlier, and the peak is up to a third lower: the
    # estimate is of what a run can need.
    assert 0.75 < (guess.total - guess.weights) / measured < 1.8
    assert guess.weights == 4 * made.parameters
    # Without the folder the parameters are reckoned, within a few norms of the truth.
    reckoned = estimate(settings, config, [shape], on_cpu=True)
    assert reckoned.weights == pytest.approx(guess.weights, rel=0.02)


def test_what_makes_a_run_smaller_makes_the_estimate_smaller(tmp_path: Path) -> None:
    config = json.loads((tiny_model("llama", tmp_path) / "config.json").read_text())
    shapes = [(400, 8, 28, 160), (0, 2, 16, 4)]

    def total(**changes: Any) -> int:
        return estimate(TrainSettings(**changes), config, shapes).total

    assert total(quantize=4) < total()
    assert total(grad_checkpoint=True) < total()
    assert total(share_prefix=False) > 2 * total()
    assert total(lora=LoraSettings(rank=64)) > total(lora=LoraSettings(rank=8))
    assert total(dtype="float32") > total(dtype="bfloat16")
    parts = estimate(TrainSettings(), config, shapes).parts()
    assert sum(parts.values()) == total()


def test_the_estimate_needs_no_mlx() -> None:
    code = "import sys, mlx_train.memory; sys.exit(any(m.startswith('mlx.') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_out_of_memory_names_flags_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model("llama", tmp_path)
    rows = [Example(np.arange(5, 45, dtype=np.int32), np.arange(40) > 30)] * 16
    made = MlxBackend(TrainSettings(model=str(folder)), examples=rows)

    def full(*_: Any) -> None:
        # Metal's text; on a CPU MLX ends the process itself, so that nothing can be said.
        raise RuntimeError("[metal::malloc] Unable to allocate 99 bytes.")

    monkeypatch.setattr(made, "run_graph", full)
    batch = micro_batch(8, (8, 8), (2, 2), pad=0)
    for act in (
        lambda: made.train_step([batch], step=1, learning_rate=0.1),
        lambda: made.self_check(batch),
    ):
        with pytest.raises(UserError, match=r"Out of memory on this.*would fit: --batch-size 8"):
            act()


def test_the_preflight_refuses_before_the_base_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrainSettings(model=str(tiny_model("llama", tmp_path)))
    rows = [Example(np.arange(5, 45, dtype=np.int32), np.arange(40) > 30)] * 16
    need = forecast(settings, rows).need()

    def free(size: int, swap: int = 0) -> None:
        monkeypatch.setattr("mlx_train.machine.free_memory", lambda: (size, swap))

    free(int(0.9 * need.total))
    note = "".join(MlxBackend(settings, examples=rows).notes)
    assert "It fits with --batch-size 8" in note
    assert "Trying anyway" in note
    free(need.total // 2, swap=need.total)  # slow, but it runs
    assert MlxBackend(settings, examples=rows).notes
    monkeypatch.setattr("mlx_train.backend.load_base", None)
    free(need.total // 2)
    with pytest.raises(UserError, match=r"by estimate this run takes .* this machine has .* free"):
        MlxBackend(settings, examples=rows)
    free(need.weights // 2)
    with pytest.raises(UserError, match="its weights take"):
        MlxBackend(settings)
