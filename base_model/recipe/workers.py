"""The processes of a training run: one thread each, a share of every batch."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from .export import export
from .train import Run, train


def worker(
    rank: int, world: int, work: Path, out: Path, run: Run, start: Path | None = None
) -> None:
    """One process of a course; the first one logs, saves and exports."""
    torch.set_num_threads(1)
    if world > 1:
        meeting = work / "meeting"
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting.resolve()}", rank=rank, world_size=world
        )
    model = train(
        work, run, log=lambda line: print(line, flush=True), rank=rank, world=world, start=start
    )
    if rank == 0:
        export(model, work, out, run, start)
        print(f"written to {out}")
    if world > 1:
        dist.destroy_process_group()
