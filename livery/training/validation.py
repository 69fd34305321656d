"""What a run does with its validation rows: the loss on all of them, which weights are best so far,
when to stop early, and a few answers to look at."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from livery.config.settings import TrainSettings
from livery.training.backend import Backend
from livery.training.checkpoint import RunProgress
from livery.training.events import Evaluated, Sampled
from livery.training.plan import Example, evaluation_batches


def evaluate(
    settings: TrainSettings, backend: Backend, rows: Sequence[Example], *, step: int, epoch: float
) -> Evaluated:
    """The loss on every validation row; each process takes its share of the micro-batches."""
    began = time.monotonic()
    sums = np.zeros(2)
    count = 0
    batches = evaluation_batches(rows, settings.batch_size, share=settings.share_prefix)
    for count, batch in enumerate(batches, start=1):
        if (count - 1) % backend.world == backend.rank:
            sums += backend.evaluate(batch)
    loss_sum, tokens = backend.sum_over_processes(sums)
    seconds = time.monotonic() - began
    return Evaluated(
        step=step,
        epoch=epoch,
        eval_loss=float(loss_sum / tokens),
        eval_runtime=round(seconds, 3),
        eval_samples_per_second=round(len(rows) / seconds, 3),
        eval_steps_per_second=round(count / seconds, 3),
    )


def answers(
    settings: TrainSettings,
    backend: Backend,
    rows: Sequence[Example],
    decode: Callable[[Sequence[int]], str],
    *,
    step: int,
) -> Iterator[Sampled]:
    """The adapter's answers to the first `settings.samples` validation prompts."""
    chosen = rows[: settings.samples]
    prompts = [row.tokens[: row.prompt_length].tolist() for row in chosen]
    found = backend.generate(prompts, settings.sample_tokens)
    for row, prompt, answer in zip(chosen, prompts, found, strict=True):
        expected = decode(row.tokens[row.supervised].tolist())
        yield Sampled(step, decode(prompt), expected, decode(answer))


def judge(
    progress: RunProgress, step: int, loss: float, min_delta: float
) -> tuple[RunProgress, bool]:
    """(progress with this evaluation in it, whether its weights are the best so far).

    Early stopping counts evaluations since the loss fell by more than `min_delta`; the best weights
    are those of the lowest loss, however small the difference. Weights of step 0 are never kept.
    """
    now = dataclasses.replace(progress, last_eval=step, last_loss=loss)
    if now.reference_loss is None or loss < now.reference_loss - min_delta:
        now = dataclasses.replace(now, reference_loss=loss, stale=0)
    else:
        now = dataclasses.replace(now, stale=now.stale + 1)
    best = step > 0 and (now.best_loss is None or loss < now.best_loss)
    if best:
        now = dataclasses.replace(now, best_loss=loss, best_step=step)
    return now, best
