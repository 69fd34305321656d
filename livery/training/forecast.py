"""What a run needs in memory, and what to change where that is too much.

A backend brings its estimate of a run and its device; here the estimate is asked about changed
settings until they fit. The dry run, the check before a base is loaded and the message when a step
ran out of memory all say what is listed here. No framework is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.models import find_base, read_config
from livery.progress import show_bytes
from livery.training.footprint import Estimate
from livery.training.plan import Example, MicroBatch, Plan, bucket, make_batch

# How far the estimate may be off: a run is refused only where it is too large by more than this.
MARGIN = 1.3


def first_epoch(examples: Sequence[Example], settings: TrainSettings) -> Iterator[MicroBatch]:
    """The micro-batches of a run's first epoch; rows beyond max_length are left out."""
    kept = _fitting(examples, settings)
    if kept:
        plan = Plan.of(kept, settings)
        chunks = (chunk for step in plan.epoch(0) for chunk in step)
        yield from (make_batch(chunk, kept, plan.group) for chunk in chunks)


def _fitting(examples: Sequence[Example], settings: TrainSettings) -> list[Example]:
    """The rows within max_length; of a pair both or none."""
    size = settings.group
    groups = (examples[at : at + size] for at in range(0, len(examples), size))
    return [
        example
        for group in groups
        if max(len(one.tokens) for one in group) <= settings.max_length
        for example in group
    ]


