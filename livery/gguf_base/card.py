"""The model card of a folder that was decoded from a GGUF file: names, licence and languages as the
file has them, and what it was made from. YAML at the top is what the hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from livery.gguf_reader import GgufFile

# general.* of GGUF that says what a model is, and is kept for a file that is made of the folder.
KEPT = (
    "name", "author", "version", "organization", "finetune", "basename", "description",
    "size_label", "license", "license.name", "license.link", "url", "repo_url", "source.url",
    "source.repo_url", "tags", "languages",
)  # fmt: skip


def facts(file: GgufFile) -> dict[str, str | list[str]]:
    """What the file says of itself: "license", "languages", "organization" …"""
    found: dict[str, str | list[str]] = {}
    for name in KEPT:
        value = file.metadata.get(f"general.{name}")
        if isinstance(value, str) and value:
            found[name] = value
        elif isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            found[name] = [str(v) for v in value]
    return found


def write_card(file: GgufFile, source: str, quantization: str, digest: str) -> str:
    """README.md: YAML that the hub and `livery gguf` read, and a paragraph.

    Args:
        source: the GGUF file's name.
        quantization: how its matrices are stored, "Q4_1".
        digest: SHA-256 of the file.
    """
    known = facts(file)
    head: dict[str, Any] = {}
    for ours, theirs in (
        ("license", "license"),
        ("license_name", "license.name"),
        ("license_link", "license.link"),
        ("language", "languages"),
        ("tags", "tags"),
    ):
        if theirs in known:
            head[ours] = known[theirs]
    head["model_name"] = known.get("name", source)
    lines = [f"{key}: {_yaml(value)}" for key, value in head.items()]
    title = str(known.get("name", source)).replace("\n", " ")
    told = [
        f"- {name}: {_plain(value)}"
        for name, value in known.items()
        if name not in ("license", "languages", "tags", "name")
    ]
    return "\n".join(
        [
            "---",
            *lines,
            "---",
            "",
            f"# {title}",
            "",
            f"Decoded by Livery from `{source}` (GGUF, {quantization}, SHA-256 `{digest}`): the "
            "same numbers as llama.cpp computes with, under Hugging Face's names. Weights that "
            "were quantized there are rounded here too.",
            "",
            *told,
            "",
        ]
    )


def _yaml(value: Any) -> str:
    """JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _plain(value: str | Sequence[str] | Mapping[str, Any]) -> str:
    text = value if isinstance(value, str) else ", ".join(value)
    return " ".join(text.split())
