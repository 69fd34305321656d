"""Where llama.cpp keeps a weight's rows or columns in another order than transformers.

Rows that move in a weight move in lora_B and in biases, columns in lora_A. Besides llama's q and k
(`architectures.permute`) these are the value heads of linear attention (qwen3.5, gated delta net):
transformers keeps those of one key head together, llama.cpp the first of every key head, then the
second of every …

And where one weight of transformers' is two in llama.cpp: qwen3-next's in_proj_qkvz, which keeps
the queries, keys, values and gates of one key head together, is attn_qkv (all queries, then all
keys, then all values) and attn_gate. Files from before that split have it whole, as ssm_in, in
transformers' order; an adapter for one does not load on the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from livery.errors import UserError, counted
from livery.gguf_base.architectures import LINEAR_ATTENTION, Architecture

_SPLIT = "in_proj_qkvz"
_WHOLE, _PARTS = "ssm_in.weight", ("attn_qkv.weight", "attn_gate.weight")


def split_names(tensor: str, architecture: Architecture) -> tuple[str, ...]:
    """`blk.0.ssm_in.weight` -> the tensors that it is in today's files; the name itself where it is
    one."""
    if architecture.name != "qwen3next" or not tensor.endswith(f".{_WHOLE}"):
        return (tensor,)
    return tuple(tensor.removesuffix(_WHOLE) + part for part in _PARTS)


def split_rows(
    module: str, architecture: Architecture, config: Mapping[str, Any] | None
) -> tuple[np.ndarray, ...]:
    """Which of transformers' rows each tensor of `split_names` has, in llama.cpp's order; none
    where the module is one tensor.

    Raises:
        UserError: it is split, and the base's config is not known.
    """
    if architecture.name != "qwen3next" or not module.endswith(f".{_SPLIT}"):
        return ()
    if config is None:
        raise UserError(
            f"{module}: llama.cpp keeps it as two tensors and in another order, which takes the "
            "base's head counts. Give --base the base model's folder."
        )
    keys, values = int(config["linear_num_key_heads"]), int(config["linear_num_value_heads"])
    key = int(config["linear_key_head_dim"])
    value = int(config["linear_value_head_dim"]) * (values // keys)
    rows = np.arange(keys * 2 * (key + value)).reshape(keys, -1)
    query, keyed, valued, gate = np.split(rows, np.cumsum([key, key, value]), axis=1)
    first = [part.reshape(-1) for part in (query, keyed, valued)]
    return np.concatenate(first), gate.reshape(-1)


def join(
    halves: Mapping[str, Mapping[str, np.ndarray]],
    architecture: Architecture,
    config: Mapping[str, Any] | None,
) -> dict[str, Mapping[str, np.ndarray]]:
    """The tensors of an adapter, with those that are one in transformers put together, under the
    name that they have as one.

    Args:
        halves: tensor -> {".lora_a": A, ".lora_b": B}.

    Raises:
        UserError: a part is missing or has an A of its own, or the base is needed and not known.
    """
    made = dict(halves)
    if architecture.name != "qwen3next":
        return made
    for name in halves:
        part = next((part for part in _PARTS if name.endswith(f".{part}")), None)
        if part is None or name not in made:
            continue
        head = name.removesuffix(part)
        first, second = (made.pop(head + other, None) for other in _PARTS)
        if first is None or second is None or not _same(first[".lora_a"], second[".lora_a"]):
            raise UserError(
                f"{name}: with {' and '.join(_PARTS)} of a layer alike in lora_a it is one module "
                "in transformers; alone, or with a lora_a of its own, it has no form there."
            )
        module = f"{head}{LINEAR_ATTENTION.strip('.')}.{_SPLIT}"
        rows = np.concatenate(split_rows(module, architecture, config))
        b = np.concatenate([first[".lora_b"], second[".lora_b"]])
        if len(b) != len(rows):
            raise UserError(
                f"{name}: {counted(len(b), 'row')}, the base has {len(rows)}. Is --base right?"
            )
        made[head + _WHOLE] = {".lora_a": first[".lora_a"], ".lora_b": b[np.argsort(rows)]}
    return made


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other))
