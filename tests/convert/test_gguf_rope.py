"""Scaled rope on the real llama.cpp against transformers, up to and beyond the first context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.gguf import numbers as gguf_numbers
from convert.gguf.convert import convert_model
from convert.gguf.model import write_model
from livery.errors import UserError
from tests.convert import convert_cases as cases
from tests.tiny_models import tiny_model

TOKENS = np.random.default_rng(5).integers(5, 512, (1, 400))
GELU = ("gemma", "gemma2", "gemma3", "phi")
_RNG = np.random.default_rng(0)
LONG, SHORT = ((1 + _RNG.random(8) * width).tolist() for width in (3.0, 0.3))
ROOM = {"max_position_embeddings": 1024, "original_max_position_embeddings": 256}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "factor": 4.0}


def longrope(count: int = 8, **more: Any) -> dict[str, Any]:
    scaling = {"type": "longrope", "long_factor": LONG[:count], "short_factor": SHORT[:count]}
    return {**ROOM, "rope_scaling": {**scaling, **more}}


def yarn(**more: Any) -> dict[str, Any]:
    return {"max_position_embeddings": 256, "rope_scaling": {**YARN, **more}}


def linear(**more: Any) -> dict[str, Any]:
    return {"max_position_embeddings": 256, "rope_scaling": LINEAR, **more}


def logprobs(base: Path, lengths: tuple[int, ...]) -> np.ndarray:
    """transformers' log-probabilities of the token after each so many tokens."""
    import torch

    model = cases.torch_base(base).eval()
    rows: list[np.ndarray] = []
    for length in lengths:  # one by one: longrope looks at the length
        with torch.no_grad():
            logits = model(torch.tensor(TOKENS[:, :length])).logits[0, -1].double().numpy()
        rows.append(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
    return np.array(rows)


def on_llama_cpp(folder: Path, lengths: tuple[int, ...], context: int) -> np.ndarray:
    prompts = [TOKENS[0, :length].tolist() for length in lengths]
    model = str(folder / "m.gguf")
    return np.array(cases.llama_cpp(folder, model=model, prompts=prompts, n_ctx=context)["base"])


# name -> family, config, lengths, context that llama.cpp is started with
CASES: dict[str, tuple[str, dict[str, Any], tuple[int, ...], int]] = {
    "longrope, short": ("phi3", longrope(), (9, 200), 256),
    "longrope, long": ("phi3", longrope(), (300, 380), 512),
    "yarn": ("qwen2", yarn(), (9, 60, 200), 256),
    "yarn, attention": ("qwen2", yarn(attention_factor=1.7), (9, 200), 256),
    "yarn, mscale": ("qwen2", yarn(mscale=0.7, mscale_all_dim=0.4), (9, 200), 256),
    "longrope, part of the head": (
        "phi3",
        {**longrope(6), "partial_rotary_factor": 0.75},
        (300,),
        512,
    ),
    "longrope, attention": ("phi3", longrope(attention_factor=1.4), (300,), 512),
    "longrope, factor": ("phi3", longrope(factor=2.0), (300,), 512),
    "yarn, equal mscales": ("qwen3", yarn(mscale=1.0, mscale_all_dim=1.0), (200,), 256),
    "yarn, no factor": ("qwen3", yarn(factor=None), (200,), 256),
    **{
        f"yarn, {family}": (family, yarn(), (9, 60, 200), 256)
        for family in ("llama", "mistral", "qwen3_moe", "gemma", "gemma2", "phi")
    },
    "yarn, mixtral": ("mixtral", {**yarn(), "head_dim": 16}, (200,), 256),
    **{f"linear, {family}": (family, linear(), (200,), 256) for family in ("gemma3", "qwen3")},
}
QUICK = ("longrope, short", "longrope, long", "yarn", "yarn, attention", "yarn, mscale")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if c in QUICK else pytest.mark.slow) for c in CASES]
)
def test_llama_cpp_computes_what_transformers_computes(case: str, root: Path, tmp_path: Path):
    pytest.importorskip("xllamacpp")
    family, config, lengths, context = CASES[case]
    base = tiny_model(family, root, **config)
    write_model(base, tmp_path / "m.gguf", "f32")
    found, wanted = on_llama_cpp(tmp_path, lengths, context), logprobs(base, lengths)
    assert np.abs(found - wanted).max() < (2e-2 if family in GELU else 1e-3)
    # The negative control: the same weights without the scaling.
    unscaled = {**config, "rope_scaling": None}
    plain = logprobs(tiny_model(family, root, **unscaled), lengths)
    assert np.abs(plain - wanted).max() > 0.1


def test_an_attention_factor_that_is_left_out_would_show(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The file as it was written before this was known."""
    pytest.importorskip("xllamacpp")
    base = tiny_model("qwen2", root, **yarn(attention_factor=1.7))
    real = gguf_numbers.hyperparameters

    def without(*arguments: Any) -> dict[str, Any]:
        return {k: v for k, v in real(*arguments).items() if "attn_factor" not in k}

    monkeypatch.setattr(gguf_numbers, "hyperparameters", without)
    write_model(base, tmp_path / "m.gguf", "f32")
    assert np.abs(on_llama_cpp(tmp_path, (9,), 256) - logprobs(base, (9,))).max() > 0.1


def test_the_long_factors_are_a_matter_of_the_context(root: Path, tmp_path: Path):
    """llama.cpp decides when it starts, transformers prompt by prompt: a note says so."""
    pytest.importorskip("xllamacpp")
    base = tiny_model("phi3", root, **longrope())
    report = convert_model(base, tmp_path / "m.gguf", "f32")
    (note,) = report["notes"]
    assert "more than 256 tokens" in note
    assert np.abs(on_llama_cpp(tmp_path, (9,), 512) - logprobs(base, (9,))).max() > 0.1
    assert convert_model(tiny_model("qwen2", root), tmp_path / "q.gguf", "f32")["notes"] == []


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("qwen2", yarn(beta_fast=16.0), r"beta_fast 16\.0; llama\.cpp computes with 32"),
        ("qwen2", yarn(beta_slow=2.0), "beta_slow"),
        ("qwen2", yarn(truncate=False), "without truncation"),
        ("gemma3", yarn(), "'yarn' is not supported for gemma3_text"),
        ("phi3", yarn(), "'yarn' is not supported for phi3"),
        ("phi3", linear(), "phi3 supports only longrope"),
        ("llama", longrope(), "only known for phi3"),
        ("phi3", longrope(7), "7 numbers in long_factor; half of the head's rotated part is 8"),
        ("qwen2", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic'"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    family: str, changes: dict[str, Any], says: str, root: Path, tmp_path: Path
):
    import json
    import shutil

    shutil.copytree(tiny_model(family, root), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(UserError, match=says):
        write_model(tmp_path / "model", tmp_path / "m.gguf", "f32")
    assert not (tmp_path / "m.gguf").exists()
