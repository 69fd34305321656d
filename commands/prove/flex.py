"""What a run on CUDA tries before it uses it: the same gradients, and which is faster."""

from __future__ import annotations

from pathlib import Path

from commands.prove import model as proof
from commands.prove.outcome import Outcome, Skip, judged


def flex(folder: Path) -> Outcome:
    """As a run decides: on a tree of 2,500 places."""
    place = proof.require()
    if place.type != "cuda":
        raise Skip(f"flex attention has a backward pass on CUDA alone, and this is {place.type}")
    import torch

    from cuda_train import flex as trees
    from cuda_train.ranks import Ranks

    shape = proof.sizes(place)
    dtype = "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
    model = proof.make_model(shape).to(getattr(torch, dtype)).to(place)
    loss = proof.adapted(model, place, dtype)
    if why := trees.install(loss.model):
        raise Skip(why)
    batch = proof.make_batch(shape, prefix=512, rows=32, longest=80)
    trial = trees.try_out(loss, batch, Ranks(), timed=True)
    return judged(trial.right, trial.note, faster=float(trial.faster))


def graphs(folder: Path) -> Outcome:
    """A step recorded as a CUDA graph beside one launched kernel by kernel, as a run decides."""
    place = proof.require()
    if place.type != "cuda":
        raise Skip(f"CUDA graphs are for CUDA, and this is {place.type}")
    import torch

    from cuda_train.graphs import Graphs

    shape = proof.sizes(place)
    dtype = "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
    model = proof.make_model(shape).to(getattr(torch, dtype)).to(place)
    loss = proof.adapted(model, place, dtype)
    batch = proof.make_batch(shape, prefix=512, rows=8, longest=80)
    trial = Graphs(loss.body, loss.head, place).try_out(
        batch, lambda: loss.gradient([batch]).loss_sum, loss.flat.grads, dtype
    )
    return judged(trial.right, trial.note, faster=float(trial.faster))
