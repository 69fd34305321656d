"""A PEFT adapter on a transformers model that can be switched off and on again, exactly.

Off means the base's very own modules, so the untuned answers are those of a model that never saw
the adapter, and another adapter can be put on. Trained biases (PEFT's `bias`) are written into the
base's own layers: their values are put back.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from livery import peft_rules
from livery.engines.folders import adapter_files, incomplete
from livery.errors import UserError, counted
from livery.reading import read_object
from livery.safetensors_file import open_tensors

# A bias of the base: itself, its own values, and those that the adapter trained.
Bias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class SwitchedAdapter:
    """The modules that an adapter replaced, and what it replaced them with.

    Attributes:
        model: transformers' module, the adapter's or the base's own modules in it.
        on: whether the adapter acts.
    """

    def __init__(
        self, model: Any, base: dict[str, Any], tuned: dict[str, Any], biases: list[Bias]
    ) -> None:
        self.model, self._base, self._tuned, self._biases = model, base, tuned, biases
        self.on = True

    def use(self, on: bool) -> None:
        """Put the adapter's modules in place (True) or the base's own (False)."""
        if on != self.on:
            for name, module in (self._tuned if on else self._base).items():
                parent, _, last = name.rpartition(".")
                setattr(self.model.get_submodule(parent), last, module)
            with torch.no_grad():
                for bias, base, tuned in self._biases:
                    bias.copy_(tuned if on else base)
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
    before = dict(model.named_modules(remove_duplicate=False))
    trains_biases = read_object(config).get("bias", "none") != "none"
    biases = [
        (bias, bias.detach().clone())
        for name, bias in model.named_parameters()
        if trains_biases and name.endswith("bias")
    ]
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
    network: Any = loaded.get_base_model()
    after = dict(network.named_modules(remove_duplicate=False))
    tuned = {n: m for n, m in after.items() if n in before and m is not before[n]}
    # PEFT leaves its configuration on the model, and would take the next adapter for a second one.
    if hasattr(network, "peft_config"):
        del network.peft_config
    return SwitchedAdapter(
        network, {name: before[name] for name in tuned}, tuned,
        [(bias, base, bias.detach().clone()) for bias, base in biases],
    )  # fmt: skip


def _refuse_missing(loaded: Any, weights: Path) -> None:
    """PEFT only warns of what the file lacks."""
    from peft import get_peft_model_state_dict

    model_type = str(loaded.get_base_model().config.model_type)
    # PEFT would ask a hub for a base of that name, whether its vocabulary grew; ours is loaded.
    for config in loaded.peft_config.values():
        config.base_model_name_or_path = None
    names = list(get_peft_model_state_dict(loaded))
    needed = {peft_rules.tensor_name(model_type, name) for name in names}
    held = set(open_tensors(weights).entries)
    if missing := sorted(needed - held):
        raise incomplete(weights, missing, len(needed))
    if strange := sorted(held - needed):
        raise UserError(
            f"{weights}: holds {counted(len(strange), 'tensor')} with no module in this base "
            f"({strange[0]}). Was it trained on another one?"
        )
