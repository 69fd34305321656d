"""Defaults chosen for the base: epochs, batch, rank and learning rate from the size of the base and
the number of rows, where the user set none.

Measured to work well: SmolLM2-135M on 11,200 rows with 700 steps of 16, rank 32, 6e-4. A larger
base takes a lower rate and a smaller rank, fewer rows more passes. The embedded base has everything
to learn and needs other values, which are in mlx_config.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from livery.config.layers import Config, Value
from livery.config.settings import TrainSettings
from livery.errors import counted

if TYPE_CHECKING:
    from livery.weights import Stored

SOURCE = "chosen for base and data"
_MEASURED = 135e6  # parameters of the base that the rate was measured on
_RATE, _EXPONENT, _LOWEST, _HIGHEST = 6e-4, 0.3, 1e-4, 1e-3
_SMALL = 500e6  # parameters up to which a base takes the higher rank
_UNKNOWN = 1e9  # parameters that are assumed of a base whose size is not known
# Passes over so many rows; between these points, by the power law that joins them.
_FEW, _FEW_PASSES, _MANY = 1_000, 3.0, 10_000
_MOST_PASSES = 5.0


@dataclass(frozen=True)
class Recipe:
    """What a run is trained with; `epochs` are passes over the rows."""

    epochs: float
    batch_size: int
    rank: int
    learning_rate: float


def recipe(parameters: float | None, rows: int) -> Recipe:
    """The recipe for a base of so many parameters (None: not known) and so many rows.

    One pass over 10,000 rows and more, three over 1,000, five over some hundreds; small sets in
    smaller batches, so that there are steps enough to learn in.
    """
    size = parameters or _UNKNOWN
    rows = max(rows, 1)
    passes = _FEW_PASSES * (_FEW / rows) ** 0.4771  # log10 of 3: one pass over ten times the rows
    rate = _RATE * (_MEASURED / size) ** _EXPONENT
    return Recipe(
        epochs=1.0 if rows >= _MANY else round(min(_MOST_PASSES, max(1.0, passes)), 1),
        batch_size=16 if rows >= 400 else 8 if rows >= 200 else 4,
        rank=32 if size <= _SMALL else 16,
        learning_rate=float(f"{min(_HIGHEST, max(_LOWEST, rate)):.2g}"),
    )


def of_pairs(found: Recipe) -> Recipe:
    """The recipe for as many pairs: a tenth of the rate and three passes at most, since the
    adapter that it starts from can do its work already, and small steps of eight pairs."""
    return Recipe(
        min(found.epochs, _FEW_PASSES),
        min(found.batch_size, 8),
        found.rank,
        float(f"{found.learning_rate / 10:.2g}"),
    )


def fit(config: Config, parameters: float | None, rows: int) -> tuple[Config, str]:
    """The configuration with unset values filled in, and a note for the user; "" if everything was
    set. Rank and alpha go together: if one of them is given, both stay."""

    def unsaid(*names: str) -> bool:
        return all(config.values[name].source == "default" for name in names)

    found = recipe(parameters, rows)
    chosen: dict[str, Any] = {}
    if config.settings.paired:
        found = of_pairs(found)
        chosen |= _of_length(config.settings, found, rows, unsaid)
    if unsaid("epochs", "max_steps"):
        chosen["epochs"] = found.epochs
    if unsaid("batch_size", "grad_accum"):
        chosen["batch_size"] = found.batch_size
    if unsaid("lora.rank", "lora.alpha"):
        chosen["lora.rank"], chosen["lora.alpha"] = found.rank, 2.0 * found.rank
    if unsaid("learning_rate"):
        chosen["learning_rate"] = found.learning_rate
    if not chosen:
        return config, ""
    size = f"{parameters / 1e6:,.0f} M parameters" if parameters else "a size that is not known yet"
    told = ", ".join(f"{name.removeprefix('lora.')} {value:g}" for name, value in chosen.items())
    rows_of = "pair" if config.settings.paired else "row"
    note = (
        f"Not set; chosen for a base of {size} and {counted(rows, rows_of)}: {told}. Flags, "
        "variables and a configuration file take precedence."
    )
    return config.with_values({n: Value(value, SOURCE) for n, value in chosen.items()}), note


def _of_length(
    settings: TrainSettings, found: Recipe, rows: int, unsaid: Callable[..., bool]
) -> dict[str, Any]:
    """Warm-up, evaluations and patience for a run of so many pairs: it is short, and does
    harm where it goes on too long."""
    size = settings.batch_size * settings.grad_accum
    size = found.batch_size if unsaid("batch_size", "grad_accum") else size
    epochs = found.epochs if unsaid("epochs", "max_steps") else settings.epochs
    steps = settings.max_steps or max(1, round(epochs * -(-rows // size)))
    ours = {
        "warmup_steps": min(20, steps // 10),
        "steps_per_eval": max(1, min(100, steps // 10)),
        "early_stop_patience": 3,
    }
    return {name: value for name, value in ours.items() if unsaid(name)}


def count_parameters(tensors: Mapping[str, Stored], config: Mapping[str, Any]) -> float | None:
    """How many weights a base has, from its files' headers; None where there are none.

    A quantized one keeps several in a number: MLX as many as fit into 32 bits, bitsandbytes two in
    a byte.
    """
    quantized: Any = config.get("quantization") or {}
    bits = quantized.get("bits", 4) if isinstance(quantized, dict) else 4
    packed = {"U32": 32 / bits, "U8": 2.0}
    total = sum(t.count * packed.get(t.tag, 1.0) for t in tensors.values())
    return total or None
