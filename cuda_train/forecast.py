"""What would make a run fit: flags with the values under which the estimate stays in the room."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cuda_train.estimate import estimate, shapes_of
from livery.config.settings import TrainSettings
from livery.progress import show_bytes
from livery.training.footprint import Estimate
from livery.training.plan import Example

# What the estimate may be off; a run is refused only where it is too large by more than this.
MARGIN = 1.3


@dataclass(frozen=True)
class Forecast:
    """A run and what its memory depends on.

    Attributes:
        settings: the run.
        config: the model's config.json.
        folder: the model's, where it is on this machine.
        examples: the training rows.
        dtype: of the base's weights on the device.
        device: "cuda", "mps" or "cpu".
    """

    settings: TrainSettings
    config: Mapping[str, Any]
    folder: Path | None
    examples: Sequence[Example]
    dtype: str
    device: str

    def need(self, settings: TrainSettings | None = None) -> Estimate:
        """The estimate of the run, or of the same run with other settings."""
        chosen = settings or self.settings
        shapes = shapes_of(self.examples, chosen)
        return estimate(chosen, self.config, shapes, dtype=self.dtype, folder=self.folder)

    def remedies(self, room: int) -> list[str]:
        """Flags under which the run takes at most `room` bytes, the cheapest in time first.

        Each stands by itself; where none is enough alone, they are added up until they are.
        """
        alone: list[str] = []
        for way in self._ways():
            for change in way(self.settings):
                total = self.need(change.settings).total
                if total <= room:
                    alone.append(f"{change.flags} ({_about(total)}; {change.price})")
                    break
        return alone or self._together(room)

    def _together(self, room: int) -> list[str]:
        """One line: flags that are enough together, or how far they come."""
        settings, flags = self.settings, list[str]()
        for way in self._ways():
            changes = way(settings)
            for change in changes:
                total = self.need(change.settings).total
                if total <= room:
                    return [f"{' '.join([*flags, change.flags])} together ({_about(total)})"]
            if changes:  # not enough: take its strongest value and go on to the next
                settings = changes[-1].settings
                flags.append(changes[-1].flags)
        least = self.need(settings).total
        return [f"a smaller base model (even {' '.join(flags)} takes {_about(least)})"]

    def _ways(self) -> list[Callable[[TrainSettings], list[_Change]]]:
        """Ways to make a run smaller; each lists its values from the mildest to the strongest."""
        on_cuda = [_four_bits, _small_moments] if self.device == "cuda" else []
        return [_batches, _checkpointing, *on_cuda, _small_rank, self._lengths]

    def _lengths(self, settings: TrainSettings) -> list[_Change]:
        lengths = [len(e.tokens) for e in self.examples]
        found: list[_Change] = []
        length = min(settings.max_length, max(lengths, default=0)) // 2
        while length >= 64 and length >= min(lengths):
            dropped = sum(given > length for given in lengths)
            smaller = dataclasses.replace(settings, max_length=length)
            found.append(_Change(f"--max-length {length}", smaller, f"drops {dropped} longer rows"))
            length //= 2
        return found


@dataclass(frozen=True)
class _Change:
    """Flags, the settings they give, and what they cost."""

    flags: str
    settings: TrainSettings
    price: str


def _batches(settings: TrainSettings) -> list[_Change]:
    found: list[_Change] = []
    whole = settings.batch_size * settings.grad_accum
    size = settings.batch_size // 2
    while size >= 1:
        more = -(-whole // size)
        smaller = dataclasses.replace(settings, batch_size=size, grad_accum=more)
        price = "the same step" if size * more == whole else f"{size * more} examples a step"
        found.append(_Change(f"--batch-size {size} --grad-accum {more}", smaller, price))
        size //= 2
    return found


def _checkpointing(settings: TrainSettings) -> list[_Change]:
    if settings.grad_checkpoint:
        return []
    smaller = dataclasses.replace(settings, grad_checkpoint=True)
    return [_Change("--grad-checkpoint", smaller, "the same result, about a third slower")]


def _four_bits(settings: TrainSettings) -> list[_Change]:
    if settings.quantize is not None:
        return []
    smaller = dataclasses.replace(settings, quantize=4)
    return [_Change("--load-in-4bit", smaller, "the base in a quarter of its memory")]


def _small_moments(settings: TrainSettings) -> list[_Change]:
    if settings.optimizer == "adamw_8bit":
        return []
    smaller = dataclasses.replace(settings, optimizer="adamw_8bit")
    return [_Change("--optim adamw_8bit", smaller, "the optimizer's moments in 8 bits")]


def _small_rank(settings: TrainSettings) -> list[_Change]:
    if settings.lora.rank <= 8:
        return []
    lora = dataclasses.replace(settings.lora, rank=8)
    return [_Change("--lora-r 8", dataclasses.replace(settings, lora=lora), "a smaller adapter")]


def _about(size: int) -> str:
    return f"about {show_bytes(size)}"
