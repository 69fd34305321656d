"""What an adapter folder says of itself: which base it was trained on, from which data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.errors import UserError
from livery.files import read_json
from livery.paths import EMBEDDED, find_model
from livery.run_folder import RUN_CONFIG


@dataclass(frozen=True)
class Origin:
    """Where an adapter came from; what is not known is None.

    Attributes:
        model: its base, folder or hub id.
        quantize: bits that the base was quantized to on loading.
        train_file: the training rows.
    """

    model: str | None = None
    quantize: int | None = None
    train_file: Path | None = None


def read_origin(adapter: str | None) -> Origin:
    """Look into run_config.json, then into the adapter's own configuration.

    Raises:
        UserError: no such folder, or a file in it is broken.
    """
    if adapter is None:
        return Origin()
    folder = Path(adapter).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such adapter folder.")
    settings = _settings(folder / RUN_CONFIG)
    if settings:
        train_file = Path(str(settings.get("data", ""))) / "train.jsonl"
        return Origin(
            model=settings.get("model"),
            quantize=settings.get("quantize"),
            train_file=train_file if train_file.is_file() else None,
        )
    for config, key in (
        ("adapter_config.json", "base_model_name_or_path"),
        ("mlx/adapter_config.json", "model"),
        ("adapter_config.json", "model"),
    ):
        value = read_json(folder / config) if (folder / config).is_file() else {}
        if isinstance(value, dict) and isinstance(value.get(key), str) and value[key]:
            return Origin(model=value[key])
    return Origin()


def choose_model(asked: str | None, origin: Origin) -> str:
    """The base to load: what was asked for, else the adapter's own, else the embedded one."""
    return find_model(asked or origin.model or EMBEDDED)


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = read_json(path)
    settings = value.get("settings") if isinstance(value, dict) else None
    return settings if isinstance(settings, dict) else {}
