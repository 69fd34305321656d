"""How much memory a run will take, from its settings and the model's config.json alone.

Nothing is loaded and MLX is not imported, so `--dry-run` can say in advance what would not fit. The
factors of the activations were fitted to MLX's measured peaks over eleven shapes of three families
(hidden and feed-forward size, layers, heads, prefix, rows, vocabulary), with and without gradient
checkpointing; the tests hold the estimate to within a third of the measured peak.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.settings import TrainSettings

# (prefix P, rows B, suffix S, supervised positions N) of a micro-batch.
Shape = tuple[int, int, int, int]

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Estimate:
    """Bytes by part.

    Attributes:
        weights: the base as it will lie in memory.
        adapter: LoRA weights, gradients and AdamW's two moments.
        activations: what the largest micro-batch keeps for its backward pass.
        logits: of its supervised positions, with their probabilities and gradients.
    """

    weights: int
    adapter: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.adapter + self.activations + self.logits

    def parts(self) -> dict[str, int]:
        return {
            "weights": self.weights,
            "adapter": self.adapter,
            "activations": self.activations,
            "logits": self.logits,
        }


def estimate(
    settings: TrainSettings,
    config: Mapping[str, Any],
    shapes: Iterable[Shape],
    *,
    folder: Path | None = None,
    on_cpu: bool = False,
) -> Estimate:
    """Args:
    config: the model's config.json.
    shapes: the run's micro-batches; the largest counts.
    folder: the model's, where it is here already: its parameters are then counted, not reckoned.
    on_cpu: MLX runs on a CPU and "auto" means float32.
    """
    sizes = _sizes(config)
    kept = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    dtype = ("float32" if on_cpu else kept) if settings.dtype == "auto" else settings.dtype
    width = _BYTES.get(dtype, 2)
    parameters, stored = _stored(folder) if folder is not None else (0, 0)
    parameters = parameters or sizes.parameters()
    if settings.quantize:
        # Scale and bias, in the base's dtype, for each group of 64.
        weights = int(parameters * (settings.quantize / 8 + 2 * width / 64))
    elif "quantization" in config and stored:
        weights = stored
    else:
        weights = parameters * width
    trained = sizes.lora_parameters(settings)
    activations = logits = 0
    for shape in shapes:
        floats = sizes.activations(shape, checkpoint=settings.grad_checkpoint)
        if not settings.share_prefix and shape[0]:
            prefix, rows, suffix, supervised = shape
            whole = (0, rows, prefix + suffix, supervised)
            floats = sizes.activations(whole, checkpoint=settings.grad_checkpoint)
        # LoRA's own branch runs in float32 whatever the base's dtype.
        activations = max(activations, int(floats * (4 + width) / 2))
        logits = max(logits, int(4.25 * 4 * shape[3] * sizes.vocabulary))
    return Estimate(weights, 6 * 4 * trained, activations, logits)


@dataclass(frozen=True)
class _Sizes:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int  # of one expert, where there are experts
    experts: int  # 0 for a dense model
    active: int  # experts that a token runs through; 1 for a dense model
    vocabulary: int
    tied: bool

    @property
    def q(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head_dim

    def modules(self) -> dict[str, tuple[int, int]]:
        """(in, out) of a block's linear layers, experts left out."""
        found = {
            "q_proj": (self.hidden, self.q),
            "k_proj": (self.hidden, self.kv),
            "v_proj": (self.hidden, self.kv),
            "o_proj": (self.q, self.hidden),
        }
        if not self.experts:
            found["gate_proj"] = found["up_proj"] = (self.hidden, self.feed_forward)
            found["down_proj"] = (self.feed_forward, self.hidden)
        return found

    def parameters(self) -> int:
        """Reckoned for a transformer with gated feed-forward layers."""
        block = sum(a * b for a, b in self.modules().values())
        block += self.experts * 3 * self.hidden * self.feed_forward
        return self.layers * block + (1 if self.tied else 2) * self.vocabulary * self.hidden

    def lora_parameters(self, settings: TrainSettings) -> int:
        lora = settings.lora
        layers = self.layers if lora.num_layers < 1 else min(lora.num_layers, self.layers)
        named = {target.rpartition(".")[2] for target in lora.targets}
        chosen = [
            a + b for name, (a, b) in self.modules().items() if not named or name in named
        ] or [2 * self.hidden] * len(named)
        return layers * lora.rank * sum(chosen)

    def activations(self, shape: Shape, *, checkpoint: bool) -> float:
        """Numbers that stay in memory at the peak of a micro-batch's backward pass."""
        prefix, rows, suffix, _ = shape
        positions = prefix + rows * suffix
        feed_forward = self.active * self.feed_forward
        scores = self.heads * (rows * suffix * (prefix + suffix) + prefix * prefix)
        if not checkpoint:
            block = 7.4 * positions * self.hidden + 4.4 * positions * feed_forward + 2.0 * scores
            return self.layers * block
        cached = 2 * self.kv * (rows * (prefix + suffix) + prefix)
        one = 20 * positions * self.hidden + 16 * positions * feed_forward + 2.0 * scores
        return self.layers * (positions * self.hidden + cached) + one


def _sizes(config: Mapping[str, Any]) -> _Sizes:
    text: Mapping[str, Any] = config.get("text_config") or config

    def number(*names: str, default: int = 0) -> int:
        for name in names:
            if isinstance(text.get(name), int):
                return int(text[name])
        return default

    hidden = number("hidden_size", "n_embd", "d_model", "dim", default=1024)
    heads = number("num_attention_heads", "n_head", "n_heads", default=max(1, hidden // 64))
    experts = number("num_local_experts", "num_experts", "n_routed_experts")
    dense = number("intermediate_size", "ffn_dim", "n_inner", default=4 * hidden)
    return _Sizes(
        hidden=hidden,
        layers=number("num_hidden_layers", "n_layer", "n_layers", default=24),
        heads=heads,
        kv_heads=number("num_key_value_heads", default=heads),
        head_dim=number("head_dim", default=hidden // heads),
        feed_forward=number("moe_intermediate_size", default=dense) if experts else dense,
        experts=experts,
        active=number("num_experts_per_tok", default=2) if experts else 1,
        vocabulary=number("vocab_size", default=32000),
        tied=bool(text.get("tie_word_embeddings", True)),
    )


def _stored(folder: Path) -> tuple[int, int]:
    """(parameters, bytes) of the safetensors in `folder`, read off their headers."""
    parameters = size = 0
    for path in sorted(folder.glob("model*.safetensors")):
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: dict[str, Any] = json.loads(file.read(length))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            count = 1
            for side in tensor["shape"]:
                count *= side
            parameters += count
            start, end = tensor["data_offsets"]
            size += end - start
    return parameters, size
