"""Which backend and dtype take a training step fastest on this CPU; measured once.

Processors differ: bfloat16 on torch takes 0.6 of float32's time where the processor multiplies it
(AVX512-BF16, AMX) and many times as long where it does not. A candidate's process loads the base,
holds its fast gradients against the plain ones, and times a step of the run's own first batch. The
verdict is kept by machine, base and shape of the step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from commands.training import backends
from livery.config.layers import resolve
from livery.config.settings import TrainSettings
from livery.dataset.cache import default_cache
from livery.errors import LiveryError, UserError
from livery.files import write_json
from livery.machine import chip, cores, physical_cores, version
from livery.models import is_embedded
from livery.paths import python_path
from livery.reading import read_object
from livery.temporary import Scratch
from livery.training import run_folder, threads
from livery.training.backend import Backend
from livery.training.origin import base_digest
from livery.training.plan import MicroBatch, bucket
from livery.training.self_check import settle

Dtype = Literal["float32", "bfloat16"]

# Measuring takes as long as some dozens of a small base's steps.
WORTH_STEPS = 100
# MLX, whose adapters and evaluation are at home here, stays unless another is this much faster.
CLEARLY = 0.9
_LONGEST = 300.0  # seconds that a candidate may take
_KEPT = 200  # verdicts
_BATCH, _ANSWER = "batch.npz", "answer.json"
_ARRAYS = ("prefix", "tokens", "targets", "lengths")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to train, and how long a step took: None where it failed, and why."""

    backend: backends.Name
    dtype: Dtype
    seconds: float | None = None
    why: str = ""

    def describe(self) -> str:
        took = f"{self.seconds:.2g} s" if self.seconds is not None else f"no ({self.why})"
        return f"{self.backend} in {self.dtype} {took}"


def candidates(
    settings: TrainSettings, names: Sequence[backends.Name] = backends.NAMES
) -> list[Candidate]:
    """What to measure: MLX first, whose matrix products on a CPU are fast in float32 alone.

    Args:
        settings: of the run.
        names: the backends in question.
    """
    asked = settings.dtype
    if asked == "float16":
        return []
    if asked != "auto":
        return [Candidate(name, asked) for name in names]
    found = [Candidate(name, "float32") for name in names]
    if "torch" in names and multiplies_bfloat16():
        found.append(Candidate("torch", "bfloat16"))
    return found


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it, as Linux tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(line.split()))
    return False


def faster_way(settings: TrainSettings, *, gpu: bool, bfloat16: bool, both: bool) -> str:
    """What to tell whoever trains a real base on a CPU by the slower of two ways; "" for nothing.

    Measured on two cores with AVX512-BF16: SmolLM2-135M, 1,000 steps of 16, 34 minutes on MLX
    (float32) and 15 on torch in bfloat16. Without such instructions bfloat16 takes many times as
    long as float32.

    Args:
        settings: as the run begins, its backend settled.
        gpu: the run is on a GPU, or somewhere else that is not this CPU.
        bfloat16: the processor multiplies it.
        both: MLX and torch are installed, so that --backend auto has measured them.
    """
    if gpu:
        return ""
    if settings.backend == "torch" and settings.dtype == "bfloat16" and not bfloat16:
        return (
            "This processor has no instructions for bfloat16: torch takes many times as long as "
            "in float32. To be faster: --dtype float32."
        )
    if both or not bfloat16 or settings.backend != "mlx":
        return ""
    if settings.quantize or is_embedded(settings.model):
        return ""
    return (
        "On this processor torch in bfloat16 takes about half the time of MLX, which trains in "
        "float32 on a CPU, and torch is not installed. To have it: "
        f"{shlex.quote(sys.executable)} -m pip install torch peft (about 1 GB with --index-url and "
        "PyTorch's own index of CPU builds, which its page Get Started names; more without); then "
        "the same command measures both and uses the faster one."
    )


def on_a_cpu(settings: TrainSettings) -> bool:
    """Whether both frameworks would train on a CPU, as far as can be told without importing them:
    Linux, no GPU, and no other processes that train along."""
    gpu = Path("/dev/nvidia0").exists() or settings.device not in ("auto", "cpu")
    several = os.environ.keys() & {"MLX_RANK", "WORLD_SIZE"}
    return platform.system() == "Linux" and not gpu and not several


def busy() -> bool:
    """Whether more wants to run than there are cores: what is measured then tells little, and
    would be believed for long."""
    return os.getloadavg()[0] > cores() + 1


