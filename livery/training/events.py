"""What a training run tells its callbacks: one frozen value an event, in the order they happen.

    def show(event: Event) -> None:
        if isinstance(event, Evaluated):
            print(event.step, event.eval_loss)

    train(settings, backend, Job(…, callbacks=[show]))

The terminal output, the files in the run's folder and every tracker are such callbacks. With
several processes, the first one alone calls them. What a callback raises ends the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from livery.config.settings import TrainSettings
from livery.training.backend import Backend, CheckResult
from livery.training.plan import MicroBatch, Plan, Work, work


@dataclass(frozen=True)
class Note:
    """Something the user should know."""

    text: str


@dataclass(frozen=True)
class Checked:
    """The shared-prefix loss was compared with the plain one on the run's first batch."""

    result: CheckResult


@dataclass(frozen=True)
class Resumed:
    """The run continues from a checkpoint.

    Attributes:
        step: optimizer steps it had taken.
        path: of the checkpoint.
    """

    step: int
    path: Path


@dataclass(frozen=True)
class Started:
    """Everything is loaded; the first step comes next.

    Attributes:
        settings: of the run.
        folder: that the run writes.
        step: optimizer steps already taken, by the run that is resumed.
        total_steps: optimizer steps of the whole run.
        work: what an epoch computes.
        trainable, parameters: LoRA parameters and the base's, counted.
        backend, dtype: "mlx" or "torch", and the base's dtype.
        processes: that train together.
    """

    settings: TrainSettings
    folder: Path
    step: int
    total_steps: int
    work: Work
    trainable: int
    parameters: int
    backend: str
    dtype: str
    processes: int

    @classmethod
    def of(
        cls, settings: TrainSettings, backend: Backend, plan: Plan, *, step: int, total_steps: int
    ) -> Started:
        """Of a run that is about to begin, or to go on."""
        return cls(
            settings, Path(settings.output_dir), step, total_steps, work(plan), backend.trainable,
            backend.parameters, backend.name, backend.dtype, backend.world,
        )  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """What run_config.json says of the run beside its settings."""
        own = ("settings", "folder", "step")
        return {name: value for name, value in asdict(self).items() if name not in own}


@dataclass(frozen=True)
class Stepped:
    """One optimizer step.

    Attributes:
        step: counted from 1.
        total_steps: of the run.
        loss: mean over the step's supervised tokens, nats.
        seconds: that it took.
    """

    step: int
    total_steps: int
    loss: float
    seconds: float


@dataclass
class Throughput:
    """What `Metrics` says of speed and memory, counted over the steps of this process."""

    row_tokens: int = 0
    supervised_tokens: int = 0
    seconds: float = 0.0

    def add(self, step: Sequence[MicroBatch], seconds: float) -> None:
        """Count a step: its micro-batches on all processes, and how long it took."""
        self.row_tokens += sum(batch.row_tokens for batch in step)
        self.supervised_tokens += sum(batch.supervised for batch in step)
        self.seconds += seconds

    def rates(self, backend: Backend) -> dict[str, float]:
        """By the names that they have in `Metrics`."""
        busy = max(1e-9, self.seconds)
        return {
            "tokens_per_second": round(self.row_tokens / busy, 1),
            "supervised_tokens_per_second": round(self.supervised_tokens / busy, 1),
            "peak_memory_mb": round(backend.peak_memory() / 1e6, 1),
        }


@dataclass(frozen=True)
class Metrics:
    """A line of training_metrics.jsonl, every `steps_per_report` steps: its keys and their order.

    Attributes:
        epoch: passes over the data so far.
        loss: mean over the supervised tokens since the last such line, nats.
        grad_norm: of this step's token-mean gradient, before clipping.
        tokens_per_second: tokens of the rows as the data have them, prompts included: a prompt
            that several rows share counts for each, though it is computed once. Since this process
            began to train, time within steps alone.
        supervised_tokens_per_second: those of them that carry loss.
        peak_memory_mb: 10^6 bytes: on a GPU those that the framework held of it, MLX's arrays on a
            CPU; for torch on a CPU the resident memory of the whole process.
        figures: the objective's own, by name, means since the last such line: keys of that line.
    """

    step: int
    epoch: float
    loss: float
    grad_norm: float
    learning_rate: float
    tokens_per_second: float
    supervised_tokens_per_second: float
    peak_memory_mb: float
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Evaluated:
    """A line of training_metrics.jsonl, at each evaluation: its keys and their order.

    Attributes:
        eval_loss: mean over the supervised tokens of all validation rows, nats.
        eval_runtime: seconds.
        figures: the objective's own, by name, means over all validation rows: keys of that line,
            with "eval_" before them.
    """

    step: int
    epoch: float
    eval_loss: float
    eval_runtime: float
    eval_samples_per_second: float
    eval_steps_per_second: float
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


def as_line(event: Metrics | Evaluated) -> dict[str, Any]:
    """The line of training_metrics.jsonl."""
    row = asdict(event)
    lead = "eval_" if isinstance(event, Evaluated) else ""
    return row | {f"{lead}{name}": value for name, value in row.pop("figures").items()}


@dataclass(frozen=True)
class Sampled:
    """A line of samples.jsonl: a validation prompt, its own answer and the adapter's so far."""

    step: int
    prompt: str
    expected: str
    answer: str


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is on disk."""

    step: int
    path: Path


@dataclass(frozen=True)
class Interrupted:
    """SIGINT or SIGTERM ended the run after this step; everything is saved."""

    step: int


@dataclass(frozen=True)
class Failed:
    """The run ended by an error; what was saved before it is kept."""

    error: BaseException


@dataclass(frozen=True)
class Finished:
    """The adapter folder is written. `facts` is what training_metadata.json holds."""

    facts: dict[str, Any]


Event = (
    Note | Checked | Resumed | Started | Stepped | Metrics | Evaluated | Sampled
    | CheckpointSaved | Interrupted | Failed | Finished
)  # fmt: skip
Callback = Callable[[Event], None]
