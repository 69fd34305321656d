"""How much memory a run will take, from its settings and the model's config.json alone.

Nothing is loaded and MLX is not imported, so `--dry-run` can say in advance what would not fit. The
factors of the activations were fitted to MLX's measured peaks over eleven shapes of three families
(hidden and feed-forward size, layers, heads, prefix, rows, vocabulary), with and without gradient
checkpointing; the tests hold the estimate to within a third of the measured peak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from livery.config.settings import TrainSettings
from livery.training import forecast as forecasts
from livery.training.footprint import BYTES, Estimate, Sizes, read_sizes, stored
from livery.training.forecast import Device, Forecast
from livery.training.plan import Example, MicroBatch

# (prefix P, rows B, suffix S, supervised positions N) of a micro-batch.
Shape = tuple[int, int, int, int]


def estimate(
    settings: TrainSettings,
    config: Mapping[str, Any],
    shapes: Iterable[Shape],
    *,
    folder: Path | None = None,
    on_cpu: bool = False,
) -> Estimate:
    """Args:
    config: the model's config.json.
    shapes: the run's micro-batches; the largest counts.
    folder: the model's, where it is here already: its parameters are then counted, not reckoned.
    on_cpu: MLX runs on a CPU and "auto" means float32.
    """
    sizes = read_sizes(config)
    kept = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    dtype = ("float32" if on_cpu else kept) if settings.dtype == "auto" else settings.dtype
    width = BYTES.get(dtype, 2)
    parameters, kept_bytes = stored(folder) if folder is not None else (0, 0)
    parameters = parameters or sizes.parameters()
    if settings.quantize:
        # Scale and bias, in the base's dtype, for each group of 64.
        weights = int(parameters * (settings.quantize / 8 + 2 * width / 64))
    elif kept_bytes and (
        "quantization" in config or "mxfp4" in str(config.get("quantization_config"))
    ):
        weights = kept_bytes
    else:
        weights = parameters * width
    trained = sizes.lora_parameters(settings)
    activations = logits = 0
    for shape in shapes:
        floats = _activations(sizes, shape, checkpoint=settings.grad_checkpoint)
        if not settings.share_prefix and shape[0]:
            prefix, rows, suffix, supervised = shape
            whole = (0, rows, prefix + suffix, supervised)
            floats = _activations(sizes, whole, checkpoint=settings.grad_checkpoint)
        # LoRA's own branch runs in float32 whatever the base's dtype.
        activations = max(activations, int(floats * (4 + width) / 2))
        logits = max(logits, int(4.25 * 4 * shape[3] * sizes.vocabulary))
    return Estimate(weights, 6 * 4 * trained, activations, logits)


def forecast(settings: TrainSettings, examples: Sequence[Example]) -> Forecast:
    """What the run will need on MLX's device."""
    from mlx_train.machine import free_memory, on_cpu  # MLX itself

    cpu = on_cpu()
    free, swap = free_memory()
    device = Device("this machine" if cpu else "the GPU", free, swap, quantizes=(8, 4))

    def reckon(
        changed: TrainSettings, config: Mapping[str, Any], batches: Iterable[MicroBatch], base: Path
    ) -> Estimate:
        shapes = {(len(b.prefix), *b.tokens.shape, b.supervised) for b in batches}
        return estimate(changed, config, shapes, folder=base, on_cpu=cpu)

    return forecasts.forecast(settings, examples, device, reckon)


def _activations(sizes: Sizes, shape: Shape, *, checkpoint: bool) -> float:
    """Numbers that stay in memory at the peak of a micro-batch's backward pass."""
    prefix, rows, suffix, _ = shape
    positions = prefix + rows * suffix
    feed_forward = sizes.active * sizes.feed_forward
    scores = sizes.heads * (rows * suffix * (prefix + suffix) + prefix * prefix)
    if not checkpoint:
        block = 7.4 * positions * sizes.hidden + 4.4 * positions * feed_forward + 2.0 * scores
        return sizes.layers * block
    cached = 2 * sizes.kv * (rows * (prefix + suffix) + prefix)
    one = 20 * positions * sizes.hidden + 16 * positions * feed_forward + 2.0 * scores
    return sizes.layers * (positions * sizes.hidden + cached) + one
