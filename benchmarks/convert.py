"""Conversion and merging: adapters against a plain copy, a merge against PEFT's and a plain copy.

    python -m benchmarks.convert --json convert.json           # adapters, and a merge of 200 MB
    python -m benchmarks.convert --case merge-2gb              # the large merge alone

Every run is a process of its own, start-up and imports included; peak memory is that process's, its
mapped files included (Linux counts them). Contestants take turns. The models and adapters are
random, of Llama's shape, and made on the spot.

The files lie in the page cache for all alike. Conversions are flushed to the disk before they count
as done, a plain copy is not: `copy` below is shutil.copyfile in a Python that imports what the
converter imports, `copy, flushed` is followed by fsync.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Sample, compare, interleave, machine, report
from benchmarks.random_llama import make_adapter, make_base
from livery.paths import HOME

CONVERSIONS = ("peft-to-mlx", "peft-to-gguf", "mlx-to-peft", "gguf-to-peft")
MERGES = ("merge-200mb", "merge-2gb")

COPY = """
import sys, os, shutil, click, numpy
import commands.convert, convert.adapters.formats, convert.adapters.gguf
for source, target in zip(sys.argv[2::2], sys.argv[3::2]):
    shutil.copyfile(source, target)
    if sys.argv[1] == "flushed":
        with open(target, "rb") as file: os.fsync(file.fileno())
"""
PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
"""


def process(command: Sequence[str | Path], **environment: str) -> Sample:
    """Run a command: seconds from start to end, and its peak memory."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(
            [str(part) for part in command],
            cwd=HOME,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if child.returncode:
            raise SystemExit(f"{command}:\n{said.read()[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    spent = usage.ru_utime + usage.ru_stime
    return Sample(seconds, usage.ru_maxrss * unit, processor=spent)


def fresh(work: Path, contestant: str) -> Path:
    """A name that is not taken, with what the last run left gone: it is no part of the time."""
    import shutil

    path = work / f"out-{contestant.replace(', ', '-')}"
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True) if path.is_file() else None
    return path


def conversion(case: str, work: Path, repeats: int) -> dict[str, Any]:
    """One direction of `livery convert` against a copy of the adapter's weights."""
    source_kind, _, target = case.partition("-to-")
    base = work / "base"
    if not base.exists():
        make_base(base, "adapter", weights=False)
        make_adapter(work / "peft", "adapter")
    livery = [sys.executable, "-m", "livery"]
    source = work / source_kind
    if not source.exists():
        process([*livery, "convert", work / "peft", source, "--to", source_kind, "--base", base])
    (weights,) = (p for p in source.rglob("*") if p.suffix in (".safetensors", ".gguf"))

    def copied(how: str) -> Sample:
        out = fresh(work, f"copy-{how}")
        out.mkdir()
        return process([sys.executable, "-c", COPY, how, weights, out / weights.name])

    def converted() -> Sample:
        out = fresh(work, "livery")
        return process([*livery, "convert", source, out, "--to", target, "--base", base])

    found = interleave(
        {
            "copy": lambda: copied("plain"),
            "copy, flushed": lambda: copied("flushed"),
            "livery": converted,
        },
        repeats,
    )
    row = compare(found, "copy", "livery")
    row["bytes"] = weights.stat().st_size
    flushed = compare(found, "copy, flushed", "livery")
    row["times_of_a_copy"] = 1 / row["speedup"]
    row["times_of_a_flushed_copy"] = 1 / flushed["speedup"]
    print(
        f"  {row['bytes'] / 1e6:.0f} MB: {row['times_of_a_copy']:.2f} times a copy, "
        f"{row['times_of_a_flushed_copy']:.2f} times a flushed one"
    )
    return row


