"""The neutral adapter: what every format is read into and written from.

All names are Hugging Face module paths (see `livery.adapter_names`), all arrays are laid out as
PEFT lays out a linear layer's: delta = scale * B @ A, with A (r, in) and B (out, r).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from livery.config.settings import LoraSettings
from livery.errors import UserError, shown
from livery.models import LONGEST_NAME

Kind = Literal["linear", "embedding", "experts"]
Format = Literal["peft", "mlx", "gguf"]


class NotFinite(UserError):
    """An adapter's tensor holds NaN or infinity."""


def finite(array: np.ndarray, name: str, where: object, *, allow: bool = False) -> np.ndarray:
    """The array itself; every reader of adapters passes its tensors through here.

    Args:
        array: as it was read.
        name: the tensor's, as the file has it.
        where: the file.
        allow: let NaN and infinity pass.

    Raises:
        NotFinite: it holds some, which would spread to every answer of the model.
    """
    if not allow and not np.isfinite(array).all():
        nans, odd = int(np.isnan(array).sum()), int((~np.isfinite(array)).sum())
        kinds = [f"{nans:,} NaN"] * (nans > 0) + [f"{odd - nans:,} infinite"] * (odd > nans)
        raise NotFinite(
            f"{where}: {shown(name)}: {' and '.join(kinds)} of {array.size:,} values: the training "
            "run diverged, or the file is damaged. Take an earlier checkpoint, or train again with "
            "a lower learning rate. (--allow-nonfinite carries them over as they are.)"
        )
    return array


