"""Converted models and adapters on the real llama.cpp, against torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.adapters import formats
from convert.base import load_base
from convert.convert import convert
from convert.gguf.model import write_model
from livery.gguf_base import architectures
from tests import ROOT
from tests.convert import convert_cases as cases
from tests.convert.convert_cases import MOE, VARIANTS
from tests.tiny_models import FAMILIES, tiny_model

pytest.importorskip("xllamacpp")
pytestmark = cases.QUIET

GELU = ("gemma", "gemma2", "gemma3", "phi")
QUICK = ("llama", "qwen3", "mixtral", "gemma3")  # the others are marked slow
POSITIONS = (1, 9, 24)


def tolerance(family: str) -> float:
    return 2e-2 if family in GELU else 1e-3  # llama.cpp's GELU is a table


def logprobs(logits: np.ndarray) -> np.ndarray:
    """(positions, V) of the log-probabilities at `POSITIONS`."""
    chosen = logits[[n - 1 for n in POSITIONS]].astype(np.float64)
    chosen -= chosen.max(-1, keepdims=True)
    return chosen - np.log(np.exp(chosen).sum(-1, keepdims=True))


def prompts() -> list[list[int]]:
    return [cases.TOKENS[0, :n].tolist() for n in POSITIONS]


def on_llama_cpp(folder: Path, adapter: Path) -> Any:
    """{"base", "adapted"}: log-probabilities of base.gguf at `POSITIONS`, without and with it."""
    return cases.llama_cpp(
        folder, model=str(folder / "base.gguf"), adapter=str(adapter), prompts=prompts()
    )


def adapter_of(family: str, variant: str, root: Path, folder: Path) -> np.ndarray:
    if variant != "experts":
        return cases.peft_adapter(family, root, folder, **VARIANTS[variant])
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"]
    ranks = {"experts.down_proj": 2}
    return cases.peft_adapter(
        family, root, folder, target_modules=["v_proj"], target_parameters=parameters,
        rank_pattern=ranks,
    )  # fmt: skip


GRID = [
    pytest.param(
        family,
        variant,
        marks=[] if family in QUICK and variant in ("patterns", "experts") else pytest.mark.slow,
    )
    for family in FAMILIES
    for variant in ("plain", "rslora", "patterns", "subset", "experts")
    if variant != "experts" or family in MOE
]


@pytest.mark.parametrize(("family", "variant"), GRID)
def test_base_and_adapter_on_llama_cpp(family: str, variant: str, root: Path, tmp_path: Path):
    base = cases.base_of(family, root)
    write_model(base, tmp_path / "base.gguf", "f32")
    wanted = logprobs(adapter_of(family, variant, root, tmp_path / "peft"))
    plain = logprobs(cases.base_logits(base))
    convert(tmp_path / "peft", tmp_path / "a.gguf", "gguf", base=base)
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(np.array(found["base"]) - plain).max() < tolerance(family)
    adapted = np.array(found["adapted"])
    assert np.abs(adapted - wanted).max() < tolerance(family)
    assert (adapted.argmax(-1) == wanted.argmax(-1)).all()
    assert np.abs(wanted - plain).max() > 0.5  # the adapter does something


def test_a_wrong_order_of_q_and_k_would_show(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The negative control: the same adapter without the permutation of its q and k."""
    base = cases.base_of("llama", root)
    write_model(base, tmp_path / "base.gguf", "f32")
    wanted = logprobs(cases.peft_adapter("llama", root, tmp_path / "peft"))
    monkeypatch.setattr(architectures, "permute", lambda rows, heads: rows)
    convert(tmp_path / "peft", tmp_path / "a.gguf", "gguf", base=base)
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(np.array(found["adapted"]) - wanted).max() > 0.1


