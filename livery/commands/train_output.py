"""What a training run says on the terminal: the loop's events as lines and a bar on stderr."""

from __future__ import annotations

import sys
from typing import Any

from livery.errors import counted
from livery.progress import Progress, show_bytes, show_seconds


class TrainingOutput:
    """A listener for `livery.loop.Job` that prints. Use as a context manager."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._samples = (0, 0)  # (as expected, in all) since the last evaluation

    def __enter__(self) -> TrainingOutput:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def __call__(self, name: str, facts: dict[str, Any]) -> None:
        handler = getattr(self, f"_on_{name}", None)
        if name != "sample":
            self._flush_samples()
        if handler is not None:
            handler(facts)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._progress is not None:
            self._progress.say(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def _close(self) -> None:
        self._flush_samples()
        if self._progress is not None:
            self._progress.__exit__(None, None, None)
            self._progress = None

    def _on_note(self, facts: dict[str, Any]) -> None:
        self.say(f"note: {facts['text']}")

    def _on_check(self, facts: dict[str, Any]) -> None:
        if facts["ok"]:
            self.say(
                "First batch, shared prompts against plain: gradients differ by "
                f"{facts['gradient_difference']:.0e} (allowed {facts['tolerance']:.0e})."
            )

    def _on_start(self, facts: dict[str, Any]) -> None:
        share = facts["trainable"] / max(1, facts["parameters"])
        processes = f", {facts['processes']} processes" if facts["processes"] > 1 else ""
        self.say(
            f"Training {facts['trainable']:,} parameters ({share:.1%} of the base's "
            f"{facts['parameters']:,}) with {facts['backend']} in {facts['dtype']}{processes}."
        )
        self.say(describe_work(facts["work"], facts["total_steps"]))
        self._progress = Progress(
            "training", facts["total_steps"], "steps", done=facts["step"]
        ).__enter__()

    def _on_resume(self, facts: dict[str, Any]) -> None:
        self.say(f"Going on from step {facts['step']} ({facts['path']}).")

    def _on_step(self, facts: dict[str, Any]) -> None:
        if self._progress is not None:
            self._progress.update(facts["step"], f"loss {facts['loss']:.4f}")

    def _on_evaluation(self, facts: dict[str, Any]) -> None:
        self.say(
            f"step {facts['step']}: eval_loss {facts['eval_loss']:.4f} "
            f"({show_seconds(facts['eval_runtime'])})"
        )

    def _on_sample(self, facts: dict[str, Any]) -> None:
        same, count = self._samples
        # The expected text ends with the template's end-of-turn, an answer without it.
        right = facts["expected"].strip().startswith(facts["answer"].strip()) and facts["answer"]
        self._samples = (same + bool(right), count + 1)

    def _flush_samples(self) -> None:
        same, count = self._samples
        self._samples = (0, 0)
        if count:
            self.say(f"        {same} of {count} sample answers as expected (samples.jsonl)")

    def _on_done(self, facts: dict[str, Any]) -> None:
        self._close()
        loss = "" if facts["eval_loss"] is None else f", eval_loss {facts['eval_loss']:.4f}"
        peak = facts["peak_memory_mb"] * 1e6  # 0 where the framework keeps no count
        self.say(
            f"Trained {counted(facts['steps'], 'step')} ({facts['epochs']:.1f} epochs of "
            f"{counted(facts['examples'], 'example')}) in {show_seconds(facts['seconds'])}{loss}"
            + (f", peak memory {show_bytes(peak)}." if peak else ".")
        )


def describe_work(work: dict[str, Any], total_steps: int) -> str:
    """One line on what an epoch costs and what sharing prompts saves."""
    saved = work["plain"] / max(1, work["computed"])
    padding = work["padding"] / max(1, work["computed"])
    fewer = f"{saved:.1f}x fewer" if saved >= 1.05 else "no fewer"
    return (
        f"{counted(total_steps, 'step')}; an epoch is {counted(work['steps'], 'step')} over "
        f"{counted(work['examples'], 'example')}: {work['plain']:,} tokens, "
        f"{work['computed']:,} of them computed ({fewer} by shared prompts, "
        f"{padding:.0%} padding), {work['supervised']:,} supervised."
    )
