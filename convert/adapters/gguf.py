"""llama.cpp adapters: one .gguf file.

Metadata: general.type "adapter", adapter.type "lora", general.architecture, adapter.lora.alpha.
Tensors are named after the model's: blk.0.attn_q.weight.lora_a (r, in) and .lora_b (out, r), in
numpy's order of axes. Source: llama.cpp's convert_lora_to_gguf.py and src/llama-adapter.cpp.

llama.cpp multiplies B @ A by alpha / rank, with one alpha for the file, and by 1 if alpha is 0 or
absent. Scales that differ are multiplied into lora_b; the record undoes that on the way back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.adapters import gate_up, record, scales
from convert.base import Base
from convert.gguf import fields as gguf_fields
from convert.gguf import layout as gguf_layout
from convert.gguf import names as gguf_names
from convert.gguf.file import Value, write_gguf
from convert.naming import common_order, leaf
from convert.unwritable import Unwritable
from livery.adapter import Adapter, Kind, Pair, finite
from livery.errors import UserError, counted
from livery.gguf_base import architectures
from livery.gguf_base.architectures import Architecture
from livery.gguf_reader import GgufFile, open_gguf
from livery.safetensors_file import stored_dtype

_HALVES = (".lora_a", ".lora_b")
_RECORD = f"{record.KEY}.record"
_TASK = {"task_name": "adapter.lora.task_name", "prompt_prefix": "adapter.lora.prompt_prefix"}
_ALORA = "adapter.alora.invocation_tokens"
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_FLOATS = frozenset({"float32", "float16", "bfloat16"})
_ROPE = frozenset({"q_proj", "k_proj"})


def read(path: Path, base: Base | None = None, *, allow_nonfinite: bool = False) -> Adapter:
    """Read a GGUF adapter.

    Args:
        base: needed for llama's q and k where the file was not written by us: their head counts.

    Raises:
        UserError: damaged, no LoRA adapter, of an unknown architecture, a half of a pair is
            missing, a tensor is unknown, or the head counts are needed and not known.
    """
    base = gguf_fields.complete(base) if base else None
    file = open_gguf(path)
    if file.metadata.get("general.type") != "adapter":
        raise UserError(f"{path}: general.type is not adapter: this is a model, not an adapter.")
    if file.metadata.get("adapter.type") != "lora":
        raise UserError(f"{path}: adapter.type is {file.metadata.get('adapter.type')!r}, not lora.")
    architecture = architectures.by_name(str(file.metadata.get("general.architecture")))
    known = record.parse(_text(file.metadata.get(_RECORD)))
    model_type = _model_type(architecture, known, base)
    heads = (base.heads, base.kv_heads) if base else record.heads(known)
    alpha = _alpha(file)
    pairs: dict[str, Pair] = {}
    believed = True
    config = base.config if base else None
    halves = _halves(file, allow_nonfinite)
    try:
        found = gguf_layout.join(halves, architecture, config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    for tensor, arrays in found.items():
        module = gguf_names.from_gguf(tensor.removesuffix(".weight"), architecture, model_type)
        if module is None or not tensor.endswith(".weight"):
            raise UserError(f"{path}: {tensor}: no tensor of architecture {architecture.name}.")
        made = _pair(path, module, arrays, alpha)
        undone = record.undo(made, known.pairs.get(module), made.scale)
        believed = believed and undone is not None
        made = undone or made
        if architecture.permuted and leaf(module) in _ROPE:
            made = _reorder(path, module, made, heads, back=True)
        made = _layout(module, architecture, made, base, back=True)
        pairs[module] = made
    if not pairs:
        raise UserError(f"{path}: holds no LoRA tensors.")
    pairs = gate_up.part(pairs, known)
    try:
        _check_experts(pairs, base)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    dtypes = {entry.dtype for entry in file.entries.values()}
    adapter = Adapter(
        {module: pairs[module] for module in common_order(pairs)},
        base_model=_base_name(file),
        model_type=model_type,
        dtype=dtypes.pop() if len(dtypes) == 1 and dtypes <= _FLOATS else "float32",
        task={
            key: str(file.metadata[name]) for key, name in _TASK.items() if name in file.metadata
        },
        alora_invocation_tokens=_alora(file),
        provenance=("gguf",),
    )
    return record.believe(adapter, known, whole=believed)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _base_name(file: GgufFile) -> str:
    url = str(file.metadata.get("general.base_model.0.repo_url") or "")
    if url.startswith("https://huggingface.co/"):
        return url.removeprefix("https://huggingface.co/").strip("/")
    return ""


def _model_type(architecture: Architecture, known: record.Record, base: Base | None) -> str:
    named = base.model_type if base else str(known.facts.get("model_type") or "")
    if base and named not in architecture.model_types:
        raise UserError(
            f"{base.folder}: a {named} model, but the adapter is for architecture "
            f"{architecture.name}. Is --base the model that the adapter was trained on?"
        )
    return named if named in architecture.model_types else architecture.model_types[0]


def _alpha(file: GgufFile) -> float:
    alpha = file.metadata.get("adapter.lora.alpha", 0.0)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise UserError(f"{file.path}: adapter.lora.alpha is {alpha!r}, not a number.")
    return float(alpha)


def _alora(file: GgufFile) -> tuple[int, ...] | None:
    """None for an empty list too, with which llama.cpp applies the adapter to every token."""
    tokens = file.metadata.get(_ALORA)
    if tokens is None:
        return None
    if not isinstance(tokens, memoryview) or tokens.format != "I":
        raise UserError(f"{file.path}: {_ALORA} is not an array of u32, which llama.cpp expects.")
    return tuple(tokens.tolist()) or None


def _halves(file: GgufFile, allow_nonfinite: bool) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in file.entries:
        half = next((h for h in _HALVES if name.endswith(h)), None)
        if half is None:
            raise UserError(
                f"{file.path}: {name}: not a LoRA tensor. llama.cpp ignores trained norms in an "
                "adapter and refuses everything else, so it has no effect anywhere."
            )
        found.setdefault(name.removesuffix(half), {})[half] = finite(
            file.read(name), name, file.path, allow=allow_nonfinite
        )
    for tensor, arrays in found.items():
        for half in _HALVES:
            if half not in arrays:
                raise UserError(f"{file.path}: {tensor} lacks {half[1:]}; the file is incomplete.")
    return found


def _pair(path: Path, module: str, arrays: Mapping[str, np.ndarray], alpha: float) -> Pair:
    a, b = arrays[".lora_a"], arrays[".lora_b"]
    kind: Kind = "experts" if ".experts." in module else "linear"
    if leaf(module) == "embed_tokens":
        kind, a = "embedding", a.T
    try:
        made = Pair(a, b, alpha, False, kind)
    except UserError as error:
        raise UserError(f"{path}: {module}: {error}") from None
    return made if alpha else Pair(a, b, float(made.rank), False, kind)


def _reorder(
    where: Path | str, module: str, pair: Pair, heads: tuple[int, int] | None, *, back: bool
) -> Pair:
    heads = _check_heads(where, module, heads)
    count = heads[0] if leaf(module) == "q_proj" else heads[1]
    if pair.b.shape[0] % (2 * count):
        raise UserError(
            f"{where}: {module}: {counted(pair.b.shape[0], 'row')} cannot be split into "
            f"{counted(count, 'head')}."
        )
    order = architectures.unpermute if back else architectures.permute
    return Pair(pair.a, order(pair.b, count), pair.alpha, pair.rslora, pair.kind)


def _layout(
    module: str, architecture: Architecture, pair: Pair, base: Base | None, *, back: bool
) -> Pair:
    """The pair with its rows and columns where `gguf_layout` says."""
    rows, columns = architectures.orders(module, architecture, base.config if base else None)
    if rows is None and columns is None:
        return pair
    if back:
        rows, columns = architectures.back(rows), architectures.back(columns)
    a = architectures.reorder(pair.a, None, columns)
    return Pair(a, architectures.reorder(pair.b, rows, None), pair.alpha, pair.rslora, pair.kind)


def _check_heads(where: Path | str, module: str, heads: tuple[int, int] | None) -> tuple[int, int]:
    if not heads or not all(heads):
        raise UserError(
            f"{where}: {module}: llama.cpp keeps q and k in another order, which takes the "
            "base's head counts. Give --base the base model's folder."
        )
    return heads


def write(adapter: Adapter, path: Path, base: Base | None = None) -> list[str]:
    """Write the file; returns notes for the user.

    Raises:
        UserError: something of the adapter has no form in GGUF, said by name, or the base is
            needed and not known.
    """
    base = gguf_fields.complete(base) if base else None
    architecture = refuse(adapter, base)
    heads = (base.heads, base.kv_heads) if base else adapter.heads
    folded: dict[str, tuple[float, str]] = {}
    pairs = adapter.pairs
    if architecture.joined:
        pairs, folded = gate_up.join(pairs)
    numerators = {m: _numerator(pair) for m, pair in pairs.items()}
    alpha = scales.most_common(value for value in numerators.values() if value)
    tensors: dict[str, np.ndarray] = {}
    for module, pair in pairs.items():
        name = gguf_names.to_gguf(module, architecture) + ".weight"
        reordered = pair
        if architecture.permuted and leaf(module) in _ROPE:
            reordered = _reorder("the adapter", module, pair, heads, back=False)
        reordered = _layout(module, architecture, reordered, base, back=False)
        factor = numerators[module] / alpha
        product = scales.fold(module, reordered.b, factor)
        if factor != 1.0:
            folded[module] = (factor, scales.missing(reordered.b, product, factor))
        rows = gguf_layout.split_rows(module, architecture, base.config if base else None)
        parts = [product[part] for part in rows] or [product]
        for part, b in zip(gguf_layout.split_names(name, architecture), parts, strict=True):
            tensors[f"{part}.lora_a"] = pair.a.T if pair.kind == "embedding" else reordered.a
            tensors[f"{part}.lora_b"] = b
    metadata: dict[str, Value] = {
        "general.architecture": architecture.name,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
        **{_TASK[key]: value for key, value in adapter.task.items() if key in _TASK},
    }
    if adapter.base_model:
        metadata["general.base_model.count"] = 1
        metadata["general.base_model.0.name"] = adapter.base_model
        if _is_hub_id(adapter.base_model):
            url = f"https://huggingface.co/{adapter.base_model}"
            metadata["general.base_model.0.repo_url"] = url
    if adapter.alora_invocation_tokens is not None:
        metadata[_ALORA] = list(adapter.alora_invocation_tokens)
    metadata[_RECORD] = record.describe(adapter.replace(pairs={**adapter.pairs, **pairs}), folded)
    dtypes = {name: _stored(array, adapter.dtype) for name, array in tensors.items()}
    write_gguf(path, metadata, tensors, dtypes)
    if folded:
        return [
            f"GGUF has one alpha: the scale of {counted(len(folded), 'module')} was folded into "
            "lora_b."
        ]
    return []


def _numerator(pair: Pair) -> float:
    """The alpha that gives the pair's scale as alpha / rank."""
    return pair.alpha * math.sqrt(pair.rank) if pair.rslora else pair.alpha


