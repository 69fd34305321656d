"""Converted adapters compute what the original computes, in PEFT on torch and in mlx-lm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convert.adapters import formats
from convert.base import load_base
from convert.convert import convert
from tests.convert import convert_cases as cases
from tests.convert.convert_cases import MLX_TOLERANCE, MOE, VARIANTS
from tests.tiny_models import FAMILIES, tiny_model

pytest.importorskip("mlx.core")
pytest.importorskip("peft")

# PEFT's own: patterns that name no module of a family, and a deprecation inside transformers.
pytestmark = cases.QUIET

ROUTED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"]


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_to_mlx_and_back(family: str, variant: str, root: Path, tmp_path: Path):
    base = cases.base_of(family, root)
    wanted = cases.peft_adapter(family, root, tmp_path / "peft", **VARIANTS[variant])
    convert(tmp_path / "peft", tmp_path / "mlx", "mlx", base=base)
    found = cases.mlx_logits(base, tmp_path / "mlx")
    assert difference(found, wanted) < MLX_TOLERANCE[family]
    assert (found.argmax(-1) == wanted.argmax(-1)).all()
    assert difference(cases.base_logits(base), wanted) > 0.5  # the adapter does something
    convert(tmp_path / "mlx", tmp_path / "back", "peft", base=base)
    assert difference(cases.peft_logits(base, tmp_path / "back"), wanted) == 0.0


@pytest.mark.parametrize("ranks", [{}, {"experts.down_proj": 2}])
@pytest.mark.parametrize("family", MOE)
def test_experts_and_router(family: str, ranks: dict[str, int], root: Path, tmp_path: Path):
    base = cases.base_of(family, root)
    wanted = cases.peft_adapter(
        family,
        root,
        tmp_path / "peft",
        target_modules=["q_proj"],
        target_parameters=ROUTED,
        rank_pattern=ranks,
    )
    convert(tmp_path / "peft", tmp_path / "mlx", "mlx", base=base)
    found = cases.mlx_logits(base, tmp_path / "mlx")
    assert difference(found, wanted) < MLX_TOLERANCE[family]
    convert(tmp_path / "mlx", tmp_path / "back", "peft", base=base)
    assert difference(cases.peft_logits(base, tmp_path / "back"), wanted) == 0.0


@pytest.mark.parametrize("parameter", ROUTED)
def test_one_expert_parameter_alone(parameter: str, root: Path, tmp_path: Path):
    """PEFT names its tensors alike whichever parameter it is."""
    base = cases.base_of("mixtral", root)
    wanted = cases.peft_adapter(
        "mixtral", root, tmp_path / "peft", target_modules=[], target_parameters=[parameter]
    )
    convert(tmp_path / "peft", tmp_path / "mlx", "mlx", base=base)
    assert difference(cases.mlx_logits(base, tmp_path / "mlx"), wanted) < MLX_TOLERANCE["mixtral"]


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_mlx_to_peft(family: str, kind: str, root: Path, tmp_path: Path):
    """An adapter that mlx-lm made: its default targets (routers and experts included), the last
    layer alone, keys relative to the layer."""
    if kind == "dora" and family in MOE:
        pytest.skip("mlx-lm has no DoRA on experts")
    base = cases.base_of(family, root)
    cases.mlx_adapter(base, tmp_path / "mlx", layers=1, kind=kind)
    wanted = cases.mlx_logits(base, tmp_path / "mlx")
    convert(tmp_path / "mlx", tmp_path / "peft", "peft", base=base)
    found = cases.peft_logits(base, tmp_path / "peft")
    assert difference(found, wanted) < 2 * MLX_TOLERANCE[family]
    assert difference(cases.base_logits(base), wanted) > 0.5
    convert(tmp_path / "peft", tmp_path / "back", "mlx", base=base)
    first = load_file(tmp_path / "mlx" / "adapters.safetensors")
    again = load_file(tmp_path / "back" / "adapters.safetensors")
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize("part", ["gate_proj", "up_proj"])
def test_half_of_gate_up_alone(part: str, root: Path, tmp_path: Path):
    base = cases.base_of("qwen3_moe", root)
    cases.mlx_adapter(base, tmp_path / "mlx", layers=2, keys=[f"mlp.switch_mlp.{part}"])
    wanted = cases.mlx_logits(base, tmp_path / "mlx")
    convert(tmp_path / "mlx", tmp_path / "peft", "peft", base=base)
    assert difference(cases.peft_logits(base, tmp_path / "peft"), wanted) < 2e-5
    back = formats.read_adapter(tmp_path / "peft")
    assert {module.rpartition(".")[2] for module in back.pairs} == {part}


def test_experts_as_modules_of_their_own(root: Path, tmp_path: Path):
    """The layout before transformers fused experts, which PEFT still loads."""
    base = cases.base_of("mixtral", root)
    rng = np.random.default_rng(2)
    tensors: dict[str, np.ndarray] = {}
    sizes = {"w1": (64, 128), "w3": (64, 128), "w2": (128, 64)}
    for layer in range(2):
        for expert in range(4):
            for leaf, (into, out) in sizes.items():
                name = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}"
                a, b = rng.normal(size=(4, into)), rng.normal(size=(out, 4))
                tensors[f"{name}.{leaf}.lora_A.weight"] = (a * 0.1).astype(np.float32)
                tensors[f"{name}.{leaf}.lora_B.weight"] = (b * 0.1).astype(np.float32)
    (tmp_path / "old").mkdir()
    save_file(tensors, tmp_path / "old" / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["w1", "w2", "w3"],
        "base_model_name_or_path": str(base),
    }
    (tmp_path / "old" / "adapter_config.json").write_text(json.dumps(config))
    wanted = cases.peft_logits(base, tmp_path / "old")
    convert(tmp_path / "old", tmp_path / "new", "peft", base=base)
    assert difference(cases.peft_logits(base, tmp_path / "new"), wanted) < 1e-5
    convert(tmp_path / "old", tmp_path / "mlx", "mlx", base=base)
    assert difference(cases.mlx_logits(base, tmp_path / "mlx"), wanted) < MLX_TOLERANCE["mixtral"]
    assert difference(cases.base_logits(base), wanted) > 0.5


@pytest.mark.parametrize("targets", [["embed_tokens", "q_proj"], ["lm_head", "q_proj"]])
def test_embeddings_of_an_untied_base(targets: list[str], root: Path, tmp_path: Path):
    base = cases.base_of("llama", root)
    wanted = cases.peft_adapter("llama", root, tmp_path / "peft", target_modules=targets)
    convert(tmp_path / "peft", tmp_path / "mlx", "mlx", base=base)
    assert difference(cases.mlx_logits(base, tmp_path / "mlx"), wanted) < MLX_TOLERANCE["llama"]
    convert(tmp_path / "mlx", tmp_path / "back", "peft", base=base)
    assert difference(cases.peft_logits(base, tmp_path / "back"), wanted) < 1e-5


def test_low_precision_is_kept(root: Path, tmp_path: Path):
    """bfloat16 in, bfloat16 out, bit for bit, in both formats."""
    base = cases.base_of("llama", root)
    cases.peft_adapter("llama", root, tmp_path / "peft")
    convert(tmp_path / "peft", tmp_path / "bf16", "peft", base=base, dtype="bfloat16")
    convert(tmp_path / "bf16", tmp_path / "mlx", "mlx", base=base)
    convert(tmp_path / "mlx", tmp_path / "back", "peft", base=base)
    first, again = (formats.read_adapter(tmp_path / name) for name in ("bf16", "back"))
    assert first.dtype == again.dtype == "bfloat16"
    assert all(
        np.array_equal(first.pairs[m].a, again.pairs[m].a)
        and np.array_equal(first.pairs[m].b, again.pairs[m].b)
        for m in first.pairs
    )
    wanted = cases.peft_logits(base, tmp_path / "bf16")
    assert difference(cases.mlx_logits(base, tmp_path / "mlx"), wanted) < MLX_TOLERANCE["llama"]


def spoil(path: Path, change: str) -> None:
    """Undo one step of the conversion in a converted MLX adapter."""
    weights = load_file(path / "adapters.safetensors")
    config = json.loads((path / "adapter_config.json").read_text())
    if change == "scale":
        config["lora_parameters"]["scale"] = 20.0
    elif change == "halves":  # gate and up of the experts exchanged
        for name in [n for n in weights if "gate_proj" in n]:
            other = name.replace("gate_proj", "up_proj")
            weights[name], weights[other] = weights[other], weights[name]
    else:  # a square lora_a left as PEFT has it
        for name in [n for n in weights if n.endswith("lora_a") and weights[n].ndim == 2]:
            weights[name] = weights[name].reshape(weights[name].shape[::-1]).T.copy()
    save_file(weights, path / "adapters.safetensors")
    (path / "adapter_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("change", ["scale", "halves", "layout"])
def test_a_wrong_conversion_would_show(change: str, root: Path, tmp_path: Path):
    """The negative control: each step left out is far outside the tolerance."""
    base = cases.base_of("qwen3_moe", root)
    wanted = cases.peft_adapter(
        "qwen3_moe", root, tmp_path / "peft", target_modules=["q_proj"], target_parameters=ROUTED
    )
    convert(tmp_path / "peft", tmp_path / "mlx", "mlx", base=base)
    spoil(tmp_path / "mlx", change)
    found = cases.mlx_logits(base, tmp_path / "mlx")
    assert difference(found, wanted) > 1000 * MLX_TOLERANCE["qwen3_moe"]


def test_a_deeper_model_keeps_its_targets(root: Path, tmp_path: Path):
    """Layers 2 and 10 of 12: the config names them, and nothing else is adapted."""
    base = tiny_model("llama", root, num_hidden_layers=12)
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, lora_alpha=4, target_modules=["v_proj"], layers_to_transform=[2, 10])
    model = get_peft_model(cases.torch_base(base), config)
    cases.randomise(model)
    model.save_pretrained(str(tmp_path / "peft"))
    convert(tmp_path / "peft", tmp_path / "mlx", "mlx", base=base)
    # Without the record, as another program would have written it.
    weights = load_file(tmp_path / "mlx" / "adapters.safetensors")
    save_file(weights, tmp_path / "mlx" / "adapters.safetensors")
    convert(tmp_path / "mlx", tmp_path / "back", "peft", base=base)
    written = json.loads((tmp_path / "back" / "adapter_config.json").read_text())
    assert written["target_modules"] == [
        "model.layers.10.self_attn.v_proj",
        "model.layers.2.self_attn.v_proj",
    ]
    wanted = cases.torch_logits(model)
    assert difference(cases.peft_logits(base, tmp_path / "back"), wanted) == 0.0
    assert load_base(base).layers == 12
