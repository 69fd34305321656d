"""The families of llama.cpp beyond the twelve: models and adapters on it, against torch."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convert.adapters import gguf as gguf_format
from convert.base import load_base
from convert.convert import convert
from convert.gguf.convert import convert_model
from convert.gguf.model import write_model
from livery.adapter import Adapter, Pair
from livery.errors import UserError
from livery.gguf_base import architectures
from livery.gguf_reader import open_gguf
from tests import hf_families
from tests.convert import convert_cases as cases
from tests.convert import gguf_bases
from tests.convert.test_gguf_fields import changed
from tests.tiny_models import MORE, tiny_model

pytest.importorskip("xllamacpp")
pytestmark = cases.QUIET

LENGTHS = (1, 9, 40)
TOKENS = np.random.default_rng(5).integers(5, 512, (1, 40))
QUICK = ("qwen3_5", "granite", "lfm2")


def tolerance(family: str) -> float:
    """gemma4 has GELU, a table in llama.cpp; the others have SiLU."""
    return 2e-2 if family.startswith("gemma4") else 1e-3


# Every linear of the family, with ranks and scales that differ.
TARGETS: dict[str, list[str]] = {
    "gpt_oss": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "glm4": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"],
    "gemma4": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
               "per_layer_input_gate", "per_layer_projection"],
    "lfm2": ["q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3"],
    "qwen3_5": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
                "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"],
}  # fmt: skip
TARGETS["qwen3_5_moe"] = [
    name for name in TARGETS["qwen3_5"] if name not in ("gate_proj", "up_proj", "down_proj")
]
TARGETS["gemma4_moe"] = [*TARGETS["gemma4"][:7], "router.proj"]
# Stacks of experts, which PEFT adapts as parameters.
EXPERTS = {
    "gemma4_moe": ["experts.gate_up_proj"],
    "gpt_oss": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    "qwen3_5_moe": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
}
COMMON = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def logprobs(model: Any) -> np.ndarray:
    import torch

    rows: list[np.ndarray] = []
    for length in LENGTHS:
        with torch.no_grad():
            logits = model.eval()(torch.tensor(TOKENS[:, :length])).logits[0, -1].double().numpy()
        rows.append(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
    return np.array(rows)


def adapted(family: str, base: Path, folder: Path) -> Any:
    """A random PEFT adapter, saved; returns the torch model with it."""
    from peft import LoraConfig, get_peft_model

    targets = TARGETS.get(family, COMMON)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=targets,
        target_parameters=EXPERTS.get(family),
        rank_pattern={targets[1]: 2},
        alpha_pattern={targets[2]: 13},
    )
    model = get_peft_model(cases.torch_base(base), config)
    cases.randomise(model)
    model.save_pretrained(str(folder))
    return model


def on_llama_cpp(folder: Path, adapter: Path) -> dict[str, np.ndarray]:
    found = cases.llama_cpp(
        folder,
        model=str(folder / "m.gguf"),
        adapter=str(adapter),
        prompts=[TOKENS[0, :length].tolist() for length in LENGTHS],
    )
    return {name: np.array(found[name]) for name in ("base", "adapted")}


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[] if f in QUICK else pytest.mark.slow) for f in MORE]
)
def test_model_and_adapter_on_llama_cpp(family: str, root: Path, tmp_path: Path):
    base = tiny_model(family, root)
    write_model(base, tmp_path / "m.gguf", "f32")
    plain = logprobs(cases.torch_base(base))
    model = adapted(family, base, tmp_path / "peft")
    wanted = logprobs(model)
    convert(tmp_path / "peft", tmp_path / "a.gguf", "gguf", base=base)
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(found["base"] - plain).max() < tolerance(family)
    assert np.abs(found["adapted"] - wanted).max() < tolerance(family)
    assert np.abs(wanted - plain).max() > 0.5  # the adapter does something
    convert(tmp_path / "a.gguf", tmp_path / "back", "peft", base=base)
    first, again = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("peft", "back"))
    assert first.keys() == again.keys()
    assert all((first[name] == again[name]).all() for name in first)


SHAPES: list[tuple[str, dict[str, Any]]] = [
    (  # the largest gemma4: values are keys in the layers that do not slide, no shared layers
        "gemma4",
        {
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "num_kv_shared_layers": 0,
            "use_double_wide_mlp": False,
            "hidden_size_per_layer_input": 0,
            "sliding_window": 16,
        },
    ),
    ("qwen3_5", {"linear_num_value_heads": 2, "tie_word_embeddings": True, "head_dim": 16}),
    ("olmo3", {"rope_scaling": None, "sliding_window": 64, "num_key_value_heads": 4}),
    ("glm4", {"attention_bias": False, "partial_rotary_factor": 0.25}),
    ("granite", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}),
    ("lfm2", {"layer_types": ["conv", "conv", "full_attention", "conv"], "conv_L_cache": 4}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "changes"), SHAPES)
def test_models_of_other_shapes(family: str, changes: dict[str, Any], root: Path, tmp_path: Path):
    base = tiny_model(family, root, **changes)
    write_model(base, tmp_path / "m.gguf", "f32")
    prompts = [TOKENS[0, :length].tolist() for length in LENGTHS]
    found = cases.llama_cpp(tmp_path, model=str(tmp_path / "m.gguf"), prompts=prompts)["base"]
    wanted = logprobs(cases.torch_base(base))
    assert np.abs(np.array(found) - wanted).max() < tolerance(family)
    assert np.abs(logprobs(cases.torch_base(tiny_model(family, root))) - wanted).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "kind", "part"),
    [("lfm2", "q8_0", "shortconv.in_proj"), ("qwen3_5", "q6_k", "attn_gate")],
)
def test_quantized_models_keep_their_convolutions(
    family: str, kind: str, part: str, root: Path, tmp_path: Path
):
    base = tiny_model(family, root)
    convert_model(base, tmp_path / "m.gguf", kind)
    stored = {name: entry.dtype for name, entry in open_gguf(tmp_path / "m.gguf").entries.items()}
    assert stored[f"blk.0.{part}.weight"] == "q8_0"  # of q6_k too, in rows of no multiple of 256
    assert {dtype for name, dtype in stored.items() if "conv1d" in name or ".conv." in name} == {
        "float32"
    }
    prompts = [TOKENS[0, :9].tolist()]
    found = cases.llama_cpp(tmp_path, model=str(tmp_path / "m.gguf"), prompts=prompts)["base"]
    wanted = logprobs(cases.torch_base(base))[1]
    assert float((np.exp(wanted) * (wanted - np.array(found)[0])).sum()) < 0.3  # nats


@pytest.mark.slow
def test_a_wrong_order_of_value_heads_would_show(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The negative control: the adapter of qwen3.5 with its rows and columns as transformers'."""
    base = tiny_model("qwen3_5", root)
    write_model(base, tmp_path / "m.gguf", "f32")
    wanted = logprobs(adapted("qwen3_5", base, tmp_path / "peft"))
    monkeypatch.setattr(architectures, "orders", lambda *_: (None, None))
    convert(tmp_path / "peft", tmp_path / "a.gguf", "gguf", base=base)
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(found["adapted"] - wanted).max() > 0.1


