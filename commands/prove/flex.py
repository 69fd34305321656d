"""What a run on CUDA tries before it uses it: the same gradients, and which is faster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands.prove import model as proof
from commands.prove.outcome import Outcome, Skip, judged

if TYPE_CHECKING:
    from cuda_train.loss import Loss


def flex(folder: Path) -> Outcome:
    """Flex attention beside sdpa, as a run decides: on a tree of 2,500 places."""
    loss, shape = _on_cuda("flex attention has a backward pass on CUDA alone")
    from cuda_train import flex as trees
    from cuda_train.ranks import Ranks

    if why := trees.install(loss.model):
        raise Skip(why)
    batch = proof.make_batch(shape, prefix=512, rows=32, longest=80)
    trial = trees.try_out(loss, batch, Ranks(), timed=True)
    return judged(trial.right, trial.note, faster=float(trial.faster))


def graphs(folder: Path) -> Outcome:
    """A step recorded as a CUDA graph beside one launched kernel by kernel, as a run decides."""
    loss, shape = _on_cuda("CUDA graphs are for CUDA")
    from cuda_train.graphs import Graphs

    batch = proof.make_batch(shape, prefix=512, rows=8, longest=80)
    trial = Graphs(loss.body, loss.head, loss.device).try_out(
        batch, lambda: loss.gradient([batch]).loss_sum, loss.flat.grads, loss.dtype
    )
    return judged(trial.right, trial.note, faster=float(trial.faster))


def _on_cuda(why: str) -> tuple[Loss, dict[str, Any]]:
    """A model with LoRA in half precision on the GPU, and its shape. Raises Skip elsewhere."""
    place = proof.require()
    if place.type != "cuda":
        raise Skip(f"{why}, and this is {place.type}")
    import torch

    shape = proof.sizes(place)
    dtype = "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
    model = proof.make_model(shape).to(getattr(torch, dtype)).to(place)
    return proof.adapted(model, place, dtype), shape
