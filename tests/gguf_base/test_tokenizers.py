"""A GGUF file's tokenizer as tokenizer.json splits text as the one that it was written from."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from convert.gguf.model import write_model
from livery.dataset.template import load_chat
from livery.dataset.tokenizer import load_tokenizer
from livery.errors import UserError
from livery.gguf_base.folder import tokenizer_folder
from livery.models import find_base
from tests.convert.convert_cases import llama_cpp
from tests.convert.test_convert_tokenizer import KINDS, TEXTS, model_with
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.usefixtures("cache")

WORDS = (
    "Remind me at 5, please. it's I'll WE'RE don't naïve café Ça über Straße zażółć Привет мир "
    "κόσμε 東京都 日本語 한국어 مرحبا שלום नमस्ते ไทย 🙂 👩‍👩‍👧 🇩🇪 ½ ² 12 345 6789 1,234.56 "
    "0x1F 3.14e-10 def f(x): return x[0] != y && z || {a: 'b'} <|im_start|> <|im_end|> "
    "user@example.com "
    "https://example.org/a?b=c#d __init__ snake_case CamelCase #include <stdio.h> \\n \\t ... --- "
    "<unk> <0x41> ▁ Ġ"
).split(" ")
SPACES = (" ", " ", " ", " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n ", "\u00a0", "\u3000")


def large_text(characters: int = 60_000) -> str:
    rng = random.Random(7)
    made: list[str] = []
    size = 0
    while size < characters:
        word = rng.choice(WORDS) + rng.choice(SPACES)
        made.append(word)
        size += len(word)
    return "".join(made)


@pytest.fixture(scope="module", params=list(KINDS))
def pair(
    request: pytest.FixtureRequest, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, Tokenizer, Path]:
    """(the tokenizer, the one that came back, the file)."""
    place = tmp_path_factory.mktemp("tokenizer")
    before = KINDS[request.param]()
    file = place / "m.gguf"
    write_model(model_with(before, root, place / "model"), file, "f32")
    return before, Tokenizer.from_file(str(tokenizer_folder(file) / "tokenizer.json")), file


def test_a_large_text_is_split_alike(pair: tuple[Tokenizer, Tokenizer, Path]):
    before, after, _ = pair
    text = large_text()
    assert after.encode(text).ids == before.encode(text).ids
    for word in WORDS:
        assert after.encode(word).ids == before.encode(word).ids, word
    if before.decoder is None:
        return
    ids = before.encode(text, add_special_tokens=False).ids
    assert after.decode(ids, skip_special_tokens=False) == before.decode(
        ids, skip_special_tokens=False
    )


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.text(max_size=60))
def test_any_text_is_split_alike(pair: tuple[Tokenizer, Tokenizer, Path], text: str):
    before, after, _ = pair
    import unicodedata

    text = unicodedata.normalize("NFC", text)  # Qwen's own normalizes, which the tiny one does not
    assert after.encode(text).ids == before.encode(text).ids


def test_and_as_llama_cpp_does(pair: tuple[Tokenizer, Tokenizer, Path], tmp_path: Path):
    pytest.importorskip("xllamacpp")
    _, after, file = pair
    found = llama_cpp(tmp_path, model=str(file), texts=TEXTS)["tokens"]
    assert found == [after.encode(text).ids for text in TEXTS]


def test_digits_are_single_for_smollm(root: Path, tmp_path: Path):
    """What transformers' own reader of GGUF takes for GPT-2's rules."""
    write_model(model_with(KINDS["smollm"](), root, tmp_path / "m"), tmp_path / "m.gguf", "f32")
    steps = Tokenizer.from_file(str(tokenizer_folder(tmp_path / "m.gguf") / "tokenizer.json"))
    assert [piece for piece, _ in steps.pre_tokenizer.pre_tokenize_str("at 1234")] == [
        "at", "Ġ", "1", "2", "3", "4",
    ]  # fmt: skip


def test_template_and_special_tokens_come_back(root: Path, tmp_path: Path):
    base = tiny_model("llama", root)
    write_model(base, tmp_path / "m.gguf", "f32")
    turns: Any = [{"role": "user", "content": "Hello 12"}]
    before, after = load_chat(base), load_chat(tmp_path / "m.gguf")
    assert after.render(turns, generate=True) == before.render(turns, generate=True)
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        assert getattr(after.tokenizer, name) == getattr(before.tokenizer, name)
    folder = find_base(tmp_path / "m.gguf")
    assert folder is not None
    assert (folder / "chat_template.jinja").is_file()
    assert after.prompt(turns) == before.prompt(turns)


def test_pieces_need_no_sentencepiece_out_of_a_gguf_file_and_say_so_out_of_a_folder(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "sentencepiece" else real(name, *a),
    )
    pieces = KINDS["default"]()
    folder = model_with(pieces, root, tmp_path / "m")
    write_model(folder, tmp_path / "m.gguf", "f32")
    text = "Remind me of 12 things"
    read = load_tokenizer(tmp_path / "m.gguf")
    assert read(text)["input_ids"] == pieces.encode(text).ids
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0a\x0a\x03<s>")
    with pytest.raises(
        UserError, match=r"sentencepiece that reads it is not installed.*pip install"
    ):
        load_tokenizer(folder)
