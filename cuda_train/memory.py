"""What a run will need, what it took, and what to change when it was too much."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cuda_train.estimate import estimate, shapes_of
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.machine import memory as machine_memory
from livery.models import find_base, read_config
from livery.resident import peak_resident
from livery.training import forecast as forecasts
from livery.training.footprint import Estimate
from livery.training.forecast import MARGIN, Forecast
from livery.training.plan import Example
from livery.weights import read_tensors


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
    """Count `peak` anew from here."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def forecast(
    settings: TrainSettings, device: torch.device, dtype: str, examples: Sequence[Example]
) -> Forecast | None:
    """What the run will need; None where the model is not on this machine yet."""
    folder = find_base(settings.model)
    if folder is None:
        return None
    config = read_config(folder)

    def need(changed: TrainSettings) -> Estimate:
        return estimate(changed, config, shapes_of(examples, changed), dtype=dtype, folder=folder)

    on_cuda = device.type == "cuda"
    return Forecast(settings, need, [len(e.tokens) for e in examples], on_cuda, on_cuda)


def preflight(
    settings: TrainSettings, device: torch.device, dtype: str, ahead: Forecast | None = None
) -> str:
    """Refuse what cannot fit on a GPU before minutes go into loading it.

    Returns:
        What to tell the user where it may be too much; "" where it is not.

    Raises:
        UserError: the weights, or the run by more than the estimate may be off, do not fit; with
            the flags under which it would.
    """
    free = free_memory(device)
    if free is None:
        return ""
    folder = find_base(settings.model)
    sizes = tensor_sizes(folder) if folder is not None else {}
    if sizes and weight_bytes(sizes, dtype, settings.quantize) > free:
        raise UserError(_weights_too_large(settings, device, dtype, sizes, free))
    if ahead is None or (need := ahead.need().total) <= free:
        return ""
    text = (
        f"This run takes about {_gb(need)} by estimate, and {device} has {_gb(free)} free. It "
        f"fits with {', or '.join(ahead.remedies(free))}."
    )
    if need > MARGIN * free:
        raise UserError(f"{settings.model}: {text}")
    return f"{text} Trying anyway: the estimate may be a quarter too high."


def _weights_too_large(
    settings: TrainSettings, device: torch.device, dtype: str, sizes: dict[str, int], free: int
) -> str:
    need = weight_bytes(sizes, dtype, settings.quantize)
    fits = [
        f"{flag} ({_gb(small)})"
        for bits, flag in ((8, "--quantize 8"), (4, "--load-in-4bit"))
        if settings.quantize is None and (small := weight_bytes(sizes, dtype, bits)) < 0.9 * free
    ]
    if device.type == "mps":
        fits = [f"--backend mlx {way}" for way in fits]
    advice = f"Try {' or '.join(fits)}." if fits else "Choose a smaller base, or free some of it."
    kind = dtype if settings.quantize is None else f"{settings.quantize} bits"
    return (
        f"{settings.model}: its weights take {_gb(need)} in {kind}, and {device} has {_gb(free)} "
        f"free. {advice}"
    )


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on a GPU; None on devices where loading may swap instead."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        taken = torch.mps.driver_allocated_memory()
        return int(torch.mps.recommended_max_memory() - taken)
    return None


def tensor_sizes(folder: Path) -> dict[str, int]:
    """Numbers held by each tensor of a model's folder, from the headers of its safetensors."""
    return {name: tensor.count for name, tensor in read_tensors(folder).items()}


def weight_bytes(sizes: dict[str, int], dtype: str, bits: int | None) -> int:
    """Bytes that the weights take on the device; what looks tokens up is not quantized."""
    full = 4 if dtype == "float32" else 2
    # NF4's scales, themselves in 8 bits, come to another eighth of a bit a weight.
    packed = {None: full, 8: 1.01, 4: 0.52}[bits]
    tables = ("embed", "lm_head", "norm", "bias")
    return int(
        sum(n * (full if any(t in name for t in tables) else packed) for name, n in sizes.items())
    )


def _gb(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def explained(
    settings: TrainSettings, device: torch.device, ahead: Forecast | None = None
) -> contextlib.AbstractContextManager[None]:
    """Turn the device's "out of memory" into a message that says which flags would fit."""
    return forecasts.explained(lambda: out_of_memory(settings, device, ahead))


def out_of_memory(
    settings: TrainSettings, device: torch.device, ahead: Forecast | None = None
) -> str:
    """What to say when a step did not fit."""
    if ahead is None:
        ways = "; ".join(remedies(settings, device))
        return f"{device}: out of memory. Try, in this order: {ways}."
    return ahead.out_of_memory(str(device), room(device))


def room(device: torch.device) -> int:
    """Bytes that this process could hold in all: what is free, and what it holds; 0 if unknown."""
    if device.type == "cuda":
        return (free_memory(device) or 0) + int(torch.cuda.memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    return machine_memory()[1]


def remedies(settings: TrainSettings, device: torch.device) -> list[str]:
    """Flags that make a run smaller, where no rows are known to reckon with."""
    found: list[str] = []
    if settings.batch_size > 1:
        size = settings.batch_size // 2
        more = -(-settings.batch_size * settings.grad_accum // size)
        found.append(f"--batch-size {size} --grad-accum {more} (the same result)")
    if not settings.grad_checkpoint:
        found.append("--grad-checkpoint (the same result, about a third slower)")
    if settings.quantize is None and device.type == "cuda":
        found.append("--load-in-4bit (the base in a quarter of its memory)")
    if settings.optimizer != "adamw_8bit" and device.type == "cuda":
        found.append("--optim adamw_8bit")
    if settings.max_length > 256:
        found.append(f"--max-length {settings.max_length // 2} (drops longer rows)")
    if settings.lora.rank > 8:
        found.append("--lora-r 8")
    return found or ["a smaller base model"]
