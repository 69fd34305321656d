"""HF → GGUF → HF: a GGUF file is decoded into the folder that it was written from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.gguf.convert import convert_model
from convert.gguf.field_table import TABLE
from convert.gguf.file import Lazy, write_gguf
from convert.gguf.model import write_model
from livery.errors import UserError
from livery.gguf_base import families
from livery.gguf_base.folder import PROVENANCE, tokenizer_folder
from livery.gguf_reader import TYPES, GgufFile, open_gguf
from livery.models import find_base
from livery.safetensors_file import open_tensors
from livery.weights import weight_files
from tests.convert import convert_cases as cases
from tests.tiny_models import FAMILIES, MORE, tiny_model

pytestmark = [*cases.QUIET, pytest.mark.usefixtures("cache")]
# What is stored with 1 added, or as the exponential of itself, is rounded on the way.
ROUNDED = ("gemma", "gemma2", "gemma3", "qwen3_5", "qwen3_5_moe")
GELU = ("gemma", "gemma2", "gemma3", "phi", "gemma4", "gemma4_moe")


def weights(folder: Path) -> dict[str, np.ndarray]:
    files = [open_tensors(path) for path in weight_files(folder)]
    return {name: file.read(name) for file in files for name in file.entries}


def decode(file: Path) -> Path:
    folder = find_base(file)
    assert folder is not None
    return folder


@pytest.mark.parametrize("family", [*FAMILIES, *MORE])
def test_the_way_back_is_the_identity(family: str, root: Path, tmp_path: Path):
    base = tiny_model(family, root)
    write_model(base, tmp_path / "m.gguf", "f32")
    folder = decode(tmp_path / "m.gguf")
    before, after = weights(base), weights(folder)
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert array.shape == after[name].shape, name
        bound = 2e-7 if family in ROUNDED else 0.0
        assert np.abs(array - after[name]).max() <= bound, name
    # The configuration computes the same, which the weights alone do not show.
    apart = np.abs(cases.base_logits(base) - cases.base_logits(folder)).max()
    assert apart <= (1e-5 if family in ROUNDED else 0.0)


def test_every_family_that_is_written_is_read():
    """A model type that `livery gguf` gains must not be missing here."""
    assert set(families.FAMILIES) == set(TABLE) - {"mistral"}  # whose files are those of a llama


ROPES: dict[str, dict[str, Any]] = {
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "llama3 as published": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "llama3 with bounds of its own": {
        "rope_type": "llama3",
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 7.0,
        "original_max_position_embeddings": 900,
    },
    "linear": {"rope_type": "linear", "factor": 2.5},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    "yarn with a factor": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "attention_factor": 0.9,
    },
}


@pytest.mark.parametrize("scaling", ROPES)
def test_scaled_ropes_come_back(scaling: str, root: Path, tmp_path: Path):
    extra = {"head_dim": 64, "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    base = tiny_model("llama", root, rope_scaling=ROPES[scaling], **extra)
    write_model(base, tmp_path / "m.gguf", "f32")
    apart = cases.base_logits(base) - cases.base_logits(decode(tmp_path / "m.gguf"))
    assert np.abs(apart).max() < 2e-5
    plain = tiny_model("llama", root, **extra)
    assert np.abs(cases.base_logits(base) - cases.base_logits(plain)).max() > 1e-3


def test_longrope_comes_back(root: Path, tmp_path: Path):
    scaling = {"type": "longrope", "long_factor": [1.5] * 8, "short_factor": [1.25] * 8}
    base = tiny_model(
        "phi3",
        root,
        rope_scaling=scaling,
        original_max_position_embeddings=16,
        max_position_embeddings=64,
    )
    write_model(base, tmp_path / "m.gguf", "f32")
    apart = cases.base_logits(base) - cases.base_logits(decode(tmp_path / "m.gguf"))
    assert np.abs(apart).max() < 1e-5


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_half_precision_stays_what_it_is(kind: str, root: Path, tmp_path: Path):
    """Matrices keep their bits; the norms, which GGUF has in float32, only narrow without loss."""
    base = tiny_model("llama", root)
    write_model(base, tmp_path / "m.gguf", kind)
    file = open_gguf(tmp_path / "m.gguf")
    folder = decode(tmp_path / "m.gguf")
    (made,) = [open_tensors(path) for path in weight_files(folder)]
    tag = {"f16": "F16", "bf16": "BF16"}[kind]
    assert made.entries["model.embed_tokens.weight"].tag == tag
    assert made.entries["model.norm.weight"].tag == "F32"  # random: no half holds it
    assert (made.read("model.norm.weight") == file.read("output_norm.weight")).all()
    assert (made.read("model.embed_tokens.weight") == file.read("token_embd.weight")).all()
    again = tmp_path / "again.gguf"
    write_model(folder, again, kind)
    assert_same_numbers(open_gguf(tmp_path / "m.gguf"), open_gguf(again))


def assert_same_numbers(one: GgufFile, other: GgufFile) -> None:
    assert one.entries.keys() == other.entries.keys()
    for name in one.entries:
        assert (one.read(name) == other.read(name)).all(), name


def stored_as(source: Path, out: Path, dtype: str) -> None:
    """The file again with its matrices stored otherwise."""
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import quantize

    file = open_gguf(source)
    metadata: dict[str, Any] = {
        key: np.asarray(value) if isinstance(value, memoryview) else value
        for key, value in file.metadata.items()
    }
    tensors = {
        name: Lazy(entry.shape, lambda name=name: file.read(name))
        for name, entry in file.entries.items()
    }
    dtypes = {
        name: dtype if len(entry.shape) > 1 else "float32" for name, entry in file.entries.items()
    }
    TYPES.setdefault(dtype, {"q4_1": (3, 32, 20)}.get(dtype, (0, 1, 4)))
    try:
        write_gguf(
            out,
            metadata,
            tensors,
            dtypes,
            quantize=lambda array, kind: quantize(
                array.astype(np.float32), GGMLQuantizationType(TYPES[kind][0])
            ),
        )
    finally:
        if dtype == "q4_1":
            TYPES.pop(dtype)


QUANTIZED = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0")
K_QUANTS = ("q4_k_s", "q4_k_m", "q5_k_m", "q6_k")


def quantized(kind: str, root: Path, folder: Path) -> Path:
    out = folder / f"{kind}.gguf"
    if kind in K_QUANTS:
        wide = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}
        convert_model(tiny_model("llama", root, **wide), out, kind)
        assert any(entry.dtype.endswith("_k") for entry in open_gguf(out).entries.values())
        return out
    write_model(tiny_model("llama", root), folder / "whole.gguf", "f32")
    stored_as(folder / "whole.gguf", out, kind)
    assert open_gguf(out).entries["blk.0.attn_q.weight"].dtype == kind
    return out


@pytest.mark.parametrize("kind", ["f16", *QUANTIZED, *K_QUANTS])
def test_logits_are_those_of_llama_cpp_on_the_file(kind: str, root: Path, tmp_path: Path):
    pytest.importorskip("xllamacpp")
    if kind == "f16":
        file = tmp_path / "f16.gguf"
        write_model(tiny_model("llama", root), file, "f16")
    else:
        file = quantized(kind, root, tmp_path)
    positions = (1, 9, 24)
    tokens = [cases.TOKENS[0, :n].tolist() for n in positions]
    found = np.array(cases.llama_cpp(tmp_path, model=str(file), prompts=tokens)["base"])
    logits = cases.base_logits(decode(file))[[n - 1 for n in positions]].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    # llama.cpp multiplies blocks by activations that it rounds to 8 bits first.
    assert np.abs(found - logits).mean() < (2e-3 if kind == "f16" else 0.08)
    assert np.abs(found - logits).max() < (1e-2 if kind == "f16" else 0.6)


def test_provenance_and_card_tell_where_it_came_from(root: Path, tmp_path: Path):
    write_model(tiny_model("llama", root), tmp_path / "whole.gguf", "f32")
    changed(
        tmp_path / "whole.gguf",
        tmp_path / "named.gguf",
        {
            "general.license": "apache-2.0",
            "general.languages": ["en", "de"],
            "general.organization": "Nobody's",
            "general.size_label": "135M",
            "general.name": "A model: of\nlines",
        },
    )
    folder = decode(tmp_path / "named.gguf")
    told = json.loads((folder / PROVENANCE).read_text())
    assert (told["file"], told["quantization"]) == (str(tmp_path / "named.gguf"), "F32")
    assert told["general"]["license"] == "apache-2.0"
    card = (folder / "README.md").read_text()
    import yaml

    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["language"]) == ("apache-2.0", ["en", "de"])
    assert all(text in card for text in ("named.gguf", "F32", "Nobody's"))
    write_model(folder, tmp_path / "again.gguf", "f32")
    again = open_gguf(tmp_path / "again.gguf").metadata
    for name in ("license", "languages", "organization", "size_label"):
        assert again[f"general.{name}"] == told["general"][name]


def changed(source: Path, out: Path, fields: Mapping[str, Any], *, leave: str = "") -> None:
    """The file again with other metadata."""
    file = open_gguf(source)
    metadata = {
        key: np.asarray(value) if isinstance(value, memoryview) else value
        for key, value in {**file.metadata, **fields}.items()
        if key != leave and value is not None
    }
    tensors = {name: file.read(name) for name in file.entries}
    write_gguf(out, metadata, tensors, {name: file.entries[name].dtype for name in tensors})


def test_a_gemma3_that_ollama_wrote_itself_turns_as_it_should(root: Path, tmp_path: Path):
    """Its own converter has other names for the two bases of rope."""
    thetas: dict[str, Any] = {"rope_theta": 50000.0, "rope_local_base_freq": 700.0}
    base = tiny_model("gemma3", root, **thetas)
    write_model(base, tmp_path / "m.gguf", "f32")
    theirs = {"rope.global.freq_base": 50000.0, "rope.local.freq_base": 700.0}
    changed(
        tmp_path / "m.gguf",
        tmp_path / "ollama.gguf",
        {
            "gemma3.rope.freq_base": None,
            "gemma3.rope.freq_base_swa": None,
            **{f"gemma3.{name}": value for name, value in theirs.items()},
        },
    )
    made = json.loads((decode(tmp_path / "ollama.gguf") / "config.json").read_text())
    assert {name: made[name] for name in thetas} == thetas


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"general.architecture": "mamba"}, "'mamba'"),
        ({"general.type": "adapter"}, "an adapter, not a model"),
        ({"split.count": 3}, "one of 3 parts"),
        ({"llama.attention.head_count": 0}, "0 heads"),
        ({"llama.block_count": 1}, "blk.1"),
        ({"llama.embedding_length": 63}, "embedding_length"),
        ({"llama.attention.clamp_kqv": 8.0}, "clamp_kqv"),
        ({"llama.attention.sliding_window": 8}, "sliding_window"),
        ({"llama.rope.scaling.type": "dynamic"}, "dynamic"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "lacks llama.attention"),
        ({"llama.rope.freq_base": "high"}, "freq_base"),
        ({"tokenizer.ggml.pre": "strange"}, "'?strange'?"),
        ({"tokenizer.ggml.pre": np.ones(2, np.int32)}, "splits text"),
        ({"tokenizer.ggml.token_type": 3}, "token_type is not one number for each of its 512"),
        ({"tokenizer.ggml.token_type": np.ones(2, np.int32)}, "token_type is not one number"),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": 1.5}, "scores is not one"),
        ({"llama.context_length": "long"}, "context_length is long"),
        ({"tokenizer.ggml.model": "bert"}, "bert"),
        ({"tokenizer.ggml.merges": ["no merge"]}, "no merge of its vocabulary"),
        ({"tokenizer.ggml.tokens": None}, "no vocabulary"),
    ],
)
def test_what_is_not_known_is_refused(
    fields: dict[str, Any], says: str, root: Path, tmp_path: Path, cache: Path
):
    write_model(tiny_model("llama", root), tmp_path / "m.gguf", "f32")
    architecture = fields.get("general.architecture")
    changed(tmp_path / "m.gguf", tmp_path / "odd.gguf", fields)
    assert architecture is None or architecture == "mamba"
    with pytest.raises(UserError, match=says) as refused:
        find_base(tmp_path / "odd.gguf")
    assert "odd.gguf" in str(refused.value)
    with contextlib.suppress(UserError):  # an engine that brings its own weights asks for this
        tokenizer_folder(tmp_path / "odd.gguf")
    made = (cache / "livery" / "bases-of-gguf").glob("odd-*")
    assert all(folder.name.endswith("-tokenizer") for folder in made)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_an_adapter_fits_the_file_that_it_was_trained_on(family: str, root: Path, tmp_path: Path):
    """PEFT on the decoded base, exported with the GGUF file as its base, runs on that very file."""
    pytest.importorskip("xllamacpp")
    from peft import LoraConfig, get_peft_model

    from convert.convert import convert

    file = tmp_path / "m.gguf"
    write_model(tiny_model(family, root), file, "f32")
    folder = decode(file)
    model = get_peft_model(
        cases.torch_base(folder), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    )
    cases.randomise(model)
    model.save_pretrained(str(tmp_path / "peft"))
    convert(tmp_path / "peft", tmp_path / "all", "all", base=file)
    positions = (1, 9, 24)
    logits = cases.torch_logits(model)[[n - 1 for n in positions]].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    found = cases.llama_cpp(
        tmp_path,
        model=str(file),
        adapter=str(tmp_path / "all" / "gguf" / "adapter.gguf"),
        prompts=[cases.TOKENS[0, :n].tolist() for n in positions],
    )
    assert np.abs(np.array(found["adapted"]) - logits).max() < 1e-3
    assert np.abs(np.array(found["base"]) - logits).max() > 0.5


@pytest.mark.slow
def test_several_processes_decode_one_file_once(root: Path, tmp_path: Path, cache: Path):
    import subprocess
    import sys

    write_model(tiny_model("llama", root, seed=3), tmp_path / "many.gguf", "f32")
    code = "import sys; from livery.models import find_base; print(find_base(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "many.gguf")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    folders = {process.communicate()[0].strip() for process in running}
    assert len(folders) == 1
    assert len(list((cache / "livery" / "bases-of-gguf").glob("many-*"))) == 1
    assert weights(Path(folders.pop())).keys() == weights(tiny_model("llama", root)).keys()
