"""The same shards count for every reader, nothing is missing without a word, nothing waits."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convert.base import load_base as known_base
from convert.base import open_shards
from convert.mlx_model import write_model
from livery.adapter import Adapter, Pair
from livery.errors import UserError
from livery.gguf_reader import open_gguf
from livery.models import check_config, read_config
from livery.training.footprint import stored
from livery.weights import (
    INDEX,
    SINGLE,
    TIED_UNSAID,
    check_complete,
    check_tied_head,
    check_weights,
    read_tensors,
    weight_files,
)
from tests import hf_families
from tests.tiny_models import tiny_model

TOKENS = np.random.default_rng(0).integers(3, 512, 12).tolist()
HIDDEN = "model.layers.1.self_attn.q_proj.weight"


def on_torch(folder: Path) -> np.ndarray:
    pytest.importorskip("torch")
    import torch

    from livery.engines.torch.load import load_base

    model: Any = load_base(folder, device="cpu", dtype="float32").model
    with torch.no_grad():
        return model(torch.tensor([TOKENS]), use_cache=False).logits[0].numpy()


def on_mlx(folder: Path) -> np.ndarray:
    pytest.importorskip("mlx_lm")
    import mlx.core as mx

    from livery.engines.mlx.load import load_base

    model: Any = load_base(folder, dtype="float32").model
    return np.array(model(mx.array([TOKENS]))[0])


def tokenizer(folder: Path) -> object:
    from livery.dataset.tokenizer import load_tokenizer

    return load_tokenizer(folder)


READERS = {
    "torch": on_torch,
    "mlx": on_mlx,
    "merge, gguf": lambda folder: open_shards(known_base(folder)),
    "livery mlx": lambda folder: write_model(folder, folder.with_name("made")),
}


def copied(root: Path, out: Path, family: str = "llama") -> Path:
    shutil.copytree(tiny_model(family, root), out)
    return out


def sharded(root: Path, out: Path) -> Path:
    """The tiny llama in two shards with an index."""
    folder = copied(root, out)
    tensors = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    names = sorted(tensors)
    places: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def other_weights(root: Path, file: Path) -> None:
    """The weights of another training of the same model."""
    shutil.copyfile(tiny_model("llama", root, seed=1) / SINGLE, file)


@pytest.mark.parametrize(
    "stale", [SINGLE, "model-00003-of-00003.safetensors", "model.old.safetensors"]
)
@pytest.mark.parametrize("read", [on_torch, on_mlx])
def test_a_stale_shard_does_not_count(read: Any, stale: str, root: Path, tmp_path: Path) -> None:
    folder = sharded(root, tmp_path / "base")
    wanted = read(tiny_model("llama", root))
    size = stored(folder)
    other_weights(root, folder / stale)
    assert np.abs(read(folder) - wanted).max() < 1e-6
    assert np.abs(read(tiny_model("llama", root, seed=1)) - wanted).max() > 0.5
    assert [file.name for file in weight_files(folder)] == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    ]  # fmt: skip
    assert stored(folder) == size
    assert len(open_shards(known_base(folder))) == 2


@pytest.mark.parametrize("read", [on_torch, on_mlx])
def test_without_an_index(read: Any, root: Path, tmp_path: Path) -> None:
    wanted = read(tiny_model("llama", root))
    shards = sharded(root, tmp_path / "shards")
    (shards / INDEX).unlink()
    assert np.abs(read(shards) - wanted).max() < 1e-6
    whole = copied(root, tmp_path / "whole")
    other_weights(root, whole / "model-00001-of-00001.safetensors")
    assert np.abs(read(whole) - wanted).max() < 1e-6


@pytest.mark.parametrize("read", READERS)
def test_a_missing_shard_is_named(read: str, root: Path, tmp_path: Path) -> None:
    folder = sharded(root, tmp_path / "base")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-00002-of-00002.*missing"):
        READERS[read](folder)
    (folder / INDEX).unlink()
    with pytest.raises(UserError, match=r"model-00002-of-00002.*missing"):
        READERS[read](folder)


@pytest.mark.parametrize("read", READERS)
def test_an_index_stays_in_its_folder(read: str, root: Path, tmp_path: Path) -> None:
    folder = sharded(root, tmp_path / "base")
    shutil.copyfile(folder / "model-00002-of-00002.safetensors", tmp_path / "outside.safetensors")
    index = json.loads((folder / INDEX).read_text())
    for way in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "..", ""):
        for name in index["weight_map"]:
            index["weight_map"][name] = way
        (folder / INDEX).write_text(json.dumps(index))
        with pytest.raises(UserError, match="only files of the model's own folder"):
            READERS[read](folder)


@pytest.mark.parametrize("place", [SINGLE, INDEX, "tokenizer.json"])
@pytest.mark.parametrize("read", ["torch", "mlx", "livery mlx", "tokenizer"])
def test_a_pipe_is_not_waited_on(read: str, place: str, root: Path, tmp_path: Path) -> None:
    folder = copied(root, tmp_path / "base")
    (folder / place).unlink(missing_ok=True)
    os.mkfifo(folder / place)
    with pytest.raises(UserError, match="a pipe, socket or device"):
        {**READERS, "tokenizer": tokenizer}[read](folder)


def test_sockets_folders_and_broken_links(root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    folder = copied(root, tmp_path / "base")
    (folder / SINGLE).unlink()
    monkeypatch.chdir(folder)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SINGLE)
        with pytest.raises(UserError, match="a pipe, socket or device"):
            weight_files(folder)
    (folder / SINGLE).unlink()
    (folder / SINGLE).mkdir()
    with pytest.raises(UserError, match="is a folder"):
        weight_files(folder)
    (folder / SINGLE).rmdir()
    (folder / SINGLE).symlink_to("nowhere")
    with pytest.raises(UserError, match="missing"):
        weight_files(folder)


@pytest.mark.parametrize("lost", [HIDDEN, "lm_head.weight", "model.norm.weight"])
@pytest.mark.parametrize("read", READERS)
def test_missing_weights_are_refused_by_name(
    read: str, lost: str, root: Path, tmp_path: Path
) -> None:
    folder = copied(root, tmp_path / "base")
    tensors = load_file(folder / SINGLE)
    save_file({k: v for k, v in tensors.items() if k != lost}, folder / SINGLE, {"format": "pt"})
    named = {HIDDEN: "q_proj", "model.norm.weight": "norm"}.get(lost, "lm_head")
    with pytest.raises(UserError, match=named):
        READERS[read](folder)


def test_a_lost_layer_and_expert_are_named(root: Path, tmp_path: Path) -> None:
    folder = tiny_model("mixtral", root)
    names, config = set(read_tensors(folder)), read_config(folder)
    check_complete(config, names, folder)
    with pytest.raises(UserError, match="layer 1"):
        check_complete(config, {n for n in names if ".layers.1." not in n}, folder)
    expert = {n for n in names if "layers.0" in n and "experts.2.w1" in n}
    if expert:
        with pytest.raises(UserError, match=r"experts\.2\.w1 of layer 0"):
            check_complete(config, names - expert, folder)


@pytest.mark.parametrize("family", ["llama_tied", "gemma3", "phi", "phi3", "qwen3_moe", "mixtral"])
def test_what_is_rightly_absent_is_not_missed(family: str, root: Path) -> None:
    folder = tiny_model(family, root)
    assert open_shards(known_base(folder))
    assert np.isfinite(on_torch(folder)).all()


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("num_hidden_layers", 10**9, "at most 10,000"),
        ("num_hidden_layers", -1, "at least 1"),
        ("num_hidden_layers", "2", "a whole number"),
        ("num_hidden_layers", True, "a whole number"),
        ("num_attention_heads", 0, "at least 1"),
        ("num_key_value_heads", 0, "at least 1"),
        ("hidden_size", 64.5, "a whole number"),
        ("vocab_size", 10**12, "at most"),
        ("intermediate_size", [128, -5], "at least 1"),
        ("rope_theta", "10000", "a number above 0"),
        ("rms_norm_eps", -1e-5, "a number above 0"),
        ("model_type", 7, "no model_type"),
    ],
)
def test_sizes_that_are_none(key: str, value: Any, fault: str, root: Path, tmp_path: Path) -> None:
    folder = copied(root, tmp_path / "base")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    for read in READERS.values():
        with pytest.raises(UserError, match=f"{key}.*{fault}|{fault}"):
            read(folder)


def test_sizes_within_a_multimodal_configuration() -> None:
    with pytest.raises(UserError, match="num_hidden_layers"):
        check_config(
            {"model_type": "gemma3", "text_config": {"num_hidden_layers": 10**9}}, Path("x.json")
        )
    rope = {"full_attention": {"rope_theta": "1e6"}}
    with pytest.raises(UserError, match="rope_theta"):
        check_config({"model_type": "gemma3_text", "rope_parameters": rope}, Path("x.json"))


def _write_gguf(folder: Path, out: Path) -> None:
    from convert.gguf.model import write_model as write_gguf

    write_gguf(folder, out / "m.gguf", "f32")


def _merge(folder: Path, out: Path) -> None:
    from convert.merge.changes import Part
    from convert.merge.merge import merge

    a, b = np.ones((1, 64), np.float32), np.ones((64, 1), np.float32)
    part = Part(Adapter({"model.layers.0.self_attn.q_proj": Pair(a, b, 1.0)}), source="peft")
    merge(known_base(folder), [part], out / "merged", overwrite=True)


def _load_mlx(folder: Path, out: Path) -> None:
    from livery.engines.mlx.load import check_folder

    check_folder(folder)


def _load_torch(folder: Path, out: Path) -> None:
    from livery.engines.torch.load import load_base as load_torch

    load_torch(folder, device="cpu", dtype="float32")


WHOLE: dict[str, Callable[[Path, Path], None]] = {
    "gguf": _write_gguf, "merge": _merge, "mlx": _load_mlx, "torch": _load_torch,
}  # fmt: skip


@pytest.mark.parametrize("who", WHOLE)
def test_a_head_that_is_not_the_embedding_it_is_said_to_be(
    who: str, root: Path, tmp_path: Path
) -> None:
    """transformers 5 takes the stored one, mlx-lm the embedding: answers that differ by 8."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model("llama_tied", root), folder)
    weights = load_file(folder / SINGLE)
    embedding = weights["model.embed_tokens.weight"]
    config = json.loads((folder / "config.json").read_text())

    def store(head: np.ndarray, tied: bool) -> None:
        save_file({**weights, "lm_head.weight": head}, folder / SINGLE, {"format": "pt"})
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))

    store(embedding * 2, tied=True)
    fault = (
        r"config\.json: ties .*a head, lm_head\.weight, that differs from model\.embed_tokens"
        r"\.weight.*Set tie_word_embeddings to false in config\.json, or take lm_head\.weight out"
    )
    with pytest.raises(UserError, match=fault):
        WHOLE[who](folder, tmp_path)
    assert not (tmp_path / "merged").exists()
    for head, tied in ((embedding * 2, False), (embedding, True)):
        store(head, tied)
        WHOLE[who](folder, tmp_path)
        if who == "gguf":
            assert ("output.weight" in open_gguf(tmp_path / "m.gguf").entries) != tied


