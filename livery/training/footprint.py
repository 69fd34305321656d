"""What a model's config.json and folder say of its size, and an estimate of memory by parts.

From these both backends estimate a run's memory before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.config.settings import LoraSettings, TrainSettings
from livery.models import text_config
from livery.weights import read_tensors

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# Feed-forward layers of two matrices instead of three.
_UNGATED = {
    "phi",
    "gpt2",
    "gpt_neox",
    "gptj",
    "gpt_bigcode",
    "opt",
    "falcon",
    "bloom",
    "starcoder2",
}
# Attention and the feed-forward layer read one normalized input.
_PARALLEL = {"phi", "gptj"}


@dataclass(frozen=True)
class Estimate:
    """Bytes by part.

    Attributes:
        weights: the base as it will be in memory.
        adapter: LoRA weights, gradients and AdamW's two moments.
        activations: what the largest micro-batch keeps for its backward pass.
        logits: of its supervised positions, with their gradients.
        libraries: Python, the framework and what they keep, where the run's memory is the
            process's: on a CPU with torch.
    """

    weights: int
    adapter: int
    activations: int
    logits: int
    libraries: int = 0

    @property
    def total(self) -> int:
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        found = {
            "weights": self.weights,
            "adapter": self.adapter,
            "activations": self.activations,
            "logits": self.logits,
        }
        return {**found, "libraries": self.libraries} if self.libraries else found


@dataclass(frozen=True)
class Sizes:
    """A transformer's dimensions.

    Attributes:
        feed_forward: width of the feed-forward layer; of one expert, where there are experts.
        experts: 0 for a dense model.
        active: experts that a token runs through; 1 for a dense model.
        gated: the feed-forward layer multiplies two projections (gate and up).
        written_out: its activation is written as a formula, each of whose terms is kept.
        parallel: attention and the feed-forward layer read the same normalized input.
        norms: of the residual stream in a block.
        head_norms: queries and keys are normalized, too.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    experts: int
    active: int
    vocabulary: int
    tied: bool
    gated: bool
    written_out: bool
    parallel: bool
    norms: int
    head_norms: bool

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
        if self.experts:
            return found
        if self.gated:
            found["gate_proj"] = (self.hidden, self.feed_forward)
        found["up_proj"] = (self.hidden, self.feed_forward)
        found["down_proj"] = (self.feed_forward, self.hidden)
        return found

    def parameters(self) -> int:
        """Computed from the matrices alone."""
        block = self.block_weights()
        return self.layers * block + (1 if self.tied else 2) * self.vocabulary * self.hidden

    def block_weights(self) -> int:
        """Numbers in the matrices of a block."""
        block = sum(a * b for a, b in self.modules().values())
        return block + self.experts * 3 * self.hidden * self.feed_forward

    def adapted(self, lora: LoraSettings) -> dict[str, tuple[int, int]]:
        """(in, out) of the linear layers of a block that the adapter adapts."""
        named = {target.rpartition(".")[2] for target in lora.targets}
        return {n: shape for n, shape in self.modules().items() if not named or n in named}

    def adapted_experts(self, lora: LoraSettings) -> dict[str, tuple[int, int]]:
        """(in, out) of the experts' projections that the adapter adapts: those it names."""
        inner, outer = (self.hidden, self.feed_forward), (self.feed_forward, self.hidden)
        found = {"gate_proj": inner, "up_proj": inner, "down_proj": outer} if self.experts else {}
        named = {target.rpartition(".")[2] for target in lora.targets}
        return {name: shape for name, shape in found.items() if name in named}

    def adapted_layers(self, lora: LoraSettings) -> int:
        """Blocks that the adapter adapts."""
        return self.layers if lora.num_layers < 1 else min(lora.num_layers, self.layers)

    def lora_parameters(self, settings: TrainSettings) -> int:
        """Trained numbers, magnitudes left out."""
        lora = settings.lora
        chosen = [a + b for a, b in self.adapted(lora).values()]
        chosen += [self.experts * (a + b) for a, b in self.adapted_experts(lora).values()]
        chosen = chosen or [2 * self.hidden] * len(lora.targets)
        return self.adapted_layers(lora) * lora.rank * sum(chosen)


def read_sizes(config: Mapping[str, Any]) -> Sizes:
    """The dimensions that a config.json gives, under the names that families give them."""
    text = text_config(config)

    def number(*names: str, default: int = 0) -> int:
        for name in names:
            if isinstance(text.get(name), int):
                return int(text[name])
        return default

    hidden = number("hidden_size", "n_embd", "d_model", "dim", default=1024)
    heads = number("num_attention_heads", "n_head", "n_heads", default=max(1, hidden // 64))
    experts = number("num_local_experts", "num_experts", "n_routed_experts")
    dense = number("intermediate_size", "ffn_dim", "n_inner", default=4 * hidden)
    kind = str(text.get("model_type", ""))
    return Sizes(
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
        gated=kind not in _UNGATED,
        written_out=text.get("hidden_act") == "gelu_new",
        parallel=kind in _PARALLEL,
        norms=4 if kind.startswith(("gemma2", "gemma3")) else 1 if kind in _PARALLEL else 2,
        head_norms=kind.startswith(("qwen3", "gemma3", "olmo2")),
    )


def stored(folder: Path) -> tuple[int, int]:
    """(parameters, bytes) of the safetensors in `folder`, read off their headers."""
    tensors = read_tensors(folder).values()
    return sum(tensor.count for tensor in tensors), sum(tensor.nbytes for tensor in tensors)
