"""Examples -> prefix groups -> micro-batches -> optimizer steps. Pure numpy, seeded.

A plan is a pure function of the examples, the batch sizes and the seed, so both backends walk the
same batches and a resumed run continues where it stopped by knowing its step alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from livery.config.settings import TrainSettings
from livery.training.prefixes import Group, shared_groups


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation, ready to train on.

    Attributes:
        tokens: (T,) int32, the whole rendered conversation.
        supervised: (T,) bool, True where the token is one the model must learn to produce.
        where: "file:line", for messages.
        reference: what a frozen reference makes of it, the summed log-probability of its supervised
            tokens, nats; None where the run has no reference.
    """

    tokens: np.ndarray
    supervised: np.ndarray
    where: str = ""
    reference: float | None = None

    @property
    def prompt_length(self) -> int:
        """Tokens before the first supervised one."""
        return int(np.argmax(self.supervised))


@dataclass(frozen=True)
class MicroBatch:
    """Rows that share a prefix.

    Attributes:
        prefix: (P,) int32, run once at batch 1; P may be 0.
        tokens: (B, S) int32, each row's inputs after the prefix, right-padded with 0.
        targets: (B, S) int32, the token that each position predicts; -1 where unsupervised or
            padding.
        lengths: (B,) int32, inputs of each row before padding.
        rows: indices of the examples, for messages and tests.
        group: so many neighbouring rows belong together (2 for pairs) and are never parted.
        weights: (B,) of the rows in the loss; None is 1 for each.
        constants: (B,) each, by name: what the objective knows of the rows beforehand.
    """

    prefix: np.ndarray
    tokens: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    rows: tuple[int, ...] = ()
    group: int = 1
    weights: np.ndarray | None = None
    constants: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    @property
    def supervised(self) -> int:
        """Tokens that carry loss."""
        return int((self.targets >= 0).sum())

    @property
    def row_tokens(self) -> int:
        """Tokens of the rows as the data have them, each with its whole prompt, padding left
        out: what `Work.plain` counts."""
        return len(self.prefix) * len(self.lengths) + int(self.lengths.sum())

    @property
    def computed(self) -> int:
        """Positions that the body runs, padding included."""
        return len(self.prefix) + self.tokens.size


@dataclass(frozen=True)
class Chunk:
    """A micro-batch before its arrays are made: prefix length and example indices."""

    prefix: int
    rows: tuple[int, ...]


Step = tuple[Chunk, ...]


@dataclass
class Plan:
    """The order in which a run sees its examples.

    Attributes:
        examples: of the training file.
        batch_size: rows of a micro-batch at most.
        grad_accum: a step holds at most batch_size * grad_accum rows.
        seed: of the order.
        share_prefix: group examples by the prompt they share.
        group: so many neighbouring examples belong together, have one prompt and are never parted
            (2 for pairs); the two sizes above count these groups.
    """

    examples: Sequence[Example]
    batch_size: int
    grad_accum: int = 1
    seed: int = 0
    share_prefix: bool = True
    group: int = 1
    groups: list[Group] = field(init=False)
    _epochs: dict[int, list[Step]] = field(init=False, default_factory=dict[int, list[Step]])

    def __post_init__(self) -> None:
        self.groups = group_examples(
            self.examples, self.batch_size * self.group, share=self.share_prefix
        )

    @staticmethod
    def of(examples: Sequence[Example], settings: TrainSettings) -> Plan:
        """The plan of a run with these settings."""
        return Plan(
            examples, settings.batch_size, settings.grad_accum, settings.seed,
            settings.share_prefix, settings.group,
        )  # fmt: skip

    def epoch(self, epoch: int) -> list[Step]:
        """Every step of an epoch (counted from 0); each example is in it once."""
        if epoch not in self._epochs:
            if len(self._epochs) > 2:  # a run walks forward: older epochs are not asked for again
                self._epochs.clear()
            self._epochs[epoch] = self._draw(epoch)
        return self._epochs[epoch]

    def locate(self, step: int) -> tuple[int, int]:
        """(epoch, step within it) of optimizer step `step`, counted from 0."""
        epoch = 0
        while step >= (count := len(self.epoch(epoch))):
            step -= count
            epoch += 1
        return epoch, step

    def step(self, step: int) -> list[MicroBatch]:
        """The micro-batches of optimizer step `step`, counted from 0."""
        epoch, within = self.locate(step)
        chunks = self.epoch(epoch)[within]
        return [make_batch(chunk, self.examples, self.group) for chunk in chunks]

    def progress(self, step: int) -> float:
        """Epochs done once `step` steps are done."""
        if step == 0:
            return 0.0
        epoch, within = self.locate(step - 1)
        return epoch + (within + 1) / len(self.epoch(epoch))

    def total_steps(self, epochs: float) -> int:
        """Steps of that many epochs, at least one."""
        whole = int(epochs)
        steps = sum(len(self.epoch(e)) for e in range(whole))
        if epochs > whole:
            steps += round((epochs - whole) * len(self.epoch(whole)))
        return max(1, steps)

    def _draw(self, epoch: int) -> list[Step]:
        rng = np.random.default_rng([self.seed, epoch])
        chunks: list[Chunk] = []
        for group in self.groups:
            units = _units(group.rows, self.group)
            units = [units[i] for i in rng.permutation(len(units))]
            # Rows of like length stand together within a window, which leaves the order random
            # and most of the padding away.
            window = 16 * self.batch_size
            for start in range(0, len(units), window):
                part = sorted(units[start : start + window], key=self._length)
                chunks += _chunks(group.prefix, part, self.batch_size)
        order = rng.permutation(len(chunks))
        return _pack([chunks[i] for i in order], self.batch_size * self.grad_accum * self.group)

    def _length(self, unit: Sequence[int]) -> int:
        return max(len(self.examples[row].tokens) for row in unit)


