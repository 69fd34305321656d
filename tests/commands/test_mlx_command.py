"""`livery mlx`: converted folders load in mlx-lm and compute what the model computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

pytest.importorskip("mlx_lm")

from commands.mlx import mlx_command
from convert import mlx_model
from livery.cli import run
from livery.errors import UserError
from livery.safetensors_file import open_tensors
from tests import ROOT
from tests.convert import convert_cases as cases
from tests.tiny_models import tiny_model

BASE = ROOT / "base_model"


def logits(folder: Path) -> np.ndarray:
    """Logits (24, V) of mlx-lm, in float32."""
    import mlx.core as mx
    from mlx_lm.utils import load_model

    model, _ = load_model(folder)
    return np.array(model(mx.array(cases.TOKENS))[0].astype(mx.float32))


def far(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def stored(folder: Path) -> dict[str, str]:
    return {
        name: entry.tag
        for file in folder.glob("model*.safetensors")
        for name, entry in open_tensors(file).entries.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen3_moe", "gemma3", "phi3"])
def test_dense_is_the_same_model(family: str, root: Path, tmp_path: Path):
    base = tiny_model(family, root)
    report = mlx_model.write_model(base, tmp_path / "out")
    assert (report["dtype"], report["quantized"], report["left_dense"]) == ("float32", 0, [])
    wanted = cases.base_logits(base)
    assert far(logits(tmp_path / "out"), wanted) < cases.MLX_TOLERANCE[family]
    assert far(cases.base_logits(tiny_model(family, root, seed=1)), wanted) > 0.5
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["torch_dtype"] == "float32"


def test_quantized_is_near_and_nearer_with_more_bits(root: Path, tmp_path: Path):
    base = tiny_model("llama", root)
    wanted = cases.base_logits(base)
    distance: dict[int, float] = {}
    for bits in (4, 8):
        out = tmp_path / str(bits)
        report = mlx_model.write_model(base, out, bits=bits, group_size=32)
        assert report["quantized"] == 16
        assert report["left_dense"] == []
        config = json.loads((out / "config.json").read_text())
        assert config["quantization"] == {"bits": bits, "group_size": 32, "mode": "affine"}
        assert stored(out)["model.layers.0.self_attn.q_proj.weight"] == "U32"
        distance[bits] = far(logits(out), wanted)
    apart = far(cases.base_logits(tiny_model("llama", root, seed=1)), wanted)
    assert distance[8] < 0.3, distance
    assert distance[8] < distance[4] / 4 < apart / 8, (distance, apart)


def test_what_does_not_divide_stays_dense_and_is_named(root: Path, tmp_path: Path):
    base = tiny_model("llama", root, intermediate_size=96)
    report = mlx_model.write_model(base, tmp_path / "out", bits=4, group_size=64)
    assert report["left_dense"] == [f"model.layers.{n}.mlp.down_proj" for n in (0, 1)]
    assert far(logits(tmp_path / "out"), cases.base_logits(base)) < 3
    with pytest.raises(UserError, match="smaller --group-size"):
        mlx_model.write_model(base, tmp_path / "none", bits=4, group_size=128)
    assert not (tmp_path / "none").exists()


def test_the_stored_dtype_is_kept_whatever_the_config_says(root: Path, tmp_path: Path):
    base = tmp_path / "base"
    shutil.copytree(tiny_model("llama", root), base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "torch_dtype": "float16"}))
    assert mlx_model.write_model(base, tmp_path / "same")["dtype"] == "float32"
    assert set(stored(tmp_path / "same").values()) == {"F32"}
    mlx_model.write_model(base, tmp_path / "half", dtype="bfloat16")
    assert set(stored(tmp_path / "half").values()) == {"BF16"}
    config = json.loads((tmp_path / "half" / "config.json").read_text())
    assert config["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("bits", [None, 4])
def test_what_float16_does_not_hold_is_refused(bits: int | None, root: Path, tmp_path: Path):
    base, name = tmp_path / "base", "model.layers.1.mlp.up_proj.weight"
    shutil.copytree(tiny_model("llama", root), base)
    tensors = load_file(base / "model.safetensors")
    tensors[name][0, :3] = (7e4, -1e5, 65504.0)  # the last is float16's largest
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    said = rf"{name}: 2 of [\d,]+ values are beyond what float16 holds \(the largest is 100000\)"
    with pytest.raises(UserError, match=said) as caught:
        mlx_model.write_model(base, tmp_path / "out", dtype="float16", bits=bits, group_size=32)
    assert "--allow-nonfinite writes infinity" in str(caught.value)
    assert not (tmp_path / "out").exists()
    mlx_model.write_model(base, tmp_path / "out", dtype="float16", bits=bits, group_size=32,
                          allow_nonfinite=True)  # fmt: skip
    mlx_model.write_model(base, tmp_path / "wide", dtype="bfloat16")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_model_that_is_not_finite_is_refused(value: float, root: Path, tmp_path: Path):
    base, name = tmp_path / "base", "model.layers.1.mlp.up_proj.weight"
    shutil.copytree(tiny_model("llama", root), base)
    tensors = load_file(base / "model.safetensors")
    tensors[name][2, :3] = value
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"{name}: 3 of [\d,]+ values are NaN or infinite"):
        mlx_model.write_model(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    arguments = ["mlx", "--model", str(base), "--out", str(tmp_path / "out"), "--allow-nonfinite"]
    assert run(arguments) == 0
    assert (~np.isfinite(load_file(tmp_path / "out" / "model.safetensors")[name])).sum() == 3


def test_what_mlx_computes_otherwise_is_refused(tmp_path: Path):
    """As training on MLX refuses it: mlx-lm's glm rotates whole heads."""
    from tests import hf_families

    base = hf_families.tiny("glm", tmp_path / "base")
    with pytest.raises(UserError, match=r"computes glm differently.*partial_rotary_factor.*gguf"):
        mlx_model.write_model(base, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nested_rope_parameters_reach_mlx(root: Path, tmp_path: Path):
    """mlx-lm itself would compute with its default: that is the negative control."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model("llama", root), base)
    config: dict[str, Any] = json.loads((base / "config.json").read_text())
    del config["rope_theta"]
    config["rope_parameters"] = {"rope_type": "linear", "factor": 4.0, "rope_theta": 300.0}
    (base / "config.json").write_text(json.dumps(config))
    wanted = cases.base_logits(base)
    mlx_model.write_model(base, tmp_path / "out")
    assert far(logits(tmp_path / "out"), wanted) < cases.MLX_TOLERANCE["llama"]
    assert far(logits(base), wanted) > 0.1


def test_the_command(tmp_path: Path):
    out = tmp_path / "out"
    arguments = ["--model", str(BASE), "--out", str(out), "--quantize", "4", "--json"]
    made = CliRunner().invoke(mlx_command, arguments, catch_exceptions=False)
    report = json.loads(made.stdout)
    assert report["bits"] == 4
    assert report["bytes"] == sum(path.stat().st_size for path in out.iterdir())
    assert report["bytes"] < 0.4 * (BASE / "model.safetensors").stat().st_size
    with pytest.raises(UserError, match="--overwrite"):
        CliRunner().invoke(mlx_command, arguments, catch_exceptions=False)
    with pytest.raises(UserError, match="the model itself"):
        CliRunner().invoke(
            mlx_command, ["--model", str(out), "--out", str(out)], catch_exceptions=False
        )
    shown = CliRunner().invoke(
        mlx_command, ["--model", str(BASE), "--out", str(out), "--overwrite"],
        catch_exceptions=False,
    )  # fmt: skip
    assert "MLX, bfloat16" in shown.stdout
    assert "converting to MLX: 8/8 MB (100%)" in shown.stderr


def test_errors_name_what_is_wrong(root: Path, tmp_path: Path):
    def refused(says: str, model: Path) -> None:
        with pytest.raises(UserError, match=says):
            mlx_model.write_model(model, tmp_path / "out", bits=4, group_size=32)
        assert not list(tmp_path.glob("*out*"))

    refused("no such folder", tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    refused(r"no config\.json", tmp_path / "empty")
    mlx_model.write_model(tiny_model("llama", root), tmp_path / "4bit", bits=4, group_size=32)
    refused(r"quantized already \(quantization: 4 bits\).*--dequantize", tmp_path / "4bit")
    shutil.copytree(tiny_model("llama", root), tmp_path / "odd")
    config = json.loads((tmp_path / "odd" / "config.json").read_text())
    (tmp_path / "odd" / "config.json").write_text(json.dumps({**config, "model_type": "nonsuch"}))
    refused("cannot convert this model: ValueError", tmp_path / "odd")
    file = tmp_path / "odd" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused("not a complete safetensors file", tmp_path / "odd")
    assert run(["mlx", "--model", str(tmp_path / "odd"), "--out", str(tmp_path / "out")]) == 1
    assert run(["mlx", "--model", "x", "--out", "y", "--quantize", "7"]) == 2
