"""What a training run says on the terminal: the loop's events as lines and a bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from livery.errors import counted, printable
from livery.progress import Progress, show_bytes, show_seconds
from livery.training import events
from livery.training.events import Event
from livery.training.plan import Work
from livery.training.preference import MARGIN


class TrainingOutput:
    """A callback for `livery.training.loop` that prints. Use as a context manager."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._samples = (0, 0)  # (as expected, in all) since the last evaluation

    def __enter__(self) -> TrainingOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        if isinstance(event, events.Sampled):
            self._count(event)
            return
        self._flush_samples()
        match event:
            case events.Note(text):
                self.say(f"note: {text}")
            case events.Checked(result) if result.ok:
                self.say(
                    "First batch, shared prompts against plain: gradients differ by "
                    f"{result.gradient_difference:.2g} (allowed {result.tolerance:.2g})."
                )
            case events.Resumed(step, path):
                self.say(f"Resuming from step {step} ({path}).")
            case events.Started():
                self._start(event)
            case events.Stepped() if self._progress is not None:
                self._progress.update(event.step, f"loss {event.loss:.4f}")
            case events.Evaluated():
                took = show_seconds(event.eval_runtime)
                margin = _margin(event.figures)
                self.say(f"step {event.step}: eval_loss {event.eval_loss:.4f}{margin} ({took})")
            case events.Finished(facts):
                self._finish(facts)
            case _:
                pass

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._progress is not None:
            self._progress.say(printable(text))
        else:
            print(printable(text), file=sys.stderr, flush=True)

    def _close(self) -> None:
        self._flush_samples()
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None

    def _start(self, run: events.Started) -> None:
        share = run.trainable / max(1, run.parameters)
        processes = f", {run.processes} processes" if run.processes > 1 else ""
        self.say(
            f"Training {run.trainable:,} parameters ({share:.1%} of the base's "
            f"{run.parameters:,}) with {run.backend} in {run.dtype}{processes}."
        )
        self.say(describe_work(run.work, run.total_steps, paired=run.settings.paired))
        self._progress = Progress("training", run.total_steps, "steps", done=run.step).__enter__()

    def _count(self, sample: events.Sampled) -> None:
        same, count = self._samples
        # The expected text ends with the template's end-of-turn, an answer without it.
        right = sample.answer and sample.expected.strip().startswith(sample.answer.strip())
        self._samples = (same + bool(right), count + 1)

    def _flush_samples(self) -> None:
        same, count = self._samples
        self._samples = (0, 0)
        if count:
            self.say(f"        {same} of {count} sample answers as expected (samples.jsonl)")

    def _finish(self, facts: dict[str, Any]) -> None:
        self._close()
        loss = "" if facts["eval_loss"] is None else f", eval_loss {facts['eval_loss']:.4f}"
        loss += _margin({k.removeprefix("eval_"): v for k, v in facts.items()})
        unit = "example" if facts["settings"]["loss_type"] == "sft" else "pair"
        peak = facts["peak_memory_mb"] * 1e6  # 0 where nobody can tell
        self.say(
            f"Trained {counted(facts['steps'], 'step')} ({facts['epochs']:.1f} epochs of "
            f"{counted(facts['examples'], unit)}) in {show_seconds(facts['seconds'])}{loss}"
            + f", {facts['tokens_per_second']:,.0f} tokens/s with prompts "
            + f"({facts['supervised_tokens_per_second']:,.0f} supervised)"
            + (f", peak memory {show_bytes(peak)}." if peak else ".")
        )


def _margin(figures: Mapping[str, Any]) -> str:
    """What a run on pairs says of the held-out ones; "" for any other."""
    if MARGIN not in figures:
        return ""
    right = figures["rewards/accuracies"]
    return f", margin {figures[MARGIN]:.4f}, {right:.0%} the right way round"


def describe_work(work: Work, total_steps: int, *, paired: bool = False) -> str:
    """One line on what an epoch costs and what sharing prompts saves."""
    saved = work.plain / max(1, work.computed)
    padding = work.padding / max(1, work.computed)
    fewer = f"{saved:.1f}x fewer" if saved >= 1.05 else "no fewer"
    return (
        f"{counted(total_steps, 'step')}; an epoch is {counted(work.steps, 'step')} over "
        f"{counted(work.examples, 'pair' if paired else 'example')}: {work.plain:,} tokens, "
        f"{work.computed:,} of them computed ({fewer} by shared prompts, {padding:.0%} padding), "
        f"{work.supervised:,} supervised."
    )
