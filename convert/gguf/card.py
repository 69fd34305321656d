"""What a model's folder says of the model, kept in its GGUF file: licence, languages, who made it,
its size. From the card's YAML (README.md, as the hub reads it), and for a folder that was decoded
from a GGUF file from what that one said."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from convert.gguf.file import Value
from livery.gguf_base.card import KEPT
from livery.gguf_base.folder import PROVENANCE
from livery.reading import read_object, read_text

_LISTS = ("tags", "languages")
# Keys of a card's YAML -> general.*
_KEYS = {
    "license": "license",
    "license_name": "license.name",
    "license_link": "license.link",
    "language": "languages",
    "tags": "tags",
    "organization": "organization",
    "model_creator": "organization",
    "size_label": "size_label",
}
_HUB = re.compile(r"models--([\w.-]+?)--[\w.-]+")


def general(folder: Path, shapes: Iterable[tuple[int, ...]]) -> dict[str, Value]:
    """The fields general.* that a folder knows, but for the name.

    Args:
        shapes: of all tensors, for the size label where nobody says it: "135M".
    """
    found: dict[str, Value] = {}
    found.update(_of_hub(folder))
    found.update(_of_card(folder))
    found.update(_of_gguf(folder))
    found.setdefault("size_label", _size_label(sum(math.prod(shape) for shape in shapes)))
    return {f"general.{name}": value for name, value in found.items()}


def told_name(folder: Path) -> str:
    """The model's name, where the folder was decoded from a file that has one; else ""."""
    kept = _kept(folder)
    name = kept.get("name")
    return name if isinstance(name, str) else ""


def _kept(folder: Path) -> Mapping[str, Any]:
    file = folder / PROVENANCE
    told: Any = read_object(file).get("general") if file.is_file() else None
    return cast("Mapping[str, Any]", told) if isinstance(told, dict) else {}


def _of_gguf(folder: Path) -> dict[str, Value]:
    kept = _kept(folder)
    taken = {name: _value(name, kept.get(name)) for name in KEPT if name != "name"}
    return {name: value for name, value in taken.items() if value}


def _of_card(folder: Path) -> dict[str, Value]:
    file = folder / "README.md"
    if not file.is_file():
        return {}
    head = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", read_text(file), re.DOTALL)
    if head is None:
        return {}
    import yaml

    try:
        said: Any = yaml.safe_load(head[1])
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}  # a card is for people; one that is no YAML loses nothing that is computed
    if not isinstance(said, dict):
        return {}
    card = cast("Mapping[Any, Any]", said)
    found = {ours: _value(ours, card.get(theirs)) for theirs, ours in _KEYS.items()}
    return {name: value for name, value in found.items() if value}


def _of_hub(folder: Path) -> dict[str, Value]:
    """Whose repository a folder of the hub's cache is."""
    for part in folder.resolve().parts:
        if match := _HUB.fullmatch(part):
            return {"organization": match[1]}
    return {}


def _value(name: str, value: Any) -> str | list[str]:
    if name in _LISTS:
        many: list[Any] = value if isinstance(value, list) else [value]
        return [one for one in many if isinstance(one, str) and one]
    return value if isinstance(value, str) else ""


def _size_label(count: int) -> str:
    """135M, 1.7B: rounded as people name models."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size * 0.9995:
            number = count / size
            return f"{number:.0f}{unit}" if number >= 9.95 else f"{number:.1f}{unit}"
    return f"{count}"
