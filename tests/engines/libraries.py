"""mlx-lm and transformers with PEFT by themselves: a random adapter in each one's format, and what
each one's own generation answers, one prompt at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from livery.engines.engine import Prompt
from tests.tiny_models import EOS_ID, PAD_ID, tiny_model


def mlx_adapter(model: Path, folder: Path, *, dora: bool = False, **changes: Any) -> Path:
    """An adapter in mlx-lm's format, strong enough to change what is answered."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    loaded, _ = load_model(model)
    parameters = {"rank": 4, "scale": 8.0, "dropout": 0.0, "keys": None} | changes
    if parameters["keys"] is None:
        parameters["keys"] = ["self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj"]
    mx.random.seed(5)  # not from where an earlier test left off
    linear_to_lora_layers(loaded, 2, parameters, use_dora=dora)
    mx.random.seed(3)
    weights = {
        name: value + 0.2 * mx.random.normal(value.shape)
        for name, value in tree_flatten(loaded.parameters())
        if name.rsplit(".", 1)[-1] in ("lora_a", "lora_b", "m")
    }
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    kind = "dora" if dora else "lora"
    config = {"fine_tune_type": kind, "num_layers": 2, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def trained_adapter(root: Path, data: Path | None = None) -> Path:
    """A random adapter on a tiny model, in a folder as `livery train` leaves it.

    Args:
        data: what it says that it was trained on.
    """
    model = tiny_model("llama", root / "models")
    folder = mlx_adapter(model, root / "adapter" / "mlx").parent
    settings = {"model": str(model), "data": str(data or ""), "quantize": None}
    record = json.dumps({"settings": settings})
    (folder / "run_config.json").write_text(record, encoding="utf-8")
    return folder


def peft_adapter(model: Path, folder: Path, *, dora: bool = False, **changes: Any) -> Path:
    """An adapter in PEFT's format, strong enough to change what is answered."""
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model)
    given = {"r": 4, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj", "o_proj"], **changes}
    torch.manual_seed(3)
    tuned = peft.get_peft_model(loaded, peft.LoraConfig(use_dora=dora, **given))
    for name, parameter in tuned.named_parameters():
        trained_bias = name.endswith("bias") and parameter.requires_grad
        if "lora_B" in name or "magnitude" in name or trained_bias:
            parameter.data += 0.2 * torch.randn_like(parameter)
    tuned.save_pretrained(str(folder))
    return folder


def mlx_answers(
    model: Path, adapter: Path | None, prompts: Sequence[Prompt], max_tokens: int
) -> list[list[int]]:
    """mlx-lm's own generation, with its own caches."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    loaded, _ = load_model(model)
    if adapter is not None:
        load_adapters(loaded, str(adapter))
    loaded.eval()
    answers: list[list[int]] = []
    for prompt in prompts:
        steps = generate_step(mx.array(prompt.tokens), loaded, max_tokens=max_tokens)
        answers.append(_until_the_end([int(token) for token, _ in steps]))
    return answers


def transformers_answers(
    model: Path, adapter: Path | None, prompts: Sequence[Prompt], max_tokens: int
) -> list[list[int]]:
    """transformers' own generation."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(model)
    if adapter is not None:
        from peft import PeftModel

        loaded = PeftModel.from_pretrained(loaded, str(adapter))
    loaded.eval()
    answers: list[list[int]] = []
    for prompt in prompts:
        ids = torch.tensor([prompt.tokens])
        out = loaded.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False,
            eos_token_id=EOS_ID, pad_token_id=PAD_ID,
        )  # fmt: skip
        answers.append(_until_the_end(out[0, len(prompt.tokens) :].tolist()))
    return answers


def _until_the_end(answer: list[int]) -> list[int]:
    return answer[: answer.index(EOS_ID)] if EOS_ID in answer else answer


# By the engine's name.
ADAPTER: dict[str, Callable[..., Path]] = {"mlx": mlx_adapter, "torch": peft_adapter}
ANSWERS = {"mlx": mlx_answers, "torch": transformers_answers}
