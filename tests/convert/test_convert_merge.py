"""Merged models compute what base and adapter compute, and nothing else in the folder changes."""

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
from convert.adapters import formats
from convert.base import load_base
from convert.convert import convert
from convert.merge.changes import Part
from convert.merge.folders import merge_folders
from convert.merge.merge import merge
from livery.adapter import Adapter, Pair
from livery.errors import UserError
from livery.safetensors_file import open_tensors
from tests.convert import convert_cases as cases
from tests.tiny_models import FAMILIES, tiny_model

pytestmark = cases.QUIET


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


@pytest.mark.parametrize("variant", ["patterns", "dora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_logits(family: str, variant: str, root: Path, tmp_path: Path):
    base = cases.base_of(family, root)
    wanted = cases.peft_adapter(family, root, tmp_path / "peft", **cases.VARIANTS[variant])
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    assert difference(cases.base_logits(tmp_path / "merged"), wanted) < 5e-5
    assert difference(cases.base_logits(base), wanted) > 0.5


def test_any_format_merges_to_the_same_bytes(root: Path, tmp_path: Path):
    base = cases.base_of("mixtral", root)
    cases.peft_adapter("mixtral", root, tmp_path / "peft", **cases.VARIANTS["patterns"])
    convert(tmp_path / "peft", tmp_path / "mlx", "mlx", base=base)
    convert(tmp_path / "peft", tmp_path / "a.gguf", "gguf", base=base)
    for name in ("peft", "mlx", "a.gguf"):
        merge_folders(base, (tmp_path / name,), tmp_path / "out", overwrite=True)
        (tmp_path / "out" / "model.safetensors").rename(tmp_path / f"{name}.merged")
    contents = {(tmp_path / f"{n}.merged").read_bytes() for n in ("peft", "mlx", "a.gguf")}
    assert len(contents) == 1


def test_what_is_not_adapted_is_copied(root: Path, tmp_path: Path):
    """Sharded, in bfloat16: headers byte for byte, other tensors and files too."""
    import torch
    from transformers import AutoModelForCausalLM

    plain = cases.base_of("llama", root)
    model = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.bfloat16)
    base = tmp_path / "base"
    model.save_pretrained(base, max_shard_size="80KB")
    shutil.copyfile(plain / "tokenizer.json", base / "tokenizer.json")
    shards = sorted(base.glob("model*.safetensors"))
    assert len(shards) > 2
    cases.peft_adapter("llama", root, tmp_path / "peft", target_modules=["q_proj"])
    report = merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    assert report["changed"] == 2
    names = sorted(path.name for path in base.iterdir())
    made = {path.name for path in (tmp_path / "merged").iterdir()}
    assert made == {*names, ".livery.json"}  # the mark of what wrote it
    for name in names:
        old, new = (base / name).read_bytes(), (tmp_path / "merged" / name).read_bytes()
        if not name.endswith(".safetensors"):
            assert old == new
            continue
        length = 8 + int.from_bytes(old[:8], "little")
        assert old[:length] == new[:length]
        for tensor, entry in open_tensors(base / name).entries.items():
            same = old[entry.start : entry.end] == new[entry.start : entry.end]
            assert same == ("q_proj" not in tensor)
    adapter = formats.read_adapter(tmp_path / "peft")
    for shard in shards:
        before, after = (open_tensors(p / shard.name) for p in (base, tmp_path / "merged"))
        for tensor in before.entries:
            module = tensor.removesuffix(".weight")
            if module in adapter.pairs:
                pair = adapter.pairs[module]
                exact = before.read(tensor) + np.float32(pair.scale) * (pair.b @ pair.a)
                wanted = torch.tensor(exact).to(torch.bfloat16).float().numpy()
                assert (after.read(tensor) == wanted).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("exact", [True, False], ids=["exact", "random"])
def test_the_bits_are_those_of_peft(dtype: str, exact: bool, root: Path, tmp_path: Path):
    """PEFT's merge_and_unload in the base's dtype, bit for bit.

    "exact" numbers have products and sums that float32 holds, so that no matrix library rounds
    them; of random ones a different library may sum in another order, and then a few of them land
    in the next number.
    """
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = tmp_path / "base"
    plain = tiny_model("llama", root, hidden_size=256, intermediate_size=512)
    AutoModelForCausalLM.from_pretrained(plain, dtype=getattr(torch, dtype)).save_pretrained(base)

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype))

    config = LoraConfig(r=6, lora_alpha=7, target_modules="all-linear")  # a scale that rounds
    made = get_peft_model(load(), config)
    generator = torch.Generator().manual_seed(1)
    for name, weight in made.named_parameters():
        if "lora_" in name:
            noise = torch.randn(weight.shape, generator=generator) * 0.1
            weight.data.copy_((noise * 64).round() / 64 if exact else noise)
    made.save_pretrained(str(tmp_path / "peft"))
    merged: Any = PeftModel.from_pretrained(load(), str(tmp_path / "peft")).merge_and_unload()
    merged.save_pretrained(tmp_path / "theirs")
    merge_folders(base, (tmp_path / "peft",), tmp_path / "ours")
    theirs, ours, old = (
        open_tensors(folder / "model.safetensors")
        for folder in (tmp_path / "theirs", tmp_path / "ours", base)
    )
    changed = 0
    for name in theirs.entries:
        a, b = theirs.read(name), ours.read(name)
        changed += not np.array_equal(a, old.read(name))
        if exact:
            assert np.array_equal(a, b), name
        else:
            assert np.mean(a != b) < (0.5 if dtype == "float32" else 1e-3), name
            assert np.allclose(a, b, rtol=1e-2, atol=1e-6)
    assert changed == 14


