"""Families of which adapters alone are converted, on llama.cpp: each module, against torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.adapters import gguf as gguf_format
from convert.base import Base, load_base
from convert.check import check
from convert.check import forms as check_forms
from convert.gguf import layout as gguf_layout
from convert.gguf import names as gguf_names
from convert.gguf.file import write_gguf
from convert.gguf.model import write_model
from livery.adapter import Adapter, Pair
from livery.errors import UserError
from livery.gguf_base import architectures
from livery.gguf_reader import open_gguf
from tests.convert import convert_cases as cases
from tests.convert import gguf_bases
from tests.convert.test_gguf_families import logprobs, on_llama_cpp
from tests.tiny_models import tiny_model

pytest.importorskip("xllamacpp")
pytestmark = cases.QUIET

WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "qwen3_next": gguf_bases.qwen3_next,
    "deepseek_v2": gguf_bases.deepseek,
    "deepseek_v3": gguf_bases.deepseek,
}


def drawn(base: Base, modules: tuple[str, ...]) -> tuple[Adapter, np.ndarray]:
    """Random pairs on these modules, of ranks and scales that differ, and the log-probabilities of
    torch's model with their deltas added to its weights."""
    import torch

    model = cases.torch_base(base.folder)
    rng = np.random.default_rng(0)
    pairs: dict[str, Pair] = {}
    for module, weight in _weights(model, modules).items():
        *stack, out, into = weight.shape
        rank = 2 + len(pairs) % 3
        a, b = (rng.normal(size=(*stack, *s)) * 0.15 for s in ((rank, into), (out, rank)))
        pair = Pair(
            a.astype(np.float32), b.astype(np.float32), float(4 + len(pairs) % 2),
            kind="experts" if stack else "linear",
        )  # fmt: skip
        pairs[module] = pair
        with torch.no_grad():
            weight.add_(torch.from_numpy(pair.scale * (pair.b @ pair.a)).float())
    return Adapter(pairs), logprobs(model)


def _weights(model: Any, modules: tuple[str, ...]) -> dict[str, Any]:
    """Views of the weights, (out, in) or (E, out, in)."""
    found: dict[str, Any] = {}
    for name, weight in model.named_parameters():
        module = name.removesuffix(".weight")
        parts = {module: weight}
        if name.endswith("experts.gate_up_proj"):
            half = weight.shape[1] // 2
            head = name.removesuffix("gate_up_proj")
            parts = {f"{head}gate_proj": weight[:, :half], f"{head}up_proj": weight[:, half:]}
        wanted = tuple(f".{inner}" for inner in modules)
        found.update({m: w for m, w in parts.items() if f".{m}".endswith(wanted)})
    return found


def modules_of(family: str) -> tuple[str, ...]:
    architecture = gguf_names.for_model_type(family)
    return tuple(m for m in architecture.modules if m not in architecture.passed_over)


@pytest.mark.slow
@pytest.mark.parametrize("family", WRITERS)
def test_adapters_on_llama_cpp(family: str, root: Path, tmp_path: Path):
    base = load_base(tiny_model(family, root))
    WRITERS[family](base.folder, tmp_path / "m.gguf")
    adapter, wanted = drawn(base, modules_of(family))
    inner = {module.split(".", 3)[3] for module in adapter.pairs}
    assert inner == set(modules_of(family))
    gguf_format.write(adapter, tmp_path / "a.gguf", base)
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    plain = logprobs(cases.torch_base(base.folder))
    assert np.abs(found["base"] - plain).max() < 1e-3
    assert np.abs(found["adapted"] - wanted).max() < 1e-3
    assert np.abs(wanted - plain).max() > 0.5
    back = gguf_format.read(tmp_path / "a.gguf", base)
    assert back.pairs.keys() == adapter.pairs.keys()
    for module, pair in adapter.pairs.items():
        assert (back.pairs[module].a == pair.a).all()
        assert (back.pairs[module].b == pair.b).all()
        assert back.pairs[module].scale == pair.scale


