"""The model card: what the adapter is, what it scored, and how each runtime loads it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from convert.check.check import Verdict
from convert.naming import leaf
from convert.pack import card_loading
from livery.adapter import Adapter
from livery.errors import shown


def render(
    adapter: Adapter,
    facts: Mapping[str, Any],
    *,
    formats: Sequence[str],
    left_out: Mapping[str, str],
    verdicts: Sequence[Verdict] = (),
) -> str:
    """README.md of an adapter folder.

    Args:
        facts: what the run knows, all optional: "title", "description", "license", "prompt" (an
            example), "training" and "results" (mappings that become tables).
        formats: what the folder holds: "peft", "mlx", "gguf".
        left_out: format -> why it is not there.
        verdicts: what `livery check` says of the folder; a runtime that is not among them is taken
            to load it.
    """
    base = card_loading.base_name(adapter)
    title = str(facts.get("title") or f"LoRA adapter for {base}").replace("<", "&lt;")
    parts = [_front_matter(adapter, facts), f"# {title}"]
    if facts.get("description"):
        parts.append(str(facts["description"]))
    parts.append(_shape(adapter))
    for name in ("training", "results"):
        rows = facts.get(name)
        if isinstance(rows, Mapping) and rows:
            parts.append(f"## {name.capitalize()}\n\n" + _table(rows))
    prompt = str(facts.get("prompt") or "Hello")
    parts.append(card_loading.section(adapter, prompt, formats, left_out, verdicts))
    return "\n\n".join(parts) + "\n"


def with_loading(
    text: str,
    adapter: Adapter,
    *,
    formats: Sequence[str],
    left_out: Mapping[str, str],
    verdicts: Sequence[Verdict] = (),
) -> str:
    """Somebody's card, its section on loading (the last one of ours) replaced or added."""
    before = text.partition(f"\n{card_loading.TITLE}\n")[0].rstrip()
    return f"{before}\n\n{card_loading.section(adapter, 'Hello', formats, left_out, verdicts)}\n"


def _front_matter(adapter: Adapter, facts: Mapping[str, Any]) -> str:
    lines = ["---"]
    if adapter.base_model:
        lines.append(f"base_model: {_scalar(adapter.base_model)}")
    if facts.get("license"):
        lines.append(f"license: {_scalar(str(facts['license']))}")
    lines += ["library_name: peft", "pipeline_tag: text-generation", "tags:", "- lora", "- livery"]
    return "\n".join([*lines, "---"])


def _scalar(text: str) -> str:
    """Text as YAML on one line, whatever is in it."""
    import yaml

    style = None if text.isprintable() else '"'
    dumped = yaml.safe_dump(text, default_style=style, width=math.inf, allow_unicode=True)
    return dumped.removesuffix("\n").removesuffix("\n...")


def _shape(adapter: Adapter) -> str:
    kind = "DoRA" if adapter.dora else "LoRA"
    if any(pair.rslora for pair in adapter.pairs.values()):
        kind = f"rank-stabilised {kind}"
    ranks = ", ".join(str(rank) for rank in adapter.ranks)
    scales = ", ".join(f"{s:g}" for s in sorted({p.scale for p in adapter.pairs.values()}))
    targets = ", ".join(sorted({leaf(module) for module in adapter.pairs}))
    rows = {
        "Base model": shown(adapter.base_model) or "unknown",
        "Kind": kind,
        "Rank": ranks,
        "Scale (of B·A)": scales,
        "Modules": f"{len(adapter.pairs)}: {targets}",
        "Parameters": f"{adapter.parameters:,}",
        "Stored as": adapter.dtype,
    }
    return _table(rows)


def _table(rows: Mapping[str, Any]) -> str:
    lines = ["| | |", "|---|---|"]
    for key, value in rows.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        cell = shown(text, 1000).replace("|", "/").replace("<", "&lt;")
        lines.append(f"| {shown(key)} | {cell} |")
    return "\n".join(lines)
