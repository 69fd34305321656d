"""mlx-lm adapter folders: adapter_config.json + adapters.safetensors.

adapter_config.json has fine_tune_type, num_layers and lora_parameters {rank, scale, dropout, keys}.
Tensors: MODULE.lora_a (in, r), MODULE.lora_b (r, out), with DoRA MODULE.m (out,); for experts
stacks (E, r, in) and (E, out, r). Source: `load_adapters` and mlx_lm/tuner/{lora,dora}.py of
mlx-lm 0.32.

One rank and one scale for the whole adapter: other scales are multiplied into lora_b, lower ranks
are padded with zeros, and the record keeps what that changed for the way back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from convert.adapters import record, scales
from convert.adapters.peft import refuse_mixed_dora
from convert.base import Base
from convert.naming import common_order, leaf
from convert.unwritable import Unwritable
from livery.adapter import Adapter, Kind, Pair, finite
from livery.adapter_names import LEAVES, hf_to_mlx, mlx_to_hf
from livery.errors import UserError, counted, shown
from livery.files import replace_together, write_json
from livery.reading import read_object
from livery.safetensors_file import TensorFile, open_tensors, stored_dtype, write_tensors

CONFIG = "adapter_config.json"
WEIGHTS = "adapters.safetensors"
EMBEDDINGS = frozenset({"embed_tokens", "wte", "tok_embeddings", "embeddings", "word_embeddings"})


def read(folder: Path, weights: Path | None = None, *, allow_nonfinite: bool = False) -> Adapter:
    """Read an mlx-lm adapter; `weights` names another file than adapters.safetensors (mlx-lm
    writes its checkpoints beside it).

    Raises:
        UserError: a file is missing or damaged, a half of a pair or a listed module is missing, a
            shape does not fit, a tensor is unknown or holds NaN, or it holds whole weights.
    """
    path = folder / CONFIG
    config = read_object(path)
    kind, parameters = _parameters(path, config)
    file = open_tensors(weights or folder / WEIGHTS)
    known = record.parse(file.metadata.get(record.KEY))
    by_module = _by_module(file, dora=kind == "dora", allow_nonfinite=allow_nonfinite)
    pairs: dict[str, Pair] = {}
    believed = True
    for module, arrays in by_module.items():
        made = _pair(file, module, arrays, parameters)
        original = record.undo(made, known.pairs.get(module), parameters["scale"])
        believed = believed and original is not None
        pairs[module] = original or made
    if not pairs:
        raise UserError(f"{file.path}: holds no LoRA tensors.")
    _check_listed(path, parameters["keys"], pairs)
    dtypes = {file.dtype(name) for name in file.entries}
    adapter = Adapter(
        {module: pairs[module] for module in common_order(pairs)},
        base_model=str(config.get("model") or ""),
        dtype=dtypes.pop() if len(dtypes) == 1 else "float32",
        dropout=parameters["dropout"],
        provenance=("mlx",),
        notes=tuple(note for note in (old_scale(config["lora_parameters"]),) if note),
    )
    return record.believe(adapter, known, whole=believed)


# What the values of lora_parameters must be: mlx-lm makes arrays of them as they are.
_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "rank": (lambda value: type(value) is int and value >= 1, "a whole number, at least 1"),
    "scale": (scales.is_number, "a number"),
    "dropout": (
        lambda value: scales.is_number(value) and 0 <= value < 1,
        "a number from 0 to below 1",
    ),
    "keys": (
        lambda value: isinstance(value, list) and all(isinstance(key, str) for key in value),
        "a list of text",
    ),
}


def faults(given: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, what it must be) of every value of lora_parameters that is of the wrong type."""
    for key, (holds, words) in _TYPES.items():
        value = given.get(key)
        if key in given and not holds(value) and (value is not None or key != "keys"):
            yield key, value, words


def old_scale(given: Mapping[str, Any]) -> str:
    """A note where alpha is beside scale, as mlx-lm wrote it in early 2024; "" otherwise.

    It then multiplied by scale * alpha / rank; since alpha was dropped, it takes scale as it is.
    """
    alpha, scale, rank = (cast("Any", given.get(key)) for key in ("alpha", "scale", "rank"))
    if not all(scales.is_number(value) for value in (alpha, scale, rank)) or not rank:
        return ""
    then = scale * alpha / rank
    if then == scale:
        return ""
    return (
        f"lora_parameters holds alpha {alpha:g} beside scale {scale:g}, as mlx-lm wrote it in "
        f"early 2024. Current mlx-lm uses the scale {scale:g}, and so does Livery; the mlx-lm of "
        f"that time used scale·alpha/rank = {then:g}. If the adapter is of that time, set scale to "
        f"{then:g} in {CONFIG} and take alpha out."
    )


