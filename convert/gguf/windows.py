"""How far back each layer looks: in transformers' model, and in what llama.cpp has for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from convert.base import Base
from convert.gguf.file import Value
from livery.errors import UserError
from livery.gguf_base.architectures import PERIODS

_SWITCHED = ("qwen2", "qwen3", "qwen3_moe", "smollm3")  # whose windows use_sliding_window turns on
# Convolutions or linear attention between the layers; gemma4 says its windows layer by layer.
_UNLIKE = ("lfm2", "qwen3_5_text", "qwen3_5_moe_text", "gemma4_text")


def layer_windows(base: Base) -> list[int]:
    """How far back each layer of transformers' model looks; 0 for all the way."""
    config, kind = base.config, str(base.config["model_type"])
    window = config.get("sliding_window")
    if kind in _SWITCHED and not config.get("use_sliding_window"):
        window = None
    if kind in _UNLIKE:  # layers of kinds that have no windows
        return [0] * base.layers
    layered = ("qwen2", "qwen3", "smollm3", *PERIODS)
    types: Any = config.get("layer_types") if kind in layered else None
    if types is None and kind in ("qwen2", "qwen3"):
        first = int(config["max_window_layers"])
        types = layer_types(base.layers, lambda layer: layer >= first)
    elif types is None and kind in PERIODS:
        period = int(config.get("sliding_window_pattern") or PERIODS[kind])
        types = layer_types(base.layers, lambda layer: (layer + 1) % period != 0)
    elif types is None:
        types = layer_types(base.layers, lambda _: True)
    if len(types) != base.layers or set(types) - {"sliding_attention", "full_attention"}:
        raise UserError(
            f"{base.folder / 'config.json'}: layer_types names {len(types)} layers of kinds "
            f"{', '.join(sorted(set(map(str, types))))}; known are sliding_attention and "
            f"full_attention, for each of the {base.layers} layers."
        )
    if kind in PERIODS and not window and "sliding_attention" in types:
        raise UserError(f"{base.folder / 'config.json'}: has sliding layers but no sliding_window.")
    return [int(window or 0) if kind == "sliding_attention" else 0 for kind in types]


def layer_types(layers: int, sliding: Callable[[int], bool]) -> list[str]:
    return ["sliding_attention" if sliding(n) else "full_attention" for n in range(layers)]


def gguf_window(base: Base, longest: int) -> dict[str, Value]:
    """Metadata for llama.cpp's windows where it has them; elsewhere the window must not matter."""
    kind = str(base.config["model_type"])
    windows = layer_windows(base)
    size = max(windows)
    if kind not in PERIODS:
        if 0 < size < longest:
            raise UserError(
                f"{base.folder / 'config.json'}: sliding_window is {size} of a context of "
                f"{longest}; llama.cpp has no window for {kind}, and would answer differently "
                f"beyond it. Write the file for what fits into the window: --context {size}."
            )
        return {}
    if not size:  # llama.cpp cannot be told so; a window as long as the context is none
        return {"attention.sliding_window": longest}
    # The first that fits; one more than there are layers: all of them slide.
    for period in (PERIODS[kind], *range(2, base.layers + 2)):
        if windows == [size if (n + 1) % period else 0 for n in range(base.layers)]:
            return {
                "attention.sliding_window": size,
                "attention.sliding_window_pattern": period,
            }
    raise UserError(
        f"{base.folder / 'config.json'}: layer_types do not repeat in a fixed pattern; llama.cpp "
        "needs one."
    )
