"""What a merge must add to a base: a head of its own where it was the embedding, biases of linears.

An adapter on the embedding or the head of a base that ties the two changes one and not the other;
merged, the base needs both, with tie_word_embeddings false. (PEFT's own merge of a LoRA there adds
the delta to the shared weight and so to both, which is not what the adapter computes.) A bias of B
(lora_bias) goes into the linear's bias; where the architecture can have one, all linears of the
kind get it, with zeros where the adapter says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from convert.adapters.mlx import EMBEDDINGS
from convert.base import Base, Slot, slot
from convert.merge.changes import Part
from convert.naming import leaf
from livery.errors import UserError, shown
from livery.files import read_json, write_json
from livery.models import nested_parts

HEAD = Slot("lm_head", "weight")
_ATTENTION = ("attention_bias", ("q_proj", "k_proj", "v_proj", "o_proj"))
_MLP = ("mlp_bias", ("gate_proj", "up_proj", "down_proj"))
# model type -> key of config.json and the linears that have a bias where it is true, as in
# transformers 5.23's modeling files.
BIASES: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    **dict.fromkeys(("llama", "granite", "smollm3"), (_ATTENTION, _MLP)),
    **dict.fromkeys(
        ("qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "olmo2", "olmo3", "cohere"),
        (_ATTENTION,),
    ),
}
# Families whose classes in vLLM 0.33 insist that the two are tied: read in its sources, the untied
# model itself was not run. Measured is that it takes no LoRA of embed_tokens and lm_head on gemma2
# and gemma3 (`check_vllm.EMBEDDINGS`).
TIED_IN_VLLM = ("gemma", "gemma2", "gemma3", "gemma3_text")
# Families whose linears may have a bias in mlx-lm 0.32, among those of `BIASES`.
BIASED_IN_MLX = ("granite", "llama", "olmo2")
# Families of which mlx-lm 0.32 always takes the embedding for the head.
HEADLESS_IN_MLX = ("cohere", "cohere2", "gemma", "gemma2", "gemma3n", "gpt2", "lfm2", "lfm2_moe",
                   "olmo")  # fmt: skip


@dataclass(frozen=True)
class Added:
    """A tensor that begins as a copy of another, or as zeros.

    Attributes:
        like: the base's tensor beside which it is written, in whose dtype.
        copied: it begins as that one's values.
    """

    like: str
    shape: tuple[int, ...]
    copied: bool


@dataclass(frozen=True)
class Extension:
    """Tensors by name, and what config.json must say then."""

    tensors: Mapping[str, Added] = field(default_factory=dict[str, Added])
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    notes: tuple[str, ...] = ()

    @property
    def untied(self) -> bool:
        return "tie_word_embeddings" in self.config


def extend(base: Base, shapes: Mapping[str, tuple[int, ...]], parts: Sequence[Part]) -> Extension:
    """What `parts` need that the base with tensors of these shapes does not have.

    Raises:
        UserError: a linear would need a bias that the architecture has no place for.
    """
    places = {slot(name): name for name in shapes}
    tensors: dict[str, Added] = {}
    config: dict[str, Any] = {}
    notes: list[str] = []
    if base.tied and any(_parts_head_and_embedding(part) for part in parts):
        if HEAD not in places:  # a stored one counts in transformers 5, whatever the config says
            name, added = _head(base, places, shapes)
            tensors[name] = added
        config["tie_word_embeddings"] = False
        notes.append(
            "The adapter changes the embedding or the head alone, which the base ties: the merged "
            "model has a head of its own (lm_head, tie_word_embeddings false)."
        )
        if base.model_type in HEADLESS_IN_MLX:
            notes.append(f"mlx-lm's {base.model_type} has no such head; transformers loads it.")
    wanted = [m for part in parts for m, p in part.adapter.pairs.items() if p.bias is not None]
    missing = [module for module in wanted if Slot(module, "bias") not in places]
    for key, linears in bias_keys(base, missing):
        config[key] = True
        tensors.update(_biases(linears, places, shapes))
    return Extension(tensors, config, tuple(notes))


def is_embedding(module: str) -> bool:
    """Whether a module is the embedding that a head may be tied to."""
    return leaf(module) in EMBEDDINGS


def _parts_head_and_embedding(part: Part) -> bool:
    """Whether an adapter changes one of the two alone; MLX's embedding LoRA is applied to both."""
    saved = {slot(name).module for name in part.adapter.saved if ".base_layer." not in name}
    if "lm_head" in part.adapter.pairs or any(m == "lm_head" or is_embedding(m) for m in saved):
        return True
    embeddings = any(is_embedding(module) for module in part.adapter.pairs)
    return embeddings and part.source != "mlx"


def _head(
    base: Base, places: Mapping[Slot, str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[str, Added]:
    like = next((name for place, name in places.items() if is_embedding(place.module)), None)
    if like is None:
        raise UserError(f"{base.folder}: has no embedding that a head could be made from.")
    prefix = "language_model." if like.startswith("language_model.") else ""
    return f"{prefix}lm_head.weight", Added(like, shapes[like], True)


def bias_keys(base: Base, modules: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """The keys of config.json that give these modules a bias, and the linears each is for.

    Raises:
        UserError: the architecture has no place for one of them.
    """
    known = BIASES.get(base.model_type, ())
    found: dict[str, tuple[str, ...]] = {}
    for module in modules:
        key = next((key for key, linears in known if leaf(module) in linears), None)
        if key is None or ".experts." in module:
            raise UserError(
                f"{shown(module)}: a bias of LoRA (lora_bias), and a {base.model_type} model has "
                "no bias there that it could be merged into. Run it with PEFT, or train again "
                "without lora_bias (livery train)."
            )
        found[key] = dict(known)[key]
    return list(found.items())


def _biases(
    linears: tuple[str, ...],
    places: Mapping[Slot, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Added]:
    """Zeros for every linear of the names that has none yet."""
    made: dict[str, Added] = {}
    for place, name in places.items():
        lacks = place.kind == "weight" and Slot(place.module, "bias") not in places
        if lacks and place.expert is None and leaf(place.module) in linears:
            made[f"{name.removesuffix('.weight')}.bias"] = Added(name, shapes[name][:1], False)
    return made


def write_config(folder: Path, changes: Mapping[str, Any], added: Mapping[str, Added]) -> None:
    """Change config.json, and name the new tensors in the index where there is one."""
    path = folder / "config.json"
    config: dict[str, Any] = read_json(path)
    for part in (config, *nested_parts(config)):
        part.update(changes)
    write_json(path, config)
    index = folder / "model.safetensors.index.json"
    if added and index.is_file():
        listed: dict[str, Any] = read_json(index)
        weights = cast("dict[str, str]", listed["weight_map"])
        weights.update({name: weights[tensor.like] for name, tensor in added.items()})
        write_json(index, {**listed, "weight_map": dict(sorted(weights.items()))})
