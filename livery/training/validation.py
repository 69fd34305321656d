"""What a run does with its validation rows: the loss on all of them, which weights are best so far
and kept in the end, when to stop early, and a few answers to look at."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.training import checkpoint
from livery.training.backend import Backend, PortableState
from livery.training.checkpoint import RunProgress
from livery.training.events import Evaluated, Sampled
from livery.training.numerics import SFT, Objective
from livery.training.plan import Example, evaluation_batches
from livery.training.preference import MARGIN


def evaluate(
    settings: TrainSettings, backend: Backend, rows: Sequence[Example], *, step: int, epoch: float
) -> Evaluated:
    """The loss on every validation row; each process takes its share of the micro-batches."""
    began = time.monotonic()
    objective = backend.objective
    sums = np.zeros(2 + len(objective.measures))
    count = 0
    batches = evaluation_batches(
        rows, settings.batch_size, share=settings.share_prefix, group=settings.group
    )
    for count, batch in enumerate(batches, start=1):
        if (count - 1) % backend.world == backend.rank:
            sums += objective.scored(batch, backend.logprobs(batch))
    loss_sum, divisor, *measures = backend.sum_over_processes(sums).tolist()
    seconds = time.monotonic() - began
    return Evaluated(
        step=step,
        epoch=epoch,
        eval_loss=loss_sum / divisor,
        eval_runtime=round(seconds, 3),
        eval_samples_per_second=round(len(rows) // settings.group / seconds, 3),
        eval_steps_per_second=round(count / seconds, 3),
        figures=means(objective, measures, divisor),
    )


def means(objective: Objective, sums: Sequence[float], count: float) -> dict[str, float]:
    """The objective's figures by name, of their sums."""
    named = zip(objective.measures, sums, strict=True)
    return {name: value / max(1, count) for name, value in named}


def answers(
    settings: TrainSettings,
    backend: Backend,
    rows: Sequence[Example],
    decode: Callable[[Sequence[int]], str],
    *,
    step: int,
) -> Iterator[Sampled]:
    """The adapter's answers to the first `settings.samples` validation prompts."""
    chosen = rows[:: settings.group][: settings.samples]
    prompts = [row.tokens[: row.prompt_length].tolist() for row in chosen]
    found = backend.generate(prompts, settings.sample_tokens)
    for row, prompt, answer in zip(chosen, prompts, found, strict=True):
        expected = decode(row.tokens[row.supervised].tolist())
        yield Sampled(step, decode(prompt), expected, decode(answer))


def judge(
    progress: RunProgress, evaluated: Evaluated, min_delta: float, objective: Objective = SFT
) -> tuple[RunProgress, bool]:
    """(progress with this evaluation in it, whether its weights are the best so far).

    Early stopping counts evaluations since the objective's score (the loss, or a margin's negative)
    fell by more than `min_delta`; the best weights are those of the lowest score, however small the
    difference. Weights of step 0 are never kept.
    """
    step, loss, figures = evaluated.step, evaluated.eval_loss, dict(evaluated.figures)
    score = objective.score(loss, figures)
    now = dataclasses.replace(progress, last_eval=step, last_loss=loss, last_figures=figures)
    if step == 0:
        now = dataclasses.replace(now, first_figures=figures)
    if now.reference_loss is None or score < now.reference_loss - min_delta:
        now = dataclasses.replace(now, reference_loss=score, stale=0)
    else:
        now = dataclasses.replace(now, stale=now.stale + 1)
    best = step > 0 and (
        now.best_loss is None or score < objective.score(now.best_loss, now.best_figures)
    )
    if best:
        now = dataclasses.replace(now, best_loss=loss, best_step=step, best_figures=figures)
    return now, best


def why_stop(settings: TrainSettings, objective: Objective, progress: RunProgress) -> str:
    """Why a run ends before its last step; "" where it does not."""
    patience, target = settings.early_stop_patience, settings.target_margin
    if patience and progress.stale >= patience:
        judged = objective.judged_by
        return f"{judged} stopped rising" if judged else "eval_loss stopped falling"
    margin = progress.last_figures.get(MARGIN, 0.0)
    if target and margin >= target:
        return f"the held-out margin is {margin:.3g}, and {target:g} was the target"
    return ""


def kept(
    settings: TrainSettings, objective: Objective, progress: RunProgress, last: PortableState
) -> tuple[PortableState, str]:
    """(the state whose weights a run keeps, what to say of the choice), of a run that ends with
    `last`."""
    best = progress.best_step
    if settings.keep != "best" or best is None or best == last.step:
        return last, ""
    try:
        state = checkpoint.read(checkpoint.folder(Path(settings.output_dir), best)).state
    except UserError as error:  # hours of training must not end without an adapter
        return last, f"{error} Keeping the weights of the last step instead of step {best}."
    judged = objective.judged_by
    why = f"the highest eval_{judged}" if judged else "the lowest eval_loss"
    return state, f"Keeping the weights of step {best}, {why}."


def result_of(progress: RunProgress, step: int) -> tuple[float | None, Mapping[str, float]]:
    """(eval_loss, the objective's own figures) of the step whose weights are kept."""
    if step != progress.best_step and progress.last_eval == step:
        return progress.last_loss, progress.last_figures
    return progress.best_loss, progress.best_figures
