"""A process of its own that trains a step on a CPU and prints by how much its memory grew.

    python -m tests.cuda_train.torch_memory_child FOLDER JSON   (see `Case` in test_torch_memory.py)

glibc is told by the environment to give every freed array back at once, so that the kernel's high
mark of this process is the step's own.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cuda_train.backend import TorchBackend
from livery.config.settings import LoraSettings, TrainSettings
from livery.training.plan import MicroBatch
from tests.tiny_models import tiny_model


def measure(root: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Bytes by which the second of two equal steps grew the process."""
    folder = tiny_model(case["family"], root, **case["sizes"])
    settings = TrainSettings(
        model=str(folder),
        lora=LoraSettings(**case["lora"]),
        grad_checkpoint=case["checkpoint"],
        dtype=case["dtype"],
        backend="torch",
    )
    backend = TorchBackend(settings, device="cpu")
    # By the route that the case names, whatever a step would choose.
    gradient = backend.loss.gradient
    backend.loss.gradient = lambda batches, **asked: gradient(  # pyright: ignore
        batches, case["route"], **asked
    )
    batch = draw(*case["shape"], vocabulary=case["sizes"].get("vocab_size", 512))
    backend.train_step([batch], step=1, learning_rate=1e-3)  # oneDNN keeps what it made for a shape
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high mark is reset
    before = status("VmRSS")
    backend.train_step([batch], step=2, learning_rate=1e-3)
    return {
        "grew": status("VmHWM") - before,
        "weights": sum(p.numel() * p.element_size() for p in backend.loss.model.parameters())
        - 4 * backend.trainable,
        "trainable": backend.trainable,
        "folder": str(folder),
    }


def draw(prefix: int, rows: int, width: int, answers: int, vocabulary: int) -> MicroBatch:
    """Rows of one length, the last `answers` positions of each supervised."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, vocabulary, (rows, width)).astype(np.int32)
    targets = np.full((rows, width), -1, np.int32)
    targets[:, -answers:] = tokens[:, -answers:]
    first = rng.integers(5, vocabulary, prefix).astype(np.int32)
    return MicroBatch(first, tokens, targets, np.full(rows, width, np.int32), tuple(range(rows)))


def status(key: str) -> int:
    """A figure of this process in bytes, from the kernel."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for given in json.loads(sys.argv[2]):
        print(json.dumps(measure(Path(sys.argv[1]), given)), flush=True)