@pytest.mark.slow
@pytest.mark.parametrize("family", WRITERS)
def test_each_module_moves_what_it_moves_in_torch(family: str, root: Path, tmp_path: Path):
    """All at once could hide one that llama.cpp leaves out."""
    base = load_base(tiny_model(family, root))
    WRITERS[family](base.folder, tmp_path / "m.gguf")
    plain = logprobs(cases.torch_base(base.folder))
    for inner in modules_of(family):
        adapter, wanted = drawn(base, (inner,))
        gguf_format.write(adapter, tmp_path / "a.gguf", base)
        found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
        assert np.abs(found["adapted"] - wanted).max() < 1e-3, inner
        assert np.abs(wanted - plain).max() > 0.05, inner


@pytest.mark.slow
def test_what_llama_cpp_passes_over_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It loads LoRA on deepseek's latents and computes without it: seen here, so that a version
    which looks for it shows."""
    base = load_base(tiny_model("deepseek_v3", root))
    architecture = architectures.by_name("deepseek2")
    modules = tuple(sorted(architecture.passed_over))
    adapter, wanted = drawn(base, modules)
    inner = {module.rpartition(".")[2] for module in adapter.pairs}
    # q_proj is that of models without a latent for queries.
    assert inner == {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "lm_head"}
    for module, pair in adapter.pairs.items():
        with pytest.raises(UserError, match=rf"{module}: llama.cpp .*without looking for LoRA"):
            gguf_format.write(Adapter({module: pair}), tmp_path / "a.gguf", base)
    part = "model.layers.0.self_attn.kv_b_proj"
    pair = Pair(np.ones((2, 32), np.float32), np.ones((128, 2), np.float32), 4.0)
    with pytest.raises(UserError, match=r"kv_b_proj: llama.cpp splits it .*livery merge"):
        gguf_format.write(Adapter({part: pair}), tmp_path / "a.gguf", base)
    assert not (tmp_path / "a.gguf").exists()

    known = dataclasses.replace(architecture, passed_over=frozenset())
    monkeypatch.setattr(gguf_names, "for_model_type", lambda _: known)
    gguf_format.write(adapter, tmp_path / "a.gguf", base)
    monkeypatch.undo()
    gguf_bases.deepseek(base.folder, tmp_path / "m.gguf")
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(found["adapted"] - found["base"]).max() == 0
    assert np.abs(wanted - found["base"]).max() > 0.5
    (verdict,) = check.check(tmp_path / "a.gguf", base=base.folder, runtimes=("llamacpp",))
    assert [finding.rule for finding in verdict.findings] == ["passed-over"]
    assert "(and 6 more): llama.cpp loads LoRA on it" in verdict.findings[0].why
    assert "livery merge" in verdict.findings[0].remedy


@pytest.mark.slow
def test_experts_of_gemma4(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Gate and up are one tensor there, and down has a scale for each expert, which llama.cpp
    leaves out of LoRA: seen here, so that a version which takes it in shows."""
    base = load_base(tiny_model("gemma4_moe", root))
    write_model(base.folder, tmp_path / "m.gguf", "f32")
    modules = ("experts.gate_proj", "experts.up_proj", "router.proj", "mlp.down_proj")
    adapter, wanted = drawn(base, modules)
    file = tmp_path / "a.gguf"
    gguf_format.write(adapter, file, base)
    found = on_llama_cpp(tmp_path, file)
    plain = logprobs(cases.torch_base(base.folder))
    assert np.abs(found["base"] - plain).max() < 2e-2
    assert np.abs(found["adapted"] - wanted).max() < 5e-2
    assert np.abs(wanted - plain).max() > 1
    back = gguf_format.read(file, base)
    assert back.pairs.keys() == adapter.pairs.keys()
    for module, pair in adapter.pairs.items():
        assert (back.pairs[module].a == pair.a).all(), module
        assert (back.pairs[module].b == pair.b).all(), module
        assert back.pairs[module].scale == pair.scale
    (verdict,) = check.check(file, base=base.folder, runtimes=("llamacpp",))
    assert verdict.taken
    assert not verdict.findings

    # Each alone: one of the two halves leaves the other as it was.
    for module in ("experts.up_proj", "experts.gate_proj"):
        lone, wanted = drawn(base, (module,))
        gguf_format.write(lone, file, base)
        assert np.abs(on_llama_cpp(tmp_path, file)["adapted"] - wanted).max() < 2e-2, module
        assert gguf_format.read(file, base).pairs.keys() == lone.pairs.keys()

    down, wanted = drawn(base, ("experts.down_proj",))
    with pytest.raises(
        UserError, match=r"layers\.0\.experts\.down_proj: .*per_expert_scale.*merge"
    ):
        gguf_format.write(down, file, base)
    known = dataclasses.replace(architectures.by_name("gemma4"), scaled=frozenset())
    monkeypatch.setattr(gguf_names, "for_model_type", lambda _: known)
    gguf_format.write(down, file, base)
    monkeypatch.undo()
    assert np.abs(on_llama_cpp(tmp_path, file)["adapted"] - wanted).max() > 1
    (verdict,) = check.check(file, base=base.folder, runtimes=("llamacpp",))
    assert [finding.rule for finding in verdict.findings] == ["unscaled"]


