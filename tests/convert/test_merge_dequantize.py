"""`livery merge --dequantize`: a 4-bit base and its adapter as one full-precision model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

from commands.merge import merge_command
from convert.base import load_base
from convert.convert import convert
from convert.merge import blocks as merge_blocks
from convert.merge import dequantize as merge_dequantize
from convert.merge.folders import merge_folders
from livery.errors import UserError
from livery.safetensors_file import encode, open_tensors
from tests.convert import convert_cases as cases
from tests.tiny_models import tiny_model

pytestmark = cases.QUIET


def far(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def mlx_4bit(family: str, root: Path, folder: Path, bits: int = 4, **changes: Any) -> Path:
    pytest.importorskip("mlx_lm")
    from convert import mlx_model

    base = tiny_model(family, root)
    mlx_model.write_model(base, folder, bits=bits, group_size=32, **changes)
    return folder


def mlx_values(folder: Path) -> dict[str, np.ndarray]:
    """What mlx-lm's own dequantize_model makes of a folder, in float32."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import dequantize_model, load_model

    model, _ = load_model(folder)
    flat: Any = tree_flatten(dequantize_model(model).parameters())
    return {name: np.array(value.astype(mx.float32)) for name, value in flat}


FAMILIES = [
    pytest.param(family, marks=[] if family in ("llama", "mixtral") else pytest.mark.slow)
    for family in ("llama", "mixtral", "qwen3", "qwen3_moe", "phi", "phi3", "gemma3")
]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_mlx_base_and_adapter_become_one_model(family: str, root: Path, tmp_path: Path):
    """The merged model computes what mlx-lm computes with the quantized base and the adapter."""
    quantized = mlx_4bit(family, root, tmp_path / "4bit")
    cases.peft_adapter(family, root, tmp_path / "peft", **cases.VARIANTS["patterns"])
    convert(tmp_path / "peft", tmp_path / "mlx", "mlx", base=tiny_model(family, root))
    wanted = cases.mlx_logits(quantized, tmp_path / "mlx")
    with pytest.raises(UserError, match=r"a quantized base.*add --dequantize"):
        merge_folders(quantized, (tmp_path / "mlx",), tmp_path / "merged")
    for name in ("mlx", "peft"):
        merge_folders(quantized, (tmp_path / name,), tmp_path / name / "merged", dequantize=True)
        assert far(cases.base_logits(tmp_path / name / "merged"), wanted) < 2e-4
    merged, tensors = tmp_path / "peft" / "merged", tiny_model(family, root)
    found = {
        name: e.shape for name, e in open_tensors(merged / "model.safetensors").entries.items()
    }
    published = open_tensors(tensors / "model.safetensors").entries
    assert found == {name: entry.shape for name, entry in published.items()}
    config = json.loads((merged / "config.json").read_text())
    assert "quantization" not in config
    assert "quantization_config" not in config
    merge_folders(
        quantized, (tmp_path / "mlx",), tmp_path / "plain", weights=(0.0,), dequantize=True
    )
    assert far(cases.base_logits(tmp_path / "plain"), wanted) > 0.5  # the adapter does something
    assert far(cases.base_logits(tensors), wanted) > 0.5  # and so did the quantization


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_every_width_decodes_as_mlx_does(bits: int, root: Path, tmp_path: Path):
    quantized = mlx_4bit("llama", root, tmp_path / "q", bits)
    wanted = mlx_values(quantized)
    parts = merge_dequantize.merge_dequantized(load_base(quantized), [], tmp_path / "out")
    assert parts["dequantized"] == 16
    assert parts["dtype"] == "float32"
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        assert far(found[name], value) < 1e-6 * max(1.0, float(np.abs(value).max())), name
    exact = load_file(tiny_model("llama", root) / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    error = np.abs(found[name] - exact[name]).mean() / np.abs(exact[name]).mean()
    assert 0.25 < error * 2**bits < 4


def test_layers_of_different_widths(root: Path, tmp_path: Path):
    """mlx-lm's mixed recipes: some layers say their own bits in config.json."""
    pytest.importorskip("mlx_lm")
    from mlx_lm.convert import convert as mlx_convert

    quantized = tmp_path / "mixed"
    mlx_convert(
        str(tiny_model("llama", root, num_hidden_layers=4)), str(quantized), quantize=True,
        q_group_size=32, quant_predicate="mixed_3_6", dtype="float16",
    )  # fmt: skip
    settings = json.loads((quantized / "config.json").read_text())["quantization"]
    assert {own["bits"] for own in settings.values() if isinstance(own, dict)} == {3, 6}
    wanted = mlx_values(quantized)
    report = merge_dequantize.merge_dequantized(load_base(quantized), [], tmp_path / "out")
    assert report["dtype"] == "float16"
    found = load_file(tmp_path / "out" / "model.safetensors")
    for name, value in wanted.items():
        assert far(found[name].astype(np.float32), value) < 2e-3 * float(np.abs(value).max()), name


def test_bfloat16_is_rounded_once(root: Path, tmp_path: Path):
    """scale * q + bias + delta in float32, and only then bfloat16."""
    quantized = mlx_4bit("llama", root, tmp_path / "q", dtype="bfloat16")
    cases.peft_adapter("llama", root, tmp_path / "peft")
    made: dict[str, dict[str, np.ndarray]] = {}
    for dtype in ("auto", "float32"):
        merge_folders(
            quantized, (tmp_path / "peft",), tmp_path / dtype, dequantize=True, dtype=dtype
        )
        file = open_tensors(tmp_path / dtype / "model.safetensors")
        made[dtype] = {name: file.read(name) for name in file.entries}
        config = json.loads((tmp_path / dtype / "config.json").read_text())
        stored = {"auto": "bfloat16"}.get(dtype, dtype)
        assert config["torch_dtype"] == stored
        assert {file.dtype(name) for name in file.entries} == {stored}
    for name, value in made["float32"].items():
        bits = encode(value, "bfloat16").astype(np.uint32) << 16
        assert (made["auto"][name] == bits.view(np.float32)).all(), name


@pytest.mark.slow
@pytest.mark.parametrize("double", [True, False])
def test_bitsandbytes_nf4(
    double: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("bitsandbytes")
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    base = tiny_model("llama", root)
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.float32,
    )
    model = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=settings, dtype=torch.float32, device_map="cpu"
    )
    model.save_pretrained(tmp_path / "nf4")
    wanted = {
        name: dequantize_4bit(weight.data, weight.quant_state).numpy()
        for name, weight in model.named_parameters()
        if hasattr(weight, "quant_state")
    }
    assert len(wanted) == 14
    cases.peft_adapter("llama", root, tmp_path / "peft", **cases.VARIANTS["rslora"])
    merge_folders(
        tmp_path / "nf4", (tmp_path / "peft",), tmp_path / "p", weights=(0.0,), dequantize=True
    )
    plain = load_file(tmp_path / "p" / "model.safetensors")
    for name, value in wanted.items():
        assert far(plain[name], value) < 1e-6, name
    merge_folders(tmp_path / "nf4", (tmp_path / "peft",), tmp_path / "out", dequantize=True)
    merged, adapted = (
        cases.base_logits(tmp_path / "out"),
        cases.peft_logits(tmp_path / "p", tmp_path / "peft"),
    )
    assert far(merged, adapted) < 5e-5
    assert far(cases.base_logits(tmp_path / "p"), adapted) > 0.5
    # bitsandbytes multiplies in bfloat16 on some processors.
    theirs = cases.torch_logits(PeftModel.from_pretrained(model, str(tmp_path / "peft")))
    assert far(merged, theirs) < 0.3
    with pytest.raises(UserError, match="a quantized base"):
        merge_folders(tmp_path / "nf4", (tmp_path / "peft",), tmp_path / "no")
    monkeypatch.setattr(merge_blocks, "BLOCK", 300)  # a tensor in many blocks of rows
    merge_folders(tmp_path / "nf4", (tmp_path / "peft",), tmp_path / "many", dequantize=True)
    whole, many = (tmp_path / name / "model.safetensors" for name in ("out", "many"))
    assert whole.read_bytes() == many.read_bytes()


