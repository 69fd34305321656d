"""Memory against its forecast, and the share of the matmul peak that training reaches."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from commands.prove import model as proof
from commands.prove.outcome import Outcome, foretold, judged, need
from commands.prove.rows import LORA, RATE, make_rows

# A size at which a card is busy; and one for a CPU, on which only whether it runs is proven.
ONE_CARD: dict[str, Any] = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "num_key_value_heads": 4, "intermediate_size": 2816, "vocab_size": 49152,
}  # fmt: skip


def shape_here(place: Any) -> dict[str, Any]:
    """The model whose speed is measured here."""
    return proof.TINY if place.type == "cpu" else ONE_CARD


def dtype_here(place: Any) -> str:
    """What a run takes on this device by default."""
    from livery.engines.torch.load import choose_dtype

    return choose_dtype("auto", place)


def memory(folder: Path) -> Outcome:
    """The peak of a few steps against what was forecast before anything was loaded."""
    place = proof.require()
    need("peft")
    from cuda_train.backend import TorchBackend
    from cuda_train.memory import forecast
    from livery.training.plan import Plan

    dtype = dtype_here(place)
    shape = proof.TINY if place.type == "cpu" else proof.SMOL
    path = _written_elsewhere(folder, shape, dtype)
    # As much as makes the run's own memory the larger part on a CPU, too.
    examples = make_rows(shape["vocab_size"], 96, 300, 60)
    settings = _settings(path, dtype, batch_size=16)
    wanted = forecast(settings, examples, place).need().total
    backend = TorchBackend(settings, device=str(place), examples=examples)
    plan = Plan(examples, settings.batch_size)
    for step in range(min(6, len(plan.epoch(0)))):
        backend.train_step(plan.step(step), step=step + 1, learning_rate=RATE)
    return foretold(wanted, backend.peak_memory())


def _written_elsewhere(folder: Path, shape: dict[str, Any], dtype: str) -> Path:
    """`write_model` in another process, whose memory is not this one's."""
    code = (
        "import sys, json; from pathlib import Path; from commands.prove.rows import write_model; "
        "write_model(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3])"
    )
    command = [sys.executable, "-c", code, str(folder), json.dumps(shape), dtype]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "model"


def matmul_share(folder: Path) -> Outcome:
    """Matmuls of body and head, forward and backward, against one large matmul's rate."""
    place = proof.require()
    import torch

    dtype, shape = dtype_here(place), shape_here(place)
    peak = _matmul_rate(place, getattr(torch, dtype))
    model = proof.make_model(shape).to(getattr(torch, dtype)).to(place)
    loss = proof.adapted(model, place, dtype)
    batch = proof.make_batch(shape, prefix=400, rows=16, longest=64)
    route = loss.route(batch)
    loss.gradient([batch], route)  # the first one warms up
    wait(place)
    times, began = 3, time.perf_counter()
    for _ in range(times):
        loss.gradient([batch], route)
    wait(place)
    seconds = (time.perf_counter() - began) / times
    head = shape["hidden_size"] * shape["vocab_size"]
    body = sum(p.numel() for n, p in model.named_parameters() if "lora" not in n) - head
    places = len(batch.prefix) + int(batch.lengths.sum())
    done = 4.0 * (body * places + head * batch.supervised)
    share = done / seconds / peak
    said = (
        f"{share:.0%} of {peak / 1e12:.3g} TFLOP/s in {dtype}: {places} positions, "
        f"{body / 1e6:.0f} M parameters, {1e3 * seconds:.0f} ms a step"
    )
    figures = {"share": share, "peak_tflops": peak / 1e12, "step_ms": 1e3 * seconds}
    return judged(share > 0, said, **figures)


def wait(place: Any) -> None:
    """Until the device has done what it was given."""
    import torch

    if place.type == "cuda":
        torch.cuda.synchronize()
    elif place.type == "mps":
        torch.mps.synchronize()


def _matmul_rate(place: Any, dtype: Any, seconds: float = 0.5) -> float:
    """FLOP/s of the largest product that this device takes in a moment."""
    import torch

    size = 1024 if place.type == "cpu" else 8192 if place.type == "cuda" else 4096
    a = torch.randn(size, size, device=place).to(dtype)
    _ = a @ a
    wait(place)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        _ = a @ a
        wait(place)
        count += 1
    return count * 2 * size**3 / (time.perf_counter() - began)


def _settings(path: Path, dtype: Any, *, batch_size: int) -> Any:
    from livery.config.settings import TrainSettings

    return TrainSettings(
        model=str(path), lora=LORA, batch_size=batch_size, dtype=dtype, backend="torch",
        learning_rate=RATE, max_grad_norm=0.0, attention="sdpa",
    )  # fmt: skip
