"""Logits of one engine for given tokens, with and without an adapter, in a process of its own.

    logits = probe("torch", base_folder, adapter, tokens=[1, 5, 9], positions=[1, 3])
    base = probe_base("mlx", base_folder, tokens=[1, 5, 9])

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

from livery.engines.parity import Logits
from livery.errors import LiveryError, UserError
from livery.paths import python_path
from livery.temporary import Scratch

OnPosition = Callable[[int], None]
LAST_LINES = 6


class AdapterRefused(UserError):
    """An engine computed the base, and then not the adapter on it.

    Attributes:
        base: (N, V) logits of the base alone.
    """

    def __init__(self, message: str, base: np.ndarray) -> None:
        super().__init__(message)
        self.base = base


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
        AdapterRefused: the engine takes the base and not the adapter.
        UserError: the engine refuses model or adapter, or its process dies.
    """
    if engine == "llamacpp":
        return _llamacpp(model, adapter, tokens, positions, on_position)
    base, tuned, error = _child(engine, model, adapter, tokens, positions)
    if base is None:
        raise UserError(error)
    if tuned is None:
        raise AdapterRefused(error, base)
    return Logits(base, tuned)


def probe_base(engine: str, model: Path, tokens: Sequence[int]) -> np.ndarray:
    """(T, V) logits of the base alone, behind each of T tokens, in float32.

    Args:
        engine: "torch" or "mlx".
        model: a model folder.

    Raises:
        UserError: the engine refuses the model, or its process dies.
    """
    base, _, error = _child(engine, model, None, tokens, range(1, len(tokens) + 1))
    if base is None:
        raise UserError(error)
    return base


def _child(
    engine: str,
    model: Path,
    adapter: Path | None,
    tokens: Sequence[int],
    positions: Sequence[int],
) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """Logits of the base and with the adapter, as far as the child came; and what stopped it."""
    with Scratch("probe") as folder:
        job = {
            "engine": engine,
            "model": str(model),
            "adapter": None if adapter is None else str(adapter),
            "tokens": list(tokens),
            "positions": list(positions),
            "folder": str(folder),
        }
        ended = subprocess.run(
            [sys.executable, "-m", "livery.engines.probe"],
            input=json.dumps(job),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env={**os.environ, "PYTHONPATH": python_path()},
        )
        error = ""
        if (folder / "error.txt").is_file():
            error = (folder / "error.txt").read_text(encoding="utf-8")
        elif ended.returncode:
            last = "\n  ".join(ended.stderr.strip().splitlines()[-LAST_LINES:])
            error = (
                f"{adapter or model}: {engine} failed (exit code {ended.returncode}). Its last "
                f"output:\n  {last or 'nothing'}"
            )
        files = [folder / f"{name}.npy" for name in ("base", "tuned")]
        base, tuned = (np.load(f, allow_pickle=False) if f.is_file() else None for f in files)
        return base, tuned, error


def _llamacpp(
    model: Path,
    adapter: Path,
    tokens: Sequence[int],
    positions: Sequence[int],
    on_position: OnPosition | None,
) -> Logits:
    from livery.engines.llamacpp.process import LlamaProcess

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
    """The child: a job on stdin; base.npy, tuned.npy and error.txt in its folder."""
    job = json.load(sys.stdin)
    folder = Path(job["folder"])
    rows = [end - 1 for end in job["positions"]]
    try:
        load = {"torch": _torch, "mlx": _mlx}[job["engine"]]
        run, attach = load(job["model"], job["tokens"])
        np.save(folder / "base.npy", run()[rows])
        if job["adapter"] is not None:
            attach(job["adapter"])
            np.save(folder / "tuned.npy", run()[rows])
    except LiveryError as error:
        (folder / "error.txt").write_text(str(error), encoding="utf-8")
        sys.exit(error.exit_code)


def _without(package: str) -> None:
    """Have `package` look as if it were not installed: one that is imported wherever it is found,
    costs seconds, and has no part in this."""
    sys.modules.setdefault(package, cast(Any, None))


# What computes (T, V) logits, and what puts an adapter on the model that it computes them with.
_Loaded = tuple[Callable[[], np.ndarray], Callable[[str], None]]


def _torch(model: str, tokens: list[int]) -> _Loaded:
    _without("bitsandbytes")
    import torch

    from livery.engines.torch.adapter import attach_adapter
    from livery.engines.torch.load import load_base

    held: list[Any] = [load_base(model, device="cpu", dtype="float32").model]
    row = torch.tensor([tokens])

    def run() -> np.ndarray:
        with torch.no_grad():
            return held[0](input_ids=row).logits[0].float().numpy()

    def put(adapter: str) -> None:
        held[0] = attach_adapter(held[0], adapter).model

    return run, put


def _mlx(model: str, tokens: list[int]) -> _Loaded:
    _without("torch")
    import mlx.core as mx

    from livery.engines.mlx.adapter import attach_adapter
    from livery.engines.mlx.load import load_base

    network: Any = load_base(model, dtype="float32").model
    row = mx.array([tokens])

    def run() -> np.ndarray:
        return np.array(network(row)[0].astype(mx.float32))

    def put(adapter: str) -> None:
        attach_adapter(network, adapter)

    return run, put


if __name__ == "__main__":
    main()
