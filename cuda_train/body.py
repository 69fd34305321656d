"""A model's body over a micro-batch: hidden states at places that predict supervised tokens.

Every route gives the same numbers. `branches` runs prefix and suffixes as one row, whose attention
goes branch by branch (see `cuda_train.branches`); `tree` does so under a mask, for models whose
attention cannot be exchanged, and `flex` by a kernel of the GPU (see `cuda_train.flex`); `cache`
runs the prefix once and the suffixes as a batch on its keys and values; `plain` runs every row
whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from cuda_train import branches, tree
from cuda_train.head import hidden_of
from cuda_train.route import Route, Shape, cheaper
from livery.engines.torch.attention import Attention, read_attention
from livery.engines.torch.text_model import body_of
from livery.training.plan import MicroBatch


@dataclass(frozen=True)
class Body:
    """A transformers model without its head, and what its masks must be.

    Attributes:
        module: maps tokens (B, T) to hidden states (B, T, d).
        attention: see there.
        weight: parameters of a block, for the choice of route.
        width: hidden size.
        blocks: transformer layers.
        branches: its attention can go branch by branch (`cuda_train.branches`).
    """

    module: Any
    attention: Attention
    weight: int
    width: int
    blocks: int
    branches: bool


def find_body(model: Any, module: Any = None) -> Body:
    """The body of a causal model of transformers.

    Args:
        module: the one that `cuda_train.head` found; the family's usual one where it is left out.
    """
    module = body_of(model) if module is None else module
    config = model.config.get_text_config()
    weights = sum(p.numel() for p in module.parameters() if p.ndim > 1)
    embedding = model.get_input_embeddings().weight.numel()
    blocks = max(1, int(getattr(config, "num_hidden_layers", 1)))
    attention = read_attention(model, module)
    return Body(
        module=module,
        attention=attention,
        weight=max(1, weights - embedding) // blocks,
        width=int(config.hidden_size),
        blocks=blocks,
        branches=model.device.type == "cpu"
        and not attention.refuses
        and not branches.install(model),
    )


def choose_route(body: Body, shape: Shape, *, recomputes: bool) -> Route:
    """The cheapest way for a micro-batch of this shape.

    Args:
        recomputes: see `cheaper`.
    """
    return cheaper(
        shape,
        branches=body.branches,
        weight=body.weight,
        hidden=body.width,
        recomputes=recomputes,
    )


def has_few_shapes(device: torch.device) -> bool:
    """Whether arrays had better come in few shapes: on a CPU oneDNN makes and keeps a program for
    each, some 10 MB for the layers of 30 blocks, amid the arrays of the step that asked for it, so
    that the heap was never whole again: a run of trees of all lengths grew from 2.1 to 4.6 GB. On
    CUDA cuDNN plans its attention for each: 120 ms, where the step's kernels took 33."""
    return device.type in ("cpu", "cuda")


def hidden_states(
    body: Body, batch: MicroBatch, route: Route, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """(hidden states (n, d), the tokens they are to predict (n,)), row by row."""
    if route == "cache":
        return _by_cache(body, batch, device)
    if route == "plain":
        return _plainly(body, batch, device)
    batch = tree.in_few_lengths(batch) if has_few_shapes(device) else batch
    laid = tree.lay_out(batch, device)

    def mask(window: int | None) -> Any:
        if route == "branches":
            return branches.branch_mask(batch, window, device)
        return (tree.block_mask if route == "flex" else tree.tree_mask)(laid, window)

    masks = body.attention.masks(mask)
    hidden = run(body, laid.tokens, attention_mask=masks, position_ids=laid.positions)
    return hidden[0, laid.at], laid.targets


def _by_cache(
    body: Body, batch: MicroBatch, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    from transformers import DynamicCache

    start, (rows, width) = len(batch.prefix), batch.tokens.shape
    # Made without the config, every layer keeps all of its keys: windows are the masks' business.
    cache: Any = DynamicCache()
    run(
        body, _tensor(batch.prefix, device)[None],
        attention_mask=body.attention.masks(lambda w: tree.suffix_mask(0, start, w, device)),
        position_ids=torch.arange(start, device=device)[None],
        past_key_values=cache, use_cache=True,
    )  # fmt: skip
    for layer in cache.layers:
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    hidden = run(
        body, _tensor(batch.tokens, device),
        attention_mask=body.attention.masks(lambda w: tree.suffix_mask(start, width, w, device)),
        position_ids=torch.arange(start, start + width, device=device)[None].expand(rows, -1),
        past_key_values=cache, use_cache=True,
    )  # fmt: skip
    return _supervised(hidden, batch.targets, device)


def _plainly(
    body: Body, batch: MicroBatch, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = len(batch.tokens)
    prefix = _tensor(batch.prefix, device)[None].expand(rows, -1)
    whole = torch.cat([prefix, _tensor(batch.tokens, device)], dim=1)
    hidden = run(body, whole)[:, len(batch.prefix) :]
    return _supervised(hidden, batch.targets, device)


def run(body: Body, tokens: torch.Tensor, **options: Any) -> torch.Tensor:
    """Hidden states (B, T, d) of tokens (B, T)."""
    return hidden_of(body.module, tokens, **options)


def _supervised(
    hidden: torch.Tensor, targets: Any, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    wanted = _tensor(targets, device)
    chosen = wanted >= 0
    return hidden[chosen], wanted[chosen]


def _tensor(values: Any, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(values).to(device=device, dtype=torch.long)
