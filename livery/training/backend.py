"""What the training loop needs of a framework. `mlx_train` and `cuda_train` each provide one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from livery.training.forecast import Forecast
from livery.training.numerics import Objective
from livery.training.plan import MicroBatch

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class PortableState:
    """All that a run needs to go on, in the names and shapes of ARCHITECTURE.md (float32 numpy).

    Attributes:
        weights: LoRA parameters by name.
        first_moment, second_moment: AdamW's m and v, same names and shapes; empty before step 1.
        step: optimizer steps taken.
        notes: what this state cannot carry ("8-bit moments were widened"), for the user.
    """

    weights: Arrays
    first_moment: Arrays = field(default_factory=dict)
    second_moment: Arrays = field(default_factory=dict)
    step: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepResult:
    """Sums over one optimizer step, of all processes unless it says otherwise.

    Attributes:
        loss_sum: of the objective over all rows; for supervised training the cross-entropy over
            supervised tokens, nats.
        count: what that is divided by: the objective's own count, supervised tokens or pairs.
        grad_norm: global L2 norm of the token-mean gradient before clipping.
        measures: sums of the objective's other figures, of this process alone; () for none.
    """

    loss_sum: float
    count: int
    grad_norm: float
    measures: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class CheckResult:
    """The fast loss against the plain one on one micro-batch.

    Attributes:
        ok: they agree within `tolerance`.
        loss_difference: |fast - plain| of the mean loss, relative.
        gradient_difference: largest ||fast - plain|| / ||plain|| over the parameters.
        tolerance: what was allowed for the gradient at this dtype.
        reason: for people, where not ok.
        note: for people, either way; "" for nothing to say.
    """

    ok: bool
    loss_difference: float
    gradient_difference: float
    tolerance: float
    reason: str = ""
    note: str = ""


class Backend(Protocol):
    """One loaded base with LoRA on one framework, on this process's device."""

    name: str  # "mlx" or "torch"
    objective: Objective  # what a step minimises
    dtype: str  # of the base's weights, e.g. "float32"
    rank: int  # of this process
    world: int  # processes
    trainable: int  # LoRA parameters, counted
    parameters: int  # base parameters, counted
    notes: tuple[str, ...]  # settings that were changed, and what may be too much

    def forecast(self) -> Forecast:
        """What the run needs in memory, with the flags that would make it smaller."""
        ...

    def fast_path(self) -> tuple[bool, str]:
        """Whether the shared-prefix loss applies to this model, and if not, why (by name)."""
        ...

    def use_plain(self, reason: str) -> None:
        """Compute every row on its own from now on, without a shared prefix."""
        ...

    def self_check(self, batch: MicroBatch) -> CheckResult:
        """Compare fast and plain loss and gradients on one micro-batch; changes no state."""
        ...

    def train_step(
        self, batches: Sequence[MicroBatch], *, step: int, learning_rate: float
    ) -> StepResult:
        """One optimizer step over this process's micro-batches (possibly none).

        Gradient = sum over all tokens of all processes / token count of all processes, clipped to
        `max_grad_norm`. `step` counts from 1 and seeds the dropout masks together with the run's
        seed, so that a resumed step draws what the uninterrupted one would have drawn.
        """
        ...

    def logprobs(self, batch: MicroBatch) -> np.ndarray:
        """(B,) float32: the summed log-probability of each row's supervised tokens, in eval mode:
        no gradient, no dropout."""
        ...

    def sum_over_processes(self, values: np.ndarray) -> np.ndarray:
        """All-reduce float64 `values` (n,) by sum; the identity for one process."""
        ...

    def get_state(self) -> PortableState: ...

    def set_state(self, state: PortableState) -> None: ...

    def generate(self, prompts: Sequence[Sequence[int]], max_tokens: int) -> list[list[int]]:
        """Greedy answers of the current adapter (for samples.jsonl), without the end token."""
        ...

    def threads(self) -> int:
        """Threads that this process computes with on a CPU; 0 on a GPU, where their number is not
        ours to choose."""
        ...

    def use_threads(self, number: int) -> None:
        """Compute with this many from now on."""
        ...

    def trial(self, batch: MicroBatch) -> None:
        """Compute a micro-batch's gradient and throw it away; changes no state."""
        ...

    def peak_memory(self) -> int:
        """Peak bytes: on a GPU those that the framework held of it since loading (MLX counts its
        own arrays on a CPU, too); for torch on a CPU the whole process's resident memory."""
        ...


def any_process(backend: Backend, flag: bool) -> bool:
    """Whether `flag` holds in any of the processes that train together; all of them ask."""
    if backend.world == 1:
        return flag
    return bool(backend.sum_over_processes(np.asarray([float(flag)]))[0])
