"""MLX: its gradients, its compiled step, its memory, and its speed beside mlx_lm's trainer."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from commands.prove.outcome import Outcome, Skip, foretold, judged, need
from commands.prove.rows import LORA, RATE, make_rows
from livery.config.settings import TrainSettings
from livery.paths import HOME
from livery.training.plan import Example, MicroBatch, Plan
from livery.training.self_check import gradient_difference

EXACT = 1e-3
ROWS, BATCH, PREFIX, LONGEST = 24, 8, 300, 40


def require() -> bool:
    """Whether MLX computes on a CPU here. Raises Skip where it cannot be used."""
    need("mlx", "mlx_lm", "transformers")
    from livery.errors import UserError

    try:
        from livery.engines.mlx.load import require_mlx

        require_mlx()
    except UserError as error:
        raise Skip(str(error)) from None
    from mlx_train.machine import on_cpu

    return on_cpu()


def shared(folder: Path) -> Outcome:
    """The prefix once, in float32, against rows that carry it themselves."""
    require()
    return _shared("float32", EXACT)


def bfloat16(folder: Path) -> Outcome:
    """The same as a run on Metal computes."""
    if require():
        raise Skip("MLX on a CPU trains in float32")
    from livery.training.self_check import tolerance

    return _shared("bfloat16", tolerance("bfloat16", 8))


def _shared(dtype: Any, allowed: float) -> Outcome:
    fast, plain = (_gradients(_backend(dtype, share_prefix=s)) for s in (True, False))
    apart, _ = gradient_difference(fast, plain)
    said = f"{dtype}: gradients differ by {apart:.2e} (allowed {allowed:.2g})"
    return judged(apart <= allowed, said, difference=apart)


def compiled(folder: Path) -> Outcome:
    """One step compiled and one not, from the same weights."""
    on_cpu = require()
    from livery.engines.mlx.load import compiler_missing

    if missing := compiler_missing():
        raise Skip(missing)
    ended: list[dict[str, np.ndarray]] = []
    taken: list[float] = []
    for how in ("off", "on"):
        backend = _backend("float32" if on_cpu else "auto", compile=how)
        backend.train_step([_batch()], step=1, learning_rate=RATE)
        began = time.perf_counter()
        backend.train_step([_batch()], step=2, learning_rate=RATE)
        taken.append(time.perf_counter() - began)
        ended.append(backend.get_state().first_moment)
    apart, _ = gradient_difference(ended[1], ended[0])
    allowed = EXACT if on_cpu else 0.1
    said = (
        f"moments differ by {apart:.2e} (allowed {allowed:.2g}); a step takes "
        f"{1e3 * taken[0]:.0f} ms, compiled {1e3 * taken[1]:.0f} ms"
    )
    figures = {"difference": apart, "plain_ms": 1e3 * taken[0], "compiled_ms": 1e3 * taken[1]}
    return judged(apart <= allowed, said, **figures)


def wired(folder: Path) -> Outcome:
    """Metal's limits as a run sets them."""
    if require():
        raise Skip("there is no Metal here")
    import mlx.core as mx

    from mlx_train.machine import set_memory_limits

    set_memory_limits()
    info: dict[str, Any] = dict(mx.device_info())
    limit = int(info.get("max_recommended_working_set_size") or 0)
    held = mx.zeros((1 << 20,))
    mx.eval(held)
    counted = int(mx.get_active_memory())
    before = mx.set_wired_limit(limit)
    said = f"wired limit {before / 1e9:.1f} GB of {limit / 1e9:.1f} GB recommended"
    return judged(before == limit > 0 and counted >= 4 << 20, said, wired_gb=before / 1e9)


def memory(folder: Path) -> Outcome:
    """The peak of a few steps against what was forecast."""
    require()
    import mlx.core as mx

    from mlx_train.memory import forecast

    rows, settings = _rows(), _settings("auto")
    wanted = forecast(settings, rows).need().total
    mx.reset_peak_memory()
    backend = _backend("auto")
    plan = Plan(rows, BATCH)
    for step in range(len(plan.epoch(0))):
        backend.train_step(plan.step(step), step=step + 1, learning_rate=RATE)
    return foretold(wanted, backend.peak_memory())


def beside_mlx_lm(folder: Path) -> tuple[tuple[float, int], tuple[float, int]]:
    """((seconds, peak bytes) of mlx_lm's trainer, the same of ours) over the same rows."""
    require()
    import mlx.core as mx

    rows = _rows()
    theirs = _by_mlx_lm(rows, folder)
    mx.clear_cache()
    mx.reset_peak_memory()
    backend = _backend("auto")
    plan = Plan(rows, BATCH)
    taken: list[float] = []
    for _ in range(2):
        began = time.perf_counter()
        for step in range(len(plan.epoch(0))):
            backend.train_step(plan.step(step), step=step + 1, learning_rate=RATE)
        taken.append(time.perf_counter() - began)
    return theirs, (taken[-1], backend.peak_memory())


def _by_mlx_lm(rows: list[Example], folder: Path) -> tuple[float, int]:
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx_lm.tuner.datasets import CacheDataset
    from mlx_lm.tuner.trainer import TrainingArgs, train
    from mlx_lm.tuner.utils import linear_to_lora_layers

    from livery.engines.mlx.load import load_base

    class Ready:
        """Rows that are tokenized already: (tokens, length of the prompt)."""

        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> tuple[list[int], int]:
            return rows[index].tokens.tolist(), rows[index].prompt_length

        def process(self, row: tuple[list[int], int]) -> tuple[list[int], int]:
            return row

    base = load_base(str(HOME / "base_model"))
    base.model.freeze()
    layers: Any = base.model.layers
    keys = {name for name, _ in layers[0].named_modules() if name.endswith(LORA.targets)}
    config = {"rank": LORA.rank, "scale": LORA.scale, "dropout": 0.0, "keys": keys}
    linear_to_lora_layers(base.model, len(layers), config)
    mx.reset_peak_memory()
    args = TrainingArgs(
        batch_size=BATCH, iters=ROWS // BATCH, steps_per_report=10**6, steps_per_save=10**9,
        max_seq_length=4096, adapter_file=str(folder / "adapters.safetensors"),
    )  # fmt: skip
    seconds = 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        for _ in range(2):
            began = time.perf_counter()
            train(base.model, optim.AdamW(learning_rate=RATE), CacheDataset(Ready()), args=args)
            seconds = time.perf_counter() - began
    return seconds, int(mx.get_peak_memory())


def _rows() -> list[Example]:
    return make_rows(4000, ROWS, PREFIX, LONGEST)


def _batch() -> MicroBatch:
    return Plan(_rows(), BATCH).step(0)[0]


def _settings(dtype: Any, **more: Any) -> TrainSettings:
    given: dict[str, Any] = {"compile": "off" if sys.platform == "linux" else "auto", **more}
    return TrainSettings(
        model=str(HOME / "base_model"), lora=LORA, batch_size=BATCH, dtype=dtype, backend="mlx",
        max_grad_norm=0.0, **given,
    )  # fmt: skip


def _backend(dtype: Any, **more: Any) -> Any:
    from mlx_train.backend import MlxBackend

    return MlxBackend(_settings(dtype, **more))


def _gradients(backend: Any) -> dict[str, np.ndarray]:
    """A tenth of the summed gradient, as AdamW's first moment holds it after one step."""
    if not backend.fast_path()[0]:
        backend.use_plain("asked for")
    backend.train_step([_batch()], step=1, learning_rate=0.0)
    return dict(backend.get_state().first_moment)
