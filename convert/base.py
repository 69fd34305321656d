"""What a conversion needs to know of the base model: its config.json and its tensors' shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.adapter import Adapter
from livery.adapter_names import mlx_to_hf, stored_to_hf
from livery.errors import UserError, shown
from livery.models import find_base, nested_parts, read_config, text_config
from livery.safetensors_file import STORED, TensorFile, open_tensors
from livery.weights import check_complete, check_weights, read_tensors, weight_files

_EXPERT = re.compile(r"^(.*)\.(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight$")
# Families that transformers builds from Conv1D layers, and what these are called.
_CONV1D = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
_CONV1D_NAMES = frozenset({"c_attn", "c_proj", "c_fc", "q_attn"})
_EXPERT_LEAVES = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}


# Parameters that hold all experts of a layer, and their blocks of 4 bits.
_FUSED = tuple(
    f".experts.{part}{end}" for part in ("gate_up_proj", "down_proj") for end in ("", "_blocks")
)


@dataclass(frozen=True)
class Base:
    """A base model, without its weights.

    Attributes:
        folder: where it is.
        config: its config.json; the text model's part where that is nested.
        model_type: of the whole ("gemma3" for a multimodal one), as adapter names need it.
        shapes: module path -> (out, in) of its weight, (V, D) for an embedding, (E, out, in) for
            stacked experts. Empty where the folder holds no float weights (a quantized base).
    """

    folder: Path
    config: Mapping[str, Any]
    model_type: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def layers(self) -> int:
        return self._count("num_hidden_layers")

    @property
    def heads(self) -> int:
        return self._count("num_attention_heads")

    @property
    def kv_heads(self) -> int:
        return self._count("num_key_value_heads") or self.heads

    def _count(self, key: str) -> int:
        value = self.config.get(key) or 0
        if type(value) is not int or not 0 <= value < 1 << 20:
            raise UserError(
                f"{self.folder / 'config.json'}: {key} is {shown(repr(value), 60)}; no model "
                "has so many."
            )
        return value

    @property
    def tied(self) -> bool:
        """Whether the head is the embedding's transpose: what the config says, or else whether the
        head has no weights of its own. (A multimodal model's may say otherwise of its language part
        than of the whole, which counts.)"""
        said = self.config.get("tie_word_embeddings")
        nested = bool(nested_parts(self.config) and self.shapes)
        if said is not None and not (nested and not said and "lm_head" not in self.shapes):
            return bool(said)
        if self.shapes:
            return "lm_head" not in self.shapes
        return str(self.config.get("model_type", "")).startswith("gemma")


def load_base(model: str | Path) -> Base:
    """Read a base's folder, or a hub id's copy in the local hub cache.

    Raises:
        UserError: neither is here, or the folder holds no config.json.
    """
    folder = find_base(model)
    if folder is None:
        raise UserError(
            f"{model}: no such folder, and no model of that name in the local hub cache. "
            "Give --base the folder that holds the base's config.json."
        )
    outer = read_config(folder)
    model_type = str(outer.get("model_type", ""))
    return Base(folder, text_config(outer), model_type, _shapes(folder, model_type))


def open_shards(base: Base) -> list[TensorFile]:
    """The base's shards, to copy or convert the whole model.

    Raises:
        UserError: there are none, weights are missing, or as `check_weights`.
    """
    shards = [open_tensors(path) for path in weight_files(base.folder)]
    if not shards:
        raise UserError(f"{base.folder}: no model*.safetensors here; only safetensors are read.")
    names = [name for file in shards for name in file.entries]
    config = read_config(base.folder)
    check_complete(config, names, base.folder)
    check_weights(config, base.folder)
    return shards


@dataclass(frozen=True)
class Slot:
    """What a tensor of a checkpoint is: the neutral module path, "weight" or "bias" …, and for one
    of a stack of experts its number."""

    module: str
    kind: str
    expert: int | None = None


def is_transposed(module: str, model_type: str) -> bool:
    """Whether a checkpoint keeps this module's weight as (in, out): GPT's Conv1D layers."""
    return model_type in _CONV1D and module.rpartition(".")[2] in _CONV1D_NAMES


def slot(name: str, model_type: str = "") -> Slot:
    """The place of a checkpoint's tensor, whatever dialect the checkpoint is written in.

    Args:
        model_type: the base's; some write other names than transformers has modules.
    """
    expert = _EXPERT.match(name)
    if expert:
        layer, number, leaf = expert.groups()
        path = f"{mlx_to_hf(layer, model_type)}.mlp.experts.{_EXPERT_LEAVES.get(leaf, leaf)}"
        return Slot(path, "weight", int(number))
    module, _, kind = name.rpartition(".")
    module = stored_to_hf(module, model_type)
    return Slot(mlx_to_hf(module, model_type), kind)


def _shapes(folder: Path, model_type: str) -> dict[str, tuple[int, ...]]:
    """Shapes from the safetensors headers, under the neutral module paths."""
    stored = read_tensors(folder)
    if any(name.endswith((".scales", ".absmax")) for name in stored):
        return {}  # quantized (MLX, bitsandbytes): the shapes are those of packed integers
    floats = {n: e.shape for n, e in stored.items() if e.tag in STORED or n.endswith("_blocks")}
    return module_shapes(floats, model_type)


def module_shapes(
    tensors: Mapping[str, tuple[int, ...]], model_type: str
) -> dict[str, tuple[int, ...]]:
    """See `Base.shapes`; from the shapes of a checkpoint's tensors by their names."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in tensors.items():
        if name.endswith(_FUSED) and len(shape) > 2:
            shapes.update(_of_stack(name, shape, model_type))
            continue
        if not name.endswith(".weight"):
            continue
        place = slot(name, model_type)
        if is_transposed(place.module, model_type):
            shapes[place.module] = shape[::-1]
        elif place.expert is None:
            shapes[place.module] = shape
        else:
            count = max(shapes.get(place.module, (0,))[0], place.expert + 1)
            shapes[place.module] = (count, *shape)
    return shapes


