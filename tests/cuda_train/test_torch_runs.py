"""Torch runs as processes of their own: two of them under torchrun, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    ("rows", "batch_size", "grad_accum", "loss_type"),
    [
        (40, 4, 2, "sft"),  # two micro-batches a step, one for each
        # every step's rows are dealt out; the last step has one row: a rank is empty
        (13, 4, 1, "sft"),
        (13, 4, 1, "sigmoid"),
        (22, 3, 3, "sft"),  # three micro-batches for two, the last step shorter
    ],
)
def test_two_processes_equal_one(
    tmp_path: Path, rows: int, batch_size: int, grad_accum: int, loss_type: str
) -> None:
    changes = {
        "batch_size": batch_size, "grad_accum": grad_accum, "max_steps": 9, "steps_per_report": 1,
        "loss_type": loss_type,
    }  # fmt: skip
    for name in ("one", "two"):
        write_data(tmp_path / name / "data", rows, pairs=loss_type != "sft")
        tiny_settings(tmp_path / name)  # the model, before two processes ask for it
    _, events = run(tiny_settings(tmp_path / "one", **changes), "torch")
    pairs = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    both = spawn(
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "tests.runs", str(tmp_path / "two"), "torch", *pairs]
    )  # fmt: skip
    printed, errors = both.communicate(timeout=PATIENCE)
    assert both.returncode == 0, errors
    assert printed.count("step 9") == 1, "rank 0 alone speaks"
    got, wanted = final(tmp_path / "two"), final(tmp_path / "one")
    assert np.linalg.norm(got - wanted) / np.linalg.norm(wanted) < 1e-5
    rows_logged = (tmp_path / "two/run/training_metrics.jsonl").read_text().splitlines()
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
    facts = json.loads((tmp_path / "two/run/run_config.json").read_text())
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