def group_examples(
    examples: Sequence[Example], batch_size: int, *, share: bool = True
) -> list[Group]:
    """Prefix groups of the examples; one group without a prefix where nothing is shared.

    Neighbours with the very same prompt stay neighbours.

    Args:
        batch_size: examples that a micro-batch holds at most.
    """
    if not share or batch_size == 1:
        return [Group(0, tuple(range(len(examples))))] if examples else []
    prompts = [e.tokens[: max(0, e.prompt_length - 1)] for e in examples]
    return shared_groups(prompts, batch_size)


def evaluation_batches(
    examples: Sequence[Example], batch_size: int, *, share: bool = True, group: int = 1
) -> Iterator[MicroBatch]:
    """Every example once, by length, in a fixed order; sizes and `group` as in a `Plan`."""
    for found in group_examples(examples, batch_size * group, share=share):
        units = sorted(
            _units(found.rows, group),
            key=lambda unit: (max(len(examples[row].tokens) for row in unit), unit[0]),
        )
        for chunk in _chunks(found.prefix, units, batch_size):
            yield make_batch(chunk, examples, group)


def make_batch(chunk: Chunk, examples: Sequence[Example], group: int = 1) -> MicroBatch:
    """The arrays of a chunk (layout: ARCHITECTURE.md, "A micro-batch")."""
    first = examples[chunk.rows[0]].tokens
    start = chunk.prefix
    lengths = [len(examples[row].tokens) - 1 - start for row in chunk.rows]
    width = bucket(max(lengths))
    tokens = np.zeros((len(chunk.rows), width), np.int32)
    targets = np.full((len(chunk.rows), width), -1, np.int32)
    for i, row in enumerate(chunk.rows):
        example, n = examples[row], lengths[i]
        tokens[i, :n] = example.tokens[start:-1]
        answer = example.supervised[start + 1 :]
        targets[i, :n][answer] = example.tokens[start + 1 :][answer]
    known = [examples[row].reference for row in chunk.rows]
    return MicroBatch(
        prefix=first[:start].astype(np.int32),
        tokens=tokens,
        targets=targets,
        lengths=np.asarray(lengths, np.int32),
        rows=chunk.rows,
        group=group,
        constants={} if None in known else {"reference": np.asarray(known, np.float32)},
    )


