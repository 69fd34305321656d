"""What is torch's own about families: PEFT's prohibitions, merging, caches of a model's own."""

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


@pytest.fixture(scope="module")
def models(root: Path) -> Path:
    return root / "hf"


def test_what_peft_forbids_is_left_out_or_refused(models: Path) -> None:
    folder = hf_families.tiny("falcon_h1", models / "falcon_h1")
    settings = TrainSettings(model=str(folder), device="cpu")
    names = TorchBackend(settings).loss.flat.names
    assert any("mamba.in_proj" in name for name in names)
    assert not any("out_proj" in name for name in names)
    asked = dataclasses.replace(settings, lora=LoraSettings(targets=("out_proj", "q_proj")))
    with pytest.raises(UserError, match=r"mamba\.out_proj: PEFT takes no LoRA.*Leave it out"):
        TorchBackend(asked)


@pytest.mark.slow
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


@pytest.mark.slow
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
