"""Torch runs as processes of their own: two of them under torchrun, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from livery.resident import peak_resident
from livery.training.events import Metrics, Stepped
from tests import PATIENCE, ROOT, dice
from tests.runs import run, tiny_settings, write_data

pytest.importorskip("peft")

pytestmark = pytest.mark.slow  # every process imports torch

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def spawn(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=ONE_THREAD, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def final(folder: Path) -> np.ndarray:
    arrays = load_file(folder / "run" / "final.safetensors")
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


# Rows, batch size, gradient accumulation, loss type.
DEALS = [
    (40, 4, 2, "sft"),  # two micro-batches a step, one for each
    # every step's rows are dealt out; the last step has one row: a rank is empty
    (13, 4, 1, "sft"),
    (13, 4, 1, "sigmoid"),
    (22, 3, 3, "sft"),  # three micro-batches for two, the last step shorter
]
Deal = tuple[int, int, int, str]


def settings_of(deal: Deal) -> dict[str, Any]:
    _, batch_size, grad_accum, loss_type = deal
    return {
        "batch_size": batch_size, "grad_accum": grad_accum, "max_steps": 9, "steps_per_report": 1,
        "loss_type": loss_type,
    }  # fmt: skip


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> dict[Deal, Path]:
    """Each deal's run by two processes, which do all of them."""
    found: dict[Deal, Path] = {}
    words: list[str] = []
    for deal in DEALS:
        folder = found[deal] = tmp_path_factory.mktemp("two")
        write_data(folder / "data", deal[0], pairs=deal[-1] != "sft")
        tiny_settings(folder)  # the model, before two processes ask for it
        pairs = [f"{key}={json.dumps(value)}" for key, value in settings_of(deal).items()]
        words += [*(["--"] if words else []), str(folder), "torch", *pairs]
    both = spawn(
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "tests.runs", *words]
    )  # fmt: skip
    printed, errors = both.communicate(timeout=PATIENCE)
    assert both.returncode == 0, errors
    assert printed.count("step 9") == len(DEALS), "rank 0 alone speaks"
    return found


@pytest.mark.parametrize("deal", DEALS)
def test_two_processes_equal_one(tmp_path: Path, by_two: dict[Deal, Path], deal: Deal) -> None:
    rows, *_, loss_type = deal
    write_data(tmp_path / "data", rows, pairs=loss_type != "sft")
    _, events = run(tiny_settings(tmp_path, **settings_of(deal)), "torch")
    got, wanted = final(by_two[deal]), final(tmp_path)
    assert np.linalg.norm(got - wanted) / np.linalg.norm(wanted) < 1e-5
    rows_logged = (by_two[deal] / "run/training_metrics.jsonl").read_text().splitlines()
    logged = [row for row in map(json.loads, rows_logged) if "loss" in row]
    losses = [event.loss for event in events if isinstance(event, Stepped)]
    assert [row["step"] for row in logged] == list(range(1, 10))
    # A difference of two sums of many log-probabilities keeps fewer of their digits.
    close = 1e-6 if loss_type == "sft" else 1e-4
    np.testing.assert_allclose([row["loss"] for row in logged], losses, rtol=close)
    figures = [event.figures for event in events if isinstance(event, Metrics)]
    for name in figures[0]:
        wanted = [one[name] for one in figures]
        np.testing.assert_allclose([row[name] for row in logged], wanted, rtol=1e-4, atol=1e-4)
    facts = json.loads((by_two[deal] / "run/run_config.json").read_text())
    assert facts["processes"] == 2


def test_the_peak_on_a_cpu_is_the_process_s(tmp_path: Path) -> None:
    _, told = run(tiny_settings(tmp_path, samples=0), "torch")
    seen = [event.peak_memory_mb for event in told if isinstance(event, Metrics)]
    assert seen == sorted(seen), "a peak does not fall"
    assert seen[-1] == pytest.approx(peak_resident() / 1e6, rel=0.05)
    assert seen[0] > 100, "torch alone takes more"


def test_killed_and_resumed_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    options = ["lora=" + json.dumps({"dropout": 0.2}), "save_every=1", "samples=0"]

    def begin(folder: Path, *more: str) -> subprocess.Popen[str]:
        return spawn(["-m", "tests.runs", str(folder), "torch", *options, *more])

    done = begin(tmp_path / "whole")
    _, errors = done.communicate()
    assert done.returncode == 0, errors
    killed = tmp_path / "killed"
    stop_at = dice().randrange(2, 11)
    process = begin(killed, f'waits="step {stop_at}"')
    assert process.stdout is not None
    for line in process.stdout:
        if line == f"step {stop_at}\n":
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert not (killed / "run" / "final.safetensors").exists()
    again = begin(killed, "resume=true")
    printed, errors = again.communicate()
    assert again.returncode == 0, errors
    assert "step 1\n" not in printed, "it started over"
    names = ("final.safetensors", "checkpoints/step-000012/state.safetensors")
    for name in names:
        ends = [(tmp_path / run_ / "run" / name).read_bytes() for run_ in ("whole", "killed")]
        assert ends[0] == ends[1], f"killed at step {stop_at}"