def test_nan_and_infinity_stay_what_they_are(tmp_path: Path):
    """Rounding to bfloat16 must not carry one into the other; blocks must not mix them up."""
    import torch
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    folder = tiny(tmp_path / "base", **{"model.q.weight": np.zeros((3, 4), np.float32)})
    old = torch.zeros(3, 4, dtype=torch.bfloat16)
    old[0, 1], old[1, 2], old[2, 3] = float("nan"), float("inf"), -float("inf")
    old[0, 0] = 3.3895e38  # the largest: a little more rounds to infinity
    save_torch({"model.q.weight": old}, folder / "model.safetensors")
    merge(load_base(folder), [Part(Adapter({"model.q": pair()}))], tmp_path / "out")
    found = load_torch(tmp_path / "out" / "model.safetensors")["model.q.weight"]
    wanted = (old.float() + torch.tensor(pair().b @ pair().a)).bfloat16()
    assert torch.equal(found.nan_to_num(nan=7.0), wanted.nan_to_num(nan=7.0))
    assert found.isnan().sum() == 1


def test_blocks_of_any_size_give_the_same_bytes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from convert.merge import blocks as merge_blocks

    base = cases.base_of("mixtral", root)
    cases.peft_adapter("mixtral", root, tmp_path / "peft", **cases.VARIANTS["dora"])
    merge_folders(base, (tmp_path / "peft",), tmp_path / "whole")
    monkeypatch.setattr(merge_blocks, "BLOCK", 300)
    monkeypatch.setattr(merge_blocks, "COPIED", 1000)
    merge_folders(base, (tmp_path / "peft",), tmp_path / "small")
    whole, small = (tmp_path / name / "model.safetensors" for name in ("whole", "small"))
    assert whole.read_bytes() == small.read_bytes()