def _parameters(path: Path, config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = str(config.get("fine_tune_type", "lora"))
    if kind not in ("lora", "dora"):
        raise UserError(
            f"{path}: fine_tune_type is {shown(kind)}: whole weights, not an adapter. "
            "Use the model itself (mlx_lm.fuse), there is nothing to convert."
        )
    given = config.get("lora_parameters")
    if not isinstance(given, dict) or "rank" not in given or "scale" not in given:
        raise UserError(f"{path}: lora_parameters must hold rank and scale (scale = alpha / rank).")
    given = cast("dict[str, Any]", given)
    keys = given.get("keys")
    for key, value, words in faults(given):
        said = shown(json.dumps(value, default=str), 80)
        raise UserError(f"{path}: lora_parameters.{key} is {said}; it must be {words}.")
    return kind, {
        "rank": given["rank"],
        "scale": float(given["scale"]),
        "dropout": float(given.get("dropout") or 0.0),
        "keys": keys,
    }


def _by_module(
    file: TensorFile, *, dora: bool, allow_nonfinite: bool
) -> dict[str, dict[str, np.ndarray]]:
    """Neutral module path -> arrays by MLX's leaf, halves checked."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in file.entries:
        module, _, part = name.rpartition(".")
        if part not in LEAVES or not module:
            raise UserError(
                f"{file.path}: {shown(name)}: not an adapter's tensor (lora_a, lora_b, m)."
            )
        if part == "m" and not dora:
            raise UserError(
                f"{file.path}: {shown(name)}: a DoRA magnitude, but fine_tune_type is lora."
            )
        array = finite(file.read(name), name, file.path, allow=allow_nonfinite)
        found.setdefault(mlx_to_hf(module), {})[part] = array
    wanted = {"lora_a", "lora_b", "m"} if dora else {"lora_a", "lora_b"}
    for module, arrays in found.items():
        for part in sorted(wanted - arrays.keys()):
            raise UserError(
                f"{file.path}: {shown(module)} has {', '.join(sorted(arrays))} but no {part}. "
                "The file is incomplete; export it again."
            )
    return found


def _pair(
    file: TensorFile, module: str, arrays: Mapping[str, np.ndarray], parameters: dict[str, Any]
) -> Pair:
    a, b = arrays["lora_a"], arrays["lora_b"]
    kind: Kind = "embedding" if leaf(module) in EMBEDDINGS else "linear"
    if a.ndim == 3:
        kind = "experts"
    else:
        a, b = a.T, b.T
    if a.ndim not in (2, 3) or a.shape[-2] != parameters["rank"]:
        raise UserError(
            f"{file.path}: {shown(module)}: lora_a has shape {arrays['lora_a'].shape}, but "
            f"{CONFIG} says rank {parameters['rank']}."
        )
    if kind == "embedding" and "m" in arrays:
        raise UserError(
            f"{file.path}: {shown(module)}: MLX keeps DoRA on an embedding a token, PEFT a "
            "feature: it cannot be converted. Fuse it into the base (mlx_lm.fuse) instead."
        )
    alpha = scales.alpha_for(parameters["scale"], parameters["rank"])
    try:
        return Pair(a, b, alpha, False, kind, arrays.get("m"))
    except UserError as error:
        raise UserError(f"{file.path}: {shown(module)}: {error}") from None


def _check_listed(path: Path, keys: list[str] | None, pairs: Mapping[str, Pair]) -> None:
    """mlx-lm says nothing of a listed module without tensors: it would start at zero."""
    for key in keys or ():
        full = mlx_to_hf(key)
        if full not in pairs and not any(module.endswith(f".{full}") for module in pairs):
            raise UserError(
                f"{path}: keys lists {shown(key)}, but the tensors of that module are missing. "
                "The adapter is incomplete; export it again."
            )


def write(adapter: Adapter, folder: Path, base: Base | None = None) -> list[str]:
    """Write the folder's two files; returns notes for the user.

    Raises:
        UserError: something of the adapter has no form in MLX, said by name.
    """
    model_type = refuse(adapter, base)
    rank = max(adapter.ranks)
    scale = scales.most_common(pair.scale for pair in adapter.pairs.values())
    if scale == 0.0:
        scale = next((p.scale for p in adapter.pairs.values() if p.scale), 1.0)
    tensors: dict[str, np.ndarray] = {}
    folded: dict[str, tuple[float, str]] = {}
    keys: list[str] = []
    for module, pair in adapter.pairs.items():
        factor = pair.scale / scale
        a, b = scales.pad_rank(pair, rank)
        product = scales.fold(module, b, factor)
        if factor != 1.0:
            used = np.ascontiguousarray(product[..., : pair.rank])
            folded[module] = (factor, scales.missing(pair.b, used, factor))
        name = hf_to_mlx(module, model_type)
        keys.append(name)
        stacked = pair.kind == "experts"
        tensors[f"{name}.lora_a"] = a if stacked else a.T
        tensors[f"{name}.lora_b"] = product if stacked else product.T
        if pair.magnitude is not None:
            tensors[f"{name}.m"] = pair.magnitude
    layers = {part for m in adapter.pairs for part in m.split(".") if part.isdigit()}
    config = {
        "model": adapter.base_model,
        "fine_tune_type": "dora" if adapter.dora else "lora",
        "num_layers": len(layers),
        "lora_parameters": {
            "rank": rank,
            "scale": scale,
            "dropout": adapter.dropout,
            "keys": keys,
        },
    }
    dtypes = {name: stored_dtype(array, adapter.dtype) for name, array in tensors.items()}
    metadata = {"format": "mlx", record.KEY: record.describe(adapter, folded)}
    with replace_together(folder, CONFIG) as fresh:
        write_tensors(fresh / WEIGHTS, tensors, dtypes, metadata)
        write_json(fresh / CONFIG, config)
    notes: list[str] = []
    if folded:
        notes.append(
            f"MLX has one scale: that of {counted(len(folded), 'module')} was folded into lora_b."
        )
    if len(adapter.ranks) > 1:
        notes.append(f"MLX has one rank: {min(adapter.ranks)} and up were filled to {rank}.")
    return notes


def refuse(adapter: Adapter, base: Base | None = None) -> str:
    """The base's model type; everything that `write` refuses, before it writes.

    Raises:
        UserError: see `write`.
    """
    _refuse_kinds(adapter)
    model_type = adapter.model_type or (base.model_type if base else "")
    _refuse_routers(adapter, model_type)
    if not model_type and any(pair.kind == "experts" for pair in adapter.pairs.values()):
        raise UserError(
            "mlx-lm names experts by the model's type, which the adapter does not say. "
            "Give --base the base model's folder."
        )
    return model_type


# Where mlx-lm 0.32 has a linear layer for a router (mlx_lm/models); in the other families it is a
# parameter of its own class, which no LoRA goes onto. A router's module is the last path element.
_ROUTERS = {
    "gate": frozenset(
        """
        ernie4_5_moe kimi_linear lfm2_moe mellum minimax mistral4 mixtral olmoe phimoe qwen2_moe
        qwen3_moe qwen3_next qwen3_5_moe
        """.split()
    ),
    "router": frozenset(("gpt_oss", "jamba", "llama4")),
}


def _refuse_routers(adapter: Adapter, model_type: str) -> None:
    for module in adapter.pairs:
        name = leaf(module)
        if name not in _ROUTERS or model_type in _ROUTERS[name]:
            continue
        if not model_type:
            raise UserError(
                f"{shown(module)}: whether mlx-lm takes LoRA on a router depends on the model's "
                "type, which the adapter does not say. Give --base the base model's folder."
            )
        raise Unwritable(
            f"{shown(module)}: mlx-lm's {shown(model_type)} has no linear layer for the router, "
            "and refuses LoRA there.",
            "this module",
        )


def _refuse_kinds(adapter: Adapter) -> None:
    refuse_mixed_dora(adapter)
    for module, pair in adapter.pairs.items():
        if pair.bias is not None:
            raise Unwritable(
                f"{module}: a bias of LoRA (lora_bias) has no form in MLX.", "lora_bias"
            )
        if pair.magnitude is not None and pair.kind != "linear":
            raise Unwritable(
                f"{module}: DoRA on an embedding or on experts has no form in MLX that means the "
                "same.",
                "DoRA there",
            )
    whole = [name for name in adapter.saved if not name.endswith(".base_layer.weight")]
    if whole:
        raise Unwritable(
            f"{whole[0]}: a whole tensor (modules_to_save or bias): MLX adapters hold low-rank "
            "pairs alone.",
            "it",
        )
    if adapter.alora_invocation_tokens is not None:
        raise UserError(
            "An activated LoRA (alora_invocation_tokens) has no form in MLX, which would apply it "
            "to every token. Use PEFT or GGUF."
        )
