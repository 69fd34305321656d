"""A Hugging Face model folder as a GGUF model: what llama.cpp and Ollama run.

Tensors are renamed, experts stacked, llama's q and k reordered, Gemma's norms given their +1; the
numbers that the architecture needs go into the metadata. One tensor is held at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.base import Base, Slot, load_base, open_shards, slot
from convert.gguf import card as gguf_card
from convert.gguf import fields as gguf_fields
from convert.gguf import k_quants
from convert.gguf import names as gguf_names
from convert.gguf import numbers as gguf_numbers
from convert.gguf import rope as gguf_rope
from convert.gguf import tokenizer as gguf_tokenizer
from convert.gguf.file import Lazy, Value, write_gguf
from convert.naming import leaf
from livery.errors import UserError, shown
from livery.gguf_base import architectures
from livery.gguf_base.architectures import Architecture
from livery.gguf_reader import TYPES
from livery.progress import OnProgress
from livery.safetensors_file import TensorFile, open_tensors
from livery.weights import weight_files

# What can be asked for -> (type of the matrices, llama.cpp's number for the mix).
OUTPUTS = {
    "f32": ("float32", 0),
    "f16": ("float16", 1),
    "bf16": ("bfloat16", 32),
    "q8_0": ("q8_0", 7),
    "q4_0": ("q4_0", 2),
}


# Stored in another shape: one channel each.
_CONVOLUTIONS = {
    "linear_attn.conv1d.weight": "ssm_conv1d.weight",
    "conv.conv.weight": "shortconv.conv.weight",
}


def write_model(
    model: str | Path,
    path: Path,
    kind: str = "f16",
    *,
    quantize: Callable[[np.ndarray, str], np.ndarray] | None = None,
    progress: OnProgress | None = None,
    context: int | None = None,
    ignored: Collection[str] = (),
) -> dict[str, Any]:
    """Convert a model folder (merged or not) to one GGUF file; returns what was written.

    Args:
        model: the folder, or the hub id of a downloaded model.
        path: the file to write.
        kind: a key of `OUTPUTS` or of `k_quants.MIXES`.
        quantize: makes the blocks of a mix of K-quants, which need it (see `convert.gguf.ggml`).
        progress: called with (bytes written, bytes in all).
        context: write the file for at most so many tokens.
        ignored: fields of config.json that are not known here and change nothing.

    Raises:
        UserError: the architecture, its rope scaling or its tokenizer are not known here, weights
            are missing or quantized, or a tensor has no place in the architecture.
    """
    base = gguf_fields.complete(load_base(model))
    architecture = gguf_names.for_model_type(base.model_type)
    if gguf_names.multimodal(base.model_type):
        raise UserError(
            f"{base.folder}: a multimodal model: its vision part has no place in a single GGUF "
            "file. Convert it with llama.cpp's own script (livery gguf does, where LLAMA_CPP_DIR "
            "names a checkout)."
        )
    if not gguf_fields.writes(base):
        raise UserError(
            f"{base.folder}: of model type {base.model_type!r} Livery converts only adapters. "
            "Convert the model with llama.cpp's own script (livery gguf does, where LLAMA_CPP_DIR "
            "names a checkout)."
        )
    gguf_fields.check(base, ignored)
    mix = k_quants.MIXES.get(kind)
    assert mix is None or quantize, "K-quants need a quantizer"
    with gguf_numbers.explained(base):
        numbers = gguf_numbers.hyperparameters(base, architecture, context)
        head = int(str(numbers[f"{architecture.name}.attention.key_length"]))
        factors = gguf_rope.tensors(base, head)
    metadata: dict[str, Value] = {
        "general.architecture": architecture.name,
        "general.type": "model",
        "general.name": "",  # set below, the tokenizer has a say in it
        "general.file_type": mix[1] if mix else OUTPUTS[kind][1],
        "general.quantization_version": 2,
        **numbers,
    }
    vocabulary = int(base.config["vocab_size"])
    metadata.update(gguf_tokenizer.metadata(base, vocabulary))
    metadata["general.name"] = _name(base, metadata["tokenizer.ggml.tokens"])
    tensors = dict(_tensors(base, architecture))
    for name, frequencies in factors.items():
        tensors[name] = Lazy(frequencies.shape, lambda value=frequencies: value)
    metadata.update(gguf_card.general(base.folder, [t.shape for t in tensors.values()]))
    fallbacks: dict[str, str] = {}
    if mix:
        experts = metadata.get(f"{architecture.name}.expert_count", 0)
        grouped = base.heads != base.kv_heads
        facts = k_quants.Facts(architecture.name, base.layers, int(str(experts)), grouped)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        chosen = k_quants.choose(shapes, kind, facts)
        dtypes = {name: choice.dtype for name, choice in chosen.items()}
        fallbacks = {name: c.dtype for name, c in chosen.items() if c.dtype != c.wanted}
    else:
        dtypes = {name: _dtype(name, tensor, kind) for name, tensor in tensors.items()}
        if kind in ("q8_0", "q4_0"):
            fallbacks = {name: dtype for name, dtype in dtypes.items() if dtype == "float16"}
    write_gguf(path, metadata, tensors, dtypes, quantize=quantize, progress=progress, finite=True)
    counts: dict[str, int] = {}
    for dtype in dtypes.values():
        counts[dtype] = counts.get(dtype, 0) + 1
    return {
        "path": str(path),
        "architecture": architecture.name,
        "type": kind,
        "tensors": len(tensors),
        "stored": counts,
        "fallbacks": fallbacks,
        "notes": [*gguf_rope.notes(base), *gguf_tokenizer.notes(metadata)],
        "bytes": path.stat().st_size,
    }


def exact_kind(base: Base) -> str:
    """The smallest of "f16", "bf16" and "f32" that holds every weight of the folder exactly."""
    files = [open_tensors(file) for file in weight_files(base.folder)]
    tags = {entry.tag for file in files for entry in file.entries.values()}
    return {"F16": "f16", "BF16": "bf16"}.get(next(iter(tags)), "f32") if len(tags) == 1 else "f32"


def _name(base: Base, tokens: Any) -> str:
    """The folder's name, but for a switch that llama.cpp hangs on it: "phi-3" in a model's name
    makes it strip blanks after four special tokens, and abort where one of them is missing."""
    name = gguf_card.told_name(base.folder) or base.folder.resolve().name
    has_switch = any(text in name.lower() for text in ("phi-3", "phi3"))
    wants_switch = {"</s>", "<unk>", "<s>", "<|endoftext|>"} <= set(tokens)
    if base.model_type == "phi3" and wants_switch and not has_switch:
        return f"phi-3 {name}"
    if has_switch and not wants_switch:
        return re.sub(r"(?i)phi-?3", "phi", name)
    return name


def _dtype(name: str, tensor: Lazy, kind: str) -> str:
    """Vectors, routers and convolutions stay f32; what cannot be cut into blocks of 32 falls back
    to f16."""
    wanted = OUTPUTS[kind][0]
    if len(tensor.shape) < 2 or k_quants.stays(name):
        return "float32"
    if kind == "q4_0" and name in ("token_embd.weight", "output.weight"):
        wanted = "q8_0"  # at 4 bits these two cost most of the quality
    return wanted if tensor.shape[-1] % TYPES[wanted][1] == 0 else "float16"


def _tensors(base: Base, architecture: Architecture) -> dict[str, Lazy]:
    """GGUF name -> tensor, for every tensor of the folder."""
    files = open_shards(base)
    found: dict[str, tuple[TensorFile, str]] = {}
    for file in files:
        found.update({name: (file, name) for name in file.entries})
    made: dict[str, Lazy] = {}
    stacks: dict[str, dict[int, tuple[TensorFile, str]]] = {}
    for name, place in found.items():
        if name.endswith((".rotary_emb.inv_freq", ".attention.bias")):
            continue  # buffers that older files carry
        where = slot(name)
        special = _special(base, architecture, where, place)
        if special:
            made.update(special)
            continue
        if where.kind not in ("weight", "bias"):
            raise UserError(
                f"{place[0].path}: {name}: quantized? Only float weights are read. Convert the "
                "full-precision model; livery merge --dequantize makes one of an MLX or a "
                "bitsandbytes 4-bit base."
            )
        if where.expert is not None:
            stacks.setdefault(where.module, {})[where.expert] = place
        elif where.module != "lm_head" or not base.tied:
            target = _place(where.module, architecture)
            made[f"{target}.{where.kind}"] = _whole(base, architecture, where.module, place)
    for path, members in stacks.items():
        made[f"{_place(path, architecture)}.weight"] = _stack(path, members)
    return made


def _special(
    base: Base, architecture: Architecture, where: Slot, place: tuple[TensorFile, str]
) -> dict[str, Lazy]:
    """What is stored in another shape, or as another function of itself."""
    file, name = place
    shape = file.entries[name].shape
    layer = re.match(r"^model\.layers\.(\d+)\.(.+)$", f"{where.module}.{where.kind}")
    if layer is None:
        return {}
    inner = layer[2]
    target = {**architectures.PARAMETERS.get(architecture.name, {}), **_CONVOLUTIONS}.get(inner)
    if target and architecture.name == "gemma4":
        return {f"blk.{layer[1]}.{target}": Lazy(shape, lambda: file.read(name))}
    if inner == "mlp.experts.gate_up_proj":  # both halves of all experts in one
        half = shape[1] // 2
        return {
            f"blk.{layer[1]}.ffn_gate_exps.weight": Lazy(
                (shape[0], half, shape[2]), lambda: file.read(name)[:, :half]
            ),
            f"blk.{layer[1]}.ffn_up_exps.weight": Lazy(
                (shape[0], half, shape[2]), lambda: file.read(name)[:, half:]
            ),
        }
    if inner == "mlp.experts.down_proj":
        return {f"blk.{layer[1]}.ffn_down_exps.weight": Lazy(shape, lambda: file.read(name))}
    if inner == "mlp.shared_expert_gate.weight":
        return {
            f"blk.{layer[1]}.ffn_gate_inp_shexp.weight": Lazy(shape[1:], lambda: file.read(name)[0])
        }
    if target is None or architecture.name not in ("qwen35", "qwen35moe", "lfm2"):
        return {}
    part = where.module if where.kind == "weight" else f"{where.module}.{where.kind}"
    rows, _ = architectures.orders(part, architecture, base.config)

    def make() -> np.ndarray:
        array = file.read(name)
        array = array[:, 0] if array.ndim == 3 else array  # a convolution of one channel each
        if where.kind == "A_log":
            array = -np.exp(array.astype(np.float32))
        return architectures.reorder(array, rows, None)

    return {f"blk.{layer[1]}.{target}": Lazy((shape[0], *shape[2:]), make)}


def _place(module: str, architecture: Architecture) -> str:
    name = gguf_names.model_tensor(module, architecture)
    if name is None:
        raise UserError(
            f"{module}: architecture {architecture.name} of llama.cpp has no tensor for it."
        )
    return name


# Modules that read the hidden state, and those that add to it.
_READS = ("embed_tokens", "lm_head", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
_ADDS = ("o_proj", "down_proj")


def _check_shape(base: Base, module: str, place: tuple[TensorFile, str]) -> None:
    """Raises UserError where a matrix does not fit the hidden size: llama.cpp would not load it."""
    file, name = place
    shape, hidden = file.entries[name].shape, base.config.get("hidden_size")
    part = leaf(module)
    if not name.endswith(".weight") or part not in (*_READS, *_ADDS) or hidden is None:
        return
    if len(shape) != 2 or 0 in shape or shape[part in _READS] != hidden:
        raise UserError(
            f"{file.path}: {shown(name)} has the shape {list(shape)}, which does not fit a hidden "
            f"size of {hidden} (config.json). Download the complete model again."
        )


def _whole(
    base: Base, architecture: Architecture, module: str, place: tuple[TensorFile, str]
) -> Lazy:
    file, name = place
    shape = file.entries[name].shape
    _check_shape(base, module, place)
    vocabulary = int(base.config["vocab_size"])
    padded = leaf(module) in ("embed_tokens", "lm_head") and shape[0] > vocabulary
    shape = (vocabulary, *shape[1:]) if padded else shape
    rows, columns = architectures.orders(module, architecture, base.config)

    def make() -> np.ndarray:
        array = file.read(name)[: shape[0]]
        if architecture.permuted and leaf(module) in ("q_proj", "k_proj"):
            count = base.heads if leaf(module) == "q_proj" else base.kv_heads
            array = architectures.permute(array, count)
        array = architectures.reorder(array, rows, columns)
        if architectures.adds_one(module, architecture):
            array = array.astype(np.float32) + np.float32(1.0)
        return array

    return Lazy(shape, make)


def _stack(path: str, members: Mapping[int, tuple[TensorFile, str]]) -> Lazy:
    if sorted(members) != list(range(len(members))):
        raise UserError(f"{path}: experts {sorted(members)} are not all there.")
    rows = [members[number] for number in range(len(members))]
    file, name = rows[0]
    return Lazy(
        (len(rows), *file.entries[name].shape),
        lambda: np.stack([file.read(name) for file, name in rows]),
    )
