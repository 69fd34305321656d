"""What a run is made from: the one record of it, in a checkpoint and beside an adapter, and the
digest of its base."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.config.settings import TrainSettings, decided
from livery.dataset.sources import digest, find
from livery.errors import quoted, shown
from livery.gguf_reader import MAGIC, open_gguf
from livery.models import CONFIG, find_base
from livery.reading import open_file, read_bytes
from livery.safetensors_file import open_tensors
from livery.weights import weight_files


@dataclass(frozen=True)
class Origin:
    """What decides an outcome: a run of another origin is not continued, an adapter not current.

    Attributes:
        settings: those that decide it (see `livery.config.options.Decides`), and total_steps.
        data: digest of the data.
        base: digest of the base model.
    """

    settings: dict[str, Any]
    data: str
    base: str

    def differences(self, other: Origin) -> list[str]:
        """What differs from an earlier one, for people; empty where nothing does.

        A setting that one of them does not name, being of another version, had its default.
        """
        missing = decided(TrainSettings(), "step", "result")
        found: list[str] = []
        for key in sorted({*self.settings, *other.settings}):
            mine, theirs = (one.settings.get(key, missing.get(key)) for one in (self, other))
            if mine != theirs:
                found.append(f"{shown(key)} is {quoted(mine)} and was {quoted(theirs)}")
        if self.data != other.data:
            found.append(f"the training data's hash is {self.data[:12]} and was {other.data[:12]}")
        if self.base != other.base:
            found.append(f"the base model's hash is {self.base[:12]} and was {other.base[:12]}")
        return found


def of_steps(settings: TrainSettings, total_steps: int, data: str) -> Origin:
    """Of a run's checkpoints: what decides the numbers of its steps.

    Args:
        data: digest of the encoded training examples.
    """
    named = decided(settings, "step") | {"total_steps": total_steps}
    return Origin(named, data, base_digest(settings.model))


def of_adapter(settings: TrainSettings, base: str = "") -> Origin:
    """Of a finished adapter: what decides its bytes, as far as it is known before the data is
    encoded; its data are the files of the training and validation rows.

    Args:
        base: an earlier digest, whose form this one's takes (see `base_digest`).
    """
    splits = find(settings.data, settings.valid_data)
    valid = digest(splits.valid) if splits.valid else None
    named = decided(settings, "step", "result") | {"total_steps": settings.max_steps or 0}
    return Origin(named, _of_files(digest(splits.train), valid), base_digest(settings.model, base))


def read(record: Mapping[str, Any]) -> Origin:
    """A record as it was written, or as older versions wrote an adapter's: all in one mapping.

    Raises:
        TypeError: it is neither.
    """
    if "settings" in record:
        return Origin(**record)
    named = {key: record[key] for key in record if key not in ("train", "valid", "base")}
    data = _of_files(record.get("train"), record.get("valid"))
    return Origin(named, data, str(record.get("base")))


def _of_files(train: Any, valid: Any) -> str:
    return hashlib.sha256(json.dumps([train, valid]).encode()).hexdigest()


_FORM = "2-"  # begins today's digests; older ones have no such beginning
_SAMPLE = 4096


def base_digest(model: str | Path, like: str = "") -> str:
    """Digest of a base model: its configuration, and of each of its files of weights the name,
    size, header, and the first, middle and last 4 KiB of every tensor.

    Training, merging or quantizing a tensor again changes values all over it, so three places
    tell it from what it was; a file edited at single values elsewhere is not noticed. Reading all
    of it would notice, but a run should not begin by reading 16 GB; and a digest remembered by size
    and time of change misses such an edit too, and is wrong where a copy keeps both. Of 16 GB in
    300 tensors, 4 MB are read.

    A hub id is digested in its downloaded folder, or by name where there is none.

    Args:
        like: a recorded digest. Where it is of the older form (the first MiB of each file), this
            one is too, so that older runs go on.

    Raises:
        UserError: a file of weights is missing or not whole.
    """
    if like and not like.startswith(_FORM):
        return _first_form(model)
    path = Path(model)
    if not path.is_file():
        folder = path if path.is_dir() else find_base(str(model))
        if folder is None:
            return _FORM + hashlib.sha256(str(model).encode()).hexdigest()
        path = folder
    total = hashlib.sha256()
    if path.is_file():
        _add_file(total.update, path)
    else:
        if (path / CONFIG).is_file():
            total.update(f"{CONFIG}:".encode() + read_bytes(path / CONFIG))
        for file in weight_files(path) or sorted(path.glob("*.safetensors")):
            _add_file(total.update, file)
    return _FORM + total.hexdigest()


def _add_file(add: Callable[[bytes], object], file: Path) -> None:
    """Add a file of weights, safetensors or GGUF."""
    with open_file(file) as handle:
        size = os.fstat(handle.fileno()).st_size
        add(f"{file.name}:{size}:".encode())
        if handle.read(len(MAGIC)) == MAGIC:
            starts = sorted(
                entry.start for entry in open_gguf(file, known_types=False).entries.values()
            )
        else:
            starts = sorted(entry.start for entry in open_tensors(file).entries.values())
        ends = [*starts[1:], size] if starts else []
        handle.seek(0)
        head = starts[0] if starts else size
        while head > 0 and (block := handle.read(min(head, 1 << 20))):
            add(block)
            head -= len(block)
        for start, end in zip(starts, ends, strict=True):
            for at in (start, (start + end - _SAMPLE) // 2, end - _SAMPLE):
                handle.seek(max(at, start))
                add(handle.read(min(_SAMPLE, end - start)))


def _first_form(model: str | Path) -> str:
    """The digest that runs recorded before: the first MiB of each file."""
    total = hashlib.sha256()
    path = Path(model)
    files = [path] if path.is_file() else [path / CONFIG, *path.glob("*.safetensors")]
    if not path.exists():
        return hashlib.sha256(str(model).encode()).hexdigest()
    for file in sorted(files):
        if file.is_file():
            total.update(f"{file.name}:{file.stat().st_size}:".encode())
            with file.open("rb") as handle:
                total.update(handle.read(1 << 20))
    return total.hexdigest()
