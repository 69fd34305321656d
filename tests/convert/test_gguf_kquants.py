"""K-quants: the mix of types, the blocks, and the files on the real llama.cpp."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from commands.gguf import gguf_command
from convert.base import load_base
from convert.gguf import ggml, k_quants
from convert.gguf import model as gguf_model
from convert.gguf.convert import convert_model
from convert.gguf.k_quants import Facts, choose
from livery.errors import UserError
from tests import ROOT
from tests.convert import convert_cases as cases
from tests.tiny_models import tiny_model

BASE = ROOT / "base_model"
TEXT = "User: Remind me tomorrow at half past seven to call the station, and next Monday too."
POSITIONS = (3, 9, 14)


@pytest.fixture(scope="module")
def quantizer() -> ggml.Quantizer:
    pytest.importorskip("xllamacpp")
    return ggml.load()


def read(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Name -> (type, values as float32), decoded by the gguf package."""
    from gguf import GGUFReader
    from gguf.quants import dequantize

    return {
        tensor.name: (tensor.tensor_type.name, dequantize(tensor.data, tensor.tensor_type))
        for tensor in GGUFReader(str(path)).tensors
    }


def types(path: Path) -> dict[str, str]:
    return {name: kind for name, (kind, _) in read(path).items()}


# -- the mix ------------------------------------------------------------------------------------


def shapes(layers: int, *, tied: bool = False, row: int = 512, fused: bool = False) -> Any:
    parts = ("attn_qkv",) if fused else ("attn_q", "attn_k", "attn_v")
    made = {"token_embd.weight": (4096, row), "output_norm.weight": (row,)}
    for layer in range(layers):
        for part in (*parts, "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            made[f"blk.{layer}.{part}.weight"] = (row, row)
        made[f"blk.{layer}.attn_norm.weight"] = (row,)
        made[f"blk.{layer}.ffn_gate_inp.weight"] = (8, row)
        made[f"blk.{layer}.attn_q.bias"] = (row,)
    return made if tied else {**made, "output.weight": (4096, row)}


def chosen(mix: str, facts: Facts, **shape: Any) -> dict[str, str]:
    found = choose(shapes(facts.layers, **shape), mix, facts)
    return {name.removesuffix(".weight"): choice.dtype for name, choice in found.items()}


def layers_with(found: dict[str, str], part: str, dtype: str) -> list[int]:
    return [
        int(name.split(".")[1])
        for name, kind in found.items()
        if name.endswith(f".{part}") and kind == dtype
    ]


MORE = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]  # published 32-layer files


@pytest.mark.parametrize(("mix", "plain"), [("q4_k_m", "q4_k"), ("q5_k_m", "q5_k")])
def test_half_the_layers_get_more_bits(mix: str, plain: str):
    found = chosen(mix, Facts("llama", 32))
    for part in ("attn_v", "ffn_down"):
        assert layers_with(found, part, "q6_k") == MORE
        assert len(layers_with(found, part, plain)) == 16
    for part in ("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"):
        assert len(layers_with(found, part, plain)) == 32
    assert (found["output"], found["token_embd"]) == ("q6_k", plain)
    assert chosen(mix, Facts("llama", 32), tied=True)["token_embd"] == "q6_k"


def test_what_is_never_quantized():
    found = chosen("q4_k_m", Facts("llama", 2))
    names = ("output_norm", "blk.0.attn_norm", "blk.1.ffn_gate_inp", "blk.1.attn_q.bias")
    assert {found[name] for name in names} == {"float32"}


def test_the_other_mixes():
    assert set(chosen("q6_k", Facts("llama", 8)).values()) == {"q6_k", "float32"}
    small = chosen("q4_k_s", Facts("llama", 32))
    assert layers_with(small, "attn_v", "q5_k") == [0, 1, 2, 3]
    assert layers_with(small, "ffn_down", "q5_k") == [0, 1, 2, 3]
    assert set(chosen("q5_k_s", Facts("llama", 8)).values()) == {"q5_k", "q6_k", "float32"}
    fused = chosen("q4_k_m", Facts("phi3", 32), fused=True)
    assert layers_with(fused, "attn_qkv", "q6_k") == MORE


