"""Random models and adapters of Llama's shape, made on the spot for benchmarks.convert."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RANK, ALPHA = 16, 32
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# hidden, intermediate, layers, heads, key-value heads, vocabulary
SHAPES = {
    "adapter": (4096, 14336, 32, 32, 8, 32000),  # Llama-3-8B's
    "merge-200mb": (1024, 2816, 8, 16, 8, 8192),
    "merge-2gb": (2048, 8192, 16, 32, 8, 32000),
}


def linears(shape: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Module path -> (out, in) of every linear layer below the head."""
    hidden, inner, layers, heads, kv_heads, _ = shape
    kv = hidden // heads * kv_heads
    sizes = dict(
        zip(
            TARGETS,
            ((hidden, hidden), (kv, hidden), (kv, hidden), (hidden, hidden), (inner, hidden),
             (inner, hidden), (hidden, inner)),
            strict=True,
        )
    )  # fmt: skip
    return {
        f"model.layers.{layer}.{'mlp' if size in TARGETS[4:] else 'self_attn'}.{size}": out_in
        for layer in range(layers)
        for size, out_in in sizes.items()
    }


def write_file(path: Path, tensors: dict[str, tuple[int, ...]], tag: str, scale: float) -> None:
    """A safetensors file of random numbers, a tensor at a time."""
    width = {"F32": 4, "BF16": 2}[tag]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in tensors.items():
        end = at + math.prod(shape) * width
        header[name] = {"dtype": tag, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    rng = np.random.default_rng(0)
    pool = rng.standard_normal(1 << 22, np.float32) * np.float32(scale)
    bits = pool.view("<u4") if tag == "F32" else (pool.view("<u4") >> 16).astype("<u2")
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for shape in tensors.values():
            count = math.prod(shape)
            first = int(rng.integers(len(bits)))
            rolled = np.roll(bits, first)
            for begin in range(0, count, len(bits)):
                file.write(rolled[: count - begin].tobytes())


def make_base(folder: Path, case: str, *, weights: bool = True) -> Path:
    """A Llama's folder; without weights, what a conversion needs of it."""
    shape = SHAPES[case]
    hidden, inner, layers, heads, kv_heads, vocabulary = shape
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "vocab_size": vocabulary, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048, "rope_theta": 10000.0, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "hidden_act": "silu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if weights:
        tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
        tensors |= {f"{name}.weight": size for name, size in linears(shape).items()}
        for layer in range(layers):
            for norm in ("input_layernorm", "post_attention_layernorm"):
                tensors[f"model.layers.{layer}.{norm}.weight"] = (hidden,)
        tensors |= {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}
        write_file(folder / "model.safetensors", tensors, "BF16", 0.02)
    return folder


def make_adapter(folder: Path, case: str) -> Path:
    """A PEFT adapter on all linear layers, float32, as its trainers save one."""
    tensors: dict[str, tuple[int, ...]] = {}
    for name, (out, into) in linears(SHAPES[case]).items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = (RANK, into)
        tensors[f"base_model.model.{name}.lora_B.weight"] = (out, RANK)
    folder.mkdir()
    write_file(folder / "adapter_model.safetensors", tensors, "F32", 0.02)
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA,
        "target_modules": list(TARGETS), "lora_dropout": 0.0, "bias": "none",
        "base_model_name_or_path": "bench/llama",
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
