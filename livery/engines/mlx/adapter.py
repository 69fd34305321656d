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

from livery.engines.folders import adapter_files, incomplete
from livery.errors import UserError
from livery.reading import read_object
from livery.safetensors_file import open_tensors

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


def attach_adapter(model: nn.Module, adapter: str | Path) -> SwitchedAdapter:
    """Load `adapter` onto `model`; it is on afterwards.

    Raises:
        UserError: no adapter there, it does not fit the model, or tensors are missing.
    """
    config, weights = adapter_files(adapter, "mlx")
    folder = weights.parent
    if read_object(config).get("fine_tune_type") == "full":
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
            f"{config}: mlx-lm cannot read it ({type(error).__name__}: {error}). It needs "
            "num_layers and lora_parameters {rank, scale, dropout}."
        ) from None
    except RuntimeError as error:
        raise UserError(f"{weights}: cannot be read ({error}).") from None
    tuned: dict[str, nn.Module] = {
        name: module
        for name, module in cast(Any, model.named_modules())
        if isinstance(module, _ADAPTED) and module is not before.get(name)
    }
    _refuse_missing(config, weights, tuned)
    model.eval()
    mx.eval(model.parameters())
    return SwitchedAdapter(model, {name: before[name] for name in tuned}, tuned)


def _refuse_missing(config: Path, weights: Path, tuned: dict[str, nn.Module]) -> None:
    """mlx-lm does not say what the file lacks."""
    if not tuned:
        raise UserError(
            f"{config}: names no module of this base model (see num_layers and "
            "lora_parameters.keys), so the adapter would change nothing."
        )
    held = set(open_tensors(weights).entries)
    needed = {
        f"{name}.{key}"
        for name, module in tuned.items()
        for key, _ in cast(list[tuple[str, Any]], tree_flatten(module.parameters()))
        if key in _TRAINED
    }
    if missing := sorted(needed - held):
        raise incomplete(weights, missing, len(needed))
