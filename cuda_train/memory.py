"""What a run will need on torch's device, and what it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from cuda_train.estimate import estimate
from cuda_train.ranks import processes
from cuda_train.route import shape_of
from livery.config.settings import TrainSettings
from livery.engines.torch.load import choose_dtype, find_device
from livery.machine import free_swap, memory
from livery.resident import give_back, peak_resident, resident
from livery.training import forecast as forecasts
from livery.training.footprint import Estimate
from livery.training.forecast import Device, Forecast
from livery.training.plan import Example, MicroBatch

# Bytes held beyond those that live on, against what one step takes, from which the heap is cleaned.
SLACK = 1.1


def count_parameters(model: Any) -> int:
    """Parameters of a model; packed 4-bit weights count as what they stand for."""
    total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        total += state.shape.numel() if state is not None else parameter.numel()
    return total


def peak(device: torch.device) -> int:
    """Peak bytes of the run: on CUDA what torch held of the GPU since loading, elsewhere what the
    whole process ever held of the machine (on MPS the GPU's memory is the machine's)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return peak_resident()


def forget_peak(device: torch.device) -> None:
    """Reset what `peak` counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


class Holes:
    """Keeps the heap of a run on a CPU from growing with every new shape.

    Arrays come and go in other sizes from micro-batch to micro-batch, and the holes that they leave
    stay resident: a run on schemas of some 1,000 tokens went from 4.3 to 10.9 GB in 70 steps. To
    give the pages back costs time, so it is done only where the process holds a tenth more than a
    step takes of a heap that has just been cleaned.
    """

    def __init__(self, device: torch.device) -> None:
        self.applies = device.type == "cpu"
        self.live = 0  # bytes resident right after cleaning
        self.taken = 0  # the most that one step took beyond them
        self.cleaned = False

    def after_step(self) -> None:
        """To be called where nothing of a step is alive any more."""
        if not self.applies:
            return
        now = resident()
        if self.cleaned:
            self.taken = max(self.taken, now - self.live)
        self.cleaned = now > self.live + SLACK * self.taken
        if self.cleaned:
            give_back()
            self.live = resident()


def forecast(
    settings: TrainSettings, examples: Sequence[Example], device: torch.device | None = None
) -> Forecast:
    """What the run will need on its device, or on another."""
    device = device or find_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    on_cuda = device.type == "cuda"
    free, swap = free_memory(device)
    # Under torchrun as many as it started; else, of what a user may be told to start, all cards.
    ranks = processes() if processes() > 1 else max(1, torch.cuda.device_count())
    place = Device(
        "this machine" if device.type == "cpu" else str(device),
        free,
        swap,
        quantizes=(8, 4) if on_cuda else (),
        small_moments=on_cuda,
        spreads=ranks if on_cuda else 1,
        elsewhere="--backend mlx --load-in-4bit" if device.type == "mps" else "",
    )

    def estimated(
        changed: TrainSettings, config: Mapping[str, Any], batches: Iterable[MicroBatch], base: Path
    ) -> Estimate:
        return estimate(
            changed,
            config,
            set(map(shape_of, batches)),
            dtype=dtype,
            folder=base,
            on_cpu=device.type == "cpu",
            ranks=ranks,
        )

    return forecasts.forecast(settings, examples, place, estimated)


def free_memory(device: torch.device) -> tuple[int, int]:
    """(bytes that are free for a run, bytes that it may swap out beyond them)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]), 0
    if device.type == "mps":
        taken = torch.mps.driver_allocated_memory()
        return int(torch.mps.recommended_max_memory() - taken), 0
    return memory()[1], free_swap()
