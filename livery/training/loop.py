"""The one training loop: steps, evaluation, early stop, checkpoints. No framework here.

A run is a function of its settings, data and base: `livery.training.plan` gives the order,
`livery.training.numerics` the learning rate, the portable state all else. So a run that was killed,
or that changes machine or framework, ends as one left alone.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from livery.config.settings import TrainSettings
from livery.errors import Interrupted, UserError
from livery.files import write_json
from livery.paths import METADATA, REFERENCE
from livery.training import checkpoint, events, run_folder, threads
from livery.training.backend import Backend, StepResult, any_process
from livery.training.checkpoint import RunProgress
from livery.training.events import Event, Note
from livery.training.job import Interrupts, Job, RunResult
from livery.training.numerics import learning_rate
from livery.training.origin import of_steps
from livery.training.plan import MicroBatch, Plan, shard, work
from livery.training.preference import MARGIN
from livery.training.reference import with_reference
from livery.training.resume import resume
from livery.training.self_check import settle
from livery.training.threads import Pace
from livery.training.validation import answers, evaluate, judge, means


def train(settings: TrainSettings, backend: Backend, job: Job) -> RunResult:
    """Train, or go on training, and write the adapter folder.

    Raises:
        UserError: the folder is not ours, the checkpoint is of another run, the loss is not finite.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    folder = Path(settings.output_dir)
    if backend.rank or job.held:
        return _Run(settings, backend, job, folder).go()
    with run_folder.locked(folder):
        run_folder.claim(folder, resume=job.resume, overwrite=job.overwrite)
        return _Run(settings, backend, job, folder).go()


