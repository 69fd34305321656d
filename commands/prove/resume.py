"""A run that is killed with SIGKILL and resumed, against one that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from commands.prove.outcome import Outcome, Skip, judged, need
from commands.prove.rows import write_data

STEPS = 24
# A GPU may choose another kernel after the restart; a CPU gives the same bytes.
ON_A_GPU = 5e-3


def torch(folder: Path) -> Outcome:
    """On the embedded base, by `livery train`."""
    from commands.prove.model import require

    place = require()
    need("peft", "gguf", "click")
    return _killed(folder, "torch", exact=place.type == "cpu")


def mlx(folder: Path) -> Outcome:
    """The same on MLX."""
    from commands.prove.mlx import require

    need("gguf", "click")
    return _killed(folder, "mlx", exact=require())


def _killed(folder: Path, backend: str, *, exact: bool) -> Outcome:
    data = write_data(folder)

    def begin(name: str, *more: str) -> subprocess.Popen[bytes]:
        with (folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "livery", "train", "--backend", backend, "--data", str(data),
                 "--output-dir", str(folder / name), "--model", "base_model", "--lora-r", "4",
                 "--batch-size", "4", "--max-steps", str(STEPS), "--save-every", "2",
                 "--steps-per-eval", "0", "--samples", "0", *more],
                stdout=log, stderr=log, env={**os.environ, "LIVERY_CACHE": "off"},
            )  # fmt: skip

    def finished(process: subprocess.Popen[bytes]) -> None:
        if process.wait():
            lines = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
            raise RuntimeError(f"livery train ended with {process.returncode}: {lines[-1]}")

    finished(begin("whole"))
    run = begin("killed")
    while run.poll() is None and not (folder / "killed/checkpoints/step-000004").is_dir():
        time.sleep(0.005)
    if run.poll():
        finished(run)  # which says what went wrong
    run.send_signal(signal.SIGKILL)
    run.wait()
    if (folder / "killed/adapter_model.safetensors").exists():
        raise Skip("the run ended before it could be killed")
    finished(begin("killed", "--resume"))
    return _same(folder / "whole", folder / "killed", exact=exact)


def _same(whole: Path, killed: Path, *, exact: bool) -> Outcome:
    import numpy as np
    from safetensors.numpy import load_file

    def weights(run: Path) -> np.ndarray:
        found = load_file(run / "adapter_model.safetensors")
        return np.concatenate([found[name].ravel().astype(np.float64) for name in sorted(found)])

    wanted, got = weights(whole), weights(killed)
    share = float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))
    said = "the weights are the same to the bit" if not share else f"weights differ by {share:.2e}"
    allowed = 0.0 if exact else ON_A_GPU
    return judged(share <= allowed, f"killed after step 4 of {STEPS}: {said}", difference=share)