def test_embeddings_of_an_untied_base_on_llama_cpp(root: Path, tmp_path: Path):
    base = cases.base_of("llama", root)
    write_model(base, tmp_path / "base.gguf", "f32")
    targets = ["embed_tokens", "lm_head", "v_proj"]
    wanted = cases.peft_adapter("llama", root, tmp_path / "peft", target_modules=targets)
    convert(tmp_path / "peft", tmp_path / "a.gguf", "gguf", base=base)
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(np.array(found["adapted"]) - logprobs(wanted)).max() < tolerance("llama")


LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "theta": ("qwen2", {"rope_theta": 1e6}),
    "llama3 rope": ("llama", {"rope_scaling": LLAMA3_ROPE}),
    "linear rope": ("llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "attention bias": ("llama", {"attention_bias": True}),
    "short window": ("gemma3", {"sliding_window": 8}),
    "six layers": ("gemma3", {"num_hidden_layers": 6, "sliding_window_pattern": 6}),
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_base_models_of_other_shapes(shape: str, root: Path, tmp_path: Path):
    family, overrides = SHAPES[shape]
    base = tiny_model(family, root, **overrides)
    write_model(base, tmp_path / "base.gguf", "f32")
    found = cases.llama_cpp(tmp_path, model=str(tmp_path / "base.gguf"), prompts=prompts())
    wanted = logprobs(cases.base_logits(base))
    assert np.abs(np.array(found["base"]) - wanted).max() < tolerance(family)


@pytest.mark.parametrize(("kind", "most"), [("f16", 0.05), ("q8_0", 0.3)])
def test_low_precision_runs(kind: str, most: float, root: Path, tmp_path: Path):
    base = cases.base_of("llama", root)
    report = write_model(base, tmp_path / "base.gguf", kind)
    assert report["stored"][{"f16": "float16", "q8_0": "q8_0"}[kind]] == 16
    wanted = cases.peft_adapter("llama", root, tmp_path / "peft")
    convert(tmp_path / "peft", tmp_path / "a.gguf", "gguf", base=base, dtype="float16")
    found = on_llama_cpp(tmp_path, tmp_path / "a.gguf")
    assert np.abs(np.array(found["adapted"]) - logprobs(wanted)).max() < most


def test_the_whole_folder_of_a_run_fits_llama_cpp(root: Path, tmp_path: Path):
    """What mlx-lm trained, experts and router included, in the folder for every runtime."""
    pytest.importorskip("mlx.core")
    base = cases.base_of("qwen3_moe", root)
    cases.mlx_adapter(base, tmp_path / "mlx", layers=2)
    wanted = logprobs(cases.mlx_logits(base, tmp_path / "mlx"))
    convert(tmp_path / "mlx", tmp_path / "all", "all", base=base)
    write_model(base, tmp_path / "base.gguf", "f32")
    found = on_llama_cpp(tmp_path, tmp_path / "all" / "gguf" / "adapter.gguf")
    assert np.abs(np.array(found["adapted"]) - wanted).max() < tolerance("qwen3_moe")
    assert formats.detect(tmp_path / "all").format == "peft"
    assert load_base(base).kv_heads == 2


@pytest.mark.slow
def test_the_embedded_base(tmp_path: Path):
    """The base that comes with the project: its tokens and its answers on llama.cpp."""
    from tokenizers import Tokenizer

    base = ROOT / "base_model"
    write_model(base, tmp_path / "base.gguf", "f32")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    texts = ["remind me tomorrow at 7:30", '["in_12_days"]\n', "deux  minutes, s'il vous plaît"]
    ids = [tokenizer.encode(text).ids for text in texts]
    found = cases.llama_cpp(
        tmp_path,
        model=str(tmp_path / "base.gguf"),
        prompts=ids[:1],
        texts=texts,
        vocab=tokenizer.get_vocab_size(),
    )
    assert found["tokens"] == ids
    import torch

    with torch.no_grad():
        logits = cases.torch_base(base).eval()(torch.tensor(ids[:1])).logits[0, -1:].numpy()
    wanted = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    assert np.abs(np.array(found["base"]) - wanted).max() < 1e-3