def test_products_run_on_one_thread_and_the_setting_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Threads that each start a thread a core made a merge twenty times slower."""
    from convert.merge import blocks as merge_blocks
    from livery import blas

    found = blas.numpy_openblas()
    if found is None:
        pytest.skip("numpy has another BLAS here")
    get, put = found
    seen: list[int] = []
    real = merge_blocks.compute

    def watched(*arguments: Any) -> int:
        seen.append(get())
        return real(*arguments)

    monkeypatch.setattr(merge_blocks, "compute", watched)
    before = get()
    put(2)
    try:
        base = tiny(tmp_path / "base", **{"model.q.weight": np.zeros((3, 4), np.float32)})
        merge(load_base(base), [Part(Adapter({"model.q": pair()}))], tmp_path / "out")
        assert (seen, get()) == ([1], 2)
    finally:
        put(before)


def tiny(folder: Path, **tensors: np.ndarray) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    tied = "lm_head.weight" not in tensors
    config = {"model_type": "llama", "num_attention_heads": 1, "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def pair(alpha: float = 2.0, **more: Any) -> Pair:
    rng = np.random.default_rng(int(alpha))
    a, b = rng.normal(size=(2, 4)), rng.normal(size=(3, 2))
    return Pair(a.astype(np.float32), b.astype(np.float32), alpha, **more)


def test_several_adapters_with_weights(tmp_path: Path):
    zero = np.zeros((3, 4), np.float32)
    base = load_base(tiny(tmp_path / "base", **{"model.q.weight": zero}))
    one, two = pair(2.0), pair(6.0)
    parts = [Part(Adapter({"model.q": one}), 0.7), Part(Adapter({"model.q": two}), -0.3)]
    merge(base, parts, tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")["model.q.weight"]
    wanted = 0.7 * 1.0 * one.b @ one.a - 0.3 * 3.0 * two.b @ two.a
    assert np.allclose(found, wanted, atol=1e-6)


def test_trained_tensors_and_biases(tmp_path: Path):
    tensors = {
        "model.q.weight": np.zeros((3, 4), np.float32),
        "model.q.bias": np.ones(3, np.float32),
        "model.norm.weight": np.ones(4, np.float32),
    }
    base = load_base(tiny(tmp_path / "base", **tensors))
    biased = pair(2.0, bias=np.full(3, 5.0, np.float32))
    adapter = Adapter({"model.q": biased}, saved={"model.norm.weight": np.full(4, 9.0, np.float32)})
    merge(base, [Part(adapter)], tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert (found["model.q.bias"] == 6.0).all()
    assert (found["model.norm.weight"] == 9.0).all()


def test_refused(tmp_path: Path):
    base = load_base(tiny(tmp_path / "base", **{"model.q.weight": np.zeros((3, 4), np.float32)}))
    plain = Adapter({"model.q": pair()})
    dora = Adapter({"model.q": pair(magnitude=np.ones(3, np.float32))})

    def refused(says: str, *parts: Part) -> None:
        with pytest.raises(UserError, match=says):
            merge(base, list(parts), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused("no such module", Part(Adapter({"model.k": pair()})))
    refused("has no bias there", Part(Adapter({"model.q": pair(bias=np.ones(3, np.float32))})))
    refused("not a sum", Part(dora), Part(plain))
    refused("not a sum", Part(dora, 0.5))
    refused("alora", Part(plain.replace(alora_invocation_tokens=(1,))))
    refused("no weight of x", Part(plain.replace(saved={"x.weight": np.ones(3)})))
    quantized = tiny(
        tmp_path / "mlx",
        **{"model.q_proj.weight": np.zeros((3, 1), np.uint32), "model.q_proj.scales": np.ones(3)},
    )
    with pytest.raises(UserError, match="quantized base"):
        merge(load_base(quantized), [Part(plain)], tmp_path / "out")


def test_mlx_embedding_on_a_tied_base_merges(root: Path, tmp_path: Path):
    """MLX adapts head and embedding together: a merge can say that, PEFT cannot."""
    pytest.importorskip("mlx.core")
    base = cases.base_of("qwen3", root)
    cases.mlx_adapter(base, tmp_path / "mlx", layers=1, keys=["model.embed_tokens"])
    wanted = cases.mlx_logits(base, tmp_path / "mlx")
    merge_folders(base, (tmp_path / "mlx",), tmp_path / "merged")
    assert difference(cases.base_logits(tmp_path / "merged"), wanted) < 2e-4
    assert difference(cases.base_logits(base), wanted) > 0.5


def test_the_command(root: Path, tmp_path: Path):
    base = cases.base_of("llama", root)
    cases.peft_adapter("llama", root, tmp_path / "peft")
    arguments = ["--base", str(base), "--adapter", str(tmp_path / "peft"), "--json"]
    runner = CliRunner()
    made = runner.invoke(
        merge_command, [*arguments, "--out", str(tmp_path / "out")], catch_exceptions=False
    )
    assert json.loads(made.output)["changed"] == 14
    with pytest.raises(UserError, match="--overwrite"):
        merge_folders(base, (tmp_path / "peft",), tmp_path / "out")
    with pytest.raises(UserError, match="the base itself"):
        merge_folders(base, (tmp_path / "peft",), base, overwrite=True)
    with pytest.raises(UserError, match="one each"):
        merge_folders(base, (tmp_path / "peft",), tmp_path / "other", weights=(0.5, 0.5))