def test_value_heads_need_the_base(root: Path, tmp_path: Path):
    """Their order depends on head counts that an adapter does not hold."""
    base = load_base(tiny_model("qwen3_5", root))
    part = "model.layers.0.linear_attn.in_proj_qkv"
    pair = Pair(np.ones((2, 64), np.float32), np.ones((128, 2), np.float32), 4.0)
    adapter = Adapter({part: pair}, model_type="qwen3_5_text")
    with pytest.raises(UserError, match=r"in_proj_qkv.*Give --base"):
        gguf_format.write(adapter, tmp_path / "a.gguf")
    gguf_format.write(adapter, tmp_path / "a.gguf", base)
    with pytest.raises(UserError, match=r"in_proj_qkv.*Give --base"):
        gguf_format.read(tmp_path / "a.gguf")


def test_the_multimodal_folder_s_adapter_is_the_text_model_s(root: Path, tmp_path: Path):
    """Qwen3.5 is published with a vision part: the same tensors under longer names."""
    base = load_base(tiny_model("qwen3_5", root))
    part = "layers.3.self_attn.q_proj"
    pair = Pair(np.ones((2, 64), np.float32), np.ones((256, 2), np.float32), 4.0)
    whole = dataclasses.replace(base, model_type="qwen3_5", shapes={})
    path = f"model.language_model.{part}"
    gguf_format.write(Adapter({path: pair}, model_type="qwen3_5"), tmp_path / "a.gguf", whole)
    gguf_format.write(Adapter({f"model.{part}": pair}), tmp_path / "b.gguf", base)
    names = [open_gguf(tmp_path / name).entries.keys() for name in ("a.gguf", "b.gguf")]
    assert names[0] == names[1]
    assert list(gguf_format.read(tmp_path / "a.gguf", whole).pairs) == [path]
    assert list(gguf_format.read(tmp_path / "a.gguf", base).pairs) == [f"model.{part}"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["ministral3", "mistral"])