def test_the_head_and_the_embedding_of_a_checkpoint(tmp_path: Path) -> None:
    """In shards, under other families' names, of layers and towers of their own, and where the
    configuration leaves it to its class."""
    one, two = np.ones((4, 2), np.float32), np.full((4, 2), 2.0, np.float32)

    def tells(config: Mapping[str, Any], *shards: Mapping[str, np.ndarray]) -> bool:
        for old in tmp_path.glob("*.safetensors"):
            old.unlink()
        for number, tensors in enumerate(shards, 1):
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            save_file(dict(tensors), tmp_path / name)
        try:
            check_tied_head(config, tmp_path)
        except UserError:
            return True
        return False

    tied = {"tie_word_embeddings": True}
    assert tells(tied, {"model.embed_tokens.weight": one}, {"lm_head.weight": two})
    assert not tells(tied, {"model.embed_tokens.weight": one}, {"lm_head.weight": one})
    assert tells(tied, {"transformer.wte.weight": one, "lm_head.weight": two})
    assert tells(tied, {"gpt_neox.embed_in.weight": one, "embed_out.weight": two})
    assert tells(tied, {"model.embed_tokens.weight": one, "lm_head.weight": one[:3]})
    assert tells({"text_config": tied}, {"m.embed_tokens.weight": one, "lm_head.weight": two})
    mtp = {"model.layers.9.embed_tokens.weight": two, "visual.merger.output.weight": two}
    assert not tells(tied, {"model.embed_tokens.weight": one, "lm_head.weight": one, **mtp})
    unsaid = {"model.embed_tokens.weight": one, "lm_head.weight": two}
    assert tells({"model_type": "gemma"}, unsaid)
    assert not tells({"model_type": "llama"}, unsaid)
    assert not tells({"model_type": "gemma", "tie_word_embeddings": False}, unsaid)


