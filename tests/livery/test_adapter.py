"""The neutral adapter and its names, checked against real transformers and mlx-lm models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from livery import adapter_names as names
from livery.adapter import Adapter, Pair, from_portable, to_portable
from livery.config.settings import LoraSettings
from livery.errors import UserError
from tests.tiny_models import FAMILIES, tiny_model


def pair(r: int = 2, features: tuple[int, int] = (6, 4)) -> Pair:
    return Pair(np.zeros((r, features[0]), np.float32), np.zeros((features[1], r), np.float32), 8.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_agree_with_both_libraries(family: str, tmp_path_factory: pytest.TempPathFactory):
    """Every linear of the mlx-lm model maps to a transformers parameter of the same size."""
    pytest.importorskip("mlx.core")
    import torch
    from mlx.utils import tree_flatten
    from mlx_lm.utils import load_model
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tiny_model(family, tmp_path_factory.getbasetemp() / "tiny")
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    with torch.device("meta"):
        reference = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    sizes = {name: tuple(weight.shape) for name, weight in reference.named_parameters()}
    model, _ = load_model(folder)
    seen = 0
    for name, weight in tree_flatten(model.parameters()):
        if not name.endswith(".weight") or weight.ndim < 2:
            continue
        module = name.removesuffix(".weight")
        path = names.mlx_to_hf(module, model_type)
        assert names.hf_to_mlx(path, model_type) == module
        shape = tuple(weight.shape)
        if ".experts." in path:
            experts, out, into = shape
            head, _, leaf = path.rpartition(".")
            fused = (experts, out, into) if leaf == "down_proj" else (experts, 2 * out, into)
            parameter = "down_proj" if leaf == "down_proj" else "gate_up_proj"
            assert sizes[f"{head}.{parameter}"] == fused
        else:
            assert sizes[f"{path}.weight"] == shape
        seen += 1
    assert seen > 8


@pytest.mark.parametrize(
    ("model_type", "theirs", "ours"),
    [
        ("gpt2", "model.h.0.attn.c_attn", "transformer.h.0.attn.c_attn"),
        ("gpt_neox", "model.h.1.mlp.dense_h_to_4h", "gpt_neox.layers.1.mlp.dense_h_to_4h"),
        ("nemotron_h", "backbone.layers.0.mixer.in_proj", "model.layers.0.mixer.in_proj"),
        ("lfm2_moe", "model.layers.0.feed_forward.up_proj", "model.layers.0.feed_forward.w3"),
        ("laguna", "model.layers.1.mlp.shared_expert.up_proj",
         "model.layers.1.mlp.shared_experts.up_proj"),
        ("gpt_oss", "model.layers.0.mlp.experts.up_proj", "model.layers.0.mlp.experts.up_proj"),
        ("gemma4_text", "model.layers.0.experts.switch_glu.up_proj",
         "model.layers.0.experts.up_proj"),
        ("gemma4", "language_model.model.layers.0.experts.switch_glu.up_proj",
         "model.language_model.layers.0.experts.up_proj"),
        ("llama", "model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
    ],
)  # fmt: skip
def test_names_there_and_back(model_type: str, theirs: str, ours: str) -> None:
    assert names.mlx_to_hf(theirs, model_type) == ours
    assert names.hf_to_mlx(ours, model_type) == theirs


def test_multimodal_names():
    inner = "model.language_model.layers.3.self_attn.q_proj"
    assert names.hf_to_mlx(inner, "gemma3") == "language_model.model.layers.3.self_attn.q_proj"
    assert names.mlx_to_hf(names.hf_to_mlx(inner, "gemma3"), "gemma3") == inner
    assert names.mlx_to_hf(names.hf_to_mlx("lm_head", "gemma3"), "gemma3") == "lm_head"


def test_parameter_names_round_trip():
    module = "model.layers.0.mlp.experts.gate_proj"
    written = names.hf_to_mlx(module, "mixtral")
    for mlx, ours in (("lora_a", "lora_A"), ("lora_b", "lora_B"), ("m", "lora_magnitude")):
        assert names.mlx_to_portable(f"{written}.{mlx}", "mixtral") == f"{module}.{ours}"
    with pytest.raises(KeyError):
        names.mlx_to_portable("model.layers.0.self_attn.q_proj.weight")


def test_layouts_swap():
    matrix = np.arange(6.0).reshape(2, 3)
    assert names.swap_layout(matrix).shape == (3, 2)
    assert (names.swap_layout(names.swap_layout(matrix)) == matrix).all()
    stack = np.zeros((4, 2, 3))
    assert names.swap_layout(stack) is stack


def test_scale():
    assert pair(r=4).scale == 2.0
    assert Pair(np.zeros((4, 6)), np.zeros((5, 4)), 8.0, rslora=True).scale == 4.0


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ((2, 6), (4, 3), "share a rank"),
        ((2, 6, 1), (4, 2), "2 axes"),
        ((0, 6), (4, 0), "share a rank"),
    ],
)
def test_misshapen_pairs_are_refused(a: tuple[int, ...], b: tuple[int, ...], says: str):
    with pytest.raises(UserError, match=says):
        Pair(np.zeros(a), np.zeros(b), 8.0)


def test_experts_must_agree():
    with pytest.raises(UserError, match="experts"):
        Pair(np.zeros((4, 2, 6)), np.zeros((3, 5, 2)), 8.0, kind="experts")


def test_portable_round_trip():
    lora = LoraSettings(rank=2, alpha=8.0, rslora=True, dropout=0.1)
    weights = {
        "model.embed_tokens.lora_A": np.ones((2, 9), np.float32),
        "model.embed_tokens.lora_B": np.ones((4, 2), np.float32),
        "model.layers.0.q.lora_A": np.ones((2, 6), np.float32),
        "model.layers.0.q.lora_B": np.ones((4, 2), np.float32),
        "model.layers.0.q.lora_magnitude": np.ones(4, np.float32),
    }
    made = from_portable(weights, lora, base_model="a/b", model_type="llama")
    assert isinstance(made, Adapter)
    assert made.pairs["model.embed_tokens"].kind == "embedding"
    assert made.pairs["model.layers.0.q"].scale == 8.0 / 2**0.5
    assert made.dora
    assert made.parameters == sum(w.size for w in weights.values())
    assert made.ranks == (2,)
    back = to_portable(made)
    assert back.keys() == weights.keys()
    assert all((back[k] == weights[k]).all() for k in weights)


def test_portable_halves_are_refused(tmp_path: Path):
    lora = LoraSettings(rank=2)
    with pytest.raises(UserError, match="lora_B is missing"):
        from_portable({"x.lora_A": np.ones((2, 3))}, lora, base_model="", model_type="")
    with pytest.raises(UserError, match="not a LoRA weight"):
        from_portable({"x.weight": np.ones((2, 3))}, lora, base_model="", model_type="")
