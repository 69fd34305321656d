"""The names under which a server's adapters answer, and which skill each was trained for.

base           the server's base, without an adapter
NAME           the adapter in root/adapters/NAME
NAME:base      the base that it was trained on, prompted as the adapter is
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.errors import UserError, quoted
from livery.paths import RUN_CONFIG
from livery.reading import read_object
from livery.serve.errors import NotFound
from livery.serve.settings import inside, is_name

BASE = "base"
_UNTUNED = f":{BASE}"
_WEIGHTS = ("adapter_model.safetensors", "adapters.safetensors", "mlx/adapters.safetensors",
            "gguf/adapter.gguf")  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What answers.

    Attributes:
        name: as it was asked for.
        adapter: its folder; None for "base".
        tuned: whether the adapter is on.
    """

    name: str
    adapter: Path | None = None
    tuned: bool = True

    @property
    def skill(self) -> str:
        """The adapter's; "" where it is not known, read from its files."""
        return skill_of(self.adapter) if self.adapter is not None else ""


def adapters(folder: Path) -> Iterator[Path]:
    """The adapters in a folder, by name."""
    if folder.is_dir():
        for place in sorted(folder.iterdir()):
            if is_name(place.name) and any((place / name).is_file() for name in _WEIGHTS):
                yield place


def find_model(folder: Path, name: str) -> Model:
    """What `name` means.

    Raises:
        NotFound: there is no such adapter in the folder.
    """
    if name == BASE:
        return Model(name, tuned=False)
    of, untuned, rest = name.partition(_UNTUNED)
    try:
        if rest or not is_name(of):
            raise NotFound("")
        place = inside(folder, of, what="adapter")
    except NotFound:
        known = [BASE, *(found.name for found in adapters(folder))]
        raise NotFound(
            f"There is no model {quoted(name)}; there are: {', '.join(known[:40])}.", key="model"
        ) from None
    return Model(name, place, not untuned)


def skill_of(adapter: Path) -> str:
    """The skill that an adapter was trained for: its data's, else that of its evaluation, else of
    its folder's name; "" where none of them says."""
    settings = _read(adapter / RUN_CONFIG).get("settings")
    data = settings.get("data") if isinstance(settings, dict) else None
    if isinstance(data, str) and data:
        skill = _read(Path(data) / "manifest.json").get("skill")
        if isinstance(skill, str):
            return skill
    found = _read(adapter / "evaluation.json").get("skill")
    skill = found.get("name") if isinstance(found, dict) else found
    if isinstance(skill, str):
        return skill
    from livery.skills import skill_names

    return adapter.name if adapter.name in skill_names() else ""


def _read(path: Path) -> dict[str, Any]:
    """A file's JSON object; {} where there is none that can be read."""
    try:
        return read_object(path) if path.is_file() else {}
    except (UserError, OSError):
        return {}
