"""An adapter on a loaded MLX model that can be switched off and on again, exactly.

mlx-lm's own `load_adapters` puts the adapter on. Off means the base's very own modules, so the
untuned answers are those of a model that never saw the adapter (a scale of 0 would not be: DoRA
rescales each output whatever its delta).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx import nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.tuner.dora import DoRAEmbedding, DoRALinear
from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear, LoRASwitchLinear
from mlx_lm.tuner.utils import load_adapters

from livery.errors import UserError
from livery.reading import read_object

CONFIG = "adapter_config.json"
WEIGHTS = "adapters.safetensors"
_ADAPTED = (LoRALinear, LoRASwitchLinear, LoRAEmbedding, DoRALinear, DoRAEmbedding)
_TRAINED = ("lora_a", "lora_b", "m")


class SwitchedAdapter:
    """The modules that an adapter replaced, and what it replaced them with."""

    def __init__(self, model: nn.Module, base: dict[str, nn.Module], tuned: dict[str, nn.Module]):
        self._model, self._base, self._tuned = model, base, tuned
        self.on = True

    def use(self, on: bool) -> None:
        """Put the adapter's modules in place (True) or the base's own (False)."""
        if on != self.on:
            modules = self._tuned if on else self._base
            self._model.update_modules(tree_unflatten(list(modules.items())))
            self.on = on


def adapter_folder(adapter: str | Path) -> Path:
    """The folder that mlx-lm reads: `adapter` itself, or `mlx/` in it.

    Raises:
        UserError: there is no adapter, or none in MLX's format.
    """
    path = Path(adapter).expanduser()
    if not path.is_dir():
        raise UserError(f"{path}: no such adapter folder.")
    for folder in (path / "mlx", path):
        if (folder / WEIGHTS).is_file():
            if not (folder / CONFIG).is_file():
                raise UserError(f"{folder}: has {WEIGHTS} but no {CONFIG}; copy that too.")
            return folder
    if (path / "adapter_model.safetensors").is_file():
        raise UserError(
            f"{path}: is a PEFT adapter without MLX weights. Make them with: "
            f"livery convert {path} {path} --to mlx"
        )
    raise UserError(
        f"{path}: holds no adapter weights (mlx/{WEIGHTS} or {WEIGHTS}). Did its training end?"
    )


def put_on(model: nn.Module, adapter: str | Path) -> SwitchedAdapter:
    """Load `adapter` onto `model`; it is on afterwards.

    Raises:
        UserError: no adapter there, it does not fit the model, or tensors are missing.
    """
    folder = adapter_folder(adapter)
    config = read_object(folder / CONFIG)
    if config.get("fine_tune_type") == "full":
        raise UserError(
            f"{folder}: holds a fully tuned model, not an adapter. Merge it into a model folder "
            "and give that as --model."
        )
    before: dict[str, nn.Module] = dict(cast(Any, model.named_modules()))
    try:
        load_adapters(model, str(folder))
    except ValueError as error:
        raise UserError(
            f"{folder}: does not fit this base model. Was it trained on another one?\n{error}"
        ) from None
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / CONFIG}: mlx-lm cannot read it ({type(error).__name__}: {error}). It needs "
            "num_layers and lora_parameters {rank, scale, dropout}."
        ) from None
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS}: cannot be read ({error}).") from None
    tuned: dict[str, nn.Module] = {
        name: module
        for name, module in cast(Any, model.named_modules())
        if isinstance(module, _ADAPTED) and module is not before.get(name)
    }
    _refuse_missing(folder, tuned)
    model.eval()
    mx.eval(model.parameters())
    return SwitchedAdapter(model, {name: before[name] for name in tuned}, tuned)


def _refuse_missing(folder: Path, tuned: dict[str, nn.Module]) -> None:
    """mlx-lm leaves a tensor that the file lacks at its random or zero start, without a word."""
    if not tuned:
        raise UserError(
            f"{folder / CONFIG}: names no module of this base model (see num_layers and "
            "lora_parameters.keys), so the adapter would change nothing."
        )
    held = set(cast(dict[str, Any], mx.load(str(folder / WEIGHTS))))
    needed = {
        f"{name}.{key}"
        for name, module in tuned.items()
        for key, _ in cast(list[tuple[str, Any]], tree_flatten(module.parameters()))
        if key in _TRAINED
    }
    missing = sorted(needed - held)
    if missing:
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UserError(
            f"{folder / WEIGHTS}: lacks {len(missing)} of the {len(needed)} tensors that "
            f"{CONFIG} calls for ({shown}). The file is incomplete, or the configuration is of "
            "another adapter."
        )
