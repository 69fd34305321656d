"""What a run is made from: the one record of it, in a checkpoint and beside an adapter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from livery.config.settings import TrainSettings, decided
from livery.dataset.sources import digest, find
from livery.weights import base_digest


@dataclass(frozen=True)
class Origin:
    """What decides an outcome; one of another origin is neither continued nor taken for current.

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
                found.append(f"{key} is {mine!r} and was {theirs!r}")
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
    splits = find(settings.data)
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
