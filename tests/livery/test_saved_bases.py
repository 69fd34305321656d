"""A base that transformers 5 saved is the same model on MLX as on torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mlx_lm")

from livery.engines.mlx.model_config import complete, model_fields, module_name, translate
from tests.saved_models import SAVED, VOCAB, saved_model

TOKENS = np.random.default_rng(0).integers(3, VOCAB, 40).tolist()


def on_torch(folder: Path) -> np.ndarray:
    """(T, V) log-probabilities."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model.eval()(torch.tensor([TOKENS]), use_cache=False).logits[0]
    return torch.log_softmax(logits, -1).numpy()


def on_mlx(folder: Path) -> np.ndarray:
    import mlx.core as mx

    from livery.engines.mlx.load import load_base

    model: Any = load_base(folder, dtype="float32").model
    logits = model(mx.array([TOKENS]))[0]
    return np.array(logits - mx.logsumexp(logits, axis=-1, keepdims=True))


@pytest.mark.parametrize("name", SAVED)
def test_mlx_computes_what_torch_computes(name: str, tmp_path: Path) -> None:
    folder = saved_model(name, tmp_path)
    assert np.abs(on_mlx(folder) - on_torch(folder)).max() < 1e-4
    written = json.loads((folder / "config.json").read_text())
    assert "rope_theta" not in written  # else this would not try what it is meant to


def test_a_key_that_is_there_keeps_its_value() -> None:
    rope = {"rope_type": "default", "rope_theta": 777.0, "partial_rotary_factor": 0.5}
    config = {"model_type": "phi", "rope_theta": 10.0, "rope_parameters": rope}
    translated = translate(config)
    assert (translated["rope_theta"], translated["partial_rotary_factor"]) == (10.0, 0.5)
    assert translate(translated) == translated


@pytest.mark.parametrize("kind", ["llama", "qwen3", "mixtral", "gpt_neox", "gemma3_text"])
def test_no_name_is_added_that_the_model_does_not_read(kind: str) -> None:
    written = written_config(kind)
    made = complete(written)
    read = model_fields(made)
    others = {"rotary_emb_base", "rotary_pct", "n_ctx", "num_experts", "num_local_experts",
              "sliding_window_pattern", "rope_local_base_freq"}  # fmt: skip
    assert others & (made.keys() - written.keys()) <= read
    assert ("rotary_emb_base" in made) == (kind == "gpt_neox")
    assert ("sliding_window_pattern" in made) == (kind == "gemma3_text")


def test_layer_types_decide_the_pattern() -> None:
    kinds = ["sliding_attention"] * 2 + ["full_attention"]
    translated = translate(
        {"model_type": "gemma3_text", "sliding_window_pattern": 6, "layer_types": kinds}
    )
    assert translated["sliding_window_pattern"] == 3
    letters = {"model_type": "exaone4", "sliding_window": 8, "sliding_window_pattern": 4}
    assert translate({**letters, "layer_types": kinds})["sliding_window_pattern"] == "LLG"
    assert translate({**letters, "sliding_window_pattern": "LG"})["sliding_window_pattern"] == "LG"


def written_config(kind: str) -> dict[str, Any]:
    """What transformers writes for a family, every theta one that is nobody's default."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    def change(value: Any, local: bool = False) -> Any:
        if isinstance(value, dict):
            return {k: (99.0 if local else 777.0) if k == "rope_theta" else
                    change(v, k == "sliding_attention") for k, v in value.items()}  # fmt: skip
        return value

    return change(json.loads(CONFIG_MAPPING[kind]().to_json_string(use_diff=True)))


def families() -> list[str]:
    """Model types that transformers saves and that mlx-lm has a module for."""
    import pkgutil

    import mlx_lm.models
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    modules = {module.name for module in pkgutil.iter_modules(mlx_lm.models.__path__)}
    return sorted(kind for kind in CONFIG_MAPPING if module_name({"model_type": kind}) in modules)


# Rope in a form of their own, which no flat key holds: an own dictionary, one for each layer, or a
# module that is another model than transformers' of this name.
OWN_ROPE = {"muse_glimmer", "step3p5", "mimo_v2_flash", "kimi_linear"}


@pytest.mark.slow
def test_no_familys_rope_is_left_to_a_default() -> None:
    """Every family that both libraries have, by the fields of mlx-lm's dataclasses."""
    checked = 0
    for kind in families():
        fields = model_fields({"model_type": kind})
        config = written_config(kind)
        rope = config.get("rope_parameters") or {}
        full = rope.get("full_attention", rope)
        if kind in OWN_ROPE or "rope_theta" not in full:
            continue
        completed = complete(config)
        for field, key in (("rope_theta", "rope_theta"), ("rotary_emb_base", "rope_theta"),
                           ("partial_rotary_factor", "partial_rotary_factor"),
                           ("rotary_pct", "partial_rotary_factor")):  # fmt: skip
            if field in fields and key in full and "rope_parameters" not in fields:
                assert completed[field] == full[key], (kind, field)
                checked += 1
        if "rope_local_base_freq" in fields:
            assert completed["rope_local_base_freq"] == 99.0, kind
        kept = full.get("rope_type", "default")
        if "rope_scaling" in fields and kept != "default" and "rope_parameters" not in fields:
            assert completed["rope_scaling"]["type"] == kept, kind
    assert checked > 50


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        # transformers' default counts where config.json says nothing; mlx-lm's is the other one.
        ({"model_type": "qwen2"}, "rope_theta", 10000.0),
        ({"model_type": "llama"}, "tie_word_embeddings", False),
        ({"model_type": "phi"}, "partial_rotary_factor", 0.5),
        ({"model_type": "gpt_neox"}, "rotary_pct", 0.25),
        ({"model_type": "llama", "hidden_size": 96, "num_attention_heads": 4}, "head_dim", 24),
    ],
)
def test_what_a_folder_leaves_out(config: dict[str, Any], key: str, value: Any) -> None:
    assert complete(config)[key] == value


def test_the_language_models_part() -> None:
    rope = {"full_attention": {"rope_theta": 777.0}, "sliding_attention": {"rope_theta": 99.0}}
    text = {"model_type": "gemma3_text", "vocab_size": 512, "rope_parameters": rope}
    translated = translate(
        {"model_type": "gemma3", "tie_word_embeddings": True, "text_config": text}
    )
    assert translated["vocab_size"] == 512
    inner = translated["text_config"]
    assert (inner["rope_theta"], inner["rope_local_base_freq"]) == (777.0, 99.0)
    assert inner["tie_word_embeddings"] is True
