"""A random llama with LoRA, made on the spot, and batches for it: what the torch checks compute.

Where PEFT is installed LoRA is what `cuda_train.lora` puts in. Where it is not, layers written here
compute `x W + scale * (x A) B`, so that losses, masks, kernels and optimizers are proven all the
same.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from commands.prove.outcome import Skip, need
from cuda_train.loss import Loss
from cuda_train.optim import Flat
from livery.config.settings import LoraSettings, TrainSettings
from livery.training.plan import MicroBatch

LORA = LoraSettings(rank=8, alpha=16.0)
# What SmolLM2-135M has; and something that a CPU trains in a second.
SMOL: dict[str, Any] = {
    "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152,
}  # fmt: skip
TINY: dict[str, Any] = {
    "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 320, "vocab_size": 1024,
}  # fmt: skip


def find_place() -> torch.device:
    """The GPU that torch has here, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def require() -> torch.device:
    """`find_place`, where torch and transformers are there. Raises Skip where they are not."""
    need("torch", "transformers")
    return find_place()


def sizes(place: torch.device) -> dict[str, Any]:
    """The shape to prove things on: that of a real model where there is a GPU."""
    return TINY if place.type == "cpu" else SMOL


def config_of(shape: dict[str, Any]) -> Any:
    """transformers' configuration of a llama of this shape."""
    from transformers import LlamaConfig

    return LlamaConfig(
        **shape, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=1,
        eos_token_id=2, pad_token_id=0,
    )  # fmt: skip


def make_model(shape: dict[str, Any]) -> Any:
    """A llama with random weights that bfloat16 can say, on the CPU in float32."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    config = config_of(shape)
    config._attn_implementation = "sdpa"
    model: Any = LlamaForCausalLM(config)
    return model.bfloat16().float().eval().requires_grad_(False)


def adapted(model: Any, place: torch.device, dtype: str) -> Loss:
    """The loss of `model` with LoRA in it, whose B is not 0, so that A has a gradient."""
    found = _put_lora(model)
    rng = np.random.default_rng(1)
    for name, parameter in found.items():
        if name.endswith("lora_B"):
            drawn = 0.02 * rng.standard_normal(tuple(parameter.shape))
            parameter.data.copy_(torch.from_numpy(drawn.astype(np.float32)))
    return Loss(model, Flat(found), TrainSettings(lora=LORA), place, dtype)


def _put_lora(model: Any) -> dict[str, nn.Parameter]:
    """LoRA's parameters by portable name, float32, on the model's device."""
    if importlib.util.find_spec("peft") is not None:
        from cuda_train.lora import add_lora

        return add_lora(model, LORA, seed=0)
    found: dict[str, nn.Parameter] = {}
    for path, module in list(model.named_modules()):
        if not isinstance(module, nn.Linear) or ".layers." not in path:
            continue
        parent, _, name = path.rpartition(".")
        layer = _Lora(module, path)
        setattr(model.get_submodule(parent), name, layer)
        found |= {f"{path}.lora_A": layer.lora_A, f"{path}.lora_B": layer.lora_B}
    return dict(sorted(found.items()))


class _Lora(nn.Module):
    """x (…, in) -> base(x) + scale * (x A^T) B^T, the second term in float32."""

    def __init__(self, base: Any, path: str) -> None:
        super().__init__()
        from livery.training.numerics import initial_a

        self.base, self.scale = base, LORA.alpha / LORA.rank
        place, inner, outer = base.weight.device, base.in_features, base.out_features
        start = torch.from_numpy(initial_a(0, path, LORA.rank, inner)).to(place)
        self.lora_A = nn.Parameter(start)
        self.lora_B = nn.Parameter(torch.zeros(outer, LORA.rank, device=place))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = self.base(x)
        return given + (self.scale * (x.float() @ self.lora_A.T) @ self.lora_B.T).to(given.dtype)


def make_batch(
    shape: dict[str, Any], prefix: int = 48, rows: int = 6, longest: int = 24, seed: int = 0
) -> MicroBatch:
    """Rows of different lengths behind one prefix, a third of each supervised."""
    rng = np.random.default_rng(seed)
    vocabulary = shape["vocab_size"]
    lengths = rng.integers(longest // 2, longest + 1, rows).astype(np.int32)
    tokens = np.zeros((rows, int(lengths.max())), np.int32)
    targets = np.full_like(tokens, -1)
    for row, length in enumerate(lengths):
        tokens[row, :length] = rng.integers(3, vocabulary, length)
        answers = max(1, int(length) // 3)
        targets[row, length - answers : length] = rng.integers(3, vocabulary, answers)
    shared = rng.integers(3, vocabulary, prefix).astype(np.int32)
    return MicroBatch(shared, tokens, targets, lengths, tuple(range(rows)))


def gradient(loss: Loss, batch: MicroBatch, route: Any) -> torch.Tensor:
    """(n,) float64 on the CPU: the gradient by a route, "own" being the model's own forward."""
    loss.flat.message.zero_()
    if route == "own":
        loss.plain_gradient(batch)
    else:
        loss.gradient([batch], route)
    return loss.flat.grads.detach().to("cpu").double()


@dataclass(frozen=True)
class Apart:
    """How far two gradients are apart.

    Attributes:
        share: ||got - wanted|| / ||wanted||.
        cosine: of the angle between them.
    """

    share: float
    cosine: float


def compare(got: torch.Tensor, wanted: torch.Tensor) -> Apart:
    """Of two vectors (n,)."""
    norm = wanted.norm()
    if not float(norm):
        raise Skip("the gradient is 0")
    cosine = float(got @ wanted / (got.norm() * norm).clamp_min(1e-30))
    return Apart(float((got - wanted).norm() / norm), cosine)
