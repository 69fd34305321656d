"""What the benchmarks share: options, runs in processes of their own, interleaving, the table, the
JSON file, the machine's own ceiling."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livery.paths import HOME
from livery.training.plan import Example

# (model folder, examples, how many a step: rows, or pairs of two examples)
Case = tuple[str, list[Example], int]


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


# One measured run of (model folder, examples, how many a step, dtype).
Run = Callable[[str, Sequence[Example], int, str], Sample]


def training_options(
    description: str | None, cases: Collection[str], unit: str = "rows"
) -> argparse.ArgumentParser:
    """The options of every benchmark that trains; the default of --case is for the caller."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--case", choices=cases, action="append", help="which cases; the first three by default"
    )
    parser.add_argument("--repeats", type=int, default=2, help="runs of each, interleaved")
    parser.add_argument("--rows", type=int, help=f"only so many {unit} of each case")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    return parser


def race(
    module: str,
    description: str | None,
    cases: Mapping[str, Callable[[Path], Case]],
    contestants: Mapping[str, Run],
    rivals: Mapping[str, str],
    ceiling: Callable[[str], Mapping[str, float]] = lambda dtype: {},
    *,
    pairs: bool = False,
) -> None:
    """The whole of a benchmark that trains, each run in a process of its own, whose peak memory is
    that run's.

    Args:
        module: the benchmark's own name, under which its processes start.
        cases: of which the first three run where none is named.
        rivals: each contestant of ours and whom it is compared with.
        ceiling: what else is measured of the machine, for a dtype.
        pairs: two neighbouring examples are one of what is counted.
    """
    unit, group = ("pairs", 2) if pairs else ("rows", 1)
    parser = training_options(description, cases, unit)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--one", choices=contestants, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen: list[str] = options.case or [*cases][:3]
    kept = options.rows and group * options.rows

    if options.one:
        if options.one == "livery":  # on torch
            importlib.import_module("cuda_train")  # settles its allocator, as a run does
        model, examples, size = cases[chosen[0]](options.folder)
        sample = contestants[options.one](model, examples[:kept], size, options.dtype)
        print(json.dumps(dataclasses.asdict(sample)))  # the last line, which `apart` reads
        return

    def apart(contestant: str, case: str, folder: str) -> Sample:
        command = [sys.executable, "-m", module, "--one", contestant, "--case", case,
                   "--folder", folder, "--dtype", options.dtype]  # fmt: skip
        command += ["--rows", str(options.rows)] if options.rows else []
        done = subprocess.run(command, capture_output=True, text=True, cwd=HOME, check=False)
        if done.returncode:
            raise SystemExit(f"{contestant}, {case}: {done.stderr[-2000:]}")
        return Sample(**json.loads(done.stdout.splitlines()[-1]))

    results: dict[str, Any] = {
        "machine": {**machine(), "dtype": options.dtype, **ceiling(options.dtype), **load()}
    }
    print(results["machine"], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for case in chosen:
            _, examples, size = cases[case](Path(folder))
            count = len(examples[:kept]) // group
            print(f"{case}: {count} {unit}, batches of {size}", flush=True)
            runs = {who: lambda w=who, c=case: apart(w, c, folder) for who in contestants}
            samples = interleave(runs, options.repeats)
            for ours, theirs in rivals.items():
                name = case if len(rivals) == 1 else f"{case}, {ours} against {theirs}"
                results[name] = compare(samples, theirs, ours)
    report(results, options.json)


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
        "runs": {n: [s.seconds for s in samples[n]] for n in (theirs, ours)},
    }
    for name in (theirs, ours):
        if facts := samples[name][-1].facts:
            row.setdefault("facts", {})[name] = dict(facts)
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


def load() -> dict[str, float]:
    """How many programs wanted a core in the last minute, where the system says it."""
    return {"load": os.getloadavg()[0]} if hasattr(os, "getloadavg") else {}


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
