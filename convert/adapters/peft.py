"""PEFT folders: adapter_config.json + adapter_model.safetensors.

Tensors: base_model.model.MODULE.lora_A.weight (r, in) and .lora_B.weight (out, r); of an embedding
.lora_embedding_A (r, V) and .lora_embedding_B (width, r); with DoRA .lora_magnitude_vector (out,).
Source: PEFT's `LoraConfig`, `save_pretrained` and utils/save_and_load.py. Experts: `peft_experts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convert.adapters import peft_config, peft_experts, record
from convert.adapters.peft_config import CONFIG, Unit
from convert.base import Base
from convert.naming import common_order, leaf
from convert.unwritable import Unwritable
from livery import peft_rules
from livery.adapter import Adapter, Kind, Pair, finite
from livery.adapter_names import mlx_to_hf
from livery.errors import UserError, shown
from livery.files import replace_together, write_json
from livery.models import find_base, read_config
from livery.reading import read_object
from livery.safetensors_file import TensorFile, open_tensors, stored_dtype, write_tensors

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_SLOTS = {
    ".lora_A.weight": ("a", "linear"),
    ".lora_B.weight": ("b", "linear"),
    ".lora_embedding_A": ("a", "embedding"),
    ".lora_embedding_B": ("b", "embedding"),
    ".lora_magnitude_vector": ("magnitude", "linear"),
    ".lora_magnitude_vector.weight": ("magnitude", "linear"),  # before PEFT 0.12
    ".lora_B.bias": ("bias", "linear"),
}
_TIED = ("lm_head", "embed_tokens")
# What routers and experts are: parameters, not linear modules, in a current transformers.
_PARAMETER_LEAVES = frozenset({"gate"})


def read(folder: Path, base: Base | None = None, *, allow_nonfinite: bool = False) -> Adapter:
    """Read a PEFT adapter.

    Args:
        base: tells how gpt-oss's experts are to be read.

    Raises:
        UserError: a file is missing or damaged, a half of a pair is missing, a shape does not fit
            the config, a tensor is unknown or holds NaN, or the variant has no neutral form.
    """
    config = _read_config(folder / CONFIG)
    peft_config.check_supported(config, str(folder / CONFIG))
    if not (folder / WEIGHTS).exists() and (folder / "adapter_model.bin").exists():
        raise UserError(
            f"{folder / 'adapter_model.bin'}: a pickle, which could run anything when opened. Load "
            "it with PEFT and save it again: save_pretrained writes adapter_model.safetensors."
        )
    file = open_tensors(folder / WEIGHTS)
    known = record.parse(file.metadata.get(record.KEY))
    found, saved = _sort_tensors(file, config, allow_nonfinite=allow_nonfinite)
    _check_flags(found, config, str(folder / CONFIG))
    pairs: dict[str, Pair] = {}
    experts: dict[str, dict[str, np.ndarray]] = {}
    for module, arrays in found.items():
        for half, other in (("a", "b"), ("b", "a")):
            if half not in arrays:
                raise UserError(
                    f"{file.path}: {shown(module)} has lora_{other.upper()} but no "
                    f"lora_{half.upper()}. The file is incomplete; export it again."
                )
        if peft_experts.is_expert(module):
            experts[module] = arrays
        else:
            pair = _pair(file, config, module, arrays)
            pairs[module] = record.undo(pair, known.pairs.get(module), pair.scale) or pair
    model_type = base.model_type if base else str(known.facts.get("model_type") or "")
    if experts and not model_type:
        model_type = _named_type(str(config.get("base_model_name_or_path") or ""))
    pairs.update(peft_experts.read(experts, config, known, str(file.path), model_type))
    if not pairs:
        raise UserError(f"{file.path}: holds no LoRA tensors.")
    dtypes = {file.dtype(name) for name in file.entries}
    adapter = Adapter(
        {module: pairs[module] for module in common_order(pairs)},
        base_model=str(config.get("base_model_name_or_path") or ""),
        dtype=dtypes.pop() if len(dtypes) == 1 else "float32",
        dropout=float(config.get("lora_dropout") or 0.0),
        alora_invocation_tokens=_tokens(config),
        saved=saved,
        peft_config=config,
        notes=_left_out([m for m in found if m not in experts], config),
        provenance=(f"peft {config.get('peft_version', '')}".strip(),),
    )
    return record.apply_facts(adapter, known)


def _read_config(path: Path) -> dict[str, Any]:
    return read_object(path)


def _left_out(modules: Iterable[str], config: Mapping[str, Any]) -> tuple[str, ...]:
    """A note on tensors that the config does not select, so that PEFT leaves them out with no more
    than a warning."""
    # What is adapted as a parameter is named in target_parameters.
    linear = [module for module in modules if not _is_parameter(module, config)]
    lost = peft_config.unselected(linear, config)
    if not lost:
        return ()
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    return (
        f"{CONFIG} does not select {shown(lost[0])}{more} (target_modules, exclude_modules, "
        "layers_to_transform), whose tensors are here: PEFT leaves them out, the other runtimes "
        "and what is converted from the folder do not. Correct target_modules, or remove them.",
    )


def _tokens(config: Mapping[str, Any]) -> tuple[int, ...] | None:
    """An empty list is a plain LoRA, in PEFT as in vLLM."""
    return tuple(int(token) for token in config.get("alora_invocation_tokens") or ()) or None


def _check_flags(
    found: Mapping[str, Mapping[str, np.ndarray]], config: Mapping[str, Any], where: str
) -> None:
    """What the config says of DoRA and biases, and what the tensors are, must agree: PEFT drops
    tensors that the config does not announce, and starts announced ones that are missing.

    Raises:
        UserError: naming key and module.
    """
    for slot, key, what in (
        ("magnitude", "use_dora", "a DoRA magnitude"),
        ("bias", "lora_bias", "a bias of B"),
    ):
        have = next((module for module, arrays in found.items() if slot in arrays), None)
        lack = next((module for module, arrays in found.items() if slot not in arrays), None)
        if config.get(key) and lack is not None:
            raise UserError(
                f"{where}: {key} is true, but {shown(lack)} does not have {what}. The file is "
                f"incomplete, or {key} should be false."
            )
        if have is not None and not config.get(key):
            raise UserError(
                f"{where}: {shown(have)} has {what}, but {key} is not true: PEFT would leave it "
                f"out. Set {key} to true if the adapter was trained with it."
            )


def _sort_tensors(
    file: TensorFile, config: Mapping[str, Any], *, allow_nonfinite: bool
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Tensors by module and slot ("a", "b", "magnitude", "bias", and "kind:embedding" as a mark),
    and the whole tensors that were saved with them."""
    found: dict[str, dict[str, np.ndarray]] = {}
    saved: dict[str, np.ndarray] = {}
    for name in file.entries:
        if not name.startswith(_PREFIX):
            raise UserError(f"{file.path}: {shown(name)}: PEFT's names start with {_PREFIX!r}.")
        inner = name.removeprefix(_PREFIX)
        suffix = next((s for s in _SLOTS if inner.endswith(s)), None)
        if suffix is None:
            if not _is_saved(inner, config):
                raise UserError(f"{file.path}: {shown(name)}: an unknown tensor.")
            saved[inner] = finite(file.read(name), name, file.path, allow=allow_nonfinite)
            continue
        slot, kind = _SLOTS[suffix]
        module = mlx_to_hf(inner.removesuffix(suffix))  # older multimodal paths are mlx-lm's
        arrays = found.setdefault(module, {})
        arrays[slot] = finite(file.read(name), name, file.path, allow=allow_nonfinite)
        if kind == "embedding":
            arrays["kind:embedding"] = arrays[slot]
    return found, saved