@pytest.mark.parametrize("who", WHOLE)
def test_integers_where_floats_belong(who: str, root: Path, tmp_path: Path) -> None:
    """Both frameworks would compute with them as they are; a quantized base says what they mean."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model("llama", root), folder)
    weights = load_file(folder / SINGLE)
    name = "model.layers.1.mlp.down_proj.weight"
    save_file({**weights, name: weights[name].view(np.int32)}, folder / SINGLE, {"format": "pt"})
    with pytest.raises(UserError, match=rf"whole numbers \(I32\) where .* floats.*{name}\. Down"):
        WHOLE[who](folder, tmp_path)
    assert not (tmp_path / "merged").exists()
    assert not (tmp_path / "m.gguf").exists()
    check_weights({"quantization_config": {"quant_method": "x"}}, folder)
    scales = {"model.layers.1.mlp.down_proj.scales": np.ones((4, 4), np.float32)}
    both = {**weights, name: weights[name].view(np.int32), **scales}
    save_file(both, folder / SINGLE, {"format": "pt"})
    check_weights(read_config(folder), folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("self_attn.q_proj", (-1,)), ("self_attn.k_proj", (64, -1, 1)), ("mlp.up_proj", (32, -1)),
        ("self_attn.o_proj", (32, -1)), ("mlp.down_proj", (1, 64, -1)),
    ],
)  # fmt: skip
def test_matrices_of_another_shape_make_no_gguf(
    name: str, shape: tuple[int, ...], root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(tiny_model("llama", root), folder)
    weights = load_file(folder / SINGLE)
    full = f"model.layers.1.{name}.weight"
    save_file({**weights, full: weights[full].reshape(shape)}, folder / SINGLE, {"format": "pt"})
    with pytest.raises(UserError, match=rf"{full} has the shape .* hidden size of 64"):
        _write_gguf(folder, tmp_path)
    assert not (tmp_path / "m.gguf").exists()


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_what_a_gguf_type_cannot_hold(kind: str, root: Path, tmp_path: Path) -> None:
    """float16 is the default, and the models are in bfloat16: an infinity would be written."""
    from convert.gguf.model import write_model as write_gguf

    folder = tmp_path / "base"
    shutil.copytree(tiny_model("llama", root), folder)
    weights = load_file(folder / SINGLE)
    for value, refused in (
        (np.nan, True), (-np.inf, True), (-7e4, kind == "f16"), (6e5, kind in ("f16", "q4_0")),
        (9e6, kind in ("f16", "q8_0", "q4_0")),
    ):  # fmt: skip
        odd = weights[HIDDEN].copy()
        odd[3, 5] = value
        save_file({**weights, HIDDEN: odd}, folder / SINGLE, {"format": "pt"})
        if refused:
            with pytest.raises(UserError, match=r"blk\.1\.attn_q\.weight: .*(NaN|--type f32)"):
                write_gguf(folder, tmp_path / "m.gguf", kind)
            assert not (tmp_path / "m.gguf").exists()
        else:
            write_gguf(folder, tmp_path / "m.gguf", kind)
            (tmp_path / "m.gguf").unlink()


def test_which_families_are_tied_unless_they_say_otherwise() -> None:
    from transformers import CONFIG_MAPPING

    for name in sorted(TIED_UNSAID):
        assert CONFIG_MAPPING[name]().tie_word_embeddings is True, name
    for name in ("llama", "mistral", "qwen2", "qwen3", "phi3", "gpt_neox", "olmo2", "granite"):
        assert not CONFIG_MAPPING[name]().tie_word_embeddings, name


@pytest.mark.slow
def test_who_says_whether_a_head_is_tied(tmp_path: Path) -> None:
    """The whole's configuration, where that of its language model says otherwise."""
    for tied in (True, False):
        hf_families.mistral3(tmp_path / f"{tied}", tie_word_embeddings=tied)
        assert known_base(tmp_path / f"{tied}").tied is tied