def test_the_adapter_of_multimodal_mistral3(text: str, root: Path, tmp_path: Path):
    """llama.cpp has one architecture for the whole's language models. What PEFT trained on the
    whole answers there, on a file of its language model, as on the whole."""
    from peft import LoraConfig, get_peft_model

    base, alone = tmp_path / "base", tmp_path / "alone"
    whole = hf_families.mistral3(base, text, tie_word_embeddings=False)
    plain = logprobs(whole)
    model: Any = get_peft_model(
        whole,
        LoraConfig(r=4, lora_alpha=8, target_modules=r".*language_model.*_proj",
                   rank_pattern={"v_proj": 2}, alpha_pattern={"q_proj": 13}),
    )  # fmt: skip
    cases.randomise(model)
    model.save_pretrained(str(tmp_path / "peft"))
    wanted = logprobs(model)
    convert(tmp_path / "peft", tmp_path / "a.gguf", "gguf", base=base)

    alone.mkdir()
    for file in base.iterdir():
        shutil.copy(file, alone / file.name)
    config = json.loads((base / "config.json").read_text())["text_config"]
    # Mistral's is the same arithmetic without a window and without scaled queries.
    config |= {"architectures": ["Ministral3ForCausalLM"], "model_type": "ministral3"}
    (alone / "config.json").write_text(json.dumps({**config, "sliding_window": None}))
    stored = load_file(base / "model.safetensors")
    tensors = {n.removeprefix("language_model."): t for n, t in stored.items()
               if n.startswith("language_model.")}  # fmt: skip
    save_file(tensors, alone / "model.safetensors", {"format": "pt"})
    write_model(alone, tmp_path / "m.gguf", "f32")
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(found["base"] - plain).max() < 1e-3
    assert np.abs(found["adapted"] - wanted).max() < 1e-3
    assert np.abs(wanted - plain).max() > 0.5
    convert(tmp_path / "a.gguf", tmp_path / "back", "peft", base=base)
    first, again = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("peft", "back"))
    assert first.keys() == again.keys()
    assert all((first[name] == again[name]).all() for name in first)
    with pytest.raises(UserError, match=r"a multimodal model.*LLAMA_CPP_DIR"):
        write_model(base, tmp_path / "w.gguf", "f32")


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("smollm3", {"no_rope_layers": [1] * 5}, "no_rope_layers is"),
        ("granite", {"residual_multiplier": 0.0}, "a multiplier is 0"),
        ("olmo3", {"rope_scaling": None, "rope_theta": 9.0}, "a rope of their own"),
        ("olmo3", {"layer_types": ["full_attention", *["sliding_attention"] * 3]}, "fixed pattern"),
        ("olmo2", {"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ("lfm2", {"conv_bias": True}, "conv_bias is True"),
        ("lfm2", {"layer_types": ["conv"]}, "layer_types has unknown values"),
        ("qwen3_5", {"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05"),
        ("qwen3_5", {"layer_types": ["full_attention"] * 4}, "fixed pattern of both kinds"),
        ("qwen3_5", {"linear_key_head_dim": 8}, "llama.cpp wants one size"),
        ("qwen3_5", {"layer_types": ["full_attention", *["linear_attention"] * 3]}, "a fixed"),
        ("ministral3", {"sliding_window": 8}, "no window for ministral3"),
        ("gemma4", {"use_bidirectional_attention": "all"}, "use_bidirectional_attention is 'all'"),
        ("gemma4", {"vocab_size_per_layer_input": 99}, "vocab_size_per_layer_input is not"),
        (
            "gemma4",
            {"per_layer_config": {"1": {"head_dim": 8}}},
            "numbers of heads that",
        ),
        ("gemma4", {"per_layer_config": {"9": {"head_dim": 8}}}, "an impossible value"),
    ],
)
def test_what_llama_cpp_has_no_form_of(
    family: str, changes: dict[str, Any], says: str, root: Path, tmp_path: Path
):
    folder = changed(family, root, tmp_path / "model", **changes)
    with pytest.raises(UserError, match=re.escape(says)):
        write_model(folder, tmp_path / "m.gguf", "f32")


@pytest.mark.slow
def test_adapters_of_gpt_oss(root: Path, tmp_path: Path):
    """Its experts' gate and up are one parameter, with their rows in turns."""
    base = tiny_model("gpt_oss", root)
    gguf_bases.gpt_oss(base, tmp_path / "m.gguf")
    model = adapted("gpt_oss", base, tmp_path / "peft")
    wanted, plain = logprobs(model), logprobs(cases.torch_base(base))
    convert(tmp_path / "peft", tmp_path / "a.gguf", "gguf", base=base)
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(found["base"] - plain).max() < 1e-3
    assert np.abs(found["adapted"] - wanted).max() < 1e-3
    assert np.abs(wanted - plain).max() > 0.5
    assert any("ffn_gate_exps" in name for name in open_gguf(tmp_path / "a.gguf").entries)
    convert(tmp_path / "a.gguf", tmp_path / "back", "peft", base=base)
    first, again = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("peft", "back"))
    assert first.keys() == again.keys()
    assert all((first[name] == again[name]).all() for name in first)
    with pytest.raises(UserError, match="Livery converts only adapters"):
        write_model(base, tmp_path / "w.gguf", "f32")

    # The adapter names its base, which is here.
    convert(tmp_path / "peft", tmp_path / "b.gguf", "gguf")
    assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()
    file = tmp_path / "peft" / "adapter_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "base_model_name_or_path": "openai/gpt-oss-20b"}))
    with pytest.raises(UserError, match=r"gate and up take turns.*Give --base"):
        convert(tmp_path / "peft", tmp_path / "mlx", "mlx")


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_experts_trained_on_torch(family: str, root: Path, tmp_path: Path):
    """The GGUF file that a run on torch exports: experts, and attention beside them."""
    from commands.training.export import export
    from livery.config.settings import LoraSettings, TrainSettings
    from livery.dataset.tokenizer import load_tokenizer
    from tests.cuda_train.test_torch_loss import make

    base = tiny_model(family, root)
    lora = LoraSettings(rank=4, targets=("gate_proj", "up_proj", "down_proj", "q_proj"))
    made = make(base, lora=lora)
    facts: dict[str, Any] = {
        "examples": 1, "valid_examples": 0, "data_digest": "0" * 64, "base_digest": "0" * 64,
        "steps": 1, "epochs": 1.0, "kept_step": 1, "seconds": 1.0, "backend": "torch",
        "dtype": "float32",
    }  # fmt: skip
    settings = TrainSettings(model=str(base), output_dir=str(tmp_path / "out"), lora=lora)
    tokenizer = load_tokenizer(str(base), None)
    export(settings, tokenizer, made.get_state(), facts, lambda text: None)
    wanted, plain = logprobs(made.loss.model), logprobs(cases.torch_base(base))
    write_model(base, tmp_path / "m.gguf", "f32")
    file = tmp_path / "out" / "gguf" / "adapter.gguf"
    found = on_llama_cpp(tmp_path, file)
    assert any("ffn_up_exps" in name for name in open_gguf(file).entries)
    assert np.abs(found["adapted"] - wanted).max() < 1e-3
    assert np.abs(found["base"] - plain).max() < 1e-3
    assert np.abs(wanted - plain).max() > 0.1