def _named_type(base_model: str) -> str:
    """The model type of the base that an adapter names, where it is on this machine."""
    folder = find_base(base_model)
    return str(read_config(folder).get("model_type") or "") if folder else ""


def _is_saved(name: str, config: Mapping[str, Any]) -> bool:
    module, _, kind = name.rpartition(".")
    if module.endswith(".base_layer"):
        return True  # the copy of a targeted embedding
    if kind == "bias" and config.get("bias", "none") != "none":
        return True
    wanted: list[Any] = list(config.get("modules_to_save") or ())
    if wanted and config.get("ensure_weight_tying"):
        wanted.extend(_TIED)  # PEFT saves both of the pair
    return kind in ("weight", "bias") and any(leaf(module).endswith(str(w)) for w in wanted)


def _is_parameter(module: str, config: Mapping[str, Any]) -> bool:
    """Whether PEFT adapts the module's weight as a parameter, and counts its patterns by that."""
    listed = config.get("target_parameters") or ()
    return leaf(module) in _PARAMETER_LEAVES or any(
        f".{module}.weight".endswith(f".{name}") for name in listed
    )


def _pair(
    file: TensorFile, config: Mapping[str, Any], module: str, arrays: dict[str, np.ndarray]
) -> Pair:
    target = f"{module}.weight" if _is_parameter(module, config) else module
    rank, alpha = peft_config.resolve(config, target)
    a = arrays["a"]
    if a.ndim != 2 or a.shape[0] != rank:
        raise UserError(
            f"{file.path}: {shown(module)}: A has shape {a.shape}, but {CONFIG} gives it "
            f"rank {rank}."
        )
    kind: Kind = "embedding" if "kind:embedding" in arrays else "linear"
    try:
        return Pair(
            a,
            arrays["b"],
            alpha,
            bool(config.get("use_rslora")),
            kind,
            arrays.get("magnitude"),
            arrays.get("bias"),
        )
    except UserError as error:
        raise UserError(f"{file.path}: {shown(module)}: {error}") from None


