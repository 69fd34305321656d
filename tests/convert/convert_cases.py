"""Real adapters on tiny models, and the logits that the real runtimes compute with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines import llamacpp_child
from tests.tiny_models import FAMILIES, VOCAB, tiny_model

MOE = ("mixtral", "qwen3_moe")
# The largest |Δlogit| of MLX against torch that was measured, times five.
MLX_TOLERANCE = {
    family: 5 * {
        "llama": 7.7e-6, "mistral": 7.7e-6, "llama_tied": 3.2e-5, "qwen2": 3.9e-5, "qwen3": 2.1e-5,
        "gemma": 3.5e-3, "gemma2": 7.3e-6, "gemma3": 7.6e-6, "phi": 2.9e-6, "phi3": 4.1e-6,
        "mixtral": 4.1e-6, "qwen3_moe": 2.0e-6,
    }[family]
    for family in FAMILIES
}  # fmt: skip
TOKENS = np.random.default_rng(5).integers(5, VOCAB, (1, 24))

# What PEFT and transformers warn of here is meant: odd targets, old names.
QUIET = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning:peft"),
    pytest.mark.filterwarnings("ignore::FutureWarning:transformers"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]

# What LoraConfig says besides rank and targets.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"o_proj": 2, "dense": 2, r"layers.1.self_attn.q\w*_proj": 7},
        "alpha_pattern": {"v_proj": 13, "down_proj": 3, "fc2": 5},
    },
    "subset": {
        "layers_to_transform": [1],
        "target_modules": ["q_proj", "o_proj", "dense", "fc2", "qkv_proj", "down_proj"],
    },
    "dora": {"use_dora": True},
}


def base_of(family: str, root: Path) -> Path:
    return tiny_model(family, root)


def peft_adapter(family: str, root: Path, folder: Path, **config: Any) -> np.ndarray:
    """Save a random adapter made by PEFT itself; returns its logits (24, V) on `TOKENS`."""
    from peft import LoraConfig, get_peft_model

    model = torch_base(base_of(family, root))
    no_experts = family in MOE and config.get("use_dora")  # PEFT has no DoRA on parameters
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    chosen = {"target_modules": attention if no_experts else "all-linear", **config}
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, **chosen))
    randomise(model)
    model.save_pretrained(str(folder))
    return torch_logits(model)


def randomise(model: Any) -> None:
    """Fill every LoRA parameter, so that no half of a pair is zero."""
    import torch

    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator) * 0.1
            if "magnitude" in name:
                weight.mul_(1 + noise)
            elif "lora_" in name:
                weight.copy_(noise)


def torch_base(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def torch_logits(model: Any) -> np.ndarray:
    import torch

    model.eval()
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits[0].numpy()


def peft_logits(base: Path, adapter: Path) -> np.ndarray:
    """Logits (24, V) of PEFT on torch."""
    from peft import PeftModel

    return torch_logits(PeftModel.from_pretrained(torch_base(base), str(adapter)))


def base_logits(base: Path) -> np.ndarray:
    return torch_logits(torch_base(base))


def mlx_logits(base: Path, adapter: Path) -> np.ndarray:
    """Logits (24, V) of mlx-lm with its own load_adapters."""
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    model, _ = load_model(base)
    model = load_adapters(model, str(adapter))
    model.eval()
    return np.array(model(mx.array(TOKENS))[0])


def mlx_adapter(base: Path, folder: Path, *, layers: int, kind: str = "lora", **lora: Any) -> None:
    """Save a random adapter made by mlx-lm itself, as its trainer saves one."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    parameters = {"rank": 4, "scale": 1.7, "dropout": 0.0, **lora}
    model, _ = load_model(base)
    model.freeze()
    mx.random.seed(5)  # not from where an earlier test left off
    linear_to_lora_layers(model, layers, parameters, use_dora=kind == "dora")
    mx.random.seed(3)
    weights = {
        name: value + mx.random.normal(value.shape) * 0.1
        for name, value in tree_flatten(model.trainable_parameters())
    }
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    config = {
        "model": str(base),
        "fine_tune_type": kind,
        "num_layers": layers,
        "lora_parameters": parameters,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def llama_cpp(folder: Path, **job: Any) -> Any:
    """Run one job in a child process; see llamacpp_child."""
    found, log = llamacpp_child.answer(folder, **{"vocab": VOCAB, **job})
    assert found is not None, log
    return found
