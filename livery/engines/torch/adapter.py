"""A PEFT adapter on a transformers model that can be switched off and on again, exactly.

Off means PEFT's modules hand straight through to the base's own, so the untuned answers are those
of a model that never saw the adapter.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from livery import peft_rules
from livery.engines.folders import adapter_files, incomplete
from livery.errors import UserError, counted


class SwitchedAdapter:
    """An adapter that is on a model.

    Attributes:
        model: transformers' module, PEFT's modules in it.
        on: whether it acts.
    """

    def __init__(self, peft_model: Any) -> None:
        self._tuner = peft_model.base_model
        self.model: Any = peft_model.get_base_model()
        self.on = True

    def use(self, on: bool) -> None:
        """Let it act (True), or the base alone (False)."""
        if on:
            self._tuner.enable_adapter_layers()
        else:
            self._tuner.disable_adapter_layers()
        self.on = on


def attach_adapter(model: Any, adapter: str | Path) -> SwitchedAdapter:
    """Load `adapter` onto `model`; it is on afterwards.

    Raises:
        UserError: no adapter there, it does not fit the model, or tensors are missing.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    config, weights = adapter_files(adapter, "peft")
    folder = weights.parent
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            loaded: Any = PeftModel.from_pretrained(model, str(folder))
    except SafetensorError as error:
        raise UserError(f"{weights}: cannot be read ({error}).") from error
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{folder}: does not fit this base model. Was it trained on another one?\n"
            f"{str(error).strip()}"
        ) from error
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{config}: PEFT cannot read it ({type(error).__name__}: {error})."
        ) from error
    _refuse_missing(loaded, weights)
    # PEFT renames tensors for some families; what it then does not find, it only warns of.
    for text in (str(warning.message) for warning in said):
        if "missing adapter keys" in text:
            raise UserError(
                f"{folder}: PEFT does not find all of its tensors on this base: "
                f"{text.partition(':')[2].strip()[:300]}"
            )
    loaded.eval()
    return SwitchedAdapter(loaded)


def _refuse_missing(loaded: Any, weights: Path) -> None:
    """PEFT only warns of what the file lacks."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    model_type = str(loaded.get_base_model().config.model_type)
    # PEFT would ask a hub for a base of that name, whether its vocabulary grew; ours is loaded.
    for config in loaded.peft_config.values():
        config.base_model_name_or_path = None
    names = list(get_peft_model_state_dict(loaded))
    needed = {peft_rules.tensor_name(model_type, name) for name in names}
    with safe_open(weights, "np") as file:  # pyright: ignore[reportUnknownVariableType]
        held = set(file.keys())
    if missing := sorted(needed - held):
        raise incomplete(weights, missing, len(needed))
    if strange := sorted(held - needed):
        raise UserError(
            f"{weights}: holds {counted(len(strange), 'tensor')} with no module in this base "
            f"({strange[0]}). Was it trained on another one?"
        )