def test_large_models_are_cut_into_shards(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    quantized = mlx_4bit("llama", root, tmp_path / "q")
    cases.peft_adapter("llama", root, tmp_path / "peft")
    seen: list[tuple[int, int]] = []
    merge_folders(quantized, (tmp_path / "peft",), tmp_path / "one", dequantize=True)
    monkeypatch.setattr(merge_dequantize, "SHARD", 100_000)
    report = merge_folders(
        quantized, (tmp_path / "peft",), tmp_path / "many", dequantize=True,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert report["shards"] > 3
    assert seen[0] == (0, report["bytes"])
    assert seen[-1] == (report["bytes"], report["bytes"])
    whole = load_file(tmp_path / "one" / "model.safetensors")
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    for name, value in whole.items():
        part = load_file(tmp_path / "many" / index["weight_map"][name])
        assert np.array_equal(part[name], value)
    assert not (tmp_path / "one" / "model.safetensors.index.json").exists()
    one, many = (cases.base_logits(tmp_path / name) for name in ("one", "many"))
    assert np.array_equal(one, many)


@pytest.mark.slow
def test_what_is_refused_by_name(root: Path, tmp_path: Path):
    quantized = mlx_4bit("llama", root, tmp_path / "q")
    cases.peft_adapter("llama", root, tmp_path / "peft")

    def refused(says: str, folder: Path) -> None:
        with pytest.raises(UserError, match=says):
            merge_folders(folder, (tmp_path / "peft",), tmp_path / "out", dequantize=True)
        assert not (tmp_path / "out").exists()

    def copy(name: str, **config: Any) -> Path:
        shutil.copytree(quantized, tmp_path / name)
        old = json.loads((quantized / "config.json").read_text())
        merged = {k: v for k, v in {**old, **config}.items() if v is not None}
        (tmp_path / name / "config.json").write_text(json.dumps(merged))
        return tmp_path / name

    refused("is not quantized; merge it without", tiny_model("llama", root))
    settings = {"group_size": 32, "bits": 4, "mode": "mxfp4"}
    refused("quantized as mxfp4 with 4 bits", copy("mx", quantization=settings))
    wrong = {"group_size": 32, "bits": 8, "mode": "affine"}
    refused(r"are not those of 8 bits in groups of 32", copy("wrong", quantization=wrong))
    own = {**settings, "mode": "affine", "model.layers.1.mlp.up_proj": settings}
    refused(r"layers\.1\.mlp\.up_proj: quantized as mxfp4", copy("own", quantization=own))
    refused("model type 'nonsuch'.*known: llama", copy("type", model_type="nonsuch"))
    gptq = {"quant_method": "gptq", "bits": 4}
    refused("quantized by gptq", copy("gptq", quantization=None, quantization_config=gptq))
    int8 = tmp_path / "int8"  # whole, but for one weight in another kind of numbers
    shutil.copytree(tiny_model("llama", root), int8)
    config = json.loads((int8 / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes"}
    (int8 / "config.json").write_text(json.dumps(config))
    tensors = load_file(int8 / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**tensors, name: tensors[name].astype(np.int8)}, int8 / "model.safetensors")
    with pytest.raises(UserError, match="not bitsandbytes' 4-bit kind"):
        merge_dequantize.merge_dequantized(load_base(int8), [], tmp_path / "out")
    other = tiny_model("llama", root, hidden_size=128)
    cases.peft_adapter("llama", root, tmp_path / "small", target_modules=["v_proj"])
    big = tmp_path / "big"
    from convert import mlx_model

    mlx_model.write_model(other, big, bits=4, group_size=32)
    with pytest.raises(UserError, match="the adapter is for a weight of shape"):
        merge_folders(big, (tmp_path / "small",), tmp_path / "out", dequantize=True)


def test_the_command(root: Path, tmp_path: Path):
    quantized = mlx_4bit("llama", root, tmp_path / "q")
    cases.peft_adapter("llama", root, tmp_path / "peft")
    arguments = ["--base", str(quantized), "--adapter", str(tmp_path / "peft")]
    out = ["--out", str(tmp_path / "out")]
    made = CliRunner().invoke(
        merge_command, [*arguments, *out, "--dequantize", "--json"], catch_exceptions=False
    )
    report = json.loads(made.stdout)
    assert (report["dequantized"], report["changed"], report["dtype"]) == (16, 14, "float32")
    with pytest.raises(UserError, match="--dtype belongs to --dequantize"):
        CliRunner().invoke(
            merge_command, [*arguments, *out, "--dtype", "float16"], catch_exceptions=False
        )
    alone = ["--base", str(quantized), "--out", str(tmp_path / "alone")]
    with pytest.raises(UserError, match="give an --adapter"):
        CliRunner().invoke(merge_command, alone, catch_exceptions=False)
    CliRunner().invoke(merge_command, [*alone, "--dequantize"], catch_exceptions=False)
    found, wanted = load_file(tmp_path / "alone" / "model.safetensors"), mlx_values(quantized)
    assert all(far(found[name], value) < 1e-6 for name, value in wanted.items())
    from convert.gguf.convert import convert_model

    with pytest.raises(UserError, match=r"quantized\? .*--dequantize makes one"):
        convert_model(quantized, tmp_path / "m.gguf", "f16")


@pytest.mark.parametrize("block", [32, 64, 256])
def test_rows_from_the_middle_of_a_matrix_take_their_own_scales(block: int, tmp_path: Path) -> None:
    """A large matrix is decoded some rows at a time."""
    from convert.merge.quantized_bnb import Quantized

    rng = np.random.default_rng(block)
    packed = rng.integers(0, 256, (64 * 48 // 2, 1), np.uint8)
    save_file({"w": packed}, tmp_path / "w.safetensors")
    scales = rng.normal(size=64 * 48 // block).astype(np.float32)
    table = rng.normal(size=16).astype(np.float32)
    found = Quantized(open_tensors(tmp_path / "w.safetensors"), "w", (64, 48), block, scales, table)
    codes = np.stack([packed[:, 0] >> 4, packed[:, 0] & 15], 1).reshape(-1)
    wanted = (table[codes].reshape(-1, block) * scales[:, None]).reshape(64, 48)
    step = found.step
    for first in range(0, 64, step):
        last = min(64, first + 2 * step)
        part = found.read(first, last, merge_blocks.Workspace())
        np.testing.assert_array_equal(part, wanted[first:last])
