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
from livery.training import checkpoint, events, run_folder, threads, validation
from livery.training.backend import Backend, StepResult, any_process
from livery.training.checkpoint import RunProgress
from livery.training.events import Event, Note, Throughput
from livery.training.job import Interrupts, Job, RunResult
from livery.training.numerics import learning_rate
from livery.training.origin import of_steps
from livery.training.plan import MicroBatch, Plan, shard
from livery.training.reference import with_reference
from livery.training.resume import made_by, resume
from livery.training.self_check import settle
from livery.training.threads import Pace


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
        self.objective = backend.objective
        self.plan = Plan.of(job.train, settings)
        self.total = settings.max_steps or self.plan.total_steps(settings.epochs)
        self.origin = of_steps(settings, self.total, job.train_digest)
        self.digests = {"base_digest": self.origin.base, "data_digest": self.origin.data}
        self.writes = backend.rank == 0
        self.progress = RunProgress(valid=job.valid_digest)
        self.callbacks = (run_folder.log_events(folder), *job.callbacks)
        self.saved: tuple[int, RunProgress] | None = None
        self.speed = Throughput()
        self.made_by = made_by(settings, backend)
        self.facts: dict[str, Any] = {}
        self.valid, self.warned = job.valid, False
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
        first = shard(self.plan.step(0)[:1], 0, 1)[0]
        self._choose_threads(first)
        self._check_fast_path(first)
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
            run_folder.clear(self.folder, (REFERENCE,) if self.objective.reference else ())
            run_folder.begin(self.folder)
            self.job.begin()
        started = events.Started.of(
            self.settings, self.backend, self.plan, step=step, total_steps=self.total
        )
        self.facts = {**started.facts(), **self.digests, **self.job.record}
        self._record()
        self._tell(started)
        if step == 0 and self.job.valid:
            self._evaluate(0)
        return step

    def _record(self) -> None:
        if self.writes:
            facts = {**self.facts, "threads": self.backend.threads()}
            run_folder.write_run_config(self.folder, self.settings, facts)

    def _choose_threads(self, batch: MicroBatch) -> None:
        """Settle the number of threads, and say why where it was not the only one possible."""
        before = run_folder.recorded_threads(self.folder) if self.job.resume else None
        settled = threads.settle(self.settings.threads, before, self.backend, batch)
        self.may_choose = settled.measured
        if settled.note:
            self._tell(Note(settled.note))

    def _watch_pace(self, step: int) -> None:
        """Choose the number of threads again where the machine has become too busy for it."""
        seconds, batches = self.last_step
        positions = sum(len(b.prefix) + b.tokens.size for b in batches)
        if not self.may_choose or not self.pace.has_dropped(seconds, positions):
            return
        found = threads.settle_again(self.backend, batches[0])
        text = f"The last {threads.IN_A_ROW} steps took over {threads.SLOW:g} times the usual: "
        if found.threads == self.backend.threads():
            text += f"other programs are using the processor; staying with {found.describe()}."
        else:
            self._save(step)  # what was computed with the other number is not computed again
            self.backend.use_threads(found.threads)
            self._record()
            text += f"going on with {found.describe()}."
        self._tell(Note(text))

    def _check_fast_path(self, batch: MicroBatch) -> None:
        """Compare the fast loss with the plain one on the run's first batch."""
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
        self.speed.add(whole, seconds)
        self.last_step = seconds, batches
        measures = result.measures
        if len(measures):
            measures = self.backend.sum_over_processes(measures)
        self.progress = self.progress.after(result.loss_sum, result.count, measures.tolist())
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
            **self.speed.rates(self.backend),
            figures=validation.means(self.objective, window.window_measures, window.window_count),
        )
        self.progress = window.reported()
        self._tell(metrics)
        self._warn(step, metrics.figures)

    def _warn(self, step: int, figures: Mapping[str, float]) -> None:
        """Say once what the objective finds wrong with its own figures."""
        said = self.objective.warning(figures, self.progress.first_figures)
        if said and not self.warned:
            self.warned = True
            self._tell(Note(f"Step {step}: {said}"))

    # -- evaluation --------------------------------------------------------------------------

    def _evaluate(self, step: int) -> None:
        if not self.valid or (step and self.progress.last_eval == step):
            return
        evaluated = validation.evaluate(
            self.settings, self.backend, self.valid, step=step, epoch=self._epoch(step)
        )
        self._tell(evaluated)
        if self.writes and self.settings.samples:
            seen = (self.settings, self.backend, self.valid, self.job.decode)
            for sampled in validation.answers(*seen, step=step):
                self._tell(sampled)
        self.progress, best = validation.judge(
            self.progress, evaluated, self.settings.early_stop_min_delta, self.objective
        )
        self._warn(step, evaluated.figures)
        if best and self.settings.keep == "best":
            self._save(step)  # last: it says that all of this is on record

    def _why_stop(self) -> str:
        return validation.why_stop(self.settings, self.objective, self.progress)

    # -- saving, and the end -----------------------------------------------------------------

    def _save(self, step: int) -> None:
        if not self.writes:
            return
        path = checkpoint.folder(self.folder, step)
        if path.exists() and self.saved == (step, self.progress):
            return
        state = dataclasses.replace(self.backend.get_state(), step=step)
        checkpoint.write(self.folder, state, self.progress, self.origin, self.made_by)
        self.saved = step, self.progress
        keep_best = self.progress.best_step if self.settings.keep == "best" else None
        checkpoint.prune(self.folder, self.settings.save_total, (keep_best,), now=step)
        self._tell(events.CheckpointSaved(step, path))

    def _finish(self, step: int, seconds: float) -> RunResult:
        if step < self.total:
            self._tell(Note(f"Stopped early after step {step}: {self._why_stop()}."))
        self._save(step)
        state = dataclasses.replace(self.backend.get_state(), step=step)
        if self.writes:
            state, note = validation.kept(self.settings, self.objective, self.progress, state)
            if note:
                self._tell(Note(note))
        loss, figures = validation.result_of(self.progress, state.step)
        facts = {
            "steps": step,
            "epochs": self._epoch(step),
            "kept_step": state.step,
            "eval_loss": loss,
            **{f"eval_{name}": value for name, value in figures.items()},
            "examples": len(self.job.train) // self.plan.group,
            "valid_examples": len(self.job.valid) // self.plan.group,
            "seconds": round(seconds, 2),
            **self.speed.rates(self.backend),
            **self.made_by,
            **self.digests,
            "settings": self.settings.as_dict(),
        }
        if self.writes:
            facts.update(self.job.export(state, facts) or {})
            write_json(self.folder / METADATA, facts)
        self._tell(events.Finished(facts))
        return RunResult(step, state.step, loss, facts)

    def _tell(self, event: Event) -> None:
        if self.writes:
            for callback in self.callbacks:
                callback(event)

    def _epoch(self, step: int) -> float:
        return round(self.plan.progress(step), 4)

    @staticmethod
    def _due(every: int, step: int) -> bool:
        return bool(every) and step % every == 0