class _Run:
    """The state that one call of `train` carries from step to step."""

    def __init__(self, settings: TrainSettings, backend: Backend, job: Job, folder: Path) -> None:
        self.settings, self.backend, self.job, self.folder = settings, backend, job, folder
        self.plan = Plan.of(job.train, settings)
        self.total = settings.max_steps or self.plan.total_steps(settings.epochs)
        self.valid = job.valid
        self.origin = of_steps(settings, self.total, job.train_digest)
        self.writes = backend.rank == 0
        self.progress = RunProgress(valid=job.valid_digest)
        self.callbacks = (run_folder.log_events(folder), *job.callbacks)
        self.saved: tuple[int, RunProgress] | None = None
        self.row_tokens = self.supervised_tokens = 0  # of all processes
        self.busy_seconds = 0.0
        self.facts: dict[str, Any] = {}
        self.warned = False
        self.may_choose, self.pace = False, Pace()
        self.last_step: tuple[float, Sequence[MicroBatch]] = 0.0, ()

    def go(self) -> RunResult:
        try:
            return self._go()
        except Interrupted:
            raise
        except (Exception, KeyboardInterrupt) as error:
            self._tell(events.Failed(error))
            raise

    def _go(self) -> RunResult:
        step = self._start()
        began = time.monotonic()
        with Interrupts() as interrupts:
            while step < self.total and not self._why_stop():
                step += 1
                self._train_step(step)
                last = step == self.total
                if self._due(self.settings.steps_per_eval, step) or (last and self.job.valid):
                    self._evaluate(step)
                if self._due(self.settings.save_every, step) or last:
                    self._save(step)
                if not last:
                    self._watch_pace(step)
                if any_process(self.backend, interrupts.requested):
                    self._save(step)
                    self._tell(events.Interrupted(step))
                    raise Interrupted(
                        f"Stopped after step {step} of {self.total}; everything is saved in "
                        f"{self.folder}. To continue: {self.job.resume_command}"
                    )
            return self._finish(step, time.monotonic() - began)

    # -- start -------------------------------------------------------------------------------

    def _start(self) -> int:
        """Resume or start from scratch; returns the steps already taken."""
        self._choose_threads()
        self._check_fast_path()
        # After the way of computing is settled, and before a checkpoint replaces the weights that
        # the run started from.
        self.plan.examples, self.valid = with_reference(
            self.settings, self.backend, (self.job.train, self.job.valid), resume=self.job.resume
        )
        step = 0
        if self.job.resume:
            step, self.progress = resume(
                self.settings, self.backend, self.origin, self.progress, self._tell,
                anyway=self.job.resume_anyway,
            )  # fmt: skip
        elif self.writes:
            # Only now, when nothing stands in the new run's way.
            keep = (REFERENCE,) if self.backend.objective.reference else ()
            run_folder.clear(self.folder, keep)
            self.job.begin()
        started = events.Started(
            settings=self.settings,
            folder=self.folder,
            step=step,
            total_steps=self.total,
            work=work(self.plan),
            trainable=self.backend.trainable,
            parameters=self.backend.parameters,
            backend=self.backend.name,
            dtype=self.backend.dtype,
            processes=self.backend.world,
        )
        if self.writes:
            self._record(started)
        self._tell(started)
        if step == 0 and self.job.valid:
            self._evaluate(0)
        return step

    def _record(self, started: events.Started) -> None:
        own = ("settings", "folder", "step")
        facts = {k: v for k, v in dataclasses.asdict(started).items() if k not in own}
        digests = {"base_digest": self.origin.base, "data_digest": self.origin.data}
        self.facts = {**facts, **digests, **self.job.record}
        self._write_record()

    def _write_record(self) -> None:
        threads = {"threads": self.backend.threads()}
        run_folder.write_run_config(self.folder, self.settings, {**self.facts, **threads})

    def _choose_threads(self) -> None:
        """Settle the number of threads, and say why where it was not the only one possible."""
        if not self.backend.threads():
            return
        if self.backend.world > 1:  # whoever started them has shared out the cores
            if self.settings.threads:
                self.backend.use_threads(self.settings.threads)
            return
        settled = threads.settle(
            self.settings.threads,
            run_folder.recorded_threads(self.folder) if self.job.resume else None,
            self.backend,
            shard(self.plan.step(0)[:1], 0, 1)[0],
        )
        self.may_choose = settled.measured
        if settled.note:
            self._tell(Note(settled.note))

    def _watch_pace(self, step: int) -> None:
        """Choose the number of threads anew where the machine has become too busy for it."""
        seconds, batches = self.last_step
        positions = sum(len(b.prefix) + b.tokens.size for b in batches)
        if not self.may_choose or not self.pace.has_dropped(seconds, positions):
            return
        before = self.backend.threads()
        found = threads.settle_again(self.backend, batches[0])
        text = f"The last {threads.IN_A_ROW} steps took over {threads.SLOW:g} times the usual:"
        if found.threads == before:
            self._tell(
                Note(
                    f"{text} other programs are using the processor; staying with "
                    f"{found.describe()}."
                )
            )
            return
        self.backend.use_threads(before)
        self._save(step)  # what was computed with the other number is not computed again
        self.backend.use_threads(found.threads)
        if self.writes:
            self._write_record()
        self._tell(Note(f"{text} going on with {found.describe()}."))

    def _check_fast_path(self) -> None:
        """Compare the fast loss with the plain one on the run's first batch."""
        batch = shard(self.plan.step(0)[:1], 0, 1)[0]
        settled = settle(self.backend, batch)
        for text in settled.notes:
            self._tell(Note(text))
        self._tell(events.Checked(settled.result))

    # -- one step ----------------------------------------------------------------------------

    def _train_step(self, step: int) -> None:
        rate = learning_rate(self.settings, step, self.total)
        whole = self.plan.step(step - 1)
        batches = shard(whole, self.backend.rank, self.backend.world)
        began = time.monotonic()
        result = self.backend.train_step(batches, step=step, learning_rate=rate)
        seconds = time.monotonic() - began
        loss = result.loss_sum / max(1, result.count)
        if not (math.isfinite(result.loss_sum) and math.isfinite(result.grad_norm)):
            raise UserError(
                f"Step {step}: the loss is {loss} and the gradient norm {result.grad_norm}. "
                "Nothing of this step was saved. Lower the learning rate, or train in float32 or "
                "bfloat16 where this was float16."
            )
        self.busy_seconds += seconds
        self.row_tokens += sum(batch.row_tokens for batch in whole)
        self.supervised_tokens += sum(batch.supervised for batch in whole)
        self.last_step = seconds, batches
        measures = result.measures
        if len(measures):
            before = self.progress.window_measures or (0.0,) * len(measures)
            measures = self.backend.sum_over_processes(measures) + before
        self.progress = dataclasses.replace(
            self.progress,
            window_loss=self.progress.window_loss + result.loss_sum,
            window_count=self.progress.window_count + result.count,
            window_measures=tuple(measures.tolist()),
        )
        self._tell(events.Stepped(step, self.total, loss, seconds))
        if self._due(self.settings.steps_per_report, step) or step == self.total:
            self._report(step, rate, result)

    def _report(self, step: int, rate: float, result: StepResult) -> None:
        window = self.progress
        metrics = events.Metrics(
            step=step,
            epoch=self._epoch(step),
            loss=window.window_loss / max(1, window.window_count),
            grad_norm=result.grad_norm,
            learning_rate=rate,
            **self._pace(),
            figures=means(self.backend.objective, window.window_measures, window.window_count),
        )
        self.progress = dataclasses.replace(
            window, window_loss=0.0, window_count=0, window_measures=()
        )
        self._tell(metrics)
        self._warn(step, metrics.figures)

    def _warn(self, step: int, figures: Mapping[str, float]) -> None:
        """Say once what the objective finds wrong with its own figures."""
        said = self.backend.objective.warning(figures, self.progress.first_figures)
        if said and not self.warned:
            self.warned = True
            self._tell(Note(f"Step {step}: {said}"))

    # -- evaluation --------------------------------------------------------------------------

    def _evaluate(self, step: int) -> None:
        if not self.valid or (step and self.progress.last_eval == step):
            return
        evaluated = evaluate(
            self.settings, self.backend, self.valid, step=step, epoch=self._epoch(step)
        )
        self._tell(evaluated)
        if self.writes and self.settings.samples:
            for sampled in answers(
                self.settings, self.backend, self.valid, self.job.decode, step=step
            ):
                self._tell(sampled)
        self.progress, best = judge(
            self.progress, evaluated, self.settings.early_stop_min_delta, self.backend.objective
        )
        self._warn(step, evaluated.figures)
        if best and self.settings.keep == "best":
            self._save(step)  # last: it says that all of this is on record

    def _why_stop(self) -> str:
        """Why the run ends before its last step; "" where it does not."""
        patience, target = self.settings.early_stop_patience, self.settings.target_margin
        judged = self.backend.objective.judged_by
        if patience and self.progress.stale >= patience:
            return f"{judged} stopped rising" if judged else "eval_loss stopped falling"
        margin = self.progress.last_figures.get(MARGIN, 0.0)
        if target and margin >= target:
            return f"the held-out margin is {margin:.3g}, and {target:g} was the target"
        return ""

    # -- saving ------------------------------------------------------------------------------

    def _save(self, step: int) -> None:
        if not self.writes:
            return
        path = checkpoint.folder(self.folder, step)
        if path.exists() and self.saved == (step, self.progress):
            return
        state = dataclasses.replace(self.backend.get_state(), step=step)
        checkpoint.write(self.folder, state, self.progress, self.origin, self._made_by())
        self.saved = step, self.progress
        keep_best = self.progress.best_step if self.settings.keep == "best" else None
        checkpoint.prune(self.folder, self.settings.save_total, (keep_best,), now=step)
        self._tell(events.CheckpointSaved(step, path))

    def _made_by(self) -> dict[str, Any]:
        return {
            "backend": self.backend.name,
            "dtype": self.backend.dtype,
            "optimizer": self.settings.optimizer,
        }

    # -- end ---------------------------------------------------------------------------------

    def _finish(self, step: int, seconds: float) -> RunResult:
        if step < self.total:
            self._tell(Note(f"Stopped early after step {step}: {self._why_stop()}."))
        self._save(step)
        state = dataclasses.replace(self.backend.get_state(), step=step)
        best = self.progress.best_step
        if self.settings.keep == "best" and best is not None and best != step and self.writes:
            try:
                state = checkpoint.read(checkpoint.folder(self.folder, best)).state
                judged = self.backend.objective.judged_by
                why = f"the highest eval_{judged}" if judged else "the lowest eval_loss"
                text = f"Keeping the weights of step {best}, {why}."
            except UserError as error:  # hours of training must not end without an adapter
                text = f"{error} Keeping the weights of the last step instead of step {best}."
            self._tell(Note(text))
        kept_last = state.step != best and self.progress.last_eval == state.step
        loss = self.progress.last_loss if kept_last else self.progress.best_loss
        figures = self.progress.last_figures if kept_last else self.progress.best_figures
        facts = {
            "steps": step,
            "epochs": self._epoch(step),
            "kept_step": state.step,
            "eval_loss": loss,
            **{f"eval_{name}": value for name, value in figures.items()},
            "examples": len(self.job.train) // self.plan.group,
            "valid_examples": len(self.job.valid) // self.plan.group,
            "seconds": round(seconds, 2),
            **self._pace(),
            **self._made_by(),
            "base_digest": self.origin.base,
            "data_digest": self.origin.data,
            "settings": self.settings.as_dict(),
        }
        if self.writes:
            facts.update(self.job.export(state, facts) or {})
            write_json(self.folder / METADATA, facts)
        self._tell(events.Finished(facts))
        return RunResult(step, state.step, loss, facts)

    # -- small things ------------------------------------------------------------------------

    def _tell(self, event: Event) -> None:
        if self.writes:
            for callback in self.callbacks:
                callback(event)

    def _epoch(self, step: int) -> float:
        return round(self.plan.progress(step), 4)

    def _pace(self) -> dict[str, float]:
        busy = max(1e-9, self.busy_seconds)
        return {
            "tokens_per_second": round(self.row_tokens / busy, 1),
            "supervised_tokens_per_second": round(self.supervised_tokens / busy, 1),
            "peak_memory_mb": round(self.backend.peak_memory() / 1e6, 1),
        }

    @staticmethod
    def _due(every: int, step: int) -> bool:
        return bool(every) and step % every == 0
