"""What a run needs in memory, and what to change where that is too much.

A backend brings its measured estimate of a run; here it is asked about changed settings until they
fit. Nothing is loaded and no framework is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.progress import show_bytes
from livery.training.footprint import Estimate
from livery.training.plan import Example, MicroBatch, Plan, make_batch

# How far the estimate may be off: a run is refused only where it is too large by more than this.
MARGIN = 1.3


def first_epoch(examples: Sequence[Example], settings: TrainSettings) -> Iterator[MicroBatch]:
    """The micro-batches of a run's first epoch; rows beyond max_length are left out."""
    kept = [e for e in examples if len(e.tokens) <= settings.max_length]
    if kept:
        plan = Plan(
            kept, settings.batch_size, settings.grad_accum, settings.seed, settings.share_prefix
        )
        yield from (make_batch(chunk, kept) for step in plan.epoch(0) for chunk in step)


@dataclass(frozen=True)
class Forecast:
    """A run and what its memory depends on.

    Attributes:
        settings: the run.
        estimate: bytes by part that the backend measures for settings.
        lengths: tokens of each training row.
        quantizes: the backend can load this base in 4 bits on its device.
        small_moments: it has an optimizer with moments of 8 bits there.
    """

    settings: TrainSettings
    estimate: Callable[[TrainSettings], Estimate]
    lengths: Sequence[int]
    quantizes: bool
    small_moments: bool

    def need(self, settings: TrainSettings | None = None) -> Estimate:
        """The estimate of the run, or of the same run with other settings."""
        return self.estimate(settings or self.settings)

    def describe(self, room: int) -> list[str]:
        """Lines for people: the sum, its parts, and what would make it fit in `room` bytes."""
        need = self.need()
        listed = ", ".join(f"{name} {show_bytes(size)}" for name, size in need.parts().items())
        lines = [f"about {show_bytes(need.total)} ({listed})"]
        if need.total > room:
            ways = ", or ".join(self.remedies(room))
            lines.append(f"more than the {show_bytes(room)} available here; it fits with {ways}")
        return lines

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

    def out_of_memory(self, device: str, held: int) -> str:
        """What to say when a step did not fit; `held`: bytes there are for it, 0 if unknown."""
        # Whatever the estimate said, this much was too much.
        need = self.need().total
        limit = int(min(held or need, 0.85 * need))
        return (
            f"{device}: out of memory. By estimate the run takes {show_bytes(need)}"
            + (f", and {show_bytes(held)} are free" if held else "")
            + f". Any of these would fit: {'; or '.join(self.remedies(limit))}."
        )

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
        return [
            _batches,
            _checkpointing,
            *([_four_bits] if self.quantizes else []),
            *([_small_moments] if self.small_moments else []),
            _small_rank,
            self._lengths,
        ]

    def _lengths(self, settings: TrainSettings) -> list[_Change]:
        found: list[_Change] = []
        length = min(settings.max_length, max(self.lengths, default=0)) // 2
        while length >= 64 and length >= min(self.lengths):
            dropped = sum(given > length for given in self.lengths)
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


@contextlib.contextmanager
def explained(say: Callable[[], str]) -> Generator[None]:
    """Turn a device's "out of memory" into a UserError with what `say` gives."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(say()) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch's or MLX's says that a device's memory was not enough."""
    # Only CUDA has an exception of its own for it; the others are told by their text.
    text = str(error).lower()
    said = (
        "out of memory", "can't allocate memory", "buffer size", "unable to allocate",
        "insufficient memory",
    )  # fmt: skip
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text for words in said)
    )