@pytest.mark.slow
def test_adapters_of_shared_experts(root: Path, tmp_path: Path):
    """Which PEFT cannot name beside the routed ones: the deltas are added to torch's weights."""
    import torch

    base = tiny_model("qwen3_5_moe", root)
    model = cases.torch_base(base)
    plain = logprobs(model)
    rng = np.random.default_rng(0)
    pairs: dict[str, Pair] = {}
    for name, weight in model.named_parameters():
        if ".shared_expert." in name:
            out, into = weight.shape
            a, b = (rng.normal(size=s).astype(np.float32) * 0.2 for s in ((4, into), (out, 4)))
            pairs[name.removesuffix(".weight")] = Pair(a, b, 8.0)
            with torch.no_grad():
                weight.add_(torch.from_numpy(2.0 * b @ a))
    assert len(pairs) == 3 * 4
    gguf_format.write(Adapter(pairs), tmp_path / "a.gguf", load_base(base))
    write_model(base, tmp_path / "m.gguf", "f32")
    wanted, found = logprobs(model), on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(found["adapted"] - wanted).max() < 1e-3
    assert np.abs(wanted - plain).max() > 0.5
    back = gguf_format.read(tmp_path / "a.gguf", load_base(base))
    assert all((back.pairs[m].b == pair.b).all() for m, pair in pairs.items())