def widest(examples: Sequence[Example], settings: TrainSettings) -> Iterator[MicroBatch]:
    """Micro-batches at least as large as any of the run's, found without planning it: all rows as
    long as the longest, sharing nothing, next to nothing, or half."""
    kept = _fitting(examples, settings)
    if not kept:
        return
    longest = max(len(e.tokens) for e in kept)
    answer = max(int(np.count_nonzero(e.supervised)) for e in kept)
    rows = min(settings.batch_size * settings.group, len(kept))
    for prefix in sorted({0, 1, longest // 2}):
        width = bucket(max(1, longest - prefix))
        targets = np.full((rows, width), -1, np.int32)
        targets[:, :answer] = 0
        yield MicroBatch(
            prefix=np.zeros(prefix, np.int32),
            tokens=np.zeros((rows, width), np.int32),
            targets=targets,
            lengths=np.full(rows, width, np.int32),
        )


@dataclass(frozen=True)
class Device:
    """Where a run computes, as far as its memory is concerned.

    Attributes:
        name: for people, such as "cuda:0" or "this machine".
        free: bytes that are free on it before the base is loaded; 0 where that is unknown.
        swap: bytes beyond them that the system can swap out, slowly.
        quantizes: numbers of bits in which the backend can load a base there, the most first.
        small_moments: it has an optimizer with moments of 8 bits there.
        spreads: processes, with a device like this each, that it can spread a base over.
        elsewhere: what to try beside the flags, where another backend has more of them.
    """

    name: str
    free: int
    swap: int = 0
    quantizes: Sequence[int] = ()
    small_moments: bool = False
    spreads: int = 1
    elsewhere: str = ""


@dataclass(frozen=True)
class Forecast:
    """A run and what its memory depends on.

    Attributes:
        settings: the run.
        device: where it computes.
        estimate: bytes by part that the backend estimates for settings; None while the base is not
            on this machine.
        bound: the same of micro-batches that are at least as large, without planning the run.
        lengths: tokens of each training row; empty where they are not known.
    """

    settings: TrainSettings
    device: Device
    estimate: Callable[[TrainSettings], Estimate] | None
    lengths: Sequence[int] = ()
    bound: Callable[[TrainSettings], Estimate] | None = None

    @property
    def known(self) -> bool:
        """Whether there is an estimate."""
        return self.estimate is not None

    def need(self, settings: TrainSettings | None = None) -> Estimate:
        """The estimate of the run, or of the same run with other settings."""
        if self.estimate is None:
            raise ValueError("there is no estimate of a base that is not on this machine")
        return self.estimate(settings or self.settings)

    def describe(self) -> list[str]:
        """Lines for people: the sum, its parts, and what would make it fit."""
        if not self.known:
            return ["no estimate: the model is not downloaded yet"]
        need, free = self.need(), self.device.free
        listed = ", ".join(f"{name} {show_bytes(size)}" for name, size in need.parts().items())
        lines = [f"about {show_bytes(need.total)} ({listed})"]
        if need.total > free > 0:
            ways = ", or ".join(self.remedies(free))
            lines.append(f"more than the {show_bytes(free)} available here; it fits with {ways}")
        return lines

    def preflight(self) -> str:
        """Refuse what cannot fit, before minutes are spent on loading it.

        Returns:
            What to tell the user where it may be too much; "" where it is not.

        Raises:
            UserError: the weights, or the run by more than the estimate may be off, do not fit;
                with the flags under which it would.
        """
        device = self.device
        if not self.known or not device.free:
            return ""
        if self.bound and self.bound(self.settings).total <= device.free:
            return ""  # most runs: the first epoch of a large set takes seconds to plan
        need, most = self.need(), device.free + device.swap
        if need.total <= device.free:
            return ""
        if need.weights > most:
            bits = self.settings.quantize
            how = f" in {bits} bits" if bits else ", sharded," if self.settings.shard_base else ""
            what = f"its weights{how} take"
            size = need.weights
        else:
            what, size = "by estimate this run takes", need.total
        ways = ", or ".join(self.remedies(device.free))
        text = (
            f"{self.settings.model}: {what} {show_bytes(size)}, and {device.name} has "
            f"{show_bytes(device.free)} free. It fits with {ways}."
        )
        if need.weights > most or need.total > MARGIN * most:
            raise UserError(text)
        return f"{text} Trying anyway: the estimate may be a quarter too high."

    def remedies(self, room: int) -> list[str]:
        """Flags under which the run takes at most `room` bytes, the cheapest in time first.

        Each is tried on its own; where none is enough, they are added up until they are.
        """
        alone: list[str] = []
        for way in self._ways():
            for change in way(self.settings):
                total = self.need(change.settings).total
                if total <= room:
                    alone.append(f"{change.flags} ({_about(total)}; {change.price})")
                    break
        more = [self.device.elsewhere] if self.device.elsewhere else []
        return [*(alone or self._together(room)), *more]

    def out_of_memory(self) -> str:
        """What to say when a step did not fit."""
        said = f"Out of memory on {self.device.name}."
        if not self.known or not self.lengths:  # nothing to estimate from
            mildest = [way(self.settings)[:1] for way in self._ways()]
            ways = [f"{change.flags} ({change.price})" for one in mildest for change in one]
            return f"{said} Try, in this order: {'; '.join(ways) or 'a smaller base model'}."
        # Whatever the estimate says, this much was too much; libraries stay as they are.
        parts, free = self.need(), self.device.free
        need = parts.total
        limit = int(min(free or need, parts.libraries + 0.85 * (need - parts.libraries)))
        return (
            f"{said} By estimate the run takes {show_bytes(need)}"
            + (f"; {show_bytes(free)} were free when it began" if free else "")
            + f". Any of these would fit: {'; or '.join(self.remedies(limit))}."
        )

    def _together(self, room: int) -> list[str]:
        """One line: flags that are enough together, or how close they come."""
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
        # One of the two: four bits are a quarter, and n devices hold an n-th each.
        smaller_base = [self._quantized, self._sharded]
        return [
            _batches,
            _checkpointing,
            *(reversed(smaller_base) if self.device.spreads > 4 else smaller_base),
            *([_small_moments] if self.device.small_moments else []),
            _small_rank,
            self._lengths,
        ]

    def _quantized(self, settings: TrainSettings) -> list[_Change]:
        if settings.quantize is not None or settings.shard_base:
            return []
        return [
            _Change(
                "--load-in-4bit" if bits == 4 else f"--quantize {bits}",
                dataclasses.replace(settings, quantize=bits),
                f"the base in {bits} bits a weight",
            )
            for bits in self.device.quantizes
        ]

    def _sharded(self, settings: TrainSettings) -> list[_Change]:
        count = self.device.spreads
        if count < 2 or settings.shard_base or settings.quantize is not None:
            return []
        start = f"torchrun --nproc-per-node {count} -m cuda_train"
        price = f"a share of the base on each GPU, started by {start}"
        return [_Change("--shard-base", dataclasses.replace(settings, shard_base=True), price)]

    def _lengths(self, settings: TrainSettings) -> list[_Change]:
        found: list[_Change] = []
        length = min(settings.max_length, max(self.lengths, default=0)) // 2
        while length >= 64 and length >= min(self.lengths, default=0):
            dropped = sum(given > length for given in self.lengths)
            smaller = dataclasses.replace(settings, max_length=length)
            found.append(_Change(f"--max-length {length}", smaller, f"drops {dropped} longer rows"))
            length //= 2
        return found


def forecast(
    settings: TrainSettings,
    examples: Sequence[Example],
    device: Device,
    estimate: Callable[[TrainSettings, Mapping[str, Any], Iterable[MicroBatch], Path], Estimate],
) -> Forecast:
    """What a run will need.

    Args:
        examples: the training rows; none where they are not known.
        estimate: the backend's, of (settings, config.json, micro-batches, the base's folder).
    """
    lengths = [len(e.tokens) for e in examples]
    folder = find_base(settings.model)
    if folder is None:
        return Forecast(settings, device, None, lengths)
    config = read_config(folder)
    if "quantization" in config or "quantization_config" in config:
        device = dataclasses.replace(device, quantizes=(), spreads=1)

    def need(changed: TrainSettings) -> Estimate:
        return estimate(changed, config, first_epoch(examples, changed), folder)

    def bound(changed: TrainSettings) -> Estimate:
        return estimate(changed, config, widest(examples, changed), folder)

    return Forecast(settings, device, need, lengths, bound)


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
def explained(ahead: Callable[[], Forecast]) -> Generator[None]:
    """Turn a device's "out of memory" into a UserError with the flags that would fit."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise UserError(ahead().out_of_memory()) from error
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
