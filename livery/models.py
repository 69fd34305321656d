"""Where a base model lies and what it is: its folder and its config.json; `livery.weights` has its
weights.

Every engine and every conversion asks here, so that they all mean the same model, and refuse the
same.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from livery.errors import UserError, shown
from livery.paths import find_model
from livery.reading import read_object

CONFIG = "config.json"
LONGEST_NAME = 4096  # characters of a base's name: no path on any system is longer
# Where a multimodal model's config.json keeps its language model's.
NESTED = ("text_config", "language_config", "llm_config")


# -- its folder -----------------------------------------------------------------------------------


def find_base(model: str) -> Path | None:
    """The folder of a model given as a folder, as a hub id that was downloaded before, or as
    base_model, the embedded one."""
    if not model or len(model) > LONGEST_NAME or "\0" in model:
        return None
    model = find_model(model)
    with contextlib.suppress(OSError):  # a name too long for this system's folders
        if (Path(model) / CONFIG).is_file():
            return Path(model)
    home = os.environ.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")
    name = "models--" + model.replace("/", "--")
    if not re.fullmatch(r"[\w.-]{1,255}", name):
        return None
    found = sorted((hub / name / "snapshots").glob("*/config.json"), key=os.path.getmtime)
    return found[-1].parent if found else None


def check_files(folder: Path) -> None:
    """Raises UserError where something in `folder` would be waited on rather than read."""
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(OSError):  # a link to nowhere is no file, and is told as missing
            mode = path.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UserError(
                    f"{shown(path)}: a pipe, socket or device in a model's folder. Remove it."
                )


# -- its configuration ----------------------------------------------------------------------------

# Bounds beyond any model there is; a number outside them is a broken file, and building a model of
# that size would only end when the memory does.
_COUNTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), (1, 10_000)),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), (1, 1 << 16)),
    **dict.fromkeys(("num_key_value_heads", "n_kv_heads"), (1, 1 << 16)),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim"), (1, 1 << 20)),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner"), (1, 1 << 24)),
    **dict.fromkeys(("moe_intermediate_size", "head_dim"), (1, 1 << 22)),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), (0, 1 << 20)),
    **dict.fromkeys(("num_experts_per_tok", "num_kv_shared_layers"), (0, 1 << 20)),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), (1, 1 << 40)),
    "vocab_size": (1, 1 << 28),
}
_POSITIVE = ("rope_theta", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps")


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json, its sizes checked.

    Raises:
        UserError: no such file, not an object, no model_type, or a size that is no size: the key
            is named.
    """
    path = folder / CONFIG
    if not path.exists():
        raise UserError(f"{shown(folder)}: no config.json in it; is this a model's folder?")
    config = read_object(path)
    check_config(config, path)
    return config


def check_config(config: Mapping[str, Any], path: Path) -> None:
    """Raises UserError where a size in `config` is none, or the family is not named."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise UserError(f"{shown(path)}: names no model_type; is this a language model?")
    for part in (config, *nested_parts(config)):
        for key, bounds in _COUNTS.items():
            value = part.get(key)
            for number in value if isinstance(value, list) else [value]:  # one for each layer
                if number is not None:
                    _check_count(path, key, number, *bounds)
        for key in _POSITIVE:
            _check_positive(path, key, part.get(key))
        rope = part.get("rope_parameters")
        if isinstance(rope, Mapping):
            for one in (rope, *(v for v in rope.values() if isinstance(v, Mapping))):
                _check_positive(path, "rope_parameters.rope_theta", one.get("rope_theta"))


def nested_parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The language model's parts of a multimodal model's configuration."""
    return [config[name] for name in NESTED if isinstance(config.get(name), Mapping)]


def _check_count(path: Path, key: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int:
        raise UserError(
            f"{shown(path)}: {key} is {shown(json.dumps(value), 60)}; it must be a whole number."
        )
    if not least <= value <= most:
        bound = f"at least {least}" if value < least else f"at most {most:,}"
        raise UserError(f"{shown(path)}: {key} is {shown(value, 40)}; it must be {bound}.")


def _check_positive(path: Path, key: str, value: Any) -> None:
    for number in value if isinstance(value, list) else [value]:  # one for each layer
        if number is None:
            continue
        right = isinstance(number, int | float) and not isinstance(number, bool)
        if not right or not 0 < number < math.inf:
            raise UserError(
                f"{shown(path)}: {key} is {shown(json.dumps(number), 60)}; it must be a number "
                "above 0."
            )
