"""What would fail at the export of a run fails before its first step."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest

from commands.training import export as exporting
from commands.training import session as training
from commands.training.export import rehearse
from livery.config.layers import resolve
from livery.config.settings import LoraSettings, TrainSettings
from livery.errors import UserError
from livery.training.backend import PortableState
from tests.tiny_models import tiny_model


def settings(base: Path) -> TrainSettings:
    return TrainSettings(model=str(base), lora=LoraSettings(rank=2, alpha=4))


def state(module: str, out: int, into: int) -> PortableState:
    a, b = np.ones((2, into), np.float32), np.zeros((out, 2), np.float32)
    return PortableState({f"{module}.lora_A": a, f"{module}.lora_B": b})


def test_an_untrained_adapter_is_written_and_read_back(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_model("llama", root)
    first = state("model.layers.0.self_attn.q_proj", 64, 64)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    assert rehearse(settings(base), None, first) == []
    assert list((tmp_path / "scratch").iterdir()) == []
    assert rehearse(settings(base), None, first, keep=tmp_path / "kept") == []
    assert (tmp_path / "kept" / "gguf" / "adapter.gguf").is_file()


@pytest.mark.parametrize(
    ("module", "fault"),
    [("model.layers.7.self_attn.q_proj", "no such module"),
     ("model.layers.0.mlp.up_proj", "is for a weight of shape")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(module: str, fault: str, root: Path) -> None:
    with pytest.raises(UserError, match=fault):
        rehearse(settings(tiny_model("llama", root)), None, state(module, 64, 64))


def test_what_reads_back_as_another_adapter_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convert.adapters import formats

    real = formats.read_adapter
    lost = "model.layers.0.self_attn.q_proj"
    monkeypatch.setattr(
        formats, "read_adapter",
        lambda *args: dataclasses.replace(
            found := real(*args), pairs={k: v for k, v in found.pairs.items() if k != lost}
        ),
    )  # fmt: skip
    with pytest.raises(UserError, match=f"{lost} would be lost"):
        rehearse(settings(tiny_model("llama", root)), None, state(lost, 64, 64))


def test_a_run_tries_before_its_first_step(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlx_lm")

    def fails(*args: object, **more: object) -> None:
        raise UserError("no form")

    monkeypatch.setattr("convert.pack.folder.write_adapter_folder", fails)
    assert exporting.rehearse is training.rehearse
    rows = tmp_path / "train.jsonl"
    rows.write_text('{"prompt": "one", "completion": "two"}\n' * 4)
    out = tmp_path / "out"
    config = resolve(
        {"model": str(tiny_model("llama", root)), "data": str(rows), "output_dir": str(out),
         "backend": "mlx", "max_steps": 1}, file=None
    )  # fmt: skip
    with pytest.raises(UserError, match="no form"):
        training.train(config, training.Request())
    assert not (out / "training_metrics.jsonl").exists()
    assert not (out / "checkpoints").exists()


def test_peft_itself_must_find_all_of_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a family that PEFT reads otherwise, as if its rule were not known here."""
    pytest.importorskip("peft")
    from livery import peft_rules
    from tests import hf_families

    base = hf_families.tiny("glm4_moe", root / "families" / "glm4_moe")
    first = state("model.layers.0.mlp.up_proj", 128, 64)
    on_torch = dataclasses.replace(settings(base), backend="torch")
    assert rehearse(on_torch, None, first) is not None
    monkeypatch.setattr(peft_rules, "EXPERT_NAMES", {})
    with pytest.raises(UserError, match=r"PEFT would not load the adapter.*Nothing was trained"):
        rehearse(on_torch, None, first)
