"""The one training loop: steps, evaluation, early stop, checkpoints, metrics. No framework here.

A run is a function of its settings, data and base: the order comes from `livery.plan`, the learning
rate from `livery.schedule`, all else from the portable state. So a run that was killed, or that
changes machine or framework, ends as one left alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livery import checkpoint, run_folder
from livery.backend import Backend, PortableState, StepResult
from livery.checkpoint import Origin, Progress
from livery.errors import Interrupted, UserError
from livery.files import write_json
from livery.interrupts import Interrupts
from livery.plan import Example, Plan, evaluation_batches, shard, work
from livery.schedule import learning_rate
from livery.self_check import settle
from livery.settings import TrainSettings

Listener = Callable[[str, dict[str, Any]], None]
Export = Callable[[PortableState, dict[str, Any]], Mapping[str, Any] | None]
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Job:
    """What a run works on, beside its settings.

    Attributes:
        train, valid: encoded examples; valid may be empty.
        train_digest, valid_digest: of the examples, as `livery.dataset.encode.digest` makes them;
            "" where nothing is evaluated.
        decode: token ids -> text, for samples.
        export: writes the adapter folder from a state and the run's facts; what it returns is
            recorded with them.
        listener: told of every event by name with its facts; prints, or feeds a web page.
        resume: go on with the run in the folder.
        resume_anyway: although it was made from something else.
        overwrite: begin anew in a folder that holds a run.
        held: the caller holds the folder's lock.
        record: what run_config.json says beside the loop's own facts.
        begin: called when a new run is about to write its first file.
        resume_command: shown when the run is interrupted.
    """

    train: Sequence[Example]
    valid: Sequence[Example]
    train_digest: str
    decode: Decode
    export: Export
    valid_digest: str = ""
    listener: Listener = lambda name, facts: None
    resume: bool = False
    resume_anyway: bool = False
    overwrite: bool = False
    held: bool = False
    record: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    begin: Callable[[], None] = lambda: None
    resume_command: str = "the same command with --resume"


@dataclass(frozen=True)
class RunResult:
    """How a run ended: steps taken, the step whose weights were kept, and its facts."""

    steps: int
    kept_step: int
    eval_loss: float | None
    facts: dict[str, Any]


def train(settings: TrainSettings, backend: Backend, job: Job) -> RunResult:
    """Train, or go on training, and write the adapter folder.

    Raises:
        UserError: the folder is not ours, the checkpoint is of another run, the loss is not finite.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    folder = Path(settings.output_dir)
    if backend.rank:
        return _Run(settings, backend, job, folder).go()
    with contextlib.nullcontext() if job.held else run_folder.locked(folder):
        run_folder.claim(folder, resume=job.resume, overwrite=job.overwrite)
        return _Run(settings, backend, job, folder).go()


