"""Before a run MLX's base is held against torch's: a wrong one is refused, a result is kept."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mlx_lm")
pytest.importorskip("torch")

from commands.training import session as training
from livery import base_check
from livery.base_check import Measured, check_base, check_lengths, measure
from livery.config.layers import resolve
from livery.config.settings import TrainSettings
from livery.engines.mlx.model_config import longest_exact
from livery.engines.torch.load import load_base
from livery.errors import UserError
from livery.paths import HOME
from tests.convert.test_merge_experts import in_blocks
from tests.package_index import make_base
from tests.tiny_models import tiny_model

TOKENS = np.random.default_rng(0).integers(3, 512, 100).tolist()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "livery" / "bases"


def settings(base: Path | str, wanted: Any = "auto") -> TrainSettings:
    return TrainSettings(model=str(base), backend="mlx", check_base=wanted)


def never(*_: object) -> Measured:
    raise AssertionError("measured again")


@pytest.mark.slow
def test_the_embedded_base_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a run on it need not measure, which it does not."""
    found = measure(HOME / "base_model", TOKENS[:32])
    assert found.same
    assert found.difference < 1e-3
    assert found.tokens == 32
    monkeypatch.setattr(base_check, "measure", never)
    assert check_base(settings("base_model"), TOKENS) == ""


@pytest.mark.slow
def test_a_wrong_base_is_refused_before_the_first_step(
    root: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = wrong_base(root)
    rows = tmp_path / "train.jsonl"
    text = " ".join(["remind me of the report"] * 20)
    rows.write_text(json.dumps({"prompt": text, "completion": "yes"}) + "\n")
    out = tmp_path / "out"
    flags = {"model": str(base), "data": str(rows), "output_dir": str(out), "backend": "mlx"}
    config = resolve({**flags, "max_steps": 1, "check_base": "auto"}, file=None)
    with pytest.raises(
        UserError, match=r"MLX and torch read this base differently.*--backend torch"
    ):
        training.train(config, training.Request())
    assert not (out / "checkpoints").exists()
    (kept,) = cache.iterdir()
    assert json.loads(kept.read_text())["same"] is False
    monkeypatch.setattr(base_check, "measure", never)
    with pytest.raises(UserError, match="differ by"):  # known by now
        check_base(settings(base), TOKENS)


def wrong_base(root: Path) -> Path:
    """A gemma2 whose window is shorter than a row: mlx-lm's attends to everything."""
    return tiny_model("gemma2", root, sliding_window=8)


@pytest.mark.slow
def test_a_right_base_is_measured_once(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_model("llama", root)
    assert check_base(settings(base, "no"), TOKENS) == ""
    assert not cache.exists()
    assert "is the same on MLX and torch" in check_base(settings(base), TOKENS)
    (kept,) = cache.iterdir()
    monkeypatch.setattr(base_check, "measure", never)
    assert check_base(settings(base), TOKENS) == ""
    monkeypatch.setattr(base_check, "measure", lambda *_: Measured(1.0, 9))
    with pytest.raises(UserError, match="differ by 1 over 9 tokens"):
        check_base(settings(base, "yes"), TOKENS)
    kept.write_text("damaged")
    with pytest.raises(UserError, match="differ by 1 over 9 tokens"):
        check_base(settings(base), TOKENS)


def test_a_base_that_livery_pins_is_not_measured_and_one_that_it_names_is_no_news(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_base(root, tmp_path, monkeypatch)
    monkeypatch.setattr(base_check, "measure", lambda *_: Measured(1.0, 9))
    made.base.kept.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "m.gguf", made.base.kept)
    assert check_base(settings("tiny-base"), TOKENS) == "", "out of its wheel, to the byte"
    with pytest.raises(UserError, match="differ by 1"):
        check_base(settings("tiny-base", "yes"), TOKENS)

    # From a hub it is whatever the hub has today: measured where it can be.
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    there = tmp_path / "hub" / "models--nobody--tiny-base" / "snapshots" / "0"
    shutil.copytree(tiny_model("llama", root), there)
    with pytest.raises(UserError, match="differ by 1"):
        check_base(settings("tiny-base"), TOKENS)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a)
    )
    assert check_base(settings("tiny-base"), TOKENS) == ""
    assert "torch is not installed" in check_base(settings(there), TOKENS)


def test_without_torch_it_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "torch" else real(name, *a)
    )
    monkeypatch.setattr(base_check, "measure", never)
    base = tiny_model("llama", root)
    assert "was not compared with torch's: torch is not installed" in check_base(
        settings(base), TOKENS
    )
    with pytest.raises(UserError, match="cannot be compared: torch is not installed"):
        check_base(settings(base, "yes"), TOKENS)
    assert check_base(settings("base_model"), TOKENS) == ""


def test_what_is_too_large_or_quantized_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_check, "machine_memory", lambda: (1000, 1000))
    base = tiny_model("llama", root)
    assert "are free" in check_base(settings(base), TOKENS)
    torch_run = dataclasses.replace(settings(base), backend="torch")
    assert check_base(torch_run, TOKENS) == ""


@pytest.mark.slow
def test_experts_in_blocks_of_4_bits(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gpt-oss as it is published: torch decodes its MXFP4, MLX computes with it."""
    base = tmp_path / "packed"
    shutil.copytree(tiny_model("gpt_oss", root), base)
    in_blocks(base)
    said = check_base(settings(base, "yes"), TOKENS)
    assert "is the same on MLX and torch" in said
    # torch's take eight bytes for each one of the file's, which the question of memory must count.
    whole: Any = load_base(tiny_model("gpt_oss", root), device="cpu").model
    unpacked = 4 * whole.num_parameters()
    monkeypatch.setattr(base_check, "machine_memory", lambda: (unpacked, int(1.1 * unpacked)))
    with pytest.raises(UserError, match=r"cannot be compared: it takes .* are free"):
        check_base(settings(base, "yes"), TOKENS)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"model_type": "mistral", "sliding_window": 16}, 16),
        ({"model_type": "mistral", "sliding_window": None}, None),
        ({"model_type": "gemma2", "sliding_window": 16}, 16),
        ({"model_type": "gemma3_text", "sliding_window": 16}, None),
        ({"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": False}, None),
        ({"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": True}, 16),
        ({"model_type": "phi3", "sliding_window": 2047}, 2047),
    ],
)
def test_how_long_rows_may_be(config: dict[str, Any], limit: int | None) -> None:
    known = longest_exact(config)
    assert (known[0] if known else None) == limit


def test_rows_beyond_a_window_that_mlx_has_not_are_refused(root: Path) -> None:
    base = tiny_model("mistral", root, sliding_window=16)
    check_lengths(settings(base), 16)
    with pytest.raises(UserError, match=r"more than 16 tokens.*--max-length 16"):
        check_lengths(settings(base), 17)
    check_lengths(settings(base, "no"), 17)
    check_lengths(dataclasses.replace(settings(base), backend="torch"), 17)
