"""Families on torch: what trains is exact in the real PEFT, the rest is refused before a step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("peft")

from convert.adapters.formats import read_adapter
from convert.base import load_base
from convert.merge.changes import Part
from convert.merge.merge import merge
from cuda_train.backend import TorchBackend
from livery import peft_rules
from livery.config.settings import LoraSettings, TrainSettings
from livery.engines.torch.decode import make_decoder
from livery.errors import UserError
from tests import family_runs, hf_families
from tests.convert.convert_cases import QUIET

pytestmark = QUIET

# Each has something of its own: positions that go by place, Conv1D, a body within the body,
# multipliers kept on it, keys shared between layers, another prefix than its class says, other
# names in its files than in the model, modules that are called by number, a cache of its own.
ODD = (
    "bloom", "ctrl", "falcon", "falcon_h1", "gemma4_text", "gpt2", "gpt_bigcode", "gpt_neox",
    "gptj", "laguna", "llama4_text", "mamba2", "minimax", "mpt", "nemotron_h", "openai-gpt", "opt",
    "phimoe", "xglm",
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("family", ODD)
def test_trains_exactly(models: Path, family: str, tmp_path: Path) -> None:
    """Loss, gradients, samples and the exported folder in PEFT: see `tests.family_runs`."""
    found = family_runs.try_torch(hf_families.tiny(family, models / family), tmp_path / "out")
    assert (found.refusal, found.fault) == ("", "")
    assert found.moved > 0.1
    assert found.peft is not None
    assert found.peft < 1e-4 * found.moved


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("cpmant", "each row by itself give gradients that differ"),
        ("deepseek_v4", "does not compute its logits from its body's output"),
        ("hrm_text", "has no such module"),
    ],
)
def test_refused_by_name(models: Path, family: str, said: str, tmp_path: Path) -> None:
    found = family_runs.try_torch(hf_families.tiny(family, models / family), tmp_path / "out")
    assert not found.fault
    assert said in found.refusal


def test_experts_of_gemma4(tmp_path: Path) -> None:
    """Its router and experts lie beside the mlp."""
    folder = hf_families.tiny("gemma4_text", tmp_path / "base", **hf_families.GEMMA4_EXPERTS)
    found = family_runs.try_torch(folder, tmp_path / "plain")
    assert (found.refusal, found.fault) == ("", "")
    assert "proj" not in found.targets, "the router is left alone unless named"
    asked = ("router.proj", "experts.gate_proj", "experts.up_proj")
    found = family_runs.try_torch(folder, tmp_path / "out", targets=asked)
    assert (found.refusal, found.fault, found.left_out) == ("", "", "")
    assert found.moved > 0.1
    assert found.peft is not None
    assert found.peft < 1e-4 * found.moved


@pytest.mark.parametrize("text", ["ministral3", "mistral"])
def test_mistral3_of_both_kinds(text: str, tmp_path: Path) -> None:
    hf_families.mistral3(tmp_path / "base", text)
    found = family_runs.try_torch(tmp_path / "base", tmp_path / "out")
    assert (found.refusal, found.fault, found.left_out) == ("", "", "")
    assert found.formats == ("peft", "mlx", "gguf")
    assert found.moved > 0.1
    assert found.peft is not None
    assert found.peft < 1e-4 * found.moved


@pytest.mark.sweep
@pytest.mark.parametrize("family", hf_families.FAMILIES)
def test_no_family_ends_in_a_traceback(models: Path, family: str, tmp_path: Path) -> None:
    """Every family that transformers builds here, some 130: exact, or one clear sentence."""
    found = family_runs.try_torch(hf_families.tiny(family, models / family), tmp_path / "out")
    assert not found.fault
    if found.trains:
        assert found.peft is not None
        assert found.peft < 1e-4 * max(found.moved, 1.0)


def test_what_peft_forbids_is_left_out_or_refused(models: Path) -> None:
    folder = hf_families.tiny("falcon_h1", models / "falcon_h1")
    settings = TrainSettings(model=str(folder), device="cpu")
    names = TorchBackend(settings).loss.flat.names
    assert any("mamba.in_proj" in name for name in names)
    assert not any("out_proj" in name for name in names)
    asked = dataclasses.replace(settings, lora=LoraSettings(targets=("out_proj", "q_proj")))
    with pytest.raises(UserError, match=r"mamba\.out_proj: PEFT takes no LoRA.*Leave it out"):
        TorchBackend(asked)


def test_the_modules_that_peft_forbids_are_those_that_we_know() -> None:
    """Asked of PEFT itself, for each type that transformers knows."""
    from peft import LoraConfig
    from peft.tuners import tuners_utils
    from transformers import CONFIG_MAPPING, PretrainedConfig

    check: Any = tuners_utils._check_lora_target_modules_mamba

    def takes(model_type: str, leaf: str) -> bool:
        config = PretrainedConfig()
        config.__dict__["model_type"] = model_type
        try:
            check(LoraConfig(), SimpleNamespace(config=config), leaf)
        except ValueError:
            return False
        return True

    for model_type in CONFIG_MAPPING:
        for leaf in ("out_proj", "conv1d", "in_proj", "x_proj", "o_proj"):
            ours = peft_rules.refused(model_type, f"model.layers.0.mixer.{leaf}") == ""
            assert ours == takes(model_type, leaf), (model_type, leaf)


@pytest.mark.parametrize("family", ["gpt2", "nemotron_h", "laguna"])
@pytest.mark.parametrize("dora", [False, True])
def test_merged_it_answers_as_it_does_unmerged(
    models: Path, family: str, dora: bool, tmp_path: Path
) -> None:
    """Weights kept as (in, out), square ones among them, and names that are the files' own."""
    folder, out = hf_families.tiny(family, models / family), tmp_path / "out"
    found = family_runs.try_torch(folder, out, dora=dora)
    assert (found.refusal, found.fault) == ("", "")
    base = load_base(folder)
    merge(base, [Part(read_adapter(out, base))], tmp_path / "merged")
    _, adapted = family_runs.peft_logits(folder, out)
    model: Any = hf_families.load(tmp_path / "merged")
    with torch.no_grad():
        merged = model(input_ids=torch.tensor(family_runs.TOKENS)).logits[0].numpy()
    assert np.abs(merged - adapted).max() < 1e-4 * max(1.0, found.moved)


def test_a_cache_that_is_not_the_models_own_is_not_used(models: Path) -> None:
    """MiniMax refuses any cache but its own; decoding runs the rows whole then, and is right."""
    model: Any = hf_families.load(hf_families.tiny("minimax", models / "minimax"))
    decoder = make_decoder(model)
    assert not decoder.cached
    assert make_decoder(hf_families.load(hf_families.tiny("llama", models / "llama"))).cached
