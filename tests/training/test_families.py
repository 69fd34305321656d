"""Families on both backends: exact in PEFT and mlx-lm, or refused before a step, and by name.

`tests.family_runs` trains a tiny model as `livery train` would, exports it, and loads the folder in
the real runtimes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import family_runs, hf_families
from tests.convert.convert_cases import QUIET
from tests.family_runs import Outcome

pytest.importorskip("peft")
pytestmark = QUIET

NEEDS = {"mlx": "mlx_lm", "torch": "torch"}
# How far the exported folder's logits may be from the trained model's, as a share of what the
# adapter moves.
APART = {"mlx": {"peft": 1e-3, "mlx": 1e-4}, "torch": {"peft": 1e-4}}
ODD = {
    # Shared experts and dense first layers, other names in mlx-lm than in transformers, out_proj
    # and dt_proj of mamba, patterns of layers that transformers 5 writes otherwise.
    "mlx": (
        "deepseek_v2", "deepseek_v3", "exaone4", "falcon_h1", "gemma4_text", "glm4_moe",
        "gpt_neox", "gptj", "granitemoehybrid", "laguna", "lfm2", "lfm2_moe", "mamba",
        "nemotron_h", "qwen3_next",
    ),
    # Positions that go by place, Conv1D, a body within the body, multipliers kept on it, keys
    # shared between layers, another prefix than its class says, other names in its files than in
    # the model, modules that are called by number, a cache of its own.
    "torch": (
        "bloom", "ctrl", "falcon", "falcon_h1", "gemma4_text", "gpt2", "gpt_bigcode", "gpt_neox",
        "gptj", "laguna", "llama4_text", "mamba2", "minimax", "mpt", "nemotron_h", "openai-gpt",
        "opt", "phimoe", "xglm",
    ),
}  # fmt: skip
REFUSED = [
    ("mlx", "gpt_oss", "takes its experts in blocks of 4 bits, and these are whole (mlp.experts."),
    ("mlx", "minicpm3", "does not scale down what a tied head is given (dim_model_base"),
    ("mlx", "ernie4_5_moe", "differently from the model's own code does: it leaves out e_score"),
    ("mlx", "glm", "it rotates whole heads, where partial_rotary_factor is 0.5"),
    ("mlx", "jamba", "it weighs a token's experts among themselves"),
    ("torch", "cpmant", "each row by itself give gradients that differ"),
    ("torch", "deepseek_v4", "does not compute its logits from its body's output"),
    ("torch", "hrm_text", "has no such module"),
]


def every(families: dict[str, Any]) -> list[tuple[str, str]]:
    return [(backend, family) for backend in families for family in families[backend]]


@pytest.fixture(autouse=True)
def needed(backend: str) -> None:
    pytest.importorskip(NEEDS[backend])


def tried(backend: str, root: Path, family: str, out: Path, **lora: Any) -> Outcome:
    folder = hf_families.tiny(family, root / "hf" / family)
    return family_runs.TRY[backend](folder, out, **lora)


def assert_exact(backend: str, found: Outcome) -> None:
    assert (found.refusal, found.fault) == ("", "")
    assert found.moved > 0.1
    for runtime, share in APART[backend].items():
        apart = getattr(found, runtime)
        assert apart is not None, runtime
        assert apart < share * found.moved, runtime


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "family"), every(ODD))
def test_trains_exactly(backend: str, family: str, root: Path, tmp_path: Path) -> None:
    found = tried(backend, root, family, tmp_path / "out")
    assert_exact(backend, found)
    assert backend == "torch" or (found.base is not None and found.base < 2e-3)


@pytest.mark.parametrize(("backend", "family", "said"), REFUSED)
def test_refused_by_name(backend: str, family: str, said: str, root: Path, tmp_path: Path) -> None:
    found = tried(backend, root, family, tmp_path / "out")
    assert not found.fault
    assert said in found.refusal


@pytest.mark.slow
@pytest.mark.parametrize("backend", NEEDS)
def test_experts_of_gemma4(backend: str, tmp_path: Path) -> None:
    """Its router and experts lie beside the mlp, and mlx-lm names the experts otherwise; targets
    are given alike."""
    folder = hf_families.tiny("gemma4_text", tmp_path / "base", **hf_families.GEMMA4_EXPERTS)
    found = family_runs.TRY[backend](folder, tmp_path / "plain")
    assert (found.refusal, found.fault) == ("", "")
    assert "proj" not in found.targets, "the router is left alone unless named"
    asked = ["router.proj", "experts.gate_proj", "experts.up_proj"]
    if backend == "mlx":
        asked.append("experts.down_proj")
    found = family_runs.TRY[backend](folder, tmp_path / "out", targets=tuple(asked))
    assert_exact(backend, found)
    if backend == "mlx":
        assert "gguf: model.layers.0.experts.down_proj: llama.cpp" in found.left_out
    else:
        assert not found.left_out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "text", "tied"),
    [
        ("mlx", "ministral3", True), ("mlx", "mistral", False), ("mlx", "mistral", True),
        ("torch", "ministral3", True), ("torch", "mistral", True),
    ],
)  # fmt: skip
def test_mistral3_of_both_kinds(backend: str, text: str, tied: bool, tmp_path: Path) -> None:
    """Multimodal: its configuration says of the whole, not of the language model, that the head is
    the embedding."""
    hf_families.mistral3(tmp_path / "base", text, tie_word_embeddings=tied)
    found = family_runs.TRY[backend](tmp_path / "base", tmp_path / "out")
    assert_exact(backend, found)
    assert not found.left_out
    assert found.formats == ("peft", "mlx", "gguf")
    assert found.peft is not None
    assert found.peft < 1e-4 * found.moved
    assert backend == "torch" or (found.base is not None and found.base < 1e-4)


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("backend", "family"),
    every({"mlx": hf_families.ON_MLX, "torch": hf_families.FAMILIES}),
)
def test_no_family_ends_in_a_traceback(
    backend: str, family: str, root: Path, tmp_path: Path
) -> None:
    """Every family that transformers builds here, some 130 and 75 in mlx-lm: exact, or one clear
    sentence."""
    found = tried(backend, root, family, tmp_path / "out")
    assert not found.fault
    if found.trains:
        assert found.peft is not None
        assert found.peft < APART[backend]["peft"] * max(found.moved, 1.0)
