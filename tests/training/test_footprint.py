"""What a configuration says of a model's size, against models that were made of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livery.config.settings import LoraSettings, TrainSettings
from livery.training.footprint import read_sizes, stored
from tests.tiny_models import tiny_model


@pytest.mark.parametrize("family", ["llama", "llama_tied", "phi", "qwen3", "mixtral", "qwen3_moe"])
def test_the_parameters_reckoned_are_those_of_the_file(family: str, root: Path) -> None:
    """But for norms, biases and routers: a few in a hundred of so small a model."""
    folder = tiny_model(family, root)
    sizes = read_sizes(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    assert sizes.parameters() == pytest.approx(stored(folder)[0], rel=0.02)


def test_an_adapter_has_as_many_layers_as_it_adapts(root: Path) -> None:
    folder = tiny_model("llama", root, num_hidden_layers=3)
    sizes = read_sizes(json.loads((folder / "config.json").read_text(encoding="utf-8")))

    def trained(layers: int) -> int:
        return sizes.lora_parameters(TrainSettings(lora=LoraSettings(num_layers=layers)))

    assert trained(1) > 0
    assert [trained(n) // trained(1) for n in (1, 2, 3, 9, -1)] == [1, 2, 3, 3, 3]