@dataclass(frozen=True)
class Pair:
    """The low-rank delta of one module.

    Attributes:
        a: A. linear (r, in), embedding (r, V), experts (E, r, in).
        b: B. linear (out, r), embedding (D, r), experts (E, out, r). An embedding's weight (V, D)
            moves by scale * (B @ A).T.
        alpha: numerator of the scale.
        rslora: the scale is alpha / sqrt(r) instead of alpha / r.
        kind: what sort of module it sits on.
        magnitude: (out,), DoRA's; None without DoRA.
        bias: (out,), added after B ("lora_bias"); None without.
    """

    a: np.ndarray
    b: np.ndarray
    alpha: float
    rslora: bool = False
    kind: Kind = "linear"
    magnitude: np.ndarray | None = None
    bias: np.ndarray | None = None

    def __post_init__(self) -> None:
        axes = 3 if self.kind == "experts" else 2
        if self.a.ndim != axes or self.b.ndim != axes:
            raise UserError(
                f"A {self.a.shape} and B {self.b.shape}: {self.kind} needs {axes} axes each."
            )
        if self.a.shape[-2] != self.b.shape[-1] or self.rank < 1:
            raise UserError(f"A {self.a.shape} and B {self.b.shape} do not share a rank.")
        if axes == 3 and self.a.shape[0] != self.b.shape[0]:
            raise UserError(f"A {self.a.shape} and B {self.b.shape} do not share their experts.")
        if abs(self.scale) > float(np.finfo(np.float32).max):
            raise UserError(f"alpha {self.alpha:g} at rank {self.rank}: no float32 scale.")
        for name, vector in (("magnitude", self.magnitude), ("bias", self.bias)):
            if vector is not None and vector.shape != (self.b.shape[-2],):
                raise UserError(f"{name} {vector.shape} does not fit B {self.b.shape}.")

    @property
    def rank(self) -> int:
        return int(self.a.shape[-2])

    @property
    def scale(self) -> float:
        """What B @ A is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def features(self) -> tuple[int, int]:
        """(in, out) of the module; (V, D) for an embedding."""
        return int(self.a.shape[-1]), int(self.b.shape[-2])

    @property
    def parameters(self) -> int:
        arrays = (self.a, self.b, self.magnitude, self.bias)
        return sum(int(x.size) for x in arrays if x is not None)


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter, whatever format it came from or goes to.

    Attributes:
        pairs: module path -> its delta.
        base_model: hub id of the base, or its path where it never was on a hub; "" if unknown.
        model_type: the base's own ("llama", "qwen3_moe"); "" if unknown.
        heads: attention heads and key-value heads of the base, where known: llama.cpp's order of
            q and k depends on them.
        dtype: how the tensors are stored: "float32", "float16" or "bfloat16". The arrays here are
            float32 or float16 (bfloat16 is widened to float32, exactly).
        dropout: of the training run; of no effect afterwards.
        task: metadata that a GGUF adapter can carry: "task_name", "prompt_prefix".
        alora_invocation_tokens: token ids that switch an activated LoRA on; None for a plain one.
        saved: whole tensors that came with it (PEFT's modules_to_save, trained biases), by name.
        peft_config: PEFT's adapter_config.json as it was read, kept for the way back.
        provenance: where it has been, oldest first, for people ("mlx adapters.safetensors").
        notes: what its reader found that its user should know.
    """

    pairs: Mapping[str, Pair]
    base_model: str = ""
    model_type: str = ""
    heads: tuple[int, int] | None = None
    dtype: str = "float32"
    dropout: float = 0.0
    task: Mapping[str, str] = field(default_factory=dict[str, str])
    alora_invocation_tokens: tuple[int, ...] | None = None
    saved: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    peft_config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    provenance: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.base_model) > LONGEST_NAME:
            raise UserError(
                f"the adapter's base model has a name of {len(self.base_model):,} characters "
                f"({shown(self.base_model, 40)}); at most {LONGEST_NAME:,}. Correct it in the "
                "adapter's config (base_model_name_or_path in PEFT's, model in MLX's)."
            )

    @property
    def parameters(self) -> int:
        return sum(pair.parameters for pair in self.pairs.values())

    @property
    def dora(self) -> bool:
        return any(pair.magnitude is not None for pair in self.pairs.values())

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that occur, ascending."""
        return tuple(sorted({pair.rank for pair in self.pairs.values()}))

    def replace(self, **changes: Any) -> Adapter:
        return dataclasses.replace(self, **changes)


def from_portable(
    weights: Mapping[str, np.ndarray],
    lora: LoraSettings,
    *,
    base_model: str,
    model_type: str,
    embeddings: tuple[str, ...] = ("embed_tokens",),
) -> Adapter:
    """The adapter that a training run's portable weights are.

    Args:
        weights: `X.lora_A` (r, in), `X.lora_B` (out, r), `X.lora_magnitude` (out,), float32.
        lora: the run's settings; its alpha and rslora make the scale.
        base_model, model_type: see `Adapter`.
        embeddings: last path elements of modules that look tokens up.

    Raises:
        UserError: a half of a pair is missing, or a name is none of the three.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in weights.items():
        module, _, leaf = name.rpartition(".")
        if leaf not in ("lora_A", "lora_B", "lora_magnitude"):
            raise UserError(f"{name}: not a LoRA weight (lora_A, lora_B, lora_magnitude).")
        found.setdefault(module, {})[leaf] = array
    pairs: dict[str, Pair] = {}
    for module, arrays in sorted(found.items()):
        if "lora_A" not in arrays or "lora_B" not in arrays:
            half = "lora_B" if "lora_A" in arrays else "lora_A"
            raise UserError(f"{module}: {half} is missing, the other weights are there.")
        kind: Kind = "experts" if arrays["lora_A"].ndim == 3 else "linear"
        if module.rpartition(".")[2] in embeddings:
            kind = "embedding"
        pairs[module] = Pair(
            arrays["lora_A"],
            arrays["lora_B"],
            lora.alpha,
            lora.rslora,
            kind,
            arrays.get("lora_magnitude"),
        )
    return Adapter(
        pairs,
        base_model=base_model,
        model_type=model_type,
        dropout=lora.dropout,
        provenance=("trained by livery",),
    )


def to_portable(adapter: Adapter) -> dict[str, np.ndarray]:
    """`from_portable` backwards: the weights alone, float32."""
    weights: dict[str, np.ndarray] = {}
    for module, pair in adapter.pairs.items():
        weights[f"{module}.lora_A"] = pair.a.astype(np.float32, copy=False)
        weights[f"{module}.lora_B"] = pair.b.astype(np.float32, copy=False)
        if pair.magnitude is not None:
            weights[f"{module}.lora_magnitude"] = pair.magnitude.astype(np.float32, copy=False)
    return weights