def test_eight_experts_and_seventy_billion():
    found = chosen("q4_k_m", Facts("llama", 32, experts=8))
    assert {found[f"blk.{n}.attn_{p}"] for n in range(32) for p in "kv"} == {"q8_0"}
    assert found["blk.0.attn_output"] == "q5_k"
    assert found["blk.4.ffn_down"] == "q4_k"
    assert layers_with(found, "ffn_down", "q6_k") == MORE
    assert chosen("q5_k_m", Facts("llama", 8, experts=8))["blk.0.attn_output"] == "q5_k"
    assert chosen("q4_k_m", Facts("llama", 8, experts=4))["blk.0.attn_output"] == "q4_k"
    big = chosen("q4_k_m", Facts("llama", 80, grouped=True))
    assert len(layers_with(big, "attn_v", "q5_k")) == 40
    assert not layers_with(chosen("q4_k_m", Facts("llama", 80)), "attn_v", "q5_k")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (96, {"q4_k_m": {"q5_0", "q8_0"}, "q5_k_m": {"q5_1", "q8_0"}, "q6_k": {"q8_0"}}),
        (72, {mix: {"float16"} for mix in ("q4_k_m", "q5_k_m", "q6_k")}),
    ],
)
def test_rows_that_fit_no_block(row: int, expected: dict[str, set[str]]):
    for mix, kinds in expected.items():
        found = chosen(mix, Facts("llama", 8), row=row)
        assert set(found.values()) - {"float32"} == kinds


# -- the blocks ---------------------------------------------------------------------------------

# Root mean square over the weights' own. Q6_K keeps the embeddings, whose rare large values cost
# it most: 0.0235 with the present base, where Q5_K would lose twice that.
ERROR = {"Q4_K": 0.085, "Q5_K": 0.045, "Q6_K": 0.026}


@pytest.mark.slow
@pytest.mark.parametrize("mix", ["q4_k_m", "q5_k_m", "q6_k", "q4_k_s", "q5_k_s"])
def test_blocks_decode_to_the_weights(mix: str, quantizer: ggml.Quantizer, tmp_path: Path):
    report = convert_model(BASE, tmp_path / "q.gguf", mix)
    gguf_model.write_model(BASE, tmp_path / "f.gguf", "f32")
    assert report["quantizer"] == "ggml of xllamacpp"
    assert report["fallbacks"] == {}
    wanted, found = read(tmp_path / "f.gguf"), read(tmp_path / "q.gguf")
    assert wanted.keys() == found.keys()
    seen: set[str] = set()
    for name, (kind, values) in found.items():
        exact = wanted[name][1]
        if kind == "F32":
            assert (values == exact).all()
            continue
        seen.add(kind)
        error = np.sqrt(np.mean((values - exact) ** 2) / np.mean(exact**2))
        assert 1e-4 < error < ERROR[kind], (name, kind, error)
    assert seen - {"Q6_K"} == (
        {"Q4_K", "Q5_K"} if mix == "q4_k_s" else {mix[:4].upper()} - {"Q6_K"}
    )


def test_blocks_do_not_depend_on_the_threads(
    quantizer: ggml.Quantizer, monkeypatch: pytest.MonkeyPatch
):
    values = np.random.default_rng(0).normal(size=(3, 40, 512)).astype(np.float16)
    whole = quantizer(values, "q4_k")
    assert whole.shape == (3, 40, 288)
    monkeypatch.setattr(ggml, "_CHUNK", 1024)
    assert (quantizer(values, "q4_k") == whole).all()
    values[2, 39, 511] = np.nan
    with pytest.raises(UserError, match="NaN"):
        quantizer(values, "q4_k")


# -- on llama.cpp -------------------------------------------------------------------------------


def logprobs(model: Path, folder: Path, prompts: list[list[int]], vocab: int) -> np.ndarray:
    return np.array(cases.llama_cpp(folder, model=str(model), prompts=prompts, vocab=vocab)["base"])


