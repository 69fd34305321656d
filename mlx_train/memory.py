"""How much memory a run will take, from its settings and the model's config.json alone.

Nothing is loaded and MLX is not imported, so `--dry-run` can say in advance what would not fit. The
factors of the activations were fitted to MLX's measured peaks over the shapes of three families, of
the embedded base and of SmolLM2-135M, in one stream and in two, with and without gradient
checkpointing; the tests hold the estimate to within a quarter of the measured peak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from livery.config.settings import TrainSettings
from livery.training import forecast as forecasts
from livery.training.footprint import BYTES, Estimate, Sizes, read_sizes, stored
from livery.training.forecast import Device, Forecast
from livery.training.plan import Example, MicroBatch
from mlx_train.deal import dealt, parts_of, stretches

# Of a block that is kept, and of the one that runs backward, in parts of `_block`.
_KEPT, _RUNNING = 0.92, 1.25


class Shape(NamedTuple):
    """The numbers of a micro-batch.

    Attributes:
        prefix: P.
        rows, suffix: B and S.
        supervised: positions that carry loss.
        parts: (rows, width) of each part that the rows are dealt to; none where they stay whole.
    """

    prefix: int
    rows: int
    suffix: int
    supervised: int
    parts: tuple[tuple[int, int], ...] = ()


def estimate(
    settings: TrainSettings,
    config: Mapping[str, Any],
    shapes: Iterable[Shape | tuple[int, int, int, int]],
    *,
    folder: Path | None = None,
    on_cpu: bool = False,
) -> Estimate:
    """Args:
    config: the model's config.json.
    shapes: the run's micro-batches; the largest counts.
    folder: the model's, where it is here already: its parameters are then counted, not estimated.
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
    for one in shapes:
        shape = one if isinstance(one, Shape) else Shape(*one)
        if not settings.share_prefix and shape.prefix:
            shape = _unshared(shape)
        floats = _activations(sizes, shape, checkpoint=settings.grad_checkpoint)
        # LoRA's own branch runs in float32 whatever the base's dtype.
        activations = max(activations, int(floats * (4 + width) / 2))
        logits = max(logits, int(4.25 * 4 * shape.supervised * sizes.vocabulary))
    return Estimate(weights, 6 * 4 * trained, activations, logits)


def forecast(settings: TrainSettings, examples: Sequence[Example]) -> Forecast:
    """What the run will need on MLX's device."""
    from mlx_train.machine import Cores, free_memory, on_cpu  # MLX itself

    cpu = on_cpu()
    free, swap = free_memory()
    device = Device("this machine" if cpu else "the GPU", free, swap, quantizes=(8, 4))

    def estimated(
        changed: TrainSettings, config: Mapping[str, Any], batches: Iterable[MicroBatch], base: Path
    ) -> Estimate:
        cores = 1 if changed.compile == "on" else Cores().count
        shapes = {shape_of(batch, cores) for batch in batches}
        return estimate(changed, config, shapes, folder=base, on_cpu=cpu)

    return forecasts.forecast(settings, examples, device, estimated)


def shape_of(batch: MicroBatch, cores: int) -> Shape:
    """The numbers of `batch` where so many cores may take streams of their own."""
    rows, width = batch.tokens.shape
    prefix = len(batch.prefix)
    parts = parts_of(cores, prefix, rows, width)
    pieces = dealt(batch.lengths, parts, prefix) if parts > 1 else ()
    return Shape(prefix, rows, width, batch.supervised, pieces)


def _unshared(shape: Shape) -> Shape:
    """The same rows, each of which carries the prefix itself."""
    more = shape.prefix
    parts = tuple((rows, more + width) for rows, width in shape.parts)
    return Shape(0, shape.rows, more + shape.suffix, shape.supervised, parts)


def _activations(sizes: Sizes, shape: Shape, *, checkpoint: bool) -> float:
    """Numbers that stay in memory at the peak of a micro-batch's backward pass."""
    prefix = shape.prefix
    parts = shape.parts or ((shape.rows, shape.suffix),)
    positions = prefix + sum(rows * width for rows, width in parts)
    feed_forward = sizes.active * sizes.feed_forward
    behind = sum(rows * width * (prefix + width) for rows, width in parts)
    # A long prefix runs in stretches, each on the keys of those before it too. Its scores are kept
    # once, where those of rows are kept about twice, and its keys have a copy for each stretch.
    pairs = [(end - start) * end for start, end in stretches(prefix)]
    stretched = len(pairs) > 1
    scores = sizes.heads * ((0.55 if stretched else 1.0) * sum(pairs) + behind)
    if not checkpoint:
        block = 7.4 * positions * sizes.hidden + 4.4 * positions * feed_forward + 2.0 * scores
        return (_KEPT * sizes.layers + _RUNNING) * block
    keys = sum(end for _, end in stretches(prefix))
    keys += sum(rows * (prefix + width) for rows, width in parts)
    scores = sizes.heads * (max(pairs, default=0) + behind)
    copies = 4 if stretched else 2
    one = 23 * positions * sizes.hidden + 18 * positions * feed_forward + 2.3 * scores
    return sizes.layers * (positions * sizes.hidden + copies * sizes.kv * keys) + one
