"""The fast loss against the plainest one there is: each row by itself, through the model's forward.

Most ways in which a mask or a cache goes wrong are silent, so a run compares before it trusts.
"""

from __future__ import annotations

import math

import numpy as np

from cuda_train.loss import Loss
from cuda_train.memory import is_out_of_memory
from cuda_train.route import Route
from livery.training.backend import CheckResult
from livery.training.plan import MicroBatch
from livery.training.self_check import FAMILY_ERRORS, broken, first_line

# What rounding alone makes of a gradient; what goes wrong silently is wrong by tenths. On the
# embedded base both sides were up to 2e-4 from float64 (the fast one nearer) and from each other.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.15, "float16": 0.05}
ROWS = 4
# A parameter whose gradient is this small beside the whole is held to the whole's scale.
_SMALL = 1e-2


def compare(loss: Loss, batch: MicroBatch, route: Route) -> CheckResult:
    """Loss and gradients of the first rows by `route` and one by one; changes no state."""
    few = MicroBatch(batch.prefix, batch.tokens[:ROWS], batch.targets[:ROWS], batch.lengths[:ROWS])
    flat = loss.flat
    flat.message.zero_()
    try:
        fast_sum, tokens = loss.gradient([few], route)
    except FAMILY_ERRORS as error:
        if is_out_of_memory(error):
            raise
        flat.message.zero_()
        reason = f"the {route} route fails ({first_line(error)})"
        return CheckResult(False, math.inf, math.inf, TOLERANCE[loss.dtype], reason)
    fast = flat.grads.clone()
    flat.message.zero_()
    try:
        plain_sum = loss.plain_gradient(few)
    except FAMILY_ERRORS as error:
        if is_out_of_memory(error):
            raise
        raise broken(f"transformers ({type(loss.model).__name__})", error) from error
    plain = flat.grads.clone()
    flat.message.zero_()
    apart = abs(fast_sum - plain_sum) / max(abs(plain_sum), 1e-9)
    floor = _SMALL * float(plain.norm()) + 1e-12
    wanted = flat.split(plain)
    worst, name = max(
        (float((got - wanted[name]).norm()) / max(float(wanted[name].norm()), floor), name)
        for name, got in flat.split(fast).items()
    )
    # bitsandbytes' 8-bit products round activations, too, by what stands beside them in the batch.
    coarse = loss.settings.quantize == 8
    allowed = max(TOLERANCE[loss.dtype], TOLERANCE["bfloat16"] if coarse else 0.0)
    ok = bool(np.isfinite(worst) and worst <= allowed and apart <= allowed)
    reason = "" if ok else f"the {route} route, over {tokens} tokens; the worst is {name}"
    return CheckResult(ok, apart, worst, allowed, reason)