def write(adapter: Adapter, folder: Path, base: Base | None = None) -> list[str]:
    """Write the folder's two files; returns notes for the user.

    Raises:
        UserError: something of the adapter has no form in PEFT, said by name.
    """
    notes: list[str] = []
    refuse(adapter, base)
    flags = {pair.rslora for pair in adapter.pairs.values()}
    rslora = flags == {True}
    model_type = adapter.model_type or (base.model_type if base else "")
    tensors: dict[str, np.ndarray] = {}
    units: list[Unit] = []
    folded: dict[str, tuple[float, str]] = {}
    for module, pair in adapter.pairs.items():
        if pair.kind == "experts":
            continue
        parameter = leaf(module) in _PARAMETER_LEAVES or _read_as_expert(module, adapter, base)
        target = f"{module}.weight" if parameter else module
        alpha = peft_experts.alpha_of(pair, rslora)
        units.append(Unit(target, parameter, pair.rank, alpha))
        tensors.update(_tensors(peft_rules.tensor_name(model_type, module), pair))
    made = peft_experts.write(adapter, rslora)
    for unit, arrays in made.units:
        units.append(unit)
        tensors.update({_PREFIX + name: array for name, array in arrays.items()})
    folded.update(made.folded)
    notes += made.notes
    tensors.update({_PREFIX + name: array for name, array in adapter.saved.items()})
    config = peft_config.make(
        units,
        adapter.peft_config,
        existing=[m for m in base.shapes if ".experts." not in m] if base else [],
        expert_layers=[m for m in base.shapes if ".experts." in m] if base else [],
        rslora=rslora,
        dora=adapter.dora,
        lora_bias=any(pair.bias is not None for pair in adapter.pairs.values()),
        dropout=adapter.dropout,
        base_model=adapter.base_model,
        alora=adapter.alora_invocation_tokens,
    )
    dtypes = {name: stored_dtype(array, adapter.dtype) for name, array in tensors.items()}
    metadata = {
        "format": "pt",
        record.KEY: record.describe(adapter.replace(peft_config={}), folded),
    }
    with replace_together(folder, CONFIG) as fresh:
        write_tensors(fresh / WEIGHTS, tensors, dtypes, metadata)
        write_json(fresh / CONFIG, config)
    return notes


def _tensors(module: str, pair: Pair) -> dict[str, np.ndarray]:
    name = _PREFIX + module
    if pair.kind == "embedding":
        made = {f"{name}.lora_embedding_A": pair.a, f"{name}.lora_embedding_B": pair.b}
    else:
        made = {f"{name}.lora_A.weight": pair.a, f"{name}.lora_B.weight": pair.b}
    if pair.magnitude is not None:
        made[f"{name}.lora_magnitude_vector"] = pair.magnitude
    if pair.bias is not None:
        made[f"{name}.lora_B.bias"] = pair.bias
    return made


def _read_as_expert(module: str, adapter: Adapter, base: Base | None) -> bool:
    """Whether PEFT would look for this dense module among the experts, see `livery.peft_rules`."""
    experts = any(pair.kind == "experts" for pair in adapter.pairs.values()) or (
        base is not None and any(".experts." in path for path in base.shapes)
    )
    model_type = adapter.model_type or (base.model_type if base else "")
    return adapter.pairs[module].kind == "linear" and peft_rules.read_as_experts(
        model_type, leaf(module), experts=experts
    )


def refuse(adapter: Adapter, base: Base | None = None) -> None:
    """Everything that `write` refuses of the adapter's kinds, before it writes.

    Raises:
        UserError: naming the module, why, and the way out.
    """
    refuse_mixed_dora(adapter)
    model_type = adapter.model_type or (base.model_type if base else "")
    for module, pair in adapter.pairs.items():
        if why := peft_rules.refused(model_type, module):
            raise UserError(f"{why}. Merge the adapter into the base, or train without it.")
        extra = "DoRA" if pair.magnitude is not None else "a bias" if pair.bias is not None else ""
        if extra and _read_as_expert(module, adapter, base):
            raise UserError(
                f"{module}: PEFT adapts it as a parameter on {adapter.model_type or 'such'} models "
                f"(a target {leaf(module)} would mean their experts), and gives parameters no "
                f"{extra}. Train plain LoRA, or leave gate_proj, up_proj and down_proj out of the "
                "targets."
            )


def refuse_mixed_dora(adapter: Adapter) -> None:
    """PEFT and MLX switch DoRA on for all modules or none.

    Raises:
        UserError: some pairs have a magnitude and some have not.
    """
    plain = [module for module, pair in adapter.pairs.items() if pair.magnitude is None]
    if adapter.dora and plain:
        raise Unwritable(
            f"{plain[0]} has no DoRA magnitude, other modules have: this format has DoRA on all "
            "modules or none.",
            "DoRA",
        )
