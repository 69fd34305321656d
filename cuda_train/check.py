"""The fast loss against the plainest one there is: each row by itself, through the model's forward.

Most ways in which a mask or a cache goes wrong are silent, so a run compares before it trusts.
"""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from cuda_train.memory import is_out_of_memory
from cuda_train.route import Route
from livery.training.backend import CheckResult
from livery.training.plan import MicroBatch
from livery.training.self_check import FAMILY_ERRORS, broken, first_line

if TYPE_CHECKING:
    from cuda_train.backend import TorchBackend

# What rounding alone makes of a gradient; what goes wrong silently is wrong by tenths. On the
# embedded base both sides were up to 2e-4 from float64 (the fast one nearer) and from each other.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.15, "float16": 0.05}
ROWS = 4
# A parameter whose gradient is this small beside the whole is held to the whole's scale.
_SMALL = 1e-2


def compare(backend: TorchBackend, batch: MicroBatch, route: Route) -> CheckResult:
    """Loss and gradients of the first rows by `route` and one by one; changes no state."""
    few = MicroBatch(batch.prefix, batch.tokens[:ROWS], batch.targets[:ROWS], batch.lengths[:ROWS])
    flat = backend.flat
    flat.message.zero_()
    try:
        fast_sum, tokens = backend.gradient([few], route)
    except FAMILY_ERRORS as error:
        if is_out_of_memory(error):
            raise
        flat.message.zero_()
        reason = f"the {route} route fails ({first_line(error)})"
        return CheckResult(False, math.inf, math.inf, TOLERANCE[backend.dtype], reason)
    fast = flat.grads.clone()
    flat.message.zero_()
    try:
        plain_sum = plain_gradient(backend, few)
    except FAMILY_ERRORS as error:
        if is_out_of_memory(error):
            raise
        raise broken(f"transformers ({type(backend.model).__name__})", error) from error
    plain = flat.grads.clone()
    flat.message.zero_()
    loss = abs(fast_sum - plain_sum) / max(abs(plain_sum), 1e-9)
    floor = _SMALL * float(plain.norm()) + 1e-12
    wanted = flat.split(plain)
    worst, name = max(
        (float((got - wanted[name]).norm()) / max(float(wanted[name].norm()), floor), name)
        for name, got in flat.split(fast).items()
    )
    # bitsandbytes' 8-bit products round activations, too, by what stands beside them in the batch.
    coarse = backend.settings.quantize == 8
    allowed = max(TOLERANCE[backend.dtype], TOLERANCE["bfloat16"] if coarse else 0.0)
    ok = bool(np.isfinite(worst) and worst <= allowed and loss <= allowed)
    reason = "" if ok else f"the {route} route, over {tokens} tokens; the worst is {name}"
    return CheckResult(ok, loss, worst, allowed, reason)


def plain_gradient(backend: TorchBackend, batch: MicroBatch) -> float:
    """Add each row's gradient by itself, by the model's own forward; returns the summed loss."""
    total = 0.0
    taken = inspect.signature(type(backend.model).forward).parameters
    for tokens, targets, length in zip(batch.tokens, batch.targets, batch.lengths, strict=True):
        row = np.concatenate([batch.prefix, tokens[:length]]).astype(np.int64)
        at = np.nonzero(targets[:length] >= 0)[0]
        place = torch.from_numpy(at + len(batch.prefix)).to(backend.device)
        kept = {"logits_to_keep": place} if "logits_to_keep" in taken else {}
        logits = backend.model(
            input_ids=torch.from_numpy(row).to(backend.device)[None], use_cache=False, **kept
        ).logits[0]
        if len(logits) != len(at):
            logits = logits[place]
        wanted = torch.from_numpy(targets[at].astype(np.int64)).to(backend.device)
        loss = functional.cross_entropy(logits.float(), wanted, reduction="sum")
        loss.backward()
        total += float(loss.detach())
    return total
