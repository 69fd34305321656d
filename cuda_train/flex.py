"""Flex attention for trees on a GPU: fully masked blocks are never computed.

Under sdpa a tree of N places costs N x N scores, and most of them are masked: suffixes of different
rows do not see each other. A function tells flex attention which positions attend to which, and it
leaves whole blocks out. What that saves depends on the card, the widths and the tree, so a run
tries both on its largest tree and keeps the faster; before that it compares the gradients with
those of the plain computation.

Its backward pass exists on CUDA only (torch 2.13). Models that mask by sdpa take it; those whose
scores are capped keep the eager attention they have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from cuda_train import branches
from cuda_train.loss import Loss
from cuda_train.ranks import Ranks
from cuda_train.route import Route, shape_of
from cuda_train.trial import Trial, fastest
from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.training.forecast import first_epoch
from livery.training.plan import Example, MicroBatch

# Shorter trees are not worth the compilation, half a minute and more.
WORTH_TRYING = 1024
# Every shape that is met first may compile; beyond torch's own 8 it would fall back, and be slower.
_SHAPES = 256


def install(model: Any) -> str:
    """Let `model` take block masks where it is given them; returns why it cannot, or ""."""
    if why := branches.install(model):
        return why
    compiler = torch._dynamo.config
    compiler.recompile_limit = max(_SHAPES, compiler.recompile_limit)
    return ""


def largest_tree(
    examples: Sequence[Example], settings: TrainSettings, route: Callable[[MicroBatch], Route]
) -> MicroBatch | None:
    """Of the first epoch's micro-batches that run as trees, the one with most places; or None."""
    epoch = (batch for batch in first_epoch(examples, settings) if len(batch.prefix))
    trees = (batch for batch in epoch if route(batch) in ("tree", "branches"))
    return max(trees, key=lambda batch: shape_of(batch).places, default=None)


def try_out(loss: Loss, batch: MicroBatch, ranks: Ranks, *, timed: bool) -> Trial:
    """Compare flex's gradients with the plain ones and sdpa's, and its time with sdpa's.

    All processes of a run decide alike, by the sum of what they found. Changes no state.

    Args:
        timed: take the time, too; else only whether it is right is asked.
    """
    size = f"a tree of {shape_of(batch).places:,} places"
    flex = sdpa = 0.0
    try:
        why = _wrong(loss, batch)
        if not why and timed:
            sdpa, flex = (
                time_gradient(loss, batch, route) for route in (loss.route(batch), "flex")
            )
    except UserError:
        raise
    except Exception as error:  # whatever torch's compiler makes of this card
        line = str(error).strip().splitlines()
        why = f"could not be tried on {size} ({type(error).__name__}: {line[0] if line else ''})"
    loss.flat.message.zero_()
    failed, flex, sdpa = ranks.sum(np.asarray([float(bool(why)), flex, sdpa]), loss.device)
    if failed:
        why = why or f"could not be tried on {size} by another process"
        return Trial(False, False, f"Flex attention {why}: sdpa is used.")
    flex, sdpa = (1e3 * seconds / ranks.world for seconds in (flex, sdpa))
    chosen = "flex attention" if flex < sdpa else "sdpa"
    text = f"On {size} flex attention takes {flex:.1f} ms and sdpa {sdpa:.1f} ms: {chosen} is used."
    return Trial(True, flex < sdpa, text if timed else "")


def _wrong(loss: Loss, batch: MicroBatch) -> str:
    """How far the gradients are off, of a few rows against plain ones and of all against sdpa's."""
    size = f"a tree of {shape_of(batch).places:,} places"
    few = loss.check(batch, "flex")
    if math.isinf(few.gradient_difference):  # it ended in an exception, which is in the reason
        return f"could not be tried on {size}: {few.reason}"
    if not few.ok:
        return f"is {few.gradient_difference:.1e} from the plain gradients on rows of {size}"
    found: list[torch.Tensor] = []
    for route in (loss.route(batch), "flex"):
        loss.flat.message.zero_()
        loss.gradient([batch], route)
        found.append(loss.flat.grads.clone())
    apart = float((found[1] - found[0]).norm() / found[0].norm().clamp_min(1e-30))
    return "" if apart <= few.tolerance else f"is {apart:.1e} from sdpa's gradients on {size}"


def time_gradient(loss: Loss, batch: MicroBatch, route: Route) -> float:
    """Seconds of a forward and backward pass; comparing the two routes warmed both up."""
    return fastest(lambda: loss.gradient([batch], route), loss.device)
