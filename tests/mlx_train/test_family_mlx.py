"""Families on MLX: the exported folder answers in the real PEFT and mlx-lm as the trained model."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mlx_lm")
pytest.importorskip("peft")

from livery.adapter_names import hf_to_mlx, mlx_to_hf
from tests import family_runs, hf_families
from tests.convert.convert_cases import QUIET

pytestmark = QUIET

# Shared experts and dense first layers, other names in mlx-lm than in transformers, out_proj
# and dt_proj of mamba, patterns of layers that transformers 5 writes otherwise.
ODD = (
    "deepseek_v2", "deepseek_v3", "exaone4", "falcon_h1", "gemma4_text", "glm4_moe", "gpt_neox",
    "gptj", "granitemoehybrid", "laguna", "lfm2", "lfm2_moe", "mamba", "nemotron_h", "qwen3_next",
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("family", ODD)
def test_trains_exactly(models: Path, family: str, tmp_path: Path) -> None:
    found = family_runs.try_mlx(hf_families.tiny(family, models / family), tmp_path / "out")
    assert (found.refusal, found.fault) == ("", "")
    assert found.moved > 0.1
    assert found.base is not None
    assert found.peft is not None
    assert found.mlx is not None
    assert found.base < 2e-3
    assert found.peft < 1e-3 * found.moved
    assert found.mlx < 1e-4 * found.moved


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("gpt_oss", "takes its experts in blocks of 4 bits, and these are whole (mlp.experts."),
        ("minicpm3", "does not scale down what a tied head is given (dim_model_base"),
        ("ernie4_5_moe", r"differently from the model's own code does: it leaves out e_score"),
        ("glm", r"it rotates whole heads, where partial_rotary_factor is 0.5"),
        ("jamba", r"it weighs a token's experts among themselves"),
    ],
)
def test_refused_by_name(models: Path, family: str, said: str, tmp_path: Path) -> None:
    found = family_runs.try_mlx(hf_families.tiny(family, models / family), tmp_path / "out")
    assert not found.fault
    assert said in found.refusal


def test_experts_of_gemma4(tmp_path: Path) -> None:
    """Its router and experts lie beside the mlp, and mlx-lm names the experts otherwise; targets
    are given as on torch."""
    folder = hf_families.tiny("gemma4_text", tmp_path / "base", **hf_families.GEMMA4_EXPERTS)
    found = family_runs.try_mlx(folder, tmp_path / "plain")
    assert (found.refusal, found.fault) == ("", "")
    assert "proj" not in found.targets, "the router is left alone unless named"
    asked = ("router.proj", *(f"experts.{name}_proj" for name in ("gate", "up", "down")))
    found = family_runs.try_mlx(folder, tmp_path / "out", targets=asked)
    assert (found.refusal, found.fault) == ("", "")
    assert "gguf: model.layers.0.experts.down_proj: llama.cpp" in found.left_out
    assert found.moved > 0.1
    assert found.peft is not None
    assert found.mlx is not None
    assert found.peft < 1e-3 * found.moved
    assert found.mlx < 1e-4 * found.moved


@pytest.mark.parametrize(
    ("text", "tied"), [("ministral3", True), ("mistral", False), ("mistral", True)]
)
def test_mistral3_of_both_kinds(text: str, tied: bool, tmp_path: Path) -> None:
    """Multimodal: its configuration says of the whole, not of the language model, that the head is
    the embedding."""
    hf_families.mistral3(tmp_path / "base", text, tie_word_embeddings=tied)
    found = family_runs.try_mlx(tmp_path / "base", tmp_path / "out")
    assert (found.refusal, found.fault, found.left_out) == ("", "", "")
    assert found.base is not None
    assert found.peft is not None
    assert found.mlx is not None
    assert found.base < 1e-4
    assert found.peft < 1e-4 * found.moved
    assert found.mlx < 1e-4 * found.moved


@pytest.mark.sweep
@pytest.mark.parametrize("family", hf_families.ON_MLX)
def test_no_family_ends_in_a_traceback(models: Path, family: str, tmp_path: Path) -> None:
    """Every family that both libraries build: exact, or one clear sentence."""
    found = family_runs.try_mlx(hf_families.tiny(family, models / family), tmp_path / "out")
    assert not found.fault
    if found.trains:
        assert found.peft is not None
        assert found.peft < 1e-3 * max(found.moved, 1.0)


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
    assert mlx_to_hf(theirs, model_type) == ours
    assert hf_to_mlx(ours, model_type) == theirs
