"""What a run will need of this machine's memory, and what to change where that is too much."""

from __future__ import annotations

from typing import Any

from livery.blas import use_openblas
from livery.doctor import memory as machine_memory
from livery.files import read_json
from livery.plan import Plan, make_batch
from livery.progress import show_bytes
from livery.settings import TrainSettings


def estimate(settings: TrainSettings, plan: Plan) -> dict[str, int] | None:
    """Bytes by part, with "total" and what is "available"; None while the model is not here."""
    from convert.base import find_base

    folder = find_base(settings.model)
    if folder is None:
        return None
    config = read_json(folder / "config.json")
    shapes = {
        (len(batch.prefix), *batch.tokens.shape, batch.supervised)
        for step in plan.epoch(0)
        for batch in (make_batch(chunk, plan.examples) for chunk in step)
    }
    if settings.backend == "mlx":
        use_openblas()
        from mlx_train.machine import on_cpu
        from mlx_train.memory import estimate as of_mlx

        found = of_mlx(settings, config, shapes, folder=folder, on_cpu=on_cpu())
        parts = {**found.parts(), "total": found.total}
    else:
        return None
    _, available = machine_memory()
    return {**parts, "available": available}


def describe(parts: dict[str, int] | None, settings: TrainSettings) -> list[str]:
    """Lines for people: the sum, its parts, and what would make it fit."""
    if parts is None:
        return ["no estimate: the model is not on this machine yet, or it trains with torch"]
    named = {k: v for k, v in parts.items() if k not in ("total", "available")}
    listed = ", ".join(f"{name} {show_bytes(size)}" for name, size in named.items())
    lines = [f"about {show_bytes(parts['total'])} ({listed})"]
    if parts["total"] > parts["available"]:
        remedies = _remedies(settings, named)
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