def divergence(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean KL of next-token distributions, in nats."""
    return float((np.exp(wanted) * (wanted - found)).sum(-1).mean())


@pytest.mark.slow
def test_the_embedded_base_runs_quantized(quantizer: ggml.Quantizer, tmp_path: Path):
    """Near the f16 file, the nearer the more bits, and far nearer than with shuffled rows."""
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(BASE / "tokenizer.json")).encode(TEXT).ids
    prompts = [ids[:n] for n in POSITIONS]
    gguf_model.write_model(BASE, tmp_path / "f16.gguf", "f16")
    wanted = logprobs(tmp_path / "f16.gguf", tmp_path, prompts, 4096)
    far: dict[str, float] = {}
    for mix in ("q4_k_m", "q5_k_m", "q6_k"):
        convert_model(BASE, tmp_path / "q.gguf", mix, overwrite=True)
        far[mix] = divergence(logprobs(tmp_path / "q.gguf", tmp_path, prompts, 4096), wanted)

    def shuffled(array: np.ndarray, dtype: str) -> np.ndarray:
        return quantizer(array[np.random.default_rng(0).permutation(len(array))], dtype)

    gguf_model.write_model(BASE, tmp_path / "bad.gguf", "q6_k", quantize=shuffled)
    control = divergence(logprobs(tmp_path / "bad.gguf", tmp_path, prompts, 4096), wanted)
    assert far["q6_k"] < far["q5_k_m"] < far["q4_k_m"] < 0.2, far  # small models lose more
    assert far["q6_k"] < 0.01, far
    assert control > 20 * far["q5_k_m"], (far, control)
    assert control > 5 * far["q4_k_m"], (far, control)


WIDE = {"hidden_size": 256, "intermediate_size": 256}
# No choice of experts, which tiny changes would tip over.
ALL_OF_EIGHT = {"num_local_experts": 8, "num_experts_per_tok": 8}
ODD = {"hidden_size": 96, "intermediate_size": 144, "num_attention_heads": 4}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "overrides", "expected"),
    [
        ("mixtral", {**WIDE, **ALL_OF_EIGHT}, {"Q4_K", "Q5_K", "Q6_K", "Q8_0"}),
        ("phi3", WIDE, {"Q4_K", "Q6_K"}),
        ("llama", ODD, {"Q5_0", "Q8_0", "F16"}),
    ],
)
def test_tiny_models_run_quantized(
    family: str,
    overrides: dict[str, Any],
    expected: set[str],
    quantizer: ggml.Quantizer,
    root: Path,
    tmp_path: Path,
):
    """Stacked experts, fused weights, and rows that do not fit into blocks of 256 or of 32."""
    base = tiny_model(family, root, **overrides)
    report = convert_model(base, tmp_path / "q.gguf", "q4_k_m")
    assert set(types(tmp_path / "q.gguf").values()) == {*expected, "F32"}
    assert bool(report["fallbacks"]) == (overrides is ODD)
    gguf_model.write_model(base, tmp_path / "f.gguf", "f32")
    prompts = [cases.TOKENS[0, :n].tolist() for n in POSITIONS]
    wanted = logprobs(tmp_path / "f.gguf", tmp_path, prompts, 512)
    far = divergence(logprobs(tmp_path / "q.gguf", tmp_path, prompts, 512), wanted)
    convert_model(base, tmp_path / "q.gguf", "q6_k", overwrite=True)
    near = divergence(logprobs(tmp_path / "q.gguf", tmp_path, prompts, 512), wanted)
    others = divergence(wanted[[1, 2, 0]], wanted)  # the answers to the other prompts
    assert near < 0.03 * others, (near, others)
    assert near < far < 0.3 * others, (far, others)  # random weights suffer from 4 bits


# -- what can go wrong --------------------------------------------------------------------------


def test_a_model_with_nan_is_refused_by_name(quantizer: ggml.Quantizer, root: Path, tmp_path: Path):
    import shutil

    from safetensors.numpy import load_file, save_file

    shutil.copytree(tiny_model("llama", root, **WIDE), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = np.inf
    save_file(tensors, file)
    with pytest.raises(
        UserError, match=r"blk\.1\.ffn_up\.weight: 1 of 65,536 values are NaN or inf"
    ):
        convert_model(tmp_path / "model", tmp_path / "q.gguf", "q4_k_m")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_library_that_writes_something_else_is_not_used():
    def zeros(number: int, _source: int, _target: int, _first: int, rows: int, row: int, *_: Any):
        return {12: 144}[number] * rows * row // 256

    with pytest.raises(ggml.Unavailable, match="as expected"):
        ggml.check_encoder(zeros, "q4_k")
    with pytest.raises(ggml.Unavailable, match="wrote 7 bytes"):
        ggml.check_encoder(lambda *_: 7, "q4_k")


def without_ggml(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    def missing() -> Any:
        raise ggml.Unavailable("the package xllamacpp is not installed")

    monkeypatch.setattr(ggml, "load", missing)
    monkeypatch.setenv("PATH", str(path))


def program(folder: Path, body: str) -> None:
    """A stand-in for llama-quantize, which is not installed here: Python that gets sys.argv."""
    file = folder / ggml.PROGRAM
    file.write_text(f"#!{sys.executable}\nimport shutil, sys\n{body}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def test_without_any_quantizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    without_ggml(monkeypatch, tmp_path)
    with pytest.raises(UserError, match=r"xllamacpp is not installed.*no llama-quantize on PATH"):
        convert_model(BASE, tmp_path / "q.gguf", "q4_k_m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_llama_quantize_does_it_where_ggml_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tools = tmp_path / "bin"
    tools.mkdir()
    without_ggml(monkeypatch, tools)
    program(
        tools,
        "print('[   1/  39] token_embd.weight', flush=True)\n"
        "print(sys.argv[3:]); shutil.copyfile(sys.argv[1], sys.argv[2])",
    )
    seen: list[tuple[int, int]] = []
    report = convert_model(
        BASE, tmp_path / "q.gguf", "q5_k_m", progress=lambda done, total: seen.append((done, total))
    )
    assert report["quantizer"] == "llama-quantize"
    gguf_model.write_model(BASE, tmp_path / "exact.gguf", "bf16")
    found, wanted = (tmp_path / name for name in ("q.gguf", "exact.gguf"))
    assert types(found) == types(wanted)  # what it was given holds every weight exactly
    done, total = seen[-1]
    assert total // 2 < done < total
    program(tools, "sys.exit('out of luck')")
    with pytest.raises(UserError, match=r"code 1:\nout of luck"):
        convert_model(BASE, tmp_path / "q.gguf", "q5_k_m", overwrite=True)
    assert found.exists()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["bin", "exact.gguf", "q.gguf"]


def test_the_command_names_what_did_not_fit(quantizer: ggml.Quantizer, root: Path, tmp_path: Path):
    arguments = ["--model", str(tiny_model("llama", root, **ODD)), "--type", "q4_k_m"]
    shown = CliRunner().invoke(
        gguf_command, [*arguments, "--out", str(tmp_path / "a.gguf")], catch_exceptions=False
    )
    assert "not a multiple of the block stored as float16: blk.0.ffn_down" in shown.output
    assert "stored as q5_0" in shown.output
    as_json = CliRunner().invoke(
        gguf_command, [*arguments, "--out", str(tmp_path / "b.gguf"), "--json"]
    )
    report = json.loads(as_json.output)
    assert report["fallbacks"]["blk.1.ffn_down.weight"] == "float16"
    assert report["type"] == "q4_k_m"


def test_the_smallest_exact_kind(root: Path, tmp_path: Path):
    assert gguf_model.exact_kind(load_base(BASE)) == "bf16"
    assert gguf_model.exact_kind(load_base(tiny_model("llama", root))) == "f32"
    assert set(k_quants.MIXES) == {"q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k"}
