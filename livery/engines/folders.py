"""What the folders of a base and an adapter tell an engine: weights, end tokens, tokenizer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from livery.dataset.template import ChatTemplate
from livery.errors import UserError, printable, shown
from livery.models import find_base
from livery.reading import read_object

CONFIG = "adapter_config.json"
_WEIGHTS = {"mlx": "adapters.safetensors", "peft": "adapter_model.safetensors"}
_NAMES = {"mlx": "MLX", "peft": "PEFT"}


def adapter_files(adapter: str | Path, kind: Literal["mlx", "peft"]) -> tuple[Path, Path]:
    """(configuration, weights) of an adapter in one of two formats; MLX's may be in `mlx/`.

    Raises:
        UserError: there is no adapter, or none in this format.
    """
    path = Path(adapter).expanduser()
    if not path.is_dir():
        raise UserError(f"{path}: no such adapter folder.")
    other = "peft" if kind == "mlx" else "mlx"
    places = {"mlx": (path / "mlx", path), "peft": (path,)}
    for folder in places[kind]:
        if (weights := folder / _WEIGHTS[kind]).is_file():
            if not (folder / CONFIG).is_file():
                raise UserError(f"{folder}: has {weights.name} but no {CONFIG}; copy that too.")
            return folder / CONFIG, weights
    for folder in reversed(places[other]):
        if (folder / _WEIGHTS[other]).is_file():
            raise UserError(
                f"{path}: is an adapter in {_NAMES[other]}'s format, without {_NAMES[kind]} "
                f"weights. {_how_to_make(kind, folder, path)}"
            )
    wanted = " or ".join(str((f / _WEIGHTS[kind]).relative_to(path)) for f in places[kind])
    raise UserError(f"{path}: holds no adapter weights ({wanted}). Did its training end?")


def _how_to_make(kind: Literal["mlx", "peft"], source: Path, path: Path) -> str:
    """The command that makes an adapter's other format from `source`, and how it is then named.

    Both formats call their configuration the same, so the second needs a folder of its own.
    """
    made = path / "mlx" if kind == "mlx" else path
    then = ""
    if made == source:
        made = path.with_name(f"{path.resolve().name}-{kind}")
        then = f", and give {shown(made)} as the adapter"
    words = shlex.join(["livery", "convert", str(source), str(made), "--to", kind])
    return f"Make them with: {printable(words)}{then}."


def incomplete(weights: Path, missing: list[str], needed: int) -> UserError:
    """The error where a file lacks tensors that the configuration beside it calls for: both
    frameworks would leave them at their random or zero start."""
    some = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
    return UserError(
        f"{weights}: lacks {len(missing)} of the {needed} tensors that {CONFIG} calls for ({some})."
        " The file is incomplete, or the configuration is of another adapter."
    )


def end_tokens(chat: ChatTemplate, config: Mapping[str, Any], model: str | Path) -> tuple[int, ...]:
    """Ids that end an answer: the template's end of turn first, then whatever else the tokenizer,
    config.json and generation_config.json call an end.

    Args:
        model: a folder, or what `find_base` finds one by.
    """
    found: list[int] = [chat.end]
    generation = (find_base(model) or Path(model)) / "generation_config.json"
    more = read_object(generation) if generation.is_file() else {}
    for ids in (chat.tokenizer.eos_token_id, config.get("eos_token_id"), more.get("eos_token_id")):
        for token in ids if isinstance(ids, list) else [ids]:
            if isinstance(token, int) and token not in found:
                found.append(token)
    return tuple(found)


def own_tokenizer(adapter: str | None) -> Path | None:
    """The adapter's folder where it brings its own tokenizer and template, else None; of a file
    the folder it is in, or the one above (adapters/NAME/gguf/adapter.gguf)."""
    if adapter is None:
        return None
    path = Path(adapter).expanduser()
    for folder in [path.parent, path.parent.parent] if path.is_file() else [path]:
        if (folder / "tokenizer_config.json").is_file() and (
            (folder / "tokenizer.json").is_file() or (folder / "tokenizer.model").is_file()
        ):
            return folder
    return None