def bucket(length: int) -> int:
    """The next of few lengths, so that few shapes are compiled, with at most an eighth padding."""
    for limit, multiple in ((128, 8), (256, 16), (512, 32), (1024, 64)):
        if length <= limit:
            return -(-length // multiple) * multiple
    return -(-length // 128) * 128


def take_rows(batch: MicroBatch, rows: np.ndarray) -> MicroBatch:
    """The rows of these indices alone, in this order."""
    return dataclasses.replace(
        batch,
        tokens=batch.tokens[rows],
        targets=batch.targets[rows],
        lengths=batch.lengths[rows],
        rows=tuple(batch.rows[i] for i in rows) if batch.rows else (),
        weights=None if batch.weights is None else batch.weights[rows],
        constants={name: values[rows] for name, values in batch.constants.items()},
    )


def split_batch(batch: MicroBatch, parts: int) -> list[MicroBatch]:
    """Deal a micro-batch's rows, a group at a time, to `parts` processes; each runs the prefix."""
    groups = np.arange(len(batch.lengths)).reshape(-1, batch.group)
    return [take_rows(batch, groups[i::parts].ravel()) for i in range(min(parts, len(groups)))]


def shard(batches: Sequence[MicroBatch], rank: int, world: int) -> list[MicroBatch]:
    """This process's share of a step; may be empty.

    Whole prefix groups go to a process. Only where there are fewer micro-batches than processes
    are the rows of the largest dealt out.
    """
    if world == 1:
        return list(batches)
    pieces = list(batches)
    while len(pieces) < world:
        largest = max(range(len(pieces)), key=lambda i: pieces[i].computed)
        if len(pieces[largest].lengths) == pieces[largest].group:
            break
        # As many parts as make up the number, so that equal parts come of one batch.
        pieces[largest : largest + 1] = split_batch(pieces[largest], world - len(pieces) + 1)
    loads = [0] * world
    mine: list[MicroBatch] = []
    for i in sorted(range(len(pieces)), key=lambda i: (-pieces[i].computed, i)):
        owner = loads.index(min(loads))
        loads[owner] += pieces[i].computed
        if owner == rank:
            mine.append(pieces[i])
    return mine


@dataclass(frozen=True)
class Work:
    """What an epoch computes, in positions of the body and rows of the head.

    Attributes:
        examples, supervised: rows (pairs, of a run on pairs) and tokens that carry loss.
        plain: positions if every example ran by itself, without padding.
        computed: positions that this plan runs, padding included.
        padding: those of `computed` that are padding.
        prefix: those of `computed` that are shared prefixes.
        micro_batches, steps: how many there are.
        shapes: distinct (P, B, S), each compiled once.
    """

    examples: int
    supervised: int
    plain: int
    computed: int
    padding: int
    prefix: int
    micro_batches: int
    steps: int
    shapes: int


def work(plan: Plan, epoch: int = 0) -> Work:
    """Count the work of an epoch."""
    computed = padding = prefix = micro_batches = 0
    shapes: set[tuple[int, int, int]] = set()
    steps = plan.epoch(epoch)
    lengths = [len(example.tokens) - 1 for example in plan.examples]
    for step in steps:
        for chunk in step:
            inputs = [lengths[row] - chunk.prefix for row in chunk.rows]
            width = bucket(max(inputs))
            computed += chunk.prefix + len(inputs) * width
            padding += len(inputs) * width - sum(inputs)
            prefix += chunk.prefix
            micro_batches += 1
            shapes.add((chunk.prefix, len(inputs), width))
    # The first token is predicted by nothing; a shared prefix holds none that is supervised.
    supervised = sum(int(np.count_nonzero(e.supervised[1:])) for e in plan.examples)
    return Work(
        len(plan.examples) // plan.group, supervised, sum(lengths), computed, padding, prefix,
        micro_batches, len(steps), len(shapes),
    )  # fmt: skip


def _units(rows: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """Rows that belong together, `size` neighbours each."""
    return [tuple(rows[i : i + size]) for i in range(0, len(rows), size)]


def _chunks(prefix: int, units: Sequence[tuple[int, ...]], size: int) -> list[Chunk]:
    """Chunks of at most `size` units."""
    parts = (units[i : i + size] for i in range(0, len(units), size))
    return [Chunk(prefix, tuple(row for unit in part for row in unit)) for part in parts]


def _pack(chunks: Sequence[Chunk], rows: int) -> list[Step]:
    """Consecutive chunks as steps of at most `rows` examples (one chunk at least)."""
    steps: list[Step] = []
    current: list[Chunk] = []
    held = 0
    for chunk in chunks:
        if current and held + len(chunk.rows) > rows:
            steps.append(tuple(current))
            current, held = [], 0
        current.append(chunk)
        held += len(chunk.rows)
    if current:
        steps.append(tuple(current))
    return steps
