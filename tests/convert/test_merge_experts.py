"""Adapters on experts, merged into bases that keep all of a layer's experts in one parameter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convert.merge.folders import merge_folders
from livery.errors import UserError
from tests.convert import convert_cases as cases
from tests.convert.test_gguf_families import adapted
from tests.tiny_models import tiny_model

pytestmark = cases.QUIET


@pytest.mark.parametrize("family", ["gpt_oss", "qwen3_5_moe"])
def test_fused_experts_merge_as_peft_merges_them(family: str, root: Path, tmp_path: Path):
    base = shutil.copytree(tiny_model(family, root), tmp_path / "base")
    whole = {name: array.numpy() for name, array in cases.torch_base(base).state_dict().items()}
    save_file(whole, base / "model.safetensors")  # save_pretrained parts those of most families
    before = load_file(base / "model.safetensors")
    fused = {name for name in before if name.endswith(("_up_proj", "experts.down_proj"))}
    assert all(before[name].ndim == 3 for name in fused)
    assert fused
    model = adapted(family, base, tmp_path / "peft")
    wanted = cases.torch_logits(model)
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    after = load_file(tmp_path / "merged" / "model.safetensors")
    assert after.keys() == before.keys()
    theirs = model.merge_and_unload().state_dict()
    for name in fused:
        assert np.abs(after[name] - theirs[name].numpy()).max() < 1e-6, name
        assert np.abs(after[name] - before[name]).max() > 0.05, name
    assert np.abs(cases.base_logits(tmp_path / "merged") - wanted).max() < 5e-5
    assert np.abs(cases.base_logits(base) - wanted).max() > 0.5


def test_stacks_of_mlx_merge_too(root: Path, tmp_path: Path):
    """A base as mlx-lm writes it: a stack for each of gate, up and down."""
    base = tiny_model("qwen3_moe", root)
    cases.peft_adapter("qwen3_moe", root, tmp_path / "peft")
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    stacked = shutil.copytree(base, tmp_path / "mlx")
    save_file(stacks(base), stacked / "model.safetensors")
    merge_folders(stacked, (tmp_path / "peft",), tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, wanted in stacks(tmp_path / "merged").items():
        assert np.array_equal(found[name], wanted), name


def stacks(folder: Path) -> dict[str, np.ndarray]:
    made: dict[str, np.ndarray] = {}
    found = load_file(folder / "model.safetensors")
    for name, array in found.items():
        head, part, rest = name.partition(".experts.")
        if part:
            leaf = rest.partition(".")[2]
            if rest.startswith("0."):
                each = [found[f"{head}.experts.{n}.{leaf}"] for n in range(4)]
                made[f"{head}.switch_mlp.{leaf}"] = np.stack(each)
        else:
            made[name] = array
    assert any(".switch_mlp." in name for name in made)
    return made


def in_blocks(folder: Path) -> None:
    """The base's experts as MXFP4, which is what gpt-oss's checkpoints hold."""
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4"}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    rng = np.random.default_rng(0)
    for name in [n for n in weights if n.endswith(("gate_up_proj", "down_proj"))]:
        count, into, out = weights.pop(name).shape
        shape = (count, out, into // 32)
        weights[f"{name}_blocks"] = rng.integers(0, 256, (*shape, 16), np.uint8)
        weights[f"{name}_scales"] = rng.integers(119, 125, shape, np.uint8)
    save_file(weights, folder / "model.safetensors")


def test_mxfp4_experts_are_decoded_and_merged(root: Path, tmp_path: Path):
    base = tiny_model("gpt_oss", root)
    model = adapted("gpt_oss", base, tmp_path / "peft")
    packed = shutil.copytree(base, tmp_path / "packed")
    in_blocks(packed)
    with pytest.raises(UserError, match=r"experts are in blocks of 4 bits .*Add --dequantize"):
        merge_folders(packed, (tmp_path / "peft",), tmp_path / "merged")
    merge_folders(packed, (), tmp_path / "plain", dequantize=True, dtype="float32")
    theirs = cases.torch_base(packed)  # transformers decodes them itself
    ours = load_file(tmp_path / "plain" / "model.safetensors")
    assert ours.keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert np.array_equal(ours[name], tensor.float().numpy()), name
    merge_folders(
        packed, (tmp_path / "peft",), tmp_path / "merged", dequantize=True, dtype="float32"
    )
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    before = load_file(base / "model.safetensors")
    for name, tensor in model.merge_and_unload().state_dict().items():
        delta = tensor.numpy() - before[name]
        assert np.abs(merged[name] - ours[name] - delta).max() < 1e-5, name
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config


def test_blocks_without_scales_are_refused(root: Path, tmp_path: Path):
    packed = shutil.copytree(tiny_model("gpt_oss", root), tmp_path / "packed")
    in_blocks(packed)
    weights = load_file(packed / "model.safetensors")
    name = next(name for name in weights if name.endswith("_scales"))
    weights[name] = weights[name][..., :1]
    save_file(weights, packed / "model.safetensors")
    with pytest.raises(UserError, match=r"_blocks of shape .* has no .*_scales that fits it"):
        merge_folders(packed, (), tmp_path / "plain", dequantize=True)
    assert not (tmp_path / "plain").exists()
