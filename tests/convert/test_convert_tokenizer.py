"""Tokenizers in GGUF: llama.cpp must give the same ids as the Hugging Face tokenizer."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex as Pattern
from tokenizers import (
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from convert.base import load_base
from convert.gguf import tokenizer as gguf_tokenizer
from convert.gguf.model import write_model
from livery.errors import UserError
from livery.gguf_reader import open_gguf
from tests.convert.convert_cases import llama_cpp
from tests.tiny_models import BOS, SPECIALS, VOCAB, byte_level, tiny_model, training_text

TEXTS = [
    "Remind me at 5, please.",
    "it's  12345 o'clock\n\n  and I'll wait\t…",
    "Ça va? naïve café 東京 🙂",
    "  leading and trailing  ",
    "<|im_start|>user\nhello<|im_end|>",
    "x=3.14;if(a!=b){return c_d;}",
    "CamelCase XMLHttp DON'T we'LL path/to//a\r\n नमस्ते 1234",
]


def by_bytes(*steps: Any) -> Tokenizer:
    return byte_level(pre_tokenizers.Sequence(list(steps)))


def plain_bytes(*, regex: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


def split(pattern: str) -> Any:
    return pre_tokenizers.Split(Pattern(pattern), "isolated")


def sentencepiece_like() -> Tokenizer:
    """What llama 2's, Mistral's and Gemma's tokenizer.json are: BPE over ▁ with single bytes."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<unk>", *SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    words = sorted({word for text in training_text() for word in text.split()})
    tokenizer.train_from_iterator(words * 2, trainer)
    # Trained as special to have their places; matched whole are the real specials alone.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    state["post_processor"] = json.loads(
        processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        ).__getstate__()
    )
    return Tokenizer.from_str(json.dumps(state))


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "gpt-2": lambda: by_bytes(plain_bytes(regex=True)),
    "llama-bpe": lambda: by_bytes(split(gguf_tokenizer.LLAMA3), plain_bytes(regex=False)),
    "qwen2": lambda: by_bytes(split(gguf_tokenizer.QWEN2), plain_bytes(regex=False)),
    "qwen35": lambda: by_bytes(split(gguf_tokenizer.QWEN35), plain_bytes(regex=False)),
    "tekken": lambda: by_bytes(split(gguf_tokenizer.TEKKEN), plain_bytes(regex=False)),
    "gpt-4o": lambda: by_bytes(split(gguf_tokenizer.O200K), plain_bytes(regex=False)),
    "smollm": lambda: by_bytes(pre_tokenizers.Digits(True), plain_bytes(regex=True)),
    "default": sentencepiece_like,
}


def model_with(tokenizer: Tokenizer, root: Path, folder: Path) -> Path:
    shutil.copytree(tiny_model("llama", root), folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_splits_text_alike(kind: str, root: Path, tmp_path: Path):
    pytest.importorskip("xllamacpp")
    tokenizer = KINDS[kind]()
    folder = model_with(tokenizer, root, tmp_path / "model")
    notes = write_model(folder, tmp_path / "m.gguf", "f32")["notes"]
    assert any("ÉCOLE" in note for note in notes) == (kind in ("tekken", "gpt-4o"))
    fields = open_gguf(tmp_path / "m.gguf", known_types=False).metadata
    assert fields["tokenizer.ggml.pre"] == kind
    found = llama_cpp(tmp_path, model=str(tmp_path / "m.gguf"), texts=TEXTS)["tokens"]
    assert found == [tokenizer.encode(text).ids for text in TEXTS]


def varint(value: int) -> bytes:
    made = b""
    while value > 0x7F:
        made += bytes([value & 0x7F | 0x80])
        value >>= 7
    return made + bytes([value])


def message(field: int, raw: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def test_sentencepiece_models_are_read(root: Path, tmp_path: Path):
    """tokenizer.model says the same as the tokenizer.json that was made from it."""
    tokenizer = sentencepiece_like()
    folder = model_with(tokenizer, root, tmp_path / "model")
    from_json = gguf_tokenizer.metadata(load_base(folder), VOCAB)
    kinds = {"<unk>": 2, **dict.fromkeys(SPECIALS, 3)}
    pieces = b""
    for at in range(VOCAB):
        text = tokenizer.id_to_token(at)
        kind = kinds.get(text, 6 if text.startswith("<0x") else 1)
        piece = (
            message(1, text.encode()) + b"\x15" + struct.pack("<f", -at) + b"\x18" + varint(kind)
        )
        pieces += message(1, piece)
    trainer = message(2, b"\x18\x02")  # model_type: BPE
    normalizer = message(3, b"\x18\x01")  # add_dummy_prefix
    (folder / "tokenizer.model").write_bytes(pieces + trainer + normalizer)
    from_pieces = gguf_tokenizer.metadata(load_base(folder), VOCAB)
    assert from_pieces.keys() == from_json.keys()
    for key, value in from_pieces.items():
        same = value == from_json[key]
        assert same if isinstance(same, bool) else same.all(), key
    (folder / "tokenizer.model").write_bytes(pieces[:-3])
    with pytest.raises(UserError, match="not a SentencePiece model"):
        gguf_tokenizer.metadata(load_base(folder), VOCAB)
    (folder / "tokenizer.model").write_bytes(pieces + message(2, b"\x18\x01"))
    with pytest.raises(UserError, match="not a BPE model"):
        gguf_tokenizer.metadata(load_base(folder), VOCAB)


def test_an_unknown_way_to_split_is_an_error(root: Path, tmp_path: Path):
    tokenizer = by_bytes(split(r"\w+|\W+"), plain_bytes(regex=False))
    folder = model_with(tokenizer, root, tmp_path / "model")
    with pytest.raises(UserError, match="does not know"):
        write_model(folder, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_template_and_special_tokens_travel(root: Path, tmp_path: Path):
    base = tiny_model("llama", root)
    write_model(base, tmp_path / "m.gguf", "f16")
    fields = open_gguf(tmp_path / "m.gguf", known_types=False).metadata
    assert fields["tokenizer.chat_template"] == (base / "chat_template.jinja").read_text()
    names = ("bos", "eos", "padding")
    assert [fields[f"tokenizer.ggml.{name}_token_id"] for name in names] == [1, 2, 0]
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.ggml.tokens"][2] == "<|im_end|>"
    assert fields["tokenizer.ggml.token_type"][:6].tolist() == [3, 3, 3, 3, 3, 1]


def test_what_the_model_writer_refuses(root: Path, tmp_path: Path):
    base = tmp_path / "model"
    shutil.copytree(tiny_model("qwen3_moe", root), base)
    config = json.loads((base / "config.json").read_text())

    def refused(says: str, **changes: Any) -> None:
        (base / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(UserError, match=says):
            write_model(base, tmp_path / "m.gguf")

    refused("'mamba'.*does not know", model_type="mamba")
    refused("norm_topk_prob", norm_topk_prob=False)
    refused("mlp_only_layers", mlp_only_layers=[0])
    refused("rope scaling 'dynamic'", rope_scaling={"rope_type": "dynamic", "factor": 2.0})
    (base / "config.json").write_text(json.dumps(config))
    (base / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no model\*\.safetensors"):
        write_model(base, tmp_path / "m.gguf")
