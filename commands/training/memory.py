"""What a run will need of this machine's memory, and what to change where that is too much."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from livery.blas import use_openblas
from livery.config.settings import TrainSettings
from livery.machine import memory as machine_memory
from livery.models import find_base, read_config
from livery.progress import show_bytes
from livery.training.plan import Plan, make_batch

if TYPE_CHECKING:
    from cuda_train.forecast import Forecast


def estimate(settings: TrainSettings, plan: Plan) -> dict[str, int] | None:
    """Bytes by part, with "total" and what is "available"; None while the model is not here."""
    folder = find_base(settings.model)
    if folder is None:
        return None
    if settings.backend != "mlx":
        ahead, available = _torch_forecast(settings, plan)
        found = ahead.need() if ahead else None
    else:
        use_openblas()
        from mlx_train.machine import on_cpu
        from mlx_train.memory import estimate as of_mlx

        shapes = {
            (len(batch.prefix), *batch.tokens.shape, batch.supervised)
            for step in plan.epoch(0)
            for batch in (make_batch(chunk, plan.examples) for chunk in step)
        }
        config = read_config(folder)
        found = of_mlx(settings, config, shapes, folder=folder, on_cpu=on_cpu())
        _, available = machine_memory()
    if found is None:
        return None
    return {**found.parts(), "total": found.total, "available": available}


def _torch_forecast(settings: TrainSettings, plan: Plan) -> tuple[Forecast | None, int]:
    """What the run needs, and what its device has free."""
    from cuda_train.memory import forecast, free_memory
    from livery.engines.torch.load import choose_dtype, find_device

    device = find_device(settings.device)
    ahead = forecast(settings, device, choose_dtype(settings.dtype, device), plan.examples)
    return ahead, free_memory(device) or machine_memory()[1]


def describe(parts: dict[str, int] | None, settings: TrainSettings, plan: Plan) -> list[str]:
    """Lines for people: the sum, its parts, and what would make it fit."""
    if parts is None:
        return ["no estimate: the model is not downloaded yet"]
    named = {k: v for k, v in parts.items() if k not in ("total", "available")}
    listed = ", ".join(f"{name} {show_bytes(size)}" for name, size in named.items())
    lines = [f"about {show_bytes(parts['total'])} ({listed})"]
    if parts["total"] > parts["available"]:
        remedies = _remedies(settings, named)
        if settings.backend != "mlx":
            ahead, available = _torch_forecast(settings, plan)
            remedies = ahead.remedies(available) if ahead else remedies
        lines.append(
            f"more than the {show_bytes(parts['available'])} available here; smaller with "
            + ", ".join(remedies)
        )
    return lines


def _remedies(settings: TrainSettings, parts: dict[str, Any]) -> list[str]:
    """Flags that shrink the run, the one that helps most first."""
    remedies: list[str] = []
    if settings.batch_size > 1:
        remedies.append(
            f"--batch-size {settings.batch_size // 2} --grad-accum {2 * settings.grad_accum}"
        )
    if not settings.grad_checkpoint:
        remedies.append("--grad-checkpoint")
    if settings.quantize is None:
        remedies.append("--quantize 4")
        if parts["weights"] > sum(parts.values()) / 2:
            remedies.insert(0, remedies.pop())
    return remedies or ["a smaller base, or a shorter --max-length"]
