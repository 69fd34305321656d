"""A GGUF file's tensors under Hugging Face's names, in transformers' order: the reverse of
`convert.gguf.model`. One tensor of the file is held at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from livery.errors import UserError, counted
from livery.gguf_base import architectures, rope
from livery.gguf_base.architectures import Architecture
from livery.gguf_reader import GgufFile
from livery.safetensors_file import stored_dtype

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """Some tensors of the folder, made together.

    Attributes:
        tensors: name -> (shape, dtype).
        make: their arrays by name.
        size: bytes that they are read from, for progress.
    """

    tensors: Mapping[str, tuple[Shape, str]]
    make: Callable[[], Mapping[str, np.ndarray]]
    size: int


_NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
_QK = {"self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
_QKV = {f"self_attn.{n}_proj": f"attn_{n}" for n in "qkv"}
_ATTENTION = {**_QKV, "self_attn.o_proj": "attn_output"}
_GATED = {f"mlp.{n}_proj": f"ffn_{n}" for n in ("gate", "up", "down")}
_FUSED = {"mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
_LLAMA = {**_NORMS, **_ATTENTION, **_GATED}
_SANDWICH = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_QWEN35 = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "post_attention_norm",
    **_ATTENTION,
    **_QK,
    "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate",
    "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.out_proj": "ssm_out",
    "linear_attn.norm": "ssm_norm",
    "linear_attn.conv1d": "ssm_conv1d",
}
# model type -> what a layer holds: module -> tensor.
_LAYERS: dict[str, dict[str, str]] = {
    **dict.fromkeys(("llama", "qwen2", "smollm3", "granite", "ministral3", "gemma"), _LLAMA),
    "qwen3": {**_LLAMA, **_QK},
    "mixtral": {**_NORMS, **_ATTENTION, "block_sparse_moe.gate": "ffn_gate_inp"},
    "qwen3_moe": {**_NORMS, **_ATTENTION, **_QK, "mlp.gate": "ffn_gate_inp"},
    "gemma2": {**_SANDWICH, **_ATTENTION, **_GATED},
    "gemma3_text": {**_SANDWICH, **_ATTENTION, **_QK, **_GATED},
    "phi": {
        "input_layernorm": "attn_norm",
        **_QKV,
        "self_attn.dense": "attn_output",
        "mlp.fc1": "ffn_up",
        "mlp.fc2": "ffn_down",
    },
    "phi3": {**_NORMS, "self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output",
             **_FUSED},
    "olmo2": {**_ATTENTION, **_QK, **_GATED, "post_attention_layernorm": "post_attention_norm",
              "post_feedforward_layernorm": "post_ffw_norm"},
    "glm4": {
        **_NORMS,
        **_ATTENTION,
        **_FUSED,
        "post_self_attn_layernorm": "post_attention_norm",
        "post_mlp_layernorm": "post_ffw_norm",
    },
    "lfm2": {
        **_QKV,
        "self_attn.out_proj": "attn_output",
        "self_attn.q_layernorm": "attn_q_norm",
        "self_attn.k_layernorm": "attn_k_norm",
        "operator_norm": "attn_norm",
        "ffn_norm": "ffn_norm",
        "conv.in_proj": "shortconv.in_proj",
        "conv.conv": "shortconv.conv",
        "conv.out_proj": "shortconv.out_proj",
        "feed_forward.w1": "ffn_gate",
        "feed_forward.w2": "ffn_down",
        "feed_forward.w3": "ffn_up",
    },
    "qwen3_5_text": {**_QWEN35, **_GATED},
    "qwen3_5_moe_text": {
        **_QWEN35,
        "mlp.gate": "ffn_gate_inp",
        "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
        **{f"mlp.shared_expert.{n}_proj": f"ffn_{n}_shexp" for n in ("gate", "up", "down")},
    },
    "gemma4_text": {
        **_SANDWICH,
        **_ATTENTION,
        **_QK,
        **_GATED,
        "per_layer_input_gate": "inp_gate",
        "per_layer_projection": "proj",
        "post_per_layer_input_norm": "post_norm",
        "pre_feedforward_layernorm_2": "pre_ffw_norm_2",
        "post_feedforward_layernorm_1": "post_ffw_norm_1",
        "post_feedforward_layernorm_2": "post_ffw_norm_2",
        "router.proj": "ffn_gate_inp",
    },
}  # fmt: skip
_LAYERS["olmo3"] = _LAYERS["olmo2"]
# Experts: a stack in the file, one by one in the folder, as published models have them.
_EXPERTS = {
    "mixtral": ("block_sparse_moe.experts", {"gate": "w1", "up": "w3", "down": "w2"}),
    **dict.fromkeys(
        ("qwen3_moe", "qwen3_5_moe_text"),
        ("mlp.experts", {n: f"{n}_proj" for n in ("gate", "up", "down")}),
    ),
}
_OUTER = {
    "token_embd": "model.embed_tokens",
    "output": "lm_head",
    "output_norm": "model.norm",
}
_OUTER_OF: dict[str, dict[str, str]] = {
    "phi": {**_OUTER, "output_norm": "model.final_layernorm"},
    "lfm2": {
        **_OUTER,
        "token_embd_norm": "model.embedding_norm",
        "output_norm": "model.embedding_norm",
    },
    "gemma4_text": {
        **_OUTER,
        "per_layer_token_embd": "model.embed_tokens_per_layer",
        "per_layer_model_proj": "model.per_layer_model_projection",
        "per_layer_proj_norm": "model.per_layer_projection_norm",
    },
}
_FACTORS = (rope.FREQUENCIES, rope.LONG, rope.SHORT)  # which the configuration holds
_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
_STACK = re.compile(r"ffn_(gate|up|down)_exps\.weight")


def parts(file: GgufFile, config: Mapping[str, Any]) -> Iterator[Part]:
    """What the folder's weights are made of, in the file's order.

    Args:
        config: of `livery.gguf_base.config.make_config`.

    Raises:
        UserError: a tensor has no place in the model.
    """
    architecture = architectures.by_name(str(file.metadata["general.architecture"]))
    parameters = architectures.PARAMETERS.get(architecture.name, {})
    odd = {tensor: parameter for parameter, tensor in parameters.items()}
    kind = str(config["model_type"])
    modules = {tensor: module for module, tensor in _LAYERS[kind].items()}
    layers = int(config["num_hidden_layers"])
    for name in file.entries:
        if name in _FACTORS:
            continue
        found = _LAYER.fullmatch(name)
        if found and int(found[1]) < layers:
            layer, inner = f"model.layers.{int(found[1])}", found[2]
            stack = _STACK.fullmatch(inner)
            if stack and kind in _EXPERTS:
                yield _experts(file, name, layer, stack[1], kind)
                continue
            place = odd.get(inner)
            if place is None:
                tensor, _, ending = inner.rpartition(".")
                module = modules.get(tensor)
                place = f"{module}.{ending}" if module and ending in ("weight", "bias") else None
            place = f"{layer}.{place}" if place else None
        else:
            tensor, _, ending = name.rpartition(".")
            module = _OUTER_OF.get(kind, _OUTER).get(tensor)
            place = f"{module}.{ending}" if module and ending in ("weight", "bias") else None
        if place is None:
            raise UserError(
                f"{file.path}: {name} has no place in a {kind} model of {counted(layers, 'layer')}."
                " Use the model's Hugging Face folder."
            )
        yield _plain(file, name, place, architecture, config)


def _experts(file: GgufFile, name: str, layer: str, part: str, kind: str) -> Part:
    inner, leaves = _EXPERTS[kind]
    shape = file.entries[name].shape
    if len(shape) != 3:
        raise UserError(f"{file.path}: {name} has shape {shape}; a stack of experts has three.")
    names = [f"{layer}.{inner}.{n}.{leaves[part]}.weight" for n in range(shape[0])]
    dtype = _dtype(file, name)

    def make() -> Mapping[str, np.ndarray]:
        return dict(zip(names, file.read(name), strict=True))

    return Part(dict.fromkeys(names, (shape[1:], dtype)), make, _size(file, name))


def _plain(
    file: GgufFile, name: str, place: str, architecture: Architecture, config: Mapping[str, Any]
) -> Part:
    shape = file.entries[name].shape
    change = _change(file, name, place, architecture, config)
    final = shape
    if place.endswith((".conv1d.weight", ".conv.conv.weight")):  # one channel each
        final = (shape[0], 1, shape[1])
    elif place.endswith(".shared_expert_gate.weight"):
        final = (1, *shape)
    dtype = _dtype(file, name, change)

    def make() -> Mapping[str, np.ndarray]:
        return {place: change(file.read(name)).reshape(final)}

    return Part({place: (final, dtype)}, make, _size(file, name))


def _change(
    file: GgufFile, name: str, place: str, architecture: Architecture, config: Mapping[str, Any]
) -> Callable[[np.ndarray], np.ndarray]:
    """From llama.cpp's order and form of a tensor to transformers'."""
    module, _, ending = place.rpartition(".")
    leaf = module.rpartition(".")[2]
    if architecture.permuted and leaf in ("q_proj", "k_proj"):
        heads = config["num_attention_heads" if leaf == "q_proj" else "num_key_value_heads"]
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        rows = file.entries[name].shape[0]
        if rows != heads * head:
            raise UserError(f"{file.path}: {name} has {rows} rows, not a whole head for each.")
        return lambda array: architectures.unpermute(array, heads)
    if ending == "weight" and architectures.adds_one(module, architecture):
        return lambda array: array.astype(np.float32) - np.float32(1.0)
    part = module if ending in ("weight", "bias") else place
    rows, columns = architectures.orders(part, architecture, config)
    if ending == "A_log":

        def log(array: np.ndarray) -> np.ndarray:
            return np.log(-architectures.reorder(array, architectures.back(rows), None))

        return log
    if rows is None and columns is None:
        return lambda array: array
    undo = architectures.back(rows), architectures.back(columns)
    return lambda array: architectures.reorder(array, *undo)


def _dtype(
    file: GgufFile, name: str, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> str:
    """How a tensor is kept: as it is stored; vectors, which GGUF has in float32 always, in the type
    of the matrices where that loses nothing; what was quantized in float32, which alone holds a
    scale of 11 bits times a number of 4 to 8."""
    entry = file.entries[name]
    if entry.dtype in ("float16", "bfloat16"):
        return entry.dtype
    matrices = file.entries["token_embd.weight"].dtype
    if entry.dtype != "float32" or matrices not in ("float16", "bfloat16"):
        return "float32"
    array = file.read(name)
    return stored_dtype(change(array) if change else array, matrices)


def _size(file: GgufFile, name: str) -> int:
    return int(np.prod(file.entries[name].shape)) * 4
