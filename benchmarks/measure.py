"""What the benchmarks share: interleaving, the table, the JSON file, the machine's own ceiling."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sample:
    """One measured run.

    Attributes:
        seconds: for the work named by the case (an epoch, a merge).
        memory: peak bytes during it.
        facts: whatever else is worth a line.
        processor: seconds of processor time, of all threads, which other programs on the machine
            change less; 0 where it was not taken.
    """

    seconds: float
    memory: int
    facts: Mapping[str, float] | None = None
    processor: float = 0.0


def interleave(
    contestants: Mapping[str, Callable[[], Sample]], repeats: int
) -> dict[str, list[Sample]]:
    """Run every contestant in turn, `repeats` times over, so that drift meets all alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in contestants}
    for turn in range(repeats):
        for name, run in contestants.items():
            sample = run()
            samples[name].append(sample)
            print(
                f"  {turn + 1}/{repeats} {name}: {sample.seconds:.2f} s, "
                f"{sample.processor:.2f} of the processor, {sample.memory / 1e6:.0f} MB",
                flush=True,
            )
    return samples


def compare(samples: Mapping[str, list[Sample]], theirs: str, ours: str) -> dict[str, Any]:
    """Medians of both and their ratios: speedup > 1 and memory_ratio < 1 are in our favour."""
    times = {n: statistics.median(s.seconds for s in samples[n]) for n in (theirs, ours)}
    memory = {n: statistics.median(s.memory for s in samples[n]) for n in (theirs, ours)}
    processor = {n: statistics.median(s.processor for s in samples[n]) for n in (theirs, ours)}
    row: dict[str, Any] = {
        "speedup": times[theirs] / times[ours],
        "memory_ratio": memory[ours] / memory[theirs],
        "seconds": times,
        "processor_seconds": processor,
        "processor_ratio": processor[theirs] / processor[ours] if processor[ours] else None,
        "memory_mb": {n: memory[n] / 1e6 for n in memory},
        "runs": {n: [s.seconds for s in samples[n]] for n in samples},
    }
    for name, found in samples.items():
        if found[-1].facts:
            row.setdefault("facts", {})[name] = dict(found[-1].facts)
    return row


def matmul_peak(size: int = 1024, seconds: float = 0.5) -> float:
    """float32 matmul rate of MLX on this machine, FLOP/s: the ceiling of everything here."""
    import mlx.core as mx

    a = mx.array(np.random.default_rng(0).normal(size=(size, size)).astype(np.float32))
    mx.eval(a @ a)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        mx.eval(a @ a)
        count += 1
    return count * 2 * size**3 / (time.perf_counter() - began)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "openblas": "openblas" in os.environ.get("LD_PRELOAD", ""),
    }


def processor() -> str:
    """The processor's name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def report(results: Mapping[str, Any], path: str | None) -> None:
    """Print a line a case, and write everything to `path` as JSON where one is given."""
    for case, row in results.items():
        if isinstance(row, dict) and "speedup" in row:
            times = f"{row['speedup']:.2f}x faster"
            if row["processor_ratio"]:
                times += f" ({row['processor_ratio']:.2f}x by processor time)"
            print(f"{case}: {times}, {row['memory_ratio']:.2f} of the memory")
    if path:
        Path(path).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
