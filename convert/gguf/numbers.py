"""The numbers of a model that llama.cpp wants in a GGUF file: sizes, rope, windows.

What llama.cpp computes with a constant of its own is compared with the config, and a difference is
an error: it would silently answer differently. A family's own
numbers are in `convert.gguf.families`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from convert.base import Base
from convert.gguf import rope as gguf_rope
from convert.gguf.families import NUMBERS, head_size
from convert.gguf.file import Value
from convert.gguf.windows import gguf_window
from livery.errors import UserError
from livery.gguf_base.architectures import Architecture

# Whose heads llama.cpp takes to make up the hidden size.
_WHOLE = ("qwen2", "phi", "phi3", "olmo2", "olmo3", "lfm2")


@contextmanager
def explained(base: Base) -> Generator[None]:
    """Turn what odd values of a config lead to into a UserError on it."""
    try:
        yield
    except KeyError as error:
        raise UserError(f"{base.folder / 'config.json'}: lacks {error}.") from None
    except (TypeError, ValueError, ArithmeticError, AttributeError, IndexError) as error:
        raise UserError(
            f"{base.folder / 'config.json'}: a field has an impossible value ({error})."
        ) from None


def hyperparameters(
    base: Base, architecture: Architecture, context: int | None = None
) -> dict[str, Value]:
    """The metadata fields under the architecture's own name.

    Args:
        base: as `gguf_fields.complete` made it.
        context: write the file for at most so many tokens; None for all that the model takes.

    Raises:
        UserError: llama.cpp cannot compute what the config asks for.
    """
    config, name = base.config, architecture.name
    rope = gguf_rope.read(base)
    head = head_size(base)
    longest = int(config["max_position_embeddings"])
    longest = min(longest, context or longest)
    values: dict[str, Value] = {
        "block_count": base.layers,
        "context_length": longest,
        "embedding_length": int(config["hidden_size"]),
        "feed_forward_length": _feed_forward(base),
        "attention.head_count": base.heads,
        "attention.head_count_kv": base.kv_heads,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": int(head * rope.partial),
        "rope.freq_base": rope.theta,
        "vocab_size": int(config["vocab_size"]),
    }
    if "rms_norm_eps" in config:
        values["attention.layer_norm_rms_epsilon"] = float(config["rms_norm_eps"])
    if "layer_norm_eps" in config:
        values["attention.layer_norm_epsilon"] = float(config["layer_norm_eps"])
    if config["model_type"] in _WHOLE and head * base.heads != config["hidden_size"]:
        raise UserError(
            f"{base.folder / 'config.json'}: {base.heads} heads of {head} are not the hidden_size "
            f"of {config['hidden_size']}; llama.cpp takes {config['model_type']} so."
        )
    values.update(gguf_rope.numbers(base, rope))
    values.update(gguf_window(base, longest))
    NUMBERS.get(config["model_type"], lambda _b, _v: None)(base, values)
    return {f"{name}.{key}": value for key, value in values.items()}


def _feed_forward(base: Base) -> int:
    if base.config["model_type"] == "qwen3_5_moe_text":  # which has no dense layers
        return int(base.config["moe_intermediate_size"])
    return int(base.config["intermediate_size"])