def _of_stack(name: str, shape: tuple[int, ...], model_type: str) -> dict[str, tuple[int, ...]]:
    """(E, out, in) of the modules that one parameter of all experts holds."""
    head, part = slot(name, model_type).module, name.rpartition(".")[2]
    if part.endswith("_blocks"):  # MXFP4: 32 values in 16 bytes
        count, out, into = shape[0], shape[1], 2 * shape[2] * shape[-1]
    elif keeps_input_first(model_type):
        count, into, out = shape
    else:
        count, out, into = shape
    if part.startswith("down_proj"):
        return {f"{head}.down_proj": (count, out, into)}
    return dict.fromkeys((f"{head}.gate_proj", f"{head}.up_proj"), (count, out // 2, into))


def keeps_input_first(model_type: str) -> bool:
    """Whether a family keeps its experts as (E, in, out), with the rows of gate and up in turns,
    where others have (E, out, in), gate before up."""
    return model_type == "gpt_oss"


def check_fits(adapter: Adapter, base: Base) -> None:
    """Every pair sits on a module that the base has, with its sizes.

    Raises:
        UserError: naming the first module that does not fit, and both shapes.
    """
    if not base.shapes:
        return
    for module, pair in adapter.pairs.items():
        shape = base.shapes.get(module)
        if module == "lm_head" and base.tied:
            shape = next((s for m, s in base.shapes.items() if m.endswith(".embed_tokens")), None)
        if shape is None:
            raise UserError(
                f"{module}: the base {base.folder} has no such module. "
                f"Is --base the model that the adapter was trained on ({adapter.base_model})?"
            )
        into, out = pair.features
        wanted = (into, out) if pair.kind == "embedding" else (out, into)
        if pair.kind == "experts":
            wanted = (int(pair.a.shape[0]), *wanted)
        if wanted != shape:
            raise UserError(
                f"{module}: the adapter is for a weight of shape {wanted}, the base {base.folder} "
                f"has {shape}. Is --base the model that the adapter was trained on?"
            )
