"""What to do about an adapter that a format cannot hold: merging, where that works on its base.

A merge may be refused itself (a bias where the architecture has no place for one), and what it
writes may be more than a runtime loads; then the advice is to train without what stands in the way.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from convert.base import Base
from convert.gguf import fields as gguf_fields
from convert.gguf.field_table import TABLE
from convert.merge.changes import Part
from convert.merge.extend import (
    BIASED_IN_MLX,
    HEADLESS_IN_MLX,
    TIED_IN_VLLM,
    Extension,
    extend,
)
from convert.merge.merge import check_parts, find_changes
from livery.adapter import Adapter, Format
from livery.errors import UserError
from livery.models import quantization
from livery.weights import read_tensors

Runtime = Literal["vllm", "llamacpp", "ollama", "mlx"]
_RUNTIMES: dict[str, tuple[Runtime | Literal[""], str]] = {
    "mlx": ("mlx", "mlx-lm"), "gguf": ("llamacpp", "llama.cpp"), "peft": ("", "PEFT"),
}  # fmt: skip


def advice(
    without: str, adapter: Adapter, base: Base | None, target: Format, source: Format = "peft"
) -> str:
    """How to go on, in a sentence.

    Args:
        without: what an adapter of this format does without.
        base: None where it is not known; then what a merge would need is not known either.
        source: the format that the adapter has now.
    """
    again = f"train again without {without}"
    if base is None or not base.shapes or not base.folder.is_dir():
        return f"Merge the adapter into the base instead (livery merge), or {again}."
    try:
        more = merged_form(adapter, base, source)
    except UserError:
        return f"It cannot be merged into this base either: use the adapter as it is, or {again}."
    runtime, name = _RUNTIMES[target]
    if not loads(base, more, runtime):
        return (
            f"Merged (livery merge) it runs in transformers, but {name} does not load what this "
            f"family becomes: for that {again}."
        )
    command = "livery merge --dequantize" if quantization(base.config) else "livery merge"
    return f"Merge the adapter into the base instead ({command}), or {again}."


def merged_form(adapter: Adapter, base: Base, source: Format) -> Extension:
    """What merging adds to the base. Raises UserError where it is refused."""
    part = Part(adapter, source=source)
    check_parts(base, [part])
    shapes = {name: entry.shape for name, entry in read_tensors(base.folder).items()}
    more = extend(base, shapes, [part])
    shapes |= {name: added.shape for name, added in more.tensors.items()}
    if not any(name.endswith((".scales", ".absmax", "_blocks")) for name in shapes):
        find_changes(base, shapes, [part], untied=more.untied)
    return more


def loads(base: Base, more: Extension, runtime: Runtime | Literal[""]) -> bool:
    """Whether a runtime loads the base with these additions."""
    if not more.config:
        return True
    model_type = base.model_type
    if runtime == "vllm":
        return not (more.untied and model_type in TIED_IN_VLLM)
    if runtime == "mlx":
        biased = more.config.keys() - {"tie_word_embeddings"}
        headless = more.untied and model_type in HEADLESS_IN_MLX
        return not headless and not (biased and model_type not in BIASED_IN_MLX)
    if runtime in ("llamacpp", "ollama") and model_type in TABLE:
        config = {**base.config, **more.config}
        try:
            gguf_fields.check(gguf_fields.complete(replace(base, config=config)))
        except UserError:
            return False
    return True
