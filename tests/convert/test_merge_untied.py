"""Merges that add a tensor: a head of its own where the base ties it, biases of linears.

The measure is PEFT with the adapter on top, not merge_and_unload, which adds a LoRA on a tied
embedding to the head too.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convert.adapters import formats
from convert.base import load_base
from convert.check.check import check
from convert.convert import convert
from convert.gguf.model import write_model
from convert.merge.changes import Part
from convert.merge.extend import BIASES
from convert.merge.folders import merge_folders
from convert.merge.merge import merge
from livery.adapter import Adapter, Pair
from livery.errors import UserError
from livery.safetensors_file import open_tensors
from tests.convert import convert_cases as cases
from tests.convert.test_check import real_adapter, run_remedy
from tests.convert.test_convert_llamacpp import logprobs, prompts, tolerance
from tests.convert.test_convert_merge import difference, tiny
from tests.convert.test_merge_dequantize import mlx_4bit

pytestmark = cases.QUIET

BOTH: dict[str, dict[str, Any]] = {
    "saved embedding": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    "saved head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    "saved both": {
        "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]
    },
    "saved, tied": {
        "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"],
        "ensure_weight_tying": True,
    },
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "embedding and head": {"target_modules": ["embed_tokens", "lm_head"]},
    "embedding, tied": {
        "target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True
    },
    "dora embedding": {"target_modules": ["embed_tokens"], "use_dora": True},
}  # fmt: skip
MOST = [("llama_tied", case) for case in BOTH] + [
    pytest.param(family, case, marks=[] if family == "gemma" else pytest.mark.slow)
    for family in ("gemma", "gemma2", "gemma3", "qwen2", "qwen3")
    for case in ("saved embedding", "embedding", "head")
]


def loads_whole(folder: Path) -> None:
    """Every tensor of the folder has its place in the model, and every place its tensor."""
    from transformers import AutoModelForCausalLM

    found: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    info: Any = found[1]
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]


@pytest.mark.parametrize(("family", "case"), MOST)
def test_a_tied_base_gets_a_head_of_its_own(
    family: str, case: str, root: Path, tmp_path: Path
) -> None:
    base = cases.base_of(family, root)
    wanted = real_adapter(base, tmp_path / "peft", **BOTH[case])
    report = merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    assert "tie_word_embeddings false" in report["notes"][0]
    assert (
        json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"]
        is False
    )
    loads_whole(tmp_path / "merged")
    assert difference(cases.base_logits(tmp_path / "merged"), wanted) < 5e-5
    assert difference(cases.base_logits(base), wanted) > 0.1


def test_peft_merges_a_saved_embedding_alike(root: Path, tmp_path: Path) -> None:
    """And what PEFT saves of its merge has the same tensors, bit for bit."""
    from peft import PeftModel

    base = cases.base_of("llama_tied", root)
    real_adapter(
        base, tmp_path / "peft", modules_to_save=["embed_tokens"], target_modules=["v_proj"]
    )
    merged: Any = PeftModel.from_pretrained(cases.torch_base(base), str(tmp_path / "peft"))
    merged.merge_and_unload().save_pretrained(tmp_path / "theirs")
    merge_folders(base, (tmp_path / "peft",), tmp_path / "ours")
    theirs, ours = (load_file(tmp_path / n / "model.safetensors") for n in ("theirs", "ours"))
    assert theirs.keys() == ours.keys()
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        assert np.array_equal(theirs[name], ours[name])


def test_the_merged_model_runs_in_llama_cpp_and_mlx(root: Path, tmp_path: Path) -> None:
    base = cases.base_of("llama_tied", root)
    wanted = real_adapter(base, tmp_path / "peft", **BOTH["embedding"])
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    write_model(tmp_path / "merged", tmp_path / "merged.gguf", "f32")
    found = cases.llama_cpp(tmp_path, model=str(tmp_path / "merged.gguf"), prompts=prompts())
    assert np.abs(np.array(found["base"]) - logprobs(wanted)).max() < tolerance("llama")
    pytest.importorskip("mlx_lm")
    import mlx.core as mx
    from mlx_lm.utils import load_model

    model, _ = load_model(tmp_path / "merged")
    logits = np.array(model(mx.array(cases.TOKENS))[0])
    assert difference(logits, wanted) < cases.MLX_TOLERANCE["llama_tied"]


def test_the_index_names_what_was_added(root: Path, tmp_path: Path) -> None:
    """In several shards; those without the embedding keep their bytes."""
    base = tmp_path / "base"
    cases.torch_base(cases.base_of("llama_tied", root)).save_pretrained(
        base, max_shard_size="150KB"
    )
    wanted = real_adapter(base, tmp_path / "peft", target_modules=["lm_head"])
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    held = {
        name: path.name
        for path in (tmp_path / "merged").glob("model-*.safetensors")
        for name in open_tensors(path).entries
    }
    assert index["weight_map"] == held
    changed = [
        path.name
        for path in base.glob("model-*.safetensors")
        if path.read_bytes() != (tmp_path / "merged" / path.name).read_bytes()
    ]
    assert changed == [held["lm_head.weight"]]
    assert difference(cases.base_logits(tmp_path / "merged"), wanted) < 5e-5


def test_a_stored_head_beside_a_tied_config(root: Path, tmp_path: Path) -> None:
    """It may be the embedding once more, and then has a place already when the two are parted."""
    base = tmp_path / "base"
    shutil.copytree(cases.base_of("llama_tied", root), base)
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    wanted = real_adapter(base, tmp_path / "peft", **BOTH["embedding"])
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    assert difference(cases.base_logits(tmp_path / "merged"), wanted) < 5e-5


def test_an_mlx_adapter_beside_one_of_peft(root: Path, tmp_path: Path) -> None:
    """What MLX applies to both goes to both, also where another adapter parts them."""
    base = cases.base_of("llama_tied", root)
    rng = np.random.default_rng(0)

    def pair(into: int, out: int, kind: Any) -> Pair:
        a, b = rng.normal(size=(2, into)), rng.normal(size=(out, 2))
        return Pair(a.astype(np.float32), b.astype(np.float32), 2.0, kind=kind)

    both, head = pair(512, 64, "embedding"), pair(64, 512, "linear")
    parts = [
        Part(Adapter({"model.embed_tokens": both}), source="mlx"),
        Part(Adapter({"lm_head": head}), source="peft"),
    ]
    merge(load_base(base), parts, tmp_path / "out")
    old = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    new = load_file(tmp_path / "out" / "model.safetensors")
    embedding = old + (both.b @ both.a).T
    assert np.allclose(new["model.embed_tokens.weight"], embedding, atol=1e-5)
    assert np.allclose(new["lm_head.weight"], embedding + head.b @ head.a, atol=1e-5)


def test_a_quantized_tied_base(root: Path, tmp_path: Path) -> None:
    quantized = mlx_4bit("llama_tied", root, tmp_path / "4bit")
    base = tmp_path / "plain"
    merge_folders(quantized, (), base, dequantize=True)
    wanted = real_adapter(base, tmp_path / "peft", **BOTH["embedding"])
    merge_folders(quantized, (tmp_path / "peft",), tmp_path / "merged", dequantize=True)
    loads_whole(tmp_path / "merged")
    assert difference(cases.base_logits(tmp_path / "merged"), wanted) < 5e-5


# --- lora_bias --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family",
    ["llama", "gemma", "phi"]
    + [pytest.param(f, marks=pytest.mark.slow) for f in ("qwen3", "qwen3_moe", "gemma2", "gemma3")],
)
def test_biases_of_lora_are_merged(family: str, root: Path, tmp_path: Path) -> None:
    """PEFT itself cannot where the linear has no bias ("Impossible to merge")."""
    base = cases.base_of(family, root)
    targets = ["q_proj", "v_proj"] + (["down_proj"] if family == "llama" else [])
    wanted = real_adapter(base, tmp_path / "peft", target_modules=targets, lora_bias=True)
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    loads_whole(tmp_path / "merged")
    assert difference(cases.base_logits(tmp_path / "merged"), wanted) < 5e-5
    assert difference(cases.base_logits(base), wanted) > 0.1


@pytest.mark.parametrize("family", ["mistral", "phi3"])
def test_a_bias_that_has_no_place_is_refused(family: str, root: Path, tmp_path: Path) -> None:
    """With advice that does not lead back here."""
    base = cases.base_of(family, root)
    target = "o_proj"
    cases.peft_adapter(family, root, tmp_path / "peft", target_modules=[target], lora_bias=True)
    assert load_base(base).model_type not in BIASES
    with pytest.raises(
        UserError, match=r"o_proj: a bias of LoRA.*without lora_bias \(livery train"
    ):
        merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    for verdict in check(tmp_path / "peft", base=base):
        for finding in verdict.findings:
            if finding.refused:
                assert finding.remedy.startswith("livery train"), finding


# --- advice that leads out --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("llama_tied", BOTH["embedding"]), ("llama_tied", BOTH["head"]),
        ("qwen2", BOTH["saved embedding"]),
        ("llama", {"target_modules": ["q_proj"], "lora_bias": True}),
    ],
)  # fmt: skip
def test_what_check_advises_is_followed(
    family: str, config: dict[str, Any], root: Path, tmp_path: Path
) -> None:
    """Each refusal's command, run as it is: a model with PEFT's logits, or another form."""
    base = cases.base_of(family, root)
    wanted = real_adapter(base, tmp_path / "peft", **config)
    done: set[str] = set()
    for verdict in check(tmp_path / "peft", base=base):
        for finding in (f for f in verdict.findings if f.refused):
            done.add(verdict.runtime)
            for command in finding.remedy.split(" && "):
                run_remedy(command.replace("merged", str(tmp_path / f"merged-{verdict.runtime}")))
            folder = tmp_path / f"merged-{verdict.runtime}"
            if not finding.remedy.startswith("livery convert"):
                assert difference(cases.base_logits(folder), wanted) < 5e-5
    assert {"llamacpp", "ollama", "mlx"} <= done


@pytest.mark.parametrize(
    ("family", "config", "kept"),
    [
        ("gemma", BOTH["embedding"], "q_proj"),
        ("gemma2", BOTH["head"], "q_proj"),
        ("gemma", {"target_modules": ["q_proj", "v_proj"], "lora_bias": True}, "q_proj,v_proj"),
    ],
)
def test_what_would_not_load_merged_is_trained_anew(
    family: str, config: dict[str, Any], kept: str, root: Path, tmp_path: Path
) -> None:
    """llama.cpp and mlx-lm have no head and no biases of that family's own."""
    base = cases.base_of(family, root)
    real_adapter(base, tmp_path / "peft", **config)
    for verdict in check(tmp_path / "peft", base=base, runtimes=["llamacpp", "mlx"]):
        (finding,) = [f for f in verdict.findings if f.refused]
        assert finding.remedy.startswith("livery train")
        assert finding.remedy.endswith(f"--lora-targets {kept}")
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    with pytest.raises(UserError, match=r"llama\.cpp computes"):
        write_model(tmp_path / "merged", tmp_path / "merged.gguf", "f32")