def fastest(
    settings: TrainSettings,
    batch: MicroBatch,
    steps: int,
    tell: Callable[[str], None],
    names: Sequence[backends.Name] = backends.NAMES,
) -> Candidate | None:
    """The candidate whose step is fastest, of those whose gradients hold.

    Args:
        settings: of the run.
        batch: of its first step.
        steps: that it will take.
        tell: is given what to tell the user.
        names: the backends in question.

    Returns:
        None where nothing was measured, or no candidate could train.
    """
    tried = candidates(settings, names)
    if len(tried) < 2:
        return None
    key = _key(settings, batch, names)
    found = _known(key)
    before = bool(found)
    if not found:
        if steps < WORTH_STEPS:
            return None
        if busy():
            which = "dtype" if len(names) == 1 else "backend"
            tell(f"Other programs keep this machine busy: which {which} is faster is not measured.")
            return None
        which = ", ".join(f"{c.backend} in {c.dtype}" for c in tried)
        tell(f"Measuring a step with {which}: once for this machine, base and shape.")
        found = [measure(candidate, settings, batch) for candidate in tried]
        _keep(key, found)
    timed = [c for c in found if c.seconds is not None]
    if not timed:
        return None
    best = min(timed, key=lambda c: c.seconds or 0.0)
    home = next((c for c in timed if c.backend == "mlx"), None)
    if home and home.seconds and (best.seconds or 0.0) > CLEARLY * home.seconds:
        best = home
    when = " when it was measured" if before else ""
    took = ", ".join(c.describe() for c in found)
    tell(
        f"A step took{when}: {took}. Training with {best.backend} in {best.dtype} (--backend and "
        "--dtype choose otherwise)."
    )
    return best


def measure(candidate: Candidate, settings: TrainSettings, batch: MicroBatch) -> Candidate:
    """Time a candidate in a process of its own, which takes what it loaded along with it."""
    # Whatever is minimised, the arithmetic is that of the rows, and the rows are all it is given.
    asked = dataclasses.replace(
        settings, backend=candidate.backend, dtype=candidate.dtype, loss_type="sft"
    )
    with Scratch("trial") as folder:
        run_folder.write_run_config(folder, asked, {})
        np.savez(folder / _BATCH, **{name: getattr(batch, name) for name in _ARRAYS})
        try:
            done = subprocess.run(
                [sys.executable, "-m", "commands.training.fastest", str(folder)],
                capture_output=True, text=True, timeout=_LONGEST, check=False,
                env={**os.environ, "PYTHONPATH": python_path()},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return dataclasses.replace(candidate, why=f"over {_LONGEST:.0f} s")
        try:
            answer = read_object(folder / _ANSWER)
        except UserError:
            answer = {"why": f"its process ended with {done.returncode}"}
    return dataclasses.replace(candidate, **answer)


def main() -> None:
    """The child: a folder with a run's settings and a micro-batch; the answer goes there too."""
    folder = Path(sys.argv[1])
    settings = resolve({}, recorded=folder / run_folder.RUN_CONFIG).settings
    with np.load(folder / _BATCH) as arrays:
        batch = MicroBatch(**{name: arrays[name] for name in _ARRAYS})
    try:
        backend, _ = backends.load(backends.choose(settings)[0])
        answer: dict[str, Any] = {"seconds": time_step(backend, batch)}
    except LiveryError as error:
        answer = {"why": str(error).partition(". ")[0]}
    write_json(folder / _ANSWER, answer)


def time_step(backend: Backend, batch: MicroBatch) -> float:
    """Seconds of a step, with the number of threads that suits the machine now.

    Raises:
        UserError: its gradients do not hold.
    """
    threads.settle(None, None, backend, batch)
    settle(backend, batch)
    took: list[float] = []
    while len(took) < 3 or (sum(took) < 1.0 and len(took) < 6):
        began = time.perf_counter()
        backend.train_step([batch], step=1 + len(took), learning_rate=1e-6)
        took.append(time.perf_counter() - began)
    return min(took)


# -- what was measured before --------------------------------------------------------------------


def _key(settings: TrainSettings, batch: MicroBatch, names: Sequence[str]) -> str:
    """Digest of the machine, the frameworks, the base and the shape of a step."""
    rows, width = batch.tokens.shape
    shape = (bucket(len(batch.prefix)), rows, bucket(width), settings.lora.rank)
    how = (settings.dtype, settings.quantize, settings.grad_checkpoint, settings.lora.targets)
    packages = ("mlx", "mlx-lm", "torch", "transformers")
    frameworks = (*names, *(version(name) for name in packages))
    machine = (chip(), physical_cores(), os.environ.get("OMP_NUM_THREADS"), settings.threads)
    parts = (machine, frameworks, base_digest(settings.model), shape, how)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _file() -> Path | None:
    cache = default_cache()
    return None if cache is None else cache.folder.parent / "fastest.json"


def _known(key: str) -> list[Candidate]:
    with contextlib.suppress(UserError, TypeError):
        if (file := _file()) is not None and file.is_file():
            return [Candidate(**fields) for fields in read_object(file).get(key, ())]
    return []


def _keep(key: str, found: list[Candidate]) -> None:
    """For the next run; where it cannot be written, that one measures again."""
    if (file := _file()) is None:
        return
    kept: dict[str, Any] = {}
    with contextlib.suppress(UserError):
        kept = read_object(file) if file.is_file() else {}
    kept = dict([*kept.items(), (key, [dataclasses.asdict(c) for c in found])][-_KEPT:])
    with contextlib.suppress(UserError, OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, kept)


if __name__ == "__main__":
    main()
