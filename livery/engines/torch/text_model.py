"""The language model of a multimodal one, for text alone, under the names that adapters use.

transformers loads Gemma3ForConditionalGeneration and its like whole, vision tower and all. Training
and answering text needs `model.language_model` and the head: they are put into the family's own
causal model, and their paths stay those of the whole (`model.language_model.layers.0...`), which is
what PEFT, mlx-lm's names and the portable state count by.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from livery.adapter_names import mlx_to_hf
from livery.errors import UserError


class Inner(nn.Module):
    """Stands where the multimodal body stood and hands everything to its language model."""

    def __init__(self, language_model: nn.Module) -> None:
        super().__init__()
        self.language_model = language_model

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self.language_model(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("language_model"), name)


def body_name(model: Any) -> str:
    """Under which name a causal model of transformers keeps what maps tokens to hidden states.

    It is the family's `base_model_prefix`, but for those whose prefix is that of a larger whole
    (Llama4ForCausalLM).

    Raises:
        UserError: there is none.
    """
    from transformers import PreTrainedModel

    if model.base_model_prefix in model._modules:
        return str(model.base_model_prefix)
    for name, child in model.named_children():
        if isinstance(child, PreTrainedModel):
            return str(name)
    raise UserError(
        f"{type(model).__name__} has no model of its own under its head, so torch cannot train it. "
        "Where mlx-lm knows the family, train with --backend mlx."
    )


def body_of(model: Any) -> Any:
    """What maps tokens to hidden states in a causal model of transformers."""
    return inside(getattr(model, body_name(model)))


def inside(module: Any) -> Any:
    """The language model in an `Inner`, any other module itself."""
    return module.language_model if isinstance(module, Inner) else module


def text_alone(model: Any, name: str) -> Any:
    """The causal language model of `model`; `model` itself where it is one.

    Args:
        model: as transformers loaded it.
        name: of its folder or hub id, for messages.

    Raises:
        UserError: it is multimodal, and its language model is not available by itself.
    """
    text = getattr(model.config, "text_config", None)
    if text is None or model.config.get_text_config() is model.config:
        return model
    whole = model._modules.get(model.base_model_prefix)
    inner: Any = getattr(whole, "language_model", None)
    if inner is None:  # transformers has taken the language model already, or there is none
        if any("vision" in part or "audio" in part for part, _ in model.named_modules()):
            raise UserError(_refusal(model, name))
        return model
    family, head = causal_class(text), model.get_output_embeddings()
    if family is None or head is None:
        raise UserError(_refusal(model, name))
    with torch.device("meta"):
        alone = family(text)
    prefix = body_name(alone)
    own = getattr(alone, prefix)
    if type(inner) is not type(own) or set(alone._modules) != {prefix, "lm_head"}:
        raise UserError(_refusal(model, name))
    alone._modules.update({prefix: Inner(inner), "lm_head": head})
    alone.eval()
    text._attn_implementation = inner.config._attn_implementation
    alone.generation_config = model.generation_config
    return alone


def under_names_of(model: Any, names: Iterable[str]) -> Any:
    """`model` with its modules at the paths that a folder's tensors have.

    Of some multimodal families (Qwen3.5) transformers loads the language model alone, as
    `model.layers.0...`; an adapter is one of the whole, whose tensors are called
    `model.language_model.layers.0...`.
    """
    whole = any(mlx_to_hf(name).startswith("model.language_model.") for name in names)
    own = getattr(model, model.base_model_prefix, None)
    if whole and own is not None and not hasattr(own, "language_model"):
        model._modules[model.base_model_prefix] = Inner(own)
    return model


def causal_class(text: Any) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM._model_mapping[type(text)]
    except KeyError:
        return None


def _refusal(model: Any, name: str) -> str:
    return (
        f"{name}: {type(model).__name__} is multimodal, and transformers has no way to its "
        "language model alone. Train its text-only release, or, where mlx-lm knows the family, "
        "train with --backend mlx."
    )
