"""Where llama.cpp keeps a weight's rows or columns in another order than transformers.

Rows that move in a weight move in lora_B and in biases, columns in lora_A. Besides llama's q and k
(`gguf_names.permute`) these are the value heads of linear attention (qwen3.5, gated delta net):
transformers keeps those of one key head together, llama.cpp the first of every key head, then the
second of every …
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convert.gguf.names import Architecture
from livery.errors import UserError

LINEAR_ATTENTION = ".linear_attn."


def orders(
    module: str, architecture: Architecture, config: Mapping[str, Any] | None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """(rows, columns) in llama.cpp's order, as indices into transformers'; None: as they are.

    Raises:
        UserError: the module has an order of its own, and the base's config is not known.
    """
    if not architecture.value_heads or LINEAR_ATTENTION not in module:
        return None, None
    if config is None:
        raise UserError(
            f"{module}: llama.cpp keeps its value heads in another order, which takes the base's "
            "head counts. Give --base the base model's folder."
        )
    part = module.rpartition(".")[2]
    keys, values = int(config["linear_num_key_heads"]), int(config["linear_num_value_heads"])
    size = int(config["linear_value_head_dim"])
    heads = np.arange(values).reshape(keys, values // keys).T.reshape(-1)
    whole = (heads[:, None] * size + np.arange(size)).reshape(-1)
    if part in ("in_proj_a", "in_proj_b", "A_log", "dt_bias"):
        return heads, None
    if part == "in_proj_z":
        return whole, None
    if part in ("in_proj_qkv", "conv1d"):  # queries and keys first, which stay
        first = 2 * keys * int(config["linear_key_head_dim"])
        return np.concatenate([np.arange(first), first + whole]), None
    return (None, whole) if part == "out_proj" else (None, None)


def reorder(array: np.ndarray, rows: np.ndarray | None, columns: np.ndarray | None) -> np.ndarray:
    """The array (rows, …, columns) in the order of `orders`."""
    array = array if rows is None else array[rows]
    return array if columns is None else array[..., columns]


def back(order: np.ndarray | None) -> np.ndarray | None:
    """The order that undoes `order`."""
    return None if order is None else np.argsort(order)
