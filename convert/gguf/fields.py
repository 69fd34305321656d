"""What becomes of each field of config.json in a GGUF model: written, without effect, or refused.

llama.cpp computes much with constants of its own, where transformers asks the config. A field that
changes the arithmetic and is not written would silently make it answer differently, so every
field that transformers knows for a model type stands in `convert.gguf.field_table`, and one that is
not there is refused by name (tests/convert/test_gguf_fields.py walks the config classes).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from convert.base import Base
from convert.gguf.field_table import EXPERTS, NO_EFFECT, SIZES, TABLE
from livery.errors import UserError

_MOST_LAYERS = 1024
_POSITIVE = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
             "max_position_embeddings")  # fmt: skip


# Other names of one number, as GPT-NeoX and mlx-lm's models call it: name -> ours. Where both say
# the same there is nothing more to know.
_TWINS = {
    "rotary_emb_base": "rope_theta",
    "rotary_pct": "partial_rotary_factor",
    "n_positions": "max_position_embeddings",
    "n_ctx": "max_position_embeddings",
}


def writes(base: Base) -> bool:
    """Whether we write the whole model, and not its adapters alone."""
    return base.model_type in TABLE


def complete(base: Base) -> Base:
    """The base with the values that transformers takes where its config.json says nothing."""
    known = TABLE.get(str(base.config.get("model_type", "")))
    if known is None:
        return base
    said = set(base.config)
    said.update(EXPERTS if said & set(EXPERTS) else ())
    absent = {name: value for name, value in known.absent.items() if name not in said}
    return dataclasses.replace(base, config={**absent, **base.config})


def check(base: Base, allowed: Collection[str] = ()) -> None:
    """Refuse what llama.cpp would compute differently, and what Livery does not know.

    Args:
        base: as `complete` made it.
        allowed: fields that the user says change nothing.

    Raises:
        UserError: naming the field and its value.
    """
    file = base.folder / "config.json"
    model_type = str(base.config["model_type"])
    known = TABLE[model_type]
    _check_sizes(base)
    for name, value in base.config.items():
        if name in known.constants:
            accepted = known.constants[name]
            if value not in accepted:
                own = f"with {accepted[0]!r} alone" if accepted[0] else "without it"
                raise UserError(
                    f"{file}: {name} is {_short(value)}; llama.cpp computes {model_type} {own}, "
                    "and would silently answer differently."
                )
        elif not (value and name not in NO_EFFECT | SIZES | known.written | _ours(base)):
            continue  # known, or off
        elif name in _TWINS and value == base.config.get(_TWINS[name]):
            continue
        elif name not in allowed:
            raise UserError(
                f"{file}: {name} is {_short(value)}, a field that Livery does not know for "
                f"{model_type}. Where it changes nothing that the model computes, say so with "
                f"--ignore-field {name}; otherwise convert with llama.cpp's own script."
            )


def _ours(base: Base) -> frozenset[str]:
    """The other parts of a config whose text model is nested."""
    if "text_config" not in base.config:
        return frozenset()
    return frozenset({"text_config", "vision_config", "audio_config"})


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _check_sizes(base: Base) -> None:
    file = base.folder / "config.json"
    for name in _POSITIVE:
        value = base.config.get(name)
        if type(value) is not int or not 0 < value < 1 << 31:
            raise UserError(f"{file}: {name} is {_short(value)}, not a positive whole number.")
    if base.layers > _MOST_LAYERS:
        raise UserError(f"{file}: num_hidden_layers is {base.layers}; {_MOST_LAYERS} is the most.")
    if base.kv_heads < 1 or base.heads % base.kv_heads:
        raise UserError(
            f"{file}: {base.heads} heads do not share {base.kv_heads} key-value heads evenly."
        )
