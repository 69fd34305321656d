"""Logits of one engine for given tokens, with and without an adapter, in a process of its own.

    logits = probe("torch", base_folder, adapter, tokens=[1, 5, 9], positions=[1, 3])

torch and MLX run in float32 in a child that this module is the program of; llama.cpp in its own, as
near to float32 as it computes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from livery.errors import LiveryError, UserError
from livery.parity import Logits
from livery.paths import HOME
from livery.temporary import Scratch

OnPosition = Callable[[int], None]
LAST_LINES = 6


def probe(
    engine: str,
    model: Path,
    adapter: Path,
    tokens: Sequence[int],
    positions: Sequence[int],
    on_position: OnPosition | None = None,
) -> Logits:
    """Logits behind the first n tokens, for each n of `positions`.

    Args:
        engine: "torch", "mlx" or "llamacpp".
        model: a model folder; for llamacpp a GGUF file.
        adapter: in the engine's own format.
        on_position: hears of every position, where they are computed one by one.

    Raises:
        UserError: the engine refuses model or adapter, or its process dies.
    """
    if engine == "llamacpp":
        return _llamacpp(model, adapter, tokens, positions, on_position)
    with Scratch("probe") as folder:
        job = {
            "engine": engine,
            "model": str(model),
            "adapter": str(adapter),
            "tokens": list(tokens),
            "positions": list(positions),
            "folder": str(folder),
        }
        known = os.environ.get("PYTHONPATH", "")
        path = os.pathsep.join([str(HOME), *([known] if known else [])])
        ended = subprocess.run(
            [sys.executable, "-m", "livery.engines.probe"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
        error = folder / "error.txt"
        if error.is_file():
            raise UserError(error.read_text(encoding="utf-8"))
        if ended.returncode:
            last = "\n  ".join(ended.stderr.strip().splitlines()[-LAST_LINES:])
            raise UserError(
                f"{adapter}: {engine} gave up (exit code {ended.returncode}). What it said last:"
                f"\n  {last or 'nothing'}"
            )
        with np.load(Path(folder) / "logits.npz", allow_pickle=False) as found:
            return Logits(found["base"], found["tuned"])


def _llamacpp(
    model: Path,
    adapter: Path,
    tokens: Sequence[int],
    positions: Sequence[int],
    on_position: OnPosition | None,
) -> Logits:
    from livery.engines.llamacpp_process import LlamaProcess

    llama = LlamaProcess(model, adapter, context=256, exact=True)
    try:
        rows: dict[float, list[np.ndarray]] = {0.0: [], 1.0: []}
        for count, end in enumerate(positions, start=1):
            for scale, found in rows.items():
                step = llama.next(tokens[:end], top=llama.vocabulary, scale=scale)
                found.append(step.row)
            if on_position is not None:
                on_position(count)
        return Logits(np.stack(rows[0.0]), np.stack(rows[1.0]))
    finally:
        llama.close()


def main() -> None:
    """The child: a job on stdin, logits.npz or error.txt in its folder."""
    job = json.load(sys.stdin)
    folder = Path(job["folder"])
    try:
        compute = {"torch": _torch, "mlx": _mlx}[job["engine"]]
        base, tuned = compute(job["model"], job["adapter"], job["tokens"])
    except LiveryError as error:
        (folder / "error.txt").write_text(str(error), encoding="utf-8")
        sys.exit(error.exit_code)
    rows = [end - 1 for end in job["positions"]]
    np.savez(folder / "logits.npz", base=base[rows], tuned=tuned[rows])


def _without(package: str) -> None:
    """Have `package` look as if it were not installed: one that is imported wherever it is found,
    costs seconds, and has no part in this."""
    sys.modules.setdefault(package, cast(Any, None))


def _torch(model: str, adapter: str, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    _without("bitsandbytes")
    import torch

    from livery.engines.torch_adapter import put_on
    from livery.engines.torch_base import load_base

    loaded = load_base(model, device="cpu", dtype="float32")
    put = put_on(loaded.model, adapter)
    row = torch.tensor([tokens])

    def run(on: bool) -> np.ndarray:
        put.use(on)
        with torch.no_grad():
            return put.model(input_ids=row).logits[0].float().numpy()

    return run(False), run(True)


def _mlx(model: str, adapter: str, tokens: list[int]) -> tuple[np.ndarray, np.ndarray]:
    from livery.blas import use_openblas

    use_openblas()
    _without("torch")
    import mlx.core as mx

    from livery.engines.mlx_adapter import put_on
    from livery.engines.mlx_base import load_base

    loaded = load_base(model, dtype="float32")
    put = put_on(loaded.model, adapter)
    network: Any = loaded.model
    row = mx.array([tokens])

    def run(on: bool) -> np.ndarray:
        put.use(on)
        return np.array(network(row)[0].astype(mx.float32))

    return run(False), run(True)


if __name__ == "__main__":
    main()
