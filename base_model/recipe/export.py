"""Writes the finished base as a folder that transformers, mlx-lm and vLLM load unchanged."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from .corpus import BEGIN, END, PAD, ROLES
from .model import Decoder
from .tokenizer import load_tokenizer, token_id
from .train import Run

# Plain for and if only, so that llama.cpp renders it. The prompt is a prefix of the conversation.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ '<|system|>' }}"
    "{% elif message['role'] == 'user' %}{{ '<|user|>' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>' }}"
    "{% else %}{{ raise_exception('this model knows the roles system, user and assistant') }}"
    "{% endif %}"
    "{{ message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def export(model: Decoder, work: Path, out: Path, run: Run, start: Path | None = None) -> None:
    """Writes weights (bf16), configuration, tokenizer, template and the courses' settings and log.

    `start` is the model that the run began from; its settings and log stand before this run's.
    """
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        f"model.{name}": value.detach().to(torch.bfloat16).contiguous()
        for name, value in model.state_dict().items()
    }
    partial = out / "model.safetensors.part"
    save_file(weights, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # the writer makes it readable to its owner alone
    partial.rename(out / "model.safetensors")
    tokenizer = load_tokenizer(work)
    begin, end, pad = (token_id(tokenizer, t) for t in (BEGIN, END, PAD))
    shape = run.shape
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "bos_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": pad,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }
    generation = {
        "bos_token_id": begin,
        "eos_token_id": end,
        "pad_token_id": pad,
        "do_sample": False,
    }
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.max_positions,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": list(ROLES.values()),
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json", generation)
    write_json(out / "tokenizer_config.json", tokenizer_config)
    courses = [*read_courses(start), asdict(run)]
    write_json(out / "training_run.json", {"courses": courses})
    tokenizer.save(str(out / "tokenizer.json"))
    log = (start / "training_log.jsonl").read_text() if start else ""
    for line in (work / "log.jsonl").read_text().splitlines():
        log += json.dumps({"course": run.course, **json.loads(line)}) + "\n"
    (out / "training_log.jsonl").write_text(log)


def read_courses(start: Path | None) -> list[dict[str, Any]]:
    return json.loads((start / "training_run.json").read_text())["courses"] if start else []


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")
