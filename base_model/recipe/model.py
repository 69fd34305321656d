"""The base as plain torch: a Llama decoder with tied embeddings, written for a compiled CPU loop.

The parameter names are those of `LlamaForCausalLM`, so the export writes them as they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ModelShape:
    """Sizes of the network; all are multiples of 64 so that 4-bit groups and k-quants fit."""

    vocab: int = 4096
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    ffn: int = 768
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    max_positions: int = 2048

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


class Attention(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.heads, self.head_dim = shape.heads, shape.head_dim
        self.q_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)
        self.o_proj = nn.Linear(shape.hidden, shape.hidden, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x: (batch, length, hidden); cos, sin: (length, head_dim)."""
        batch, length, hidden = x.shape
        split = (batch, length, self.heads, self.head_dim)
        q = rotate(self.q_proj(x).view(split).transpose(1, 2), cos, sin)
        k = rotate(self.k_proj(x).view(split).transpose(1, 2), cos, sin)
        v = self.v_proj(x).view(split).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, hidden))


class FeedForward(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.ffn, bias=False)
        self.down_proj = nn.Linear(shape.ffn, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * self.weight


class Layer(nn.Module):
    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden, shape.norm_eps)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Token ids (batch, length) -> final hidden states (batch, length, hidden)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden, shape.norm_eps)

    def forward(self, ids: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.norm(x)


def loss_sum(model: Decoder, ids: Tensor, weights: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Weighted sum of the next tokens' cross-entropies.

    ids: (batch, length + 1); weights: (batch, length), those of the tokens to be predicted.
    """
    hidden = model(ids[:, :-1], cos, sin)
    logits = F.linear(hidden.flatten(0, 1), model.embed_tokens.weight)
    loss = F.cross_entropy(logits.float(), ids[:, 1:].reshape(-1), reduction="none")
    return (loss * weights.flatten()).sum()


def rotary(shape: ModelShape, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin tables (length, head_dim), in Llama's half-split layout."""
    half = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
    angles = torch.outer(torch.arange(length).float(), shape.rope_theta**-half)
    both = torch.cat((angles, angles), dim=-1)
    return both.cos().to(dtype), both.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x: (batch, heads, length, head_dim)."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


def initialise(model: Decoder, seed: int) -> None:
    """Normal draws of 0.02, output projections smaller with depth."""
    generator = torch.Generator().manual_seed(seed)
    depth = (2 * model.shape.layers) ** -0.5
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim == 2:
            scale = depth if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
            parameter.data.normal_(0.0, 0.02 * scale, generator=generator)
