"""PEFT folders of mixture-of-experts families that also have dense layers: whole in the real PEFT.

PEFT takes targets that end in gate_proj, up_proj or down_proj for the experts' parameters on these
model types, also where a path or a regular expression names a dense layer or a shared expert.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("peft")

from convert.adapters import formats
from livery import peft_rules
from livery.files import read_json
from tests import family_runs, hf_families
from tests.convert.convert_cases import QUIET

# Those that can be built here and have layers whose names PEFT misreads.
MIXED = (
    "cohere2_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "ernie4_5_moe",
    "exaone_moe", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa", "hunyuan_v1_moe", "longcat_flash",
    "qwen3_next", "solar_open",
)  # fmt: skip
pytestmark = QUIET


@pytest.fixture(scope="module")
def models(root: Path) -> Path:
    return root / "hf"


@pytest.mark.slow
@pytest.mark.parametrize("family", MIXED)
def test_what_torch_trains_is_what_peft_loads(models: Path, family: str, tmp_path: Path) -> None:
    folder = hf_families.tiny(family, models / family)
    out = tmp_path / "out"
    found = family_runs.try_torch(folder, out)
    assert (found.refusal, found.fault) == ("", "")
    assert {"gate_proj", "up_proj", "down_proj"} <= set(found.targets)
    assert found.moved > 0.1
    assert found.peft is not None
    assert found.peft < 1e-4 * found.moved
    # And nothing but what was trained is adapted: a module more would start at another A each time.
    again = formats.read_adapter(out)
    assert {name.rpartition(".")[2] for name in again.pairs} == set(found.targets)


@pytest.mark.slow
def test_dense_layers_and_experts_at_once(models: Path, tmp_path: Path) -> None:
    """One name, three kinds of module: a dense first layer, a shared expert, the routed ones."""
    folder = hf_families.tiny("glm4_moe", models / "glm4_moe")
    names = ("gate_proj", "up_proj", "down_proj", "q_proj")
    found = family_runs.try_torch(folder, tmp_path / "out", targets=names)
    assert (found.refusal, found.fault) == ("", "")
    assert found.peft is not None
    assert found.peft < 1e-4 * found.moved
    kinds = {pair.kind for pair in formats.read_adapter(tmp_path / "out").pairs.values()}
    assert kinds == {"linear", "experts"}


def test_the_models_that_peft_reads_so_are_those_that_we_know() -> None:
    """PEFT takes the list from transformers: a new version of either shows here."""
    from peft.utils import transformers_weight_conversion
    from transformers import CONFIG_MAPPING

    theirs: Any = transformers_weight_conversion
    wanted = {
        model_type: set(theirs._MOE_TARGET_MODULE_MAPPING[kind]) - {"gate"}
        for model_type, kind in theirs._MODEL_TO_CONVERSION_PATTERN.items()
        if kind in theirs._MOE_TARGET_MODULE_MAPPING and kind in theirs._MOE_FUSED_TARGETS
    }
    # Some entries are names of classes, which no config.json has.
    wanted = {name: leaves for name, leaves in wanted.items() if name in CONFIG_MAPPING}
    assert {name: set(leaves) for name, leaves in peft_rules.EXPERT_NAMES.items()} == wanted


@pytest.mark.slow
def test_round_trip_keeps_the_ranks_of_parameters(models: Path, tmp_path: Path) -> None:
    """A rank of its own on a module that PEFT counts by its parameter's name."""
    folder = hf_families.tiny("glm4_moe", models / "glm4_moe")
    family_runs.try_torch(folder, tmp_path / "one")
    adapter = formats.read_adapter(tmp_path / "one")
    module = "model.layers.0.mlp.up_proj"
    pair = adapter.pairs[module]
    thin = type(pair)(pair.a[:2], pair.b[:, :2], 3.0)
    adapter = adapter.replace(pairs={**adapter.pairs, module: thin}, model_type="glm4_moe")
    formats.write_adapter(adapter.replace(peft_config={}), tmp_path / "two", "peft")
    read = formats.read_adapter(tmp_path / "two").pairs[module]
    assert (read.rank, read.alpha) == (2, 3.0)
    config = read_json(tmp_path / "two" / "adapter_config.json")
    assert config["rank_pattern"] == {f"{module}.weight": 2}
    _, with_thin = family_runs.peft_logits(folder, tmp_path / "two")
    zero = type(pair)(pair.a[:2] * 0, pair.b[:, :2] * 0, 3.0)
    without = adapter.replace(pairs={**adapter.pairs, module: zero}, peft_config={})
    formats.write_adapter(without, tmp_path / "three", "peft")
    _, with_zero = family_runs.peft_logits(folder, tmp_path / "three")
    assert np.abs(with_thin - with_zero).max() > 1e-2, "PEFT applies the thin one"


@pytest.mark.slow
def test_dora_has_no_form_there(models: Path, tmp_path: Path) -> None:
    folder = hf_families.tiny("glm4_moe", models / "glm4_moe")
    found = family_runs.try_torch(folder, tmp_path / "out", dora=True)
    assert "gives parameters no DoRA" in found.refusal
    assert "leave gate_proj, up_proj and down_proj out of the targets" in found.refusal
    attention = family_runs.try_torch(folder, tmp_path / "out", dora=True, targets=("q_proj",))
    assert attention.peft is not None
    assert attention.peft < 1e-4
