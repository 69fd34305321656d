"""How mlx-lm's parameter names and shapes map to Hugging Face's, as plain functions.

The neutral names are the module paths of a current transformers model. mlx-lm names most modules
alike; what differs:

    Hugging Face                           mlx-lm
    L.mlp.experts.gate_proj                L.mlp.switch_mlp.gate_proj
    L.mlp.experts.gate_proj  (mixtral)     L.block_sparse_moe.switch_mlp.gate_proj
    L.mlp.gate               (mixtral)     L.block_sparse_moe.gate
    L.mlp.experts.gate_proj  (gpt_oss)     L.mlp.experts.gate_proj
    L.experts.gate_proj      (gemma4)      L.experts.switch_glu.gate_proj
    model.language_model.X   (multimodal)  language_model.model.X
    lm_head                  (multimodal)  language_model.lm_head

L is `model.layers.N`. `experts.gate_proj` is a name of ours: one stack (E, ...) over the experts,
where transformers keeps gate and up in one parameter and older versions kept a module an expert.

Shapes: MLX keeps lora_a (in, r) and lora_b (r, out), we keep A (r, in) and B (out, r); the stacks
of experts, (E, r, in) and (E, out, r), and the magnitude (out,) are the same in both.
"""

from __future__ import annotations

import numpy as np

# MLX's leaf -> the neutral one.
LEAVES = {"lora_a": "lora_A", "lora_b": "lora_B", "m": "lora_magnitude"}

_MULTIMODAL_HF = "model.language_model."
_MULTIMODAL_MLX = "language_model.model."
# Families whose text model sits inside a multimodal one in both libraries.
MULTIMODAL = frozenset({"gemma3", "gemma3n", "gemma4", "mistral3", "qwen3_5", "qwen3_5_moe"})


# Where published checkpoints of a family write other names than transformers has modules. "^" is
# the beginning of a path; the rest is anywhere in it.
_GPT = (("^h.", "transformer.h."), ("^wte", "transformer.wte"))
_STORED: dict[str, tuple[tuple[str, str], ...]] = {
    "bailing_hybrid": (
        (".attention.dense", ".self_attn.o_proj"),
        (".attention.f_proj", ".self_attn.forget_gate.f_proj"),
        (".attention.", ".self_attn."),
        ("^model.word_embeddings", "model.embed_tokens"),
    ),
    "bloom": (*_GPT, ("^word_embeddings", "transformer.word_embeddings")),
    "codegen": _GPT,
    "falcon": _GPT,
    "gpt2": _GPT,
    "gpt_bigcode": _GPT,
    "gpt_neo": _GPT,
    "gptj": _GPT,
    "hy_v3": ((".shared_mlp.", ".shared_experts."), (".mlp.router.gate", ".mlp.gate")),
    "hy_v4": ((".linear_gate", ".gate_proj"),),
    "kimi_linear": (
        (".self_attn.f_a_proj", ".self_attn.forget_gate.f_a_proj"),
        (".self_attn.f_b_proj", ".self_attn.forget_gate.f_b_proj"),
    ),
    "laguna": ((".shared_expert.", ".shared_experts."),),
    "nemotron_h": (("^backbone.", "model."),),
    "openai-gpt": _GPT,
    "opt": (("^decoder.", "model.decoder."),),
}


# The same of mlx-lm's models, where their names differ from the checkpoint's.
_MLX: dict[str, tuple[tuple[str, str], ...]] = {
    "gpt2": (("^model.h.", "transformer.h."),),
    "gpt_neox": (("^model.h.", "gpt_neox.layers."),),
    "gptj": (("^model.h.", "transformer.h."),),
    "laguna": _STORED["laguna"],
    "lfm2_moe": (
        (".feed_forward.gate_proj", ".feed_forward.w1"),
        (".feed_forward.up_proj", ".feed_forward.w3"),
        (".feed_forward.down_proj", ".feed_forward.w2"),
    ),
    "nemotron_h": _STORED["nemotron_h"],
}


# Last path elements under which families keep the layer that chooses the experts.
_ROUTERS = frozenset(
    ("gate", "router", "shared_expert_gate", "e_router", "router_gate", "classifier", "wg")
)


def is_router(path: str) -> bool:
    """Whether a module chooses experts, by its name: itself, or what a module called router holds
    (`router.proj`)."""
    owner, _, name = path.rpartition(".")
    return name in _ROUTERS or owner.rpartition(".")[2] == "router"


def stored_to_hf(module: str, model_type: str) -> str:
    """The path in transformers of a module as the family's checkpoints name it."""
    return _respelled(module, _STORED.get(model_type, ()))


def _respelled(module: str, spellings: tuple[tuple[str, str], ...]) -> str:
    for old, new in spellings:
        if not old.startswith("^"):
            module = module.replace(old, new)
        elif module.startswith(old[1:]):
            module = new + module.removeprefix(old[1:])
    return module


def mlx_to_hf(module: str, model_type: str = "") -> str:
    """The Hugging Face path of an mlx-lm module path.

    `model_type` is the base's config.json's; without it, families that mlx-lm spells otherwise keep
    its spelling.
    """
    module = _respelled(module, _MLX.get(model_type, ()))
    if module.startswith(_MULTIMODAL_MLX):
        module = _MULTIMODAL_HF + module.removeprefix(_MULTIMODAL_MLX)
    elif module == "language_model.lm_head":
        module = "lm_head"
    module = module.replace(".block_sparse_moe.", ".mlp.").replace(".switch_glu.", ".")
    return module.replace(".switch_mlp.", ".experts.")


def hf_to_mlx(path: str, model_type: str = "") -> str:
    """The mlx-lm module path of a Hugging Face one: `mlx_to_hf` backwards."""
    back = tuple(
        (f"^{new}", old[1:]) if old.startswith("^") else (new, old)
        for old, new in _MLX.get(model_type, ())
    )
    path = _respelled(path, back)
    if path.startswith(_MULTIMODAL_HF):
        path = _MULTIMODAL_MLX + path.removeprefix(_MULTIMODAL_HF)
    elif path == "lm_head" and model_type in MULTIMODAL:
        path = "language_model.lm_head"
    if model_type.startswith("gemma4"):
        path = path.replace(".experts.", ".experts.switch_glu.")
    if model_type != "gpt_oss":
        path = path.replace(".mlp.experts.", ".mlp.switch_mlp.")
    if model_type == "mixtral":
        path = path.replace(".mlp.", ".block_sparse_moe.")
    return path


def mlx_to_portable(parameter: str, model_type: str = "") -> str:
    """`…q_proj.lora_a` -> `…q_proj.lora_A`, for MLX's lora_a, lora_b and m.

    Raises:
        KeyError: `parameter` does not end in one of them.
    """
    module, _, leaf = parameter.rpartition(".")
    return f"{mlx_to_hf(module, model_type)}.{LEAVES[leaf]}"


def swap_layout(array: np.ndarray) -> np.ndarray:
    """A LoRA array of MLX in the neutral layout, or the other way round; the same rule both ways.

    Matrices are transposed ((in, r) <-> (r, in), (r, out) <-> (out, r)); stacks of experts and
    magnitudes stay. The result is C-contiguous.
    """
    return np.ascontiguousarray(array.T) if array.ndim == 2 else array