@pytest.mark.slow
def test_queries_keys_values_and_gates_of_qwen3_next(root: Path, tmp_path: Path):
    """One weight of transformers', two tensors of llama.cpp's."""
    base = load_base(tiny_model("qwen3_next", root))
    module = "model.layers.0.linear_attn.in_proj_qkvz"
    adapter, wanted = drawn(base, ("in_proj_qkvz",))
    file = tmp_path / "a.gguf"
    with pytest.raises(UserError, match=r"in_proj_qkvz.*Give --base"):
        gguf_format.write(adapter.replace(model_type="qwen3_next"), file)
    gguf_format.write(adapter, file, base)
    names = {name for name in open_gguf(file).entries if name.startswith("blk.0.")}
    halves = [f"{part}.weight.lora_{h}" for part in ("attn_qkv", "attn_gate") for h in "ab"]
    assert names == {f"blk.0.{half}" for half in halves}
    (verdict,) = check.check(file, base=base.folder, runtimes=("llamacpp",))
    assert verdict.taken
    assert not verdict.findings
    with pytest.raises(UserError, match=r"a\.gguf: .*in_proj_qkvz.*Give --base"):
        gguf_format.read(file)
    shapes = check_forms.gguf_shapes(base)
    assert shapes is not None
    assert shapes["blk.0.attn_qkv.weight"] == (128, 64)
    assert shapes["blk.0.attn_gate.weight"] == (64, 64)

    opened = open_gguf(file)
    tensors = {name: opened.read(name) for name in opened.entries}
    odd = {**tensors, "blk.0.attn_gate.weight.lora_a": tensors["blk.0.attn_gate.weight.lora_a"] + 1}
    write_gguf(tmp_path / "odd.gguf", opened.metadata, odd, dict.fromkeys(odd, "float32"))
    with pytest.raises(
        UserError, match=r"odd\.gguf: blk\.0\.attn_\w+\.weight: .*lora_a of its own"
    ):
        gguf_format.read(tmp_path / "odd.gguf", base)
    lone = {name: t for name, t in tensors.items() if "attn_gate" not in name}
    write_gguf(tmp_path / "lone.gguf", opened.metadata, lone, dict.fromkeys(lone, "float32"))
    with pytest.raises(UserError, match=r"lone\.gguf: blk\.0\.attn_qkv\.weight: .*alone"):
        gguf_format.read(tmp_path / "lone.gguf", base)

    # The negative control: halves as if transformers' rows were in llama.cpp's order.
    gguf_bases.qwen3_next(base.folder, tmp_path / "m.gguf")
    b = adapter.pairs[module].b
    plain = {**tensors}
    for layer in range(3):
        b = adapter.pairs[f"model.layers.{layer}.linear_attn.in_proj_qkvz"].b
        plain[f"blk.{layer}.attn_qkv.weight.lora_b"] = b[:128]
        plain[f"blk.{layer}.attn_gate.weight.lora_b"] = b[128:]
    write_gguf(tmp_path / "w.gguf", opened.metadata, plain, dict.fromkeys(plain, "float32"))
    found = on_llama_cpp(tmp_path, tmp_path / "w.gguf")
    assert np.abs(found["adapted"] - wanted).max() > 0.1
    assert gguf_layout.split_names("blk.0.attn_q.weight", architectures.by_name("qwen3next")) == (
        "blk.0.attn_q.weight",
    )
