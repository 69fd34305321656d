"""Which framework trains here, and what it cannot do as asked."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from typing import Literal

from livery.blas import remedy, use_openblas
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.machine import gpu_of, install, version
from livery.models import find_base, read_config
from livery.training.backend import Backend
from livery.training.forecast import Forecast
from livery.training.plan import Example

Name = Literal["mlx", "torch"]
NAMES: tuple[Name, ...] = ("mlx", "torch")  # the first is preferred
_OTHER: dict[str, Name] = {"mlx": "torch", "torch": "mlx"}


def choose(settings: TrainSettings, *, fall_back: bool = False) -> tuple[TrainSettings, list[str]]:
    """Settle the backend and what it must substitute.

    Args:
        fall_back: take another framework where the settings' is not installed.

    Returns:
        The settings with a backend that is not "auto", and what to tell the user.

    Raises:
        UserError: the framework is not installed; the command that installs it is named. Or it
            cannot shard a base as asked.
    """
    name = settings.backend
    if name == "auto" and settings.shard_base:
        name = "torch"  # which alone can
    if name == "auto":
        name = preferred()
    elif not installed(name) and fall_back and installed(other := _OTHER[name]):
        note = f"The run began with {name}, which is not installed here: resuming with {other}."
        settings, notes = choose(dataclasses.replace(settings, backend=other))
        return settings, [note, *notes]
    elif not installed(name):
        extra = "mlx" if name == "mlx" else "cuda"
        raise UserError(f"--backend {name} is not installed. Install it: {install(extra)}")
    settings = dataclasses.replace(settings, backend=name)
    return _adapt_to_mlx(settings) if name == "mlx" else _adapt_to_torch(settings)


def preferred() -> Name:
    """The framework to train with where nobody names one: one with a GPU before one without.

    Raises:
        UserError: neither is installed.
    """
    usable: list[Name] = [b for b in NAMES if installed(b)]
    if not usable:
        raise UserError(f"Nothing to train with is installed. Install MLX: {install('mlx')}")
    return min(usable, key=lambda name: not gpu_of(name))


def load(
    settings: TrainSettings, examples: Sequence[Example] = ()
) -> tuple[Backend, tuple[str, ...]]:
    """Load the base with LoRA on the settings' backend; `examples` are the training rows.

    Returns:
        The backend, and what to tell the user.
    """
    if settings.backend == "mlx":
        slow = () if use_openblas() else (f"MLX will be slow: OpenBLAS is missing. {remedy()}",)
        from mlx_train.backend import MlxBackend

        backend = MlxBackend(settings, examples=examples)
        return backend, (*slow, *backend.notes)
    from cuda_train.backend import TorchBackend

    backend = TorchBackend(settings, examples=examples)
    return backend, backend.notes


def forecast(settings: TrainSettings, examples: Sequence[Example]) -> Forecast:
    """What the run needs in memory, before anything is loaded."""
    if settings.backend == "mlx":
        from mlx_train.memory import forecast as forecast_run
    else:
        from cuda_train.memory import forecast as forecast_run
    return forecast_run(settings, examples)


def _adapt_to_mlx(settings: TrainSettings) -> tuple[TrainSettings, list[str]]:
    if settings.shard_base:
        raise UserError(
            "--shard-base is torch's (torchrun -m cuda_train); MLX keeps the whole base in each "
            "process. Leave it out; --quantize 4 makes the base smaller."
        )
    notes: list[str] = []
    if settings.optimizer == "adamw_8bit":
        settings = dataclasses.replace(settings, optimizer="adamw")
        notes.append("adamw_8bit needs CUDA; MLX takes adamw with float32 moments instead.")
    if settings.attention != "auto":
        notes.append(f"--attention {settings.attention} is torch's; MLX has one attention.")
    if settings.device != "auto":
        notes.append(
            f"device {settings.device}: not used; MLX keeps the whole model on its one device."
        )
    if slow := _quantized_on_a_cpu(settings):
        notes.append(slow)
    return settings, notes


def _quantized_on_a_cpu(settings: TrainSettings) -> str:
    """What to say before MLX trains on quantized weights without a GPU; "" where it does not."""
    if sys.platform != "linux" or version("mlx-cpu") is None:
        return ""
    slow = "on a CPU MLX multiplies quantized weights about ten times slower than dense ones."
    if settings.quantize:
        return f"--quantize {settings.quantize}: {slow} Leave it out where memory allows."
    with contextlib.suppress(UserError):
        folder = find_base(settings.model)
        if folder is not None and "quantization" in read_config(folder):
            dense = f"livery merge --base {shlex.quote(settings.model)} --dequantize --out DIR"
            return f"{settings.model} is quantized: {slow} For a dense copy: {dense}"
    return ""


def _adapt_to_torch(settings: TrainSettings) -> tuple[TrainSettings, list[str]]:
    importlib.import_module("cuda_train")  # it settles torch's allocator, before torch has arrays
    if settings.shard_base:
        from cuda_train.shard import check

        check(settings)
    notes: list[str] = []
    if settings.compile == "on":
        settings = dataclasses.replace(settings, compile="off")
        notes.append("--compile on is MLX's; torch runs uncompiled.")
    return settings, notes


def installed(name: str) -> bool:
    """Whether the framework is there, by name; imports nothing."""
    needed = {"mlx": ("mlx", "mlx_lm", "mlx_train"), "torch": ("torch", "cuda_train")}.get(name, ())
    return bool(needed) and all(importlib.util.find_spec(module) is not None for module in needed)