def _stored(array: np.ndarray, wanted: str) -> str:
    """f16 or f32: bfloat16 loads too, but not on every backend of llama.cpp."""
    return stored_dtype(array, "float32" if wanted == "bfloat16" else wanted)


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def refuse(adapter: Adapter, base: Base | None = None) -> Architecture:
    """The architecture that `write` would name; everything that `write` refuses, before it writes.

    Raises:
        UserError: see `write`.
    """
    _refuse_kinds(adapter)
    _check_experts(adapter.pairs, base)
    model_type = base.model_type if base else adapter.model_type
    if not model_type:
        raise UserError(
            "GGUF needs the base's architecture and head counts. Give --base its folder."
        )
    architecture = gguf_names.for_model_type(model_type)
    heads = (base.heads, base.kv_heads) if base else adapter.heads
    for module in adapter.pairs:
        gguf_names.to_gguf(module, architecture)
        if architecture.permuted and leaf(module) in _ROPE:
            _check_heads("the adapter", module, heads)
        config = base.config if base else None
        architectures.orders(module, architecture, config)
        gguf_layout.split_rows(module, architecture, config)
    return architecture


def _check_experts(pairs: Mapping[str, Pair], base: Base | None) -> None:
    """One number of experts everywhere: llama.cpp does not check it and would write beyond its
    memory."""
    counts = {m: int(pair.a.shape[0]) for m, pair in pairs.items() if pair.kind == "experts"}
    wanted: Any = (
        next((base.config[key] for key in _EXPERTS if base.config.get(key)), None)
        if (base)
        else None
    )
    for module, count in counts.items():
        wanted = count if wanted is None else wanted
        if count != wanted:
            whose = "the base has" if base else "other modules have"
            raise UserError(f"{module}: {counted(count, 'expert')}, {whose} {wanted}.")


def _refuse_kinds(adapter: Adapter) -> None:
    for module, pair in adapter.pairs.items():
        if pair.magnitude is not None:
            raise Unwritable(f"{module}: DoRA has no GGUF form.", "DoRA")
        if pair.bias is not None:
            raise Unwritable(f"{module}: a bias of LoRA (lora_bias) has no GGUF form.", "lora_bias")
    whole = [name for name in adapter.saved if not name.endswith(".base_layer.weight")]
    if whole:
        raise Unwritable(
            f"{whole[0]}: a whole tensor (modules_to_save or bias): GGUF adapters hold low-rank "
            "pairs alone.",
            "it",
        )
    if not any(pair.scale for pair in adapter.pairs.values()):
        raise UserError(
            "Every scale of the adapter is 0, which llama.cpp reads as 1. It changes nothing: "
            "leave it out."
        )