def merging(case: str, work: Path, repeats: int) -> dict[str, Any]:
    """`livery merge` against PEFT's merge_and_unload + save_pretrained, beside a plain copy.

    On a machine that others use too, torch's threads wait for each other: PEFT runs with its
    default threads and with one, and the faster counts.
    """
    base, adapter = work / f"{case}-base", work / f"{case}-adapter"
    make_base(base, case)
    make_adapter(adapter, case)
    weights = base / "model.safetensors"
    outs: dict[str, Path] = {}

    def peft(**environment: str) -> Sample:
        outs["peft"] = fresh(work, "peft")
        return process([sys.executable, "-c", PEFT, base, adapter, outs["peft"]], **environment)

    def livery() -> Sample:
        outs["livery"] = fresh(work, "livery")
        return process(
            [sys.executable, "-m", "livery", "merge", "--base", base, "--adapter", adapter,
             "--out", outs["livery"]]
        )  # fmt: skip

    def copy() -> Sample:
        out = fresh(work, "copy")
        out.mkdir()
        return process([sys.executable, "-c", COPY, "plain", weights, out / weights.name])

    contestants = {
        "peft": peft,
        "peft, one thread": lambda: peft(OMP_NUM_THREADS="1"),
        "copy": copy,
        "livery": livery,
    }
    found = interleave(contestants, repeats)
    rows = [compare(found, theirs, "livery") for theirs in ("peft", "peft, one thread")]
    row = min(rows, key=lambda one: one["speedup"])
    row["bytes"] = weights.stat().st_size
    row["seconds"]["copy"] = min(sample.seconds for sample in found["copy"])
    row["other_bits"] = differing(outs["peft"], outs["livery"])
    fresh(work, "peft")
    row["where"] = where_the_time_goes(base, adapter, fresh(work, "livery"))
    print(f"  values that differ from PEFT's: {row['other_bits']}; processor time: {row['where']}")
    return row


def differing(one: Path, other: Path) -> int:
    """How many values two folders' weights differ in."""
    from livery.safetensors_file import open_tensors

    files = [
        {name: (file, e) for file in map(open_tensors, folder.glob("*.safetensors"))
         for name, e in file.entries.items()}
        for folder in (one, other)
    ]  # fmt: skip
    assert files[0].keys() == files[1].keys()
    count = 0
    for name, (file, entry) in files[0].items():
        against, place = files[1][name]
        for at in range(0, entry.end - entry.start, 1 << 26):
            size = min(1 << 26, entry.end - entry.start - at) // 2
            a = np.fromfile(file.path, "<u2", size, offset=entry.start + at)
            b = np.fromfile(against.path, "<u2", size, offset=place.start + at)
            count += int(np.count_nonzero(a != b))
    return count


def where_the_time_goes(base: Path, adapter: Path, out: Path) -> dict[str, float]:
    """Processor seconds of all threads by what they were spent on, in a merge in this process."""
    from convert.merge import blocks as merge_blocks
    from convert.merge import changes as merge_changes
    from convert.merge.folders import merge_folders

    spent: dict[str, float] = {}
    lock = threading.Lock()

    def timed(owner: Any, name: str, label: str) -> Callable[[], None]:
        real = getattr(owner, name)

        def wrapper(*arguments: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return real(*arguments, **named)
            finally:
                with lock:
                    spent[label] = spent.get(label, 0.0) + time.thread_time() - began

        setattr(owner, name, wrapper)
        return lambda: setattr(owner, name, real)

    undo = [
        timed(merge_blocks, "compute", "all of a block"),
        timed(merge_blocks, "_copy", "copying"),
        timed(merge_blocks.Stored, "read", "reading and widening"),
        timed(merge_changes.Add, "apply", "product and sum"),
        timed(merge_blocks, "_rounded", "rounding"),
    ]
    began = time.perf_counter()
    merge_folders(base, (adapter,), out)
    wall = time.perf_counter() - began
    for step in undo:
        step()
    parts = ("reading and widening", "product and sum", "rounding")
    spent["writing"] = spent.pop("all of a block") - sum(spent[part] for part in parts)
    return {"wall": round(wall, 2), **{k: round(v, 2) for k, v in spent.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--case",
        choices=(*CONVERSIONS, *MERGES),
        action="append",
        help="which cases; all but merge-2gb by default",
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, interleaved")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    parser.add_argument("--work", type=Path, help="where the files go; the system's by default")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        for case in options.case or (*CONVERSIONS, "merge-200mb"):
            print(f"{case}:", flush=True)
            measure = merging if case in MERGES else conversion
            results[case] = measure(case, Path(name), options.repeats)
    report(results, options.json)


if __name__ == "__main__":
    main()
