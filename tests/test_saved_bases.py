"""A base that transformers 5 saved is the same model on MLX as on torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mlx_lm")

from livery.engines.mlx_config import mend
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

    from livery.engines.mlx_base import load_base

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
    mended = mend(config)
    assert (mended["rope_theta"], mended["partial_rotary_factor"]) == (10.0, 0.5)
    assert mend(mended) == mended


def test_layer_types_decide_the_pattern() -> None:
    kinds = ["sliding_attention"] * 2 + ["full_attention"]
    mended = mend({"model_type": "gemma3_text", "sliding_window_pattern": 6, "layer_types": kinds})
    assert mended["sliding_window_pattern"] == 3
    letters = {"model_type": "exaone4", "sliding_window": 8, "sliding_window_pattern": 4}
    assert mend({**letters, "layer_types": kinds})["sliding_window_pattern"] == "LLG"
    assert mend({**letters, "sliding_window_pattern": "LG"})["sliding_window_pattern"] == "LG"