@pytest.mark.parametrize("target", ["mlx", "gguf"])
@pytest.mark.parametrize("case", ["embedding", "head", "saved embedding"])
def test_what_convert_advises_is_possible(
    case: str, target: Any, root: Path, tmp_path: Path
) -> None:
    base = cases.base_of("llama_tied", root)
    real_adapter(base, tmp_path / "peft", **BOTH[case])
    with pytest.raises(UserError, match=r"livery merge"):
        convert(tmp_path / "peft", tmp_path / "out", target, base=base)
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")


@pytest.mark.parametrize("target", ["mlx", "gguf"])
@pytest.mark.parametrize(
    ("family", "config", "works"),
    [
        ("llama", {"target_modules": ["q_proj"], "lora_bias": True}, True),
        ("mistral", {"target_modules": ["o_proj"], "lora_bias": True}, False),
        ("phi3", {"target_modules": ["o_proj"], "lora_bias": True}, False),
        ("gemma", {"target_modules": ["q_proj"], "lora_bias": True}, None),
        ("gemma2", BOTH["head"], None),
        ("llama_tied", BOTH["head"], True),
        ("qwen2", BOTH["saved embedding"], True),
        ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, True),
    ],
)  # fmt: skip
def test_a_refusal_of_convert_advises_what_works_for_the_family(
    family: str, config: dict[str, Any], works: bool | None, target: Any, root: Path, tmp_path: Path
) -> None:
    """Merging, where the base takes it and the runtime loads what comes of it; else training again
    (works: None where a merge runs in transformers alone)."""
    base = cases.base_of(family, root)
    wanted = real_adapter(base, tmp_path / "peft", **config)
    with pytest.raises(UserError) as caught:
        convert(tmp_path / "peft", tmp_path / "out", target, base=base)
    said = str(caught.value)
    assert "train again without" in said
    assert ("instead (livery merge)" in said) == (works is True)
    assert ("Merged (livery merge) it runs in transformers, but" in said) == (works is None)
    assert ("It cannot be merged into this base either" in said) == (works is False)
    if works is False:
        with pytest.raises(UserError):
            merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
        return
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    assert difference(cases.base_logits(tmp_path / "merged"), wanted) < 5e-5
    if target == "gguf" and works:
        write_model(tmp_path / "merged", tmp_path / "merged.gguf", "f32")
    elif target == "gguf":
        with pytest.raises(UserError, match=r"llama\.cpp computes"):
            write_model(tmp_path / "merged", tmp_path / "merged.gguf", "f32")


