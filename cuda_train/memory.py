"""What a run will need, what it took, and what to change when it was too much."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from livery.errors import UserError
from livery.settings import TrainSettings


def count_parameters(model: Any) -> int:
    """Parameters of a model; packed 4-bit weights count as what they stand for."""
    total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        total += state.shape.numel() if state is not None else parameter.numel()
    return total


def peak(device: torch.device) -> int:
    """Peak bytes on a GPU since loading; 0 on devices that keep no such count."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return 0


def preflight(settings: TrainSettings, device: torch.device, dtype: str) -> None:
    """Refuse a base whose weights cannot fit before minutes go into loading it.

    Raises:
        UserError: with the flags under which it would fit.
    """
    free = free_memory(device)
    sizes = tensor_sizes(Path(settings.model).expanduser())
    if free is None or not sizes:
        return
    need = weight_bytes(sizes, dtype, settings.quantize)
    if need <= free:
        return
    fits = [
        f"{flag} ({_gb(small)})"
        for bits, flag in ((8, "--quantize 8"), (4, "--load-in-4bit"))
        if settings.quantize is None and (small := weight_bytes(sizes, dtype, bits)) < 0.9 * free
    ]
    if device.type == "mps":
        fits = [f"--backend mlx {way}" for way in fits]
    advice = f"Try {' or '.join(fits)}." if fits else "Choose a smaller base, or free some of it."
    kind = dtype if settings.quantize is None else f"{settings.quantize} bits"
    raise UserError(
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
    sizes: dict[str, int] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                sizes[name] = math.prod(entry["shape"])
    return sizes


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


@contextlib.contextmanager
def explained(settings: TrainSettings, device: torch.device) -> Generator[None]:
    """Turn the device's "out of memory" into a message that says which flags would fit."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(out_of_memory(settings, device)) from error
    except RuntimeError as error:
        # MPS and the CPU's allocator have no exception of their own.
        text = str(error).lower()
        if "out of memory" in text or "can't allocate memory" in text or "buffer size" in text:
            raise UserError(out_of_memory(settings, device)) from error
        raise


def out_of_memory(settings: TrainSettings, device: torch.device) -> str:
    """What to say when a step did not fit."""
    return f"{device}: out of memory. Try, in this order: {'; '.join(remedies(settings, device))}."


def remedies(settings: TrainSettings, device: torch.device) -> list[str]:
    """Flags that make a run smaller, the cheapest in time first; the numbers they would give."""
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
