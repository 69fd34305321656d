"""What a run's frozen reference makes of every row: computed once, kept with the run.

The reference is the adapter that the run starts from, on its base; a run that starts from nothing
has the bare base for one, since a new adapter adds nothing. reference.jsonl in the run's folder is

    {"format": 1, "base": …, "adapter": …, "backend": …, "dtype": …, "quantize": …}   digests, how
    {"rows": {"<digest of a row's tokens and mask>": log-probability, nats, …}}       a micro-batch

and grows by a line a micro-batch, so that a stopped computation goes on where it was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from livery.config.settings import TrainSettings
from livery.errors import UserError
from livery.files import atomic_write
from livery.paths import REFERENCE
from livery.progress import Progress
from livery.training import checkpoint, run_folder
from livery.training.backend import Backend, any_process
from livery.training.origin import base_digest
from livery.training.plan import Example, MicroBatch, evaluation_batches

FORMAT = 1
_PATIENCE = 2.0  # seconds after which somebody asks how far it is

Splits = Sequence[Sequence[Example]]


def with_reference(
    settings: TrainSettings, backend: Backend, splits: Splits, *, resume: bool = False
) -> Splits:
    """The examples of each split with `Example.reference`.

    Args:
        backend: with the weights that the run starts from.
        resume: the run in the folder goes on. What it has recorded then stands, whatever has become
            of the adapter that it started from.

    Raises:
        UserError: reference.jsonl is not ours, or a run that goes on needs more of it and the
            adapter that it started from is not there any more.
    """
    if not backend.objective.reference:
        return splits
    store = _Store(Path(settings.output_dir) / REFERENCE, backend)
    store.open(_header(settings, backend), going_on=resume and _has_steps(settings))
    keys = [[row_digest(example) for example in split] for split in splits]
    work = [
        (batch, [keys[at][row] for row in batch.rows])
        for at, split in enumerate(splits)
        for batch in evaluation_batches(
            split, settings.batch_size, share=settings.share_prefix, group=settings.group
        )
    ]
    store.fill(work, settings)
    return [
        [
            dataclasses.replace(example, reference=store.known[key])
            for example, key in zip(split, of_split, strict=True)
        ]
        for split, of_split in zip(splits, keys, strict=True)
    ]


def _has_steps(settings: TrainSettings) -> bool:
    return bool(checkpoint.steps(Path(settings.output_dir)))


def _header(settings: TrainSettings, backend: Backend) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "base": base_digest(settings.model),
        "adapter": adapter_digest(backend, settings.lora.scale),
        "backend": backend.name,
        "dtype": backend.dtype,
        "quantize": settings.quantize,
    }


def adapter_digest(backend: Backend, scale: float) -> str:
    """Hex SHA-256 over the adapter's present weights and its scale."""
    total = hashlib.sha256(repr(scale).encode())
    for name, array in sorted(backend.get_state().weights.items()):
        total.update(f"{name} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array, "<f4").tobytes())
    return total.hexdigest()


def row_digest(example: Example) -> str:
    """By which a row is found in reference.jsonl: of its tokens and mask."""
    total = hashlib.sha256(np.ascontiguousarray(example.tokens, "<i4").tobytes())
    total.update(np.packbits(example.supervised).tobytes())
    return total.hexdigest()[:24]


class _Store:
    """reference.jsonl, which the first process alone reads and writes.

    Attributes:
        known: log-probability by digest of a row.
    """

    def __init__(self, path: Path, backend: Backend) -> None:
        self.path, self.backend = path, backend
        self.known: dict[str, float] = {}
        self._other_adapter = False

    def open(self, header: Mapping[str, Any], *, going_on: bool) -> None:
        """Read what is there and of use, and begin the file anew where nothing is."""
        if self.backend.rank:
            return
        found, self.known = self._read()
        same = found == header
        if going_on and found.get("base") == header["base"]:
            self._other_adapter = found.get("adapter") != header["adapter"]
            return
        if not same:
            self.known = {}
        # Written again: a line that a kill cut off must not run into the next one.
        lines = [dict(header), *([{"rows": self.known}] if self.known else [])]
        with atomic_write(self.path, "w") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def _read(self) -> tuple[dict[str, Any], dict[str, float]]:
        if not self.path.exists():
            return {}, {}
        header: dict[str, Any] = {}
        known: dict[str, float] = {}
        for number, text in enumerate(self.path.read_text(encoding="utf-8").split("\n")):
            line: Any = None
            with contextlib.suppress(ValueError, RecursionError):  # cut off by a kill
                line = json.loads(text)
            if number == 0:
                if not isinstance(line, dict) or "adapter" not in line:
                    raise UserError(
                        f"{self.path}: not the log-probabilities of a reference, which this run "
                        "would write there. Move the file away, or choose another --output-dir."
                    )
                header = line
            elif isinstance(line, dict) and isinstance(line.get("rows"), dict):
                rows = line["rows"]
                known |= {k: v for k, v in rows.items() if isinstance(v, float)}
        return header, known

    def fill(self, work: Sequence[tuple[MicroBatch, list[str]]], settings: TrainSettings) -> None:
        """Compute what is missing; each process takes its share of the micro-batches.

        A micro-batch is computed whole or not at all, so that a computation that was stopped gives
        the same numbers as one that was not.
        """
        world, rank = self.backend.world, self.backend.rank
        self._share([key for _, keys in work for key in keys])
        missing = [one for one in work if not all(key in self.known for key in one[1])]
        if missing and any_process(self.backend, self._other_adapter):
            raise UserError(
                f"{self.path}: {len(missing)} micro-batches have no reference yet, and "
                f"{settings.init_adapter or 'the first state'} is not what the run started from. "
                "Put that adapter back, or start over with --overwrite."
            )
        total = sum(len(keys) for _, keys in missing) // settings.group
        with Progress("reference", total, "pairs", after=_PATIENCE) as progress:
            for start in range(0, len(missing), world):
                round_ = missing[start : start + world]
                keys = [key for _, names in round_ for key in names]
                values = np.zeros(len(keys))
                at = 0
                for number, (batch, names) in enumerate(round_):
                    if number == rank:
                        values[at : at + len(names)] = self.backend.logprobs(batch)
                    at += len(names)
                values = self.backend.sum_over_processes(values)
                fresh = dict(zip(keys, values.tolist(), strict=True))
                self._add({k: v for k, v in fresh.items() if k not in self.known})
                progress.advance(len(keys) // settings.group)

    def _add(self, rows: dict[str, float]) -> None:
        self.known |= rows
        if self.backend.rank == 0:
            run_folder.append(self.path, {"rows": rows})

    def _share(self, keys: Sequence[str]) -> None:
        """Give what the first process has read to the others."""
        if self.backend.world == 1:
            return
        names = sorted(set(keys))
        pairs = [(float(name in self.known), self.known.get(name, 0.0)) for name in names]
        got = self.backend.sum_over_processes(np.asarray(pairs).ravel()).reshape(-1, 2)
        self.known = {
            n: v for n, (is_known, v) in zip(names, got.tolist(), strict=True) if is_known
        }
