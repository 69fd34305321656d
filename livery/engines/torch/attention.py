"""How a transformers model wants its attention masks: one or a dict, booleans or numbers, windows.

Given by hand they allow rows that share a prefix: in training (`cuda_train.body`) and in decoding
(`livery.engines.torch.decode`). Three mistakes here are silent, so this is the one place for them:
booleans given to eager attention are added to its scores; a window counts positions, not places;
and layers of different kinds need different masks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from livery.engines.torch.text_model import body_of

_KINDS = {"full_attention", "sliding_attention"}
# What transformers calls the attention of `cuda_train.branches`, which takes sdpa's masks, too.
TREE_ATTENTION = "livery"


@dataclass(frozen=True)
class Attention:
    """What the masks of a model must be.

    Attributes:
        windows: kind of layer -> its sliding window; None where it sees everything before.
        takes_dict: masks go in as {kind: mask}; else as one mask.
        dtype: of the scores; masks are numbers of it.
        refuses: why no mask of ours describes this model; "" where one does.
        recurrent: it keeps more of the past than keys and values.
    """

    windows: dict[str, int | None]
    takes_dict: bool
    dtype: torch.dtype
    refuses: str
    recurrent: bool

    def masks(self, allowed: Callable[[int | None], Any]) -> Any:
        """What the model takes as attention_mask.

        Args:
            allowed: window -> bool mask, broadcastable to (B, heads, T, K). What is not such a mask
                (a block mask, or one that carries `branches`) goes in as it is.
        """
        made: dict[int | None, Any] = {}
        for window in self.windows.values():
            if window not in made:
                mask = allowed(window)
                ours = torch.is_tensor(mask) and not hasattr(mask, "branches")
                made[window] = additive(mask, self.dtype) if ours else mask
        given = {kind: made[window] for kind, window in self.windows.items()}
        return given if self.takes_dict else next(iter(given.values()))


def additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The mask as attention adds it to its scores: 0 where True, the lowest number else.

    Eager attention adds booleans without a word; every layer of sdpa makes them into numbers of its
    own and keeps those for its backward pass.
    """
    lowest = torch.finfo(dtype).min
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, lowest)


def read_attention(model: Any, body: Any = None) -> Attention:
    """Read off a causal model of transformers how its attention is masked.

    Args:
        body: what is given the masks; the model's own body where it is left out.
    """
    module = body_of(model) if body is None else body
    config = model.config.get_text_config()
    forward = inspect.unwrap(type(module).forward)
    takes_dict = "causal_mask_mapping" in forward.__code__.co_varnames
    kinds = list(dict.fromkeys(getattr(config, "layer_types", None) or []))
    window = getattr(config, "sliding_window", None)
    if kinds:
        windows = {k: window if k == "sliding_attention" else None for k in kinds}
    else:
        windows = {"full_attention": window}
    recurrent = bool(getattr(model, "_is_stateful", False)) or any(
        word in kind for kind in kinds for word in ("linear", "mamba", "recurrent", "conv")
    )
    name, other = config.model_type, sorted(set(kinds) - _KINDS)
    refuses = ""
    if recurrent:
        refuses = f"{name} has recurrent layers, whose state would leak from one row to the next"
    elif other:
        refuses = f"{name} has layers of a kind that no mask describes ({', '.join(other)})"
    elif len(kinds) > 1 and not takes_dict:
        refuses = f"{name} masks its layers differently and takes only one mask"
    elif "position_ids" not in inspect.signature(forward).parameters:
        refuses = f"{name} takes no positions"
    elif model.config._attn_implementation not in ("sdpa", "eager", TREE_ATTENTION):
        refuses = f"{model.config._attn_implementation} attention takes no mask of ours"
    return Attention(windows, takes_dict, model.dtype, refuses, recurrent)