# --- NaN --------------------------------------------------------------------------------------


def test_a_base_that_holds_nan_is_said_to(tmp_path: Path) -> None:
    """Also in a tensor that the merge only copies."""
    odd, plain = np.zeros((3, 4), np.float32), np.ones((5,), np.float16)
    odd[1, 2] = np.nan
    plain[:2] = np.inf, np.nan
    base = load_base(tiny(tmp_path / "base", **{"model.q.weight": odd, "model.n.weight": plain}))
    a, b = np.ones((2, 4), np.float32), np.ones((3, 2), np.float32)
    report = merge(base, [Part(Adapter({"model.q": Pair(a, b, 2.0)}))], tmp_path / "out")
    (note,) = report["notes"]
    assert "base itself holds NaN or infinity" in note
    assert "2 values of model.n.weight and 1 other" in note or "1 values of model.q.weight" in note


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_sum_beyond_the_dtype_is_refused(dtype: Any, tmp_path: Path) -> None:
    large = 6e4 if dtype == "float16" else 3e38
    weights = np.full((3, 4), large, dtype)
    base = load_base(tiny(tmp_path / "base", **{"model.q.weight": weights}))
    a, b = np.full((2, 4), large / 4, np.float32), np.ones((3, 2), np.float32)
    part = Part(Adapter({"model.q": Pair(a, b, 2.0)}))
    with pytest.raises(UserError, match=r"model.q.weight: 12 values became NaN or infinite"):
        merge(base, [part], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    merge(base, [part], tmp_path / "out", allow_nonfinite=True)
    found = load_file(tmp_path / "out" / "model.safetensors")["model.q.weight"]
    assert np.isinf(found).all()


def test_formats_read_what_the_merge_wrote(root: Path, tmp_path: Path) -> None:
    """A merged folder is a base like any other."""
    base = cases.base_of("llama_tied", root)
    real_adapter(base, tmp_path / "peft", **BOTH["embedding"])
    merge_folders(base, (tmp_path / "peft",), tmp_path / "merged")
    known = load_base(tmp_path / "merged")
    assert not known.tied
    adapter = formats.read_adapter(tmp_path / "peft", known)
    assert formats.refuse(adapter, "gguf", known, "peft") is None
