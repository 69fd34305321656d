"""Two processes that share a step, compared with one that computes it alone.

`python -m commands.prove.ranks` is what torchrun starts; the first process prints the difference.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from commands.prove import model as proof
from commands.prove.gradients import EXACT
from commands.prove.outcome import Outcome, Skip, judged


def two(folder: Path) -> Outcome:
    """By NCCL on two cards, by gloo on a CPU."""
    place = proof.require()
    if place.type == "cuda" and torch.cuda.device_count() < 2:
        raise Skip("there is one card here")
    if place.type == "mps":
        raise Skip("torch has no collectives on MPS")
    if not torch.distributed.is_available():
        raise Skip("this torch is built without torch.distributed")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "-m", "commands.prove.ranks"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("apart ")]
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        return Outcome("failed", f"torchrun ended with exit code {done.returncode}: {last[:300]}")
    share = float(lines[-1].split()[1])
    over = "NCCL" if place.type == "cuda" else "gloo"
    said = f"gradients differ by {share:.2e} over {over} (allowed {EXACT:.0e})"
    return judged(share <= EXACT, said, difference=share)


def main() -> None:
    """One of the processes."""
    from cuda_train.ranks import join
    from livery.engines.torch.load import find_device
    from livery.training.plan import shard

    place = find_device("auto")
    mine = join(place)
    shape = proof.TINY
    loss = proof.adapted(proof.make_model(shape).to(place), place, "float32")
    batches = [proof.make_batch(shape, seed=seed) for seed in range(3)]
    alone = sum(proof.gradient(loss, batch, "tree") for batch in batches)
    loss.flat.message.zero_()
    for batch in shard(batches, mine.rank, mine.world):
        loss.gradient([batch], "tree")
    mine.sum_(loss.flat.message)
    assert isinstance(alone, torch.Tensor)
    apart = proof.compare(loss.flat.grads.cpu().double(), alone)
    if mine.rank == 0:
        print(f"apart {apart.share}", flush=True)


if __name__ == "__main__":
    main()