class _Run:
    """The state that one call of `train` carries from step to step."""

    def __init__(self, settings: TrainSettings, backend: Backend, job: Job, folder: Path) -> None:
        self.settings, self.backend, self.job, self.folder = settings, backend, job, folder
        self.plan = Plan(
            job.train, settings.batch_size, settings.grad_accum, settings.seed,
            settings.share_prefix,
        )  # fmt: skip
        self.total = settings.max_steps or self.plan.total_steps(settings.epochs)
        self.origin = Origin(
            run_folder.deciding_settings(settings, self.total),
            job.train_digest,
            run_folder.base_digest(settings.model),
        )
        self.writes = backend.rank == 0
        self.progress = Progress(valid=job.valid_digest)
        self.trained_tokens = 0
        self.busy_seconds = 0.0

    def go(self) -> RunResult:
        step = self._start()
        began = time.monotonic()
        with Interrupts() as interrupts:
            while step < self.total and not self._should_stop_early():
                step += 1
                self._train_step(step)
                last = step == self.total
                if self._due(self.settings.steps_per_eval, step) or (last and self.job.valid):
                    self._evaluate(step)
                if self._due(self.settings.save_every, step) or last:
                    self._save(step)
                if self._any_process(interrupts.requested):
                    self._save(step)
                    raise Interrupted(
                        f"Stopped after step {step} of {self.total}; everything is saved in "
                        f"{self.folder}. To go on: {self.job.resume_command}"
                    )
            return self._finish(step, time.monotonic() - began)

    # -- beginning ---------------------------------------------------------------------------

    def _start(self) -> int:
        """Resume or begin; returns the steps already done."""
        self._check_fast_path()
        step = self._resume() if self.job.resume else 0
        facts = {
            "total_steps": self.total,
            "work": dataclasses.asdict(work(self.plan)),
            "trainable": self.backend.trainable,
            "parameters": self.backend.parameters,
            "backend": self.backend.name,
            "dtype": self.backend.dtype,
            "processes": self.backend.world,
            "base_digest": self.origin.base,
            "data_digest": self.origin.data,
            **self.job.record,
        }
        if self.writes and not self.job.resume:
            run_folder.clear(self.folder)  # only now, when nothing stands in the new run's way
            self.job.begin()
        if self.writes:
            run_folder.write_run_config(self.folder, self.settings, facts)
        self._tell("start", **facts, step=step)
        if step == 0 and self.job.valid:
            self._evaluate(0)
        return step

    def _resume(self) -> int:
        found, passed_over = checkpoint.newest(self.folder)
        for problem in passed_over:
            self._tell("note", text=f"{problem} Going back to the checkpoint before it.")
        if found is None:
            why = "No checkpoint can be read" if passed_over else "No checkpoint was saved yet"
            self._tell("note", text=f"{why}: beginning from step 0.")
            self._cut_logs(-1)
            return 0
        base = run_folder.base_digest(self.settings.model, like=found.origin.base)
        differences = dataclasses.replace(self.origin, base=base).differences(found.origin)
        if differences:
            text = f"{found.path}: made by another run: " + "; ".join(differences) + "."
            if not self.job.resume_anyway:
                raise UserError(f"{text} Add --resume-anyway to go on with it all the same.")
            self._tell("note", text=text + " Going on anyway.")
        self._tell_what_changes(found)
        self.backend.set_state(found.state)
        self.progress = found.progress.on_rows(self.job.valid_digest)
        self._cut_logs(found.state.step)
        self._tell("resume", step=found.state.step, path=str(found.path), **found.made_by)
        return found.state.step

    def _tell_what_changes(self, found: checkpoint.Checkpoint) -> None:
        """Say what a hand-over between backends or dtypes cannot carry."""
        made_by = found.made_by
        for key, now in (("backend", self.backend.name), ("dtype", self.backend.dtype)):
            if made_by.get(key) != now:
                self._tell("note", text=f"The run's {key} was {made_by.get(key)} and is now {now}.")
        if made_by.get("backend") != self.backend.name and self.settings.lora.dropout:
            self._tell("note", text="Dropout masks are drawn anew by the other backend.")
        if made_by.get("optimizer") != self.settings.optimizer:
            self._tell(
                "note",
                text=f"The optimizer was {made_by.get('optimizer')}; its moments were read as "
                "float32, and what 8 bits had lost stays lost.",
            )
        if found.progress.valid not in ("", self.job.valid_digest):
            text = "The validation rows are others than before: the best weights are sought anew."
            self._tell("note", text=text)
        for note in found.state.notes:
            self._tell("note", text=note)

    def _cut_logs(self, step: int) -> None:
        if self.writes:
            for name in (run_folder.METRICS, run_folder.SAMPLES):
                run_folder.cut_after(self.folder / name, step)

    def _check_fast_path(self) -> None:
        """Hold the fast loss against the plain one on the run's first batch."""
        batch = shard(self.plan.step(0)[:1], 0, 1)[0]
        settled = settle(self.backend, batch, self._any_process)
        for note in settled.notes:
            self._tell("note", text=note)
        self._tell("check", **dataclasses.asdict(settled.result))

    # -- one step ----------------------------------------------------------------------------

    def _train_step(self, step: int) -> None:
        rate = learning_rate(self.settings, step, self.total)
        batches = shard(self.plan.step(step - 1), self.backend.rank, self.backend.world)
        began = time.monotonic()
        result = self.backend.train_step(batches, step=step, learning_rate=rate)
        seconds = time.monotonic() - began
        if not (math.isfinite(result.loss_sum) and math.isfinite(result.grad_norm)):
            raise UserError(
                f"Step {step}: the loss is {result.loss_sum / max(1, result.tokens)} and the "
                f"gradient norm {result.grad_norm}. Nothing of this step was saved. Lower the "
                "learning rate, or train in float32 or bfloat16 where this was float16."
            )
        self.busy_seconds += seconds
        self.trained_tokens += result.tokens
        self.progress = dataclasses.replace(
            self.progress,
            window_loss=self.progress.window_loss + result.loss_sum,
            window_tokens=self.progress.window_tokens + result.tokens,
        )
        self._tell(
            "step", step=step, total=self.total, loss=result.loss_sum / max(1, result.tokens),
            seconds=seconds,
        )  # fmt: skip
        if self._due(self.settings.steps_per_report, step) or step == self.total:
            self._log(step, rate, result)

    def _log(self, step: int, rate: float, result: StepResult) -> None:
        row = {
            "step": step,
            "epoch": round(self.plan.progress(step), 4),
            "loss": self.progress.window_loss / max(1, self.progress.window_tokens),
            "grad_norm": result.grad_norm,
            "learning_rate": rate,
            "tokens_per_second": round(self.trained_tokens / max(1e-9, self.busy_seconds), 1),
            "peak_memory_mb": round(self.backend.peak_memory() / 1e6, 1),
        }
        self.progress = dataclasses.replace(self.progress, window_loss=0.0, window_tokens=0)
        if self.writes:
            run_folder.append(self.folder / run_folder.METRICS, row)
        self._tell("metrics", **row)

    # -- evaluation --------------------------------------------------------------------------

    def _evaluate(self, step: int) -> None:
        if not self.job.valid or (step and self.progress.last_eval == step):
            return
        began = time.monotonic()
        sums = np.zeros(2)
        batches = evaluation_batches(
            self.job.valid, self.settings.batch_size, share=self.settings.share_prefix
        )
        count = 0
        for count, batch in enumerate(batches, start=1):
            if (count - 1) % self.backend.world == self.backend.rank:
                sums += self.backend.evaluate(batch)
        loss_sum, tokens = self.backend.sum_over_processes(sums)
        loss = float(loss_sum / tokens)
        seconds = time.monotonic() - began
        row = {
            "step": step,
            "epoch": round(self.plan.progress(step), 4),
            "eval_loss": loss,
            "eval_runtime": round(seconds, 3),
            "eval_samples_per_second": round(len(self.job.valid) / seconds, 3),
            "eval_steps_per_second": round(count / seconds, 3),
        }
        if self.writes:
            run_folder.append(self.folder / run_folder.METRICS, row)
        self._tell("evaluation", **row)
        if self.writes and self.settings.samples:
            self._sample(step)
        self._judge(step, loss)  # last: what it saves says that all of this is on record

    def _judge(self, step: int, loss: float) -> None:
        """Remember the best evaluation and how long it has been since a real improvement."""
        now = dataclasses.replace(self.progress, last_eval=step, last_loss=loss)
        if now.reference_loss is None or loss < (
            now.reference_loss - self.settings.early_stop_min_delta
        ):
            now = dataclasses.replace(now, reference_loss=loss, stale=0)
        else:
            now = dataclasses.replace(now, stale=now.stale + 1)
        best = step > 0 and (now.best_loss is None or loss < now.best_loss)
        if best:
            now = dataclasses.replace(now, best_loss=loss, best_step=step)
        self.progress = now
        if best and self.settings.keep == "best":
            self._save(step)

    def _sample(self, step: int) -> None:
        chosen = self.job.valid[: self.settings.samples]
        prompts = [e.tokens[: e.prompt_length].tolist() for e in chosen]
        answers = self.backend.generate(prompts, self.settings.sample_tokens)
        for example, prompt, answer in zip(chosen, prompts, answers, strict=True):
            row = {
                "step": step,
                "prompt": self.job.decode(prompt),
                "expected": self.job.decode(example.tokens[example.supervised].tolist()),
                "answer": self.job.decode(answer),
            }
            run_folder.append(self.folder / run_folder.SAMPLES, row)
            self._tell("sample", **row)

    def _should_stop_early(self) -> bool:
        patience = self.settings.early_stop_patience
        return bool(patience and self.progress.stale >= patience)

    # -- saving ------------------------------------------------------------------------------

    def _save(self, step: int) -> None:
        if not self.writes:
            return
        path = checkpoint.folder(self.folder, step)
        if path.exists() and step == self._saved_step and self._saved_progress == self.progress:
            return
        state = dataclasses.replace(self.backend.get_state(), step=step)
        checkpoint.write(self.folder, state, self.progress, self.origin, self._made_by())
        self._saved_step, self._saved_progress = step, self.progress
        keep_best = self.progress.best_step if self.settings.keep == "best" else None
        checkpoint.prune(self.folder, self.settings.save_total, (keep_best,), now=step)
        self._tell("checkpoint", step=step, path=str(path))

    _saved_step: int | None = None
    _saved_progress: Progress | None = None

    def _made_by(self) -> dict[str, Any]:
        return {
            "backend": self.backend.name,
            "dtype": self.backend.dtype,
            "optimizer": self.settings.optimizer,
        }

    # -- ending ------------------------------------------------------------------------------

    def _finish(self, step: int, seconds: float) -> RunResult:
        if step < self.total:
            self._tell("note", text=f"Stopped early after step {step}: eval_loss stopped falling.")
        self._save(step)
        state = dataclasses.replace(self.backend.get_state(), step=step)
        best = self.progress.best_step
        if self.settings.keep == "best" and best is not None and best != step and self.writes:
            try:
                state = checkpoint.read(checkpoint.folder(self.folder, best)).state
                text = f"Keeping the weights of step {best}, the lowest eval_loss."
            except UserError as error:  # hours of training must not end without an adapter
                text = f"{error} Keeping the weights of the last step instead of step {best}."
            self._tell("note", text=text)
        kept_last = state.step != best and self.progress.last_eval == state.step
        loss = self.progress.last_loss if kept_last else self.progress.best_loss
        facts = {
            "steps": step,
            "epochs": round(self.plan.progress(step), 4),
            "kept_step": state.step,
            "eval_loss": loss,
            "examples": len(self.job.train),
            "valid_examples": len(self.job.valid),
            "seconds": round(seconds, 2),
            "tokens_per_second": round(self.trained_tokens / max(1e-9, self.busy_seconds), 1),
            "peak_memory_mb": round(self.backend.peak_memory() / 1e6, 1),
            **self._made_by(),
            "base_digest": self.origin.base,
            "data_digest": self.origin.data,
            "settings": self.settings.as_dict(),
        }
        if self.writes:
            facts.update(self.job.export(state, facts) or {})
            write_json(self.folder / run_folder.METADATA, facts)
        self._tell("done", **facts)
        return RunResult(step, state.step, loss, facts)

    # -- small things ------------------------------------------------------------------------

    def _tell(self, name: str, **facts: Any) -> None:
        if self.writes:
            self.job.listener(name, facts)

    def _any_process(self, flag: bool) -> bool:
        if self.backend.world == 1:
            return flag
        return bool(self.backend.sum_over_processes(np.asarray([float(flag)]))[0] > 0)

    @staticmethod
    def _due(every: int, step: int) -> bool:
        return bool(every) and step % every == 0
