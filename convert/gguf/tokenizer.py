"""A Hugging Face tokenizer as llama.cpp's: byte-level BPE and SentencePiece's BPE.

llama.cpp splits text before byte-level BPE with code of its own, chosen by `tokenizer.ggml.pre`. A
wrong one silently tokenizes differently, so the tokenizer's own splitting rules must be ones
that are known to be the same; any others are an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.base import Base
from convert.chat_template import adds_bos, template_of
from convert.gguf.file import Value
from livery.errors import UserError, shown
from livery.gguf_base.tokenizer import LLAMA3, O200K, QWEN2, QWEN35, TEKKEN
from livery.reading import read_object

# Placeholders for pictures that text models were published with: no text holds them.
_WITHOUT_ROW = frozenset({"<image_soft_token>"})
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_SPECIALS = ("bos", "eos", "unk", "pad")
_GGUF_SPECIALS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}

# What a pre-tokenizer does, step by step -> llama.cpp's name for it.
_PRE: dict[tuple[tuple[Any, ...], ...], str] = {
    (("bytes", True),): "gpt-2",
    (("split", LLAMA3), ("bytes", False)): "llama-bpe",
    (("split", QWEN2), ("bytes", False)): "qwen2",
    (("split", QWEN35), ("bytes", False)): "qwen35",
    (("split", TEKKEN), ("bytes", False)): "tekken",
    (("split", O200K), ("bytes", False)): "gpt-4o",
    (("digits", True), ("bytes", True)): "smollm",
}

_CASED = ("tekken", "gpt-4o")


@dataclass
class Vocabulary:
    """Tokens by id, as llama.cpp wants them."""

    tokens: list[str]
    types: list[int]
    scores: list[float] | None = None
    merges: list[str] | None = None
    pre: str = ""
    space_prefix: bool | None = None


def metadata(base: Base, size: int) -> dict[str, Value]:
    """The tokenizer.* fields for a model of `size` embedding rows.

    Raises:
        UserError: there is no tokenizer, it has tokens beyond `size`, it splits text in a way not
            known to llama.cpp, or its files are not such as tokenizers writes.
    """
    try:
        return _metadata(base, size)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{base.folder}: tokenizer.json or tokenizer_config.json is not as "
            f"tokenizers writes it ({type(error).__name__}: {shown(error)}). Download it again."
        ) from error


def notes(fields: dict[str, Value]) -> list[str]:
    """Where llama.cpp (b11549) splits text otherwise than the tokenizer's own rule, which no field
    can change: its own converter's files are the same."""
    pre = fields.get("tokenizer.ggml.pre")
    if pre not in _CASED:
        return []
    return [
        f"llama.cpp's rule {pre} takes letters beyond ASCII as capital and small at once: words in "
        "such capitals (ÉCOLE), and words with combining marks, it splits into other tokens than "
        "the model was trained with. Other text is tokenized alike."
    ]


def _metadata(base: Base, size: int) -> dict[str, Value]:
    path = base.folder / "tokenizer.json"
    fast: dict[str, Any] = read_object(path) if path.exists() else {}
    settings_file = base.folder / "tokenizer_config.json"
    settings: dict[str, Any] = read_object(settings_file) if settings_file.exists() else {}
    pieces = base.folder / "tokenizer.model"
    if pieces.exists() and not _is_bytes(fast):
        made = _from_sentencepiece(pieces)
    elif fast.get("model", {}).get("type") == "BPE":
        made = _byte_level(path, fast) if _is_bytes(fast) else _byte_fallback(path, fast)
    else:
        raise UserError(
            f"{base.folder}: no tokenizer that llama.cpp supports: neither tokenizer.model "
            "nor a BPE in tokenizer.json."
        )
    _add_tokens(made, fast, settings)
    _refuse_beyond(base, made.tokens, size)
    made.tokens, made.types = made.tokens[:size], made.types[:size]
    made.scores = made.scores[:size] if made.scores else None
    while len(made.tokens) < size:
        made.tokens.append(f"[PAD{len(made.tokens)}]")
        made.types.append(UNUSED)
        if made.scores is not None:
            made.scores.append(-1000.0)
    fields: dict[str, Value] = {
        "tokenizer.ggml.model": "gpt2" if made.merges is not None else "llama",
        "tokenizer.ggml.tokens": made.tokens,
        "tokenizer.ggml.token_type": np.array(made.types, np.int32),
    }
    if made.merges is not None:
        fields["tokenizer.ggml.pre"] = made.pre
        fields["tokenizer.ggml.merges"] = made.merges
    if made.scores is not None:
        fields["tokenizer.ggml.pre"] = "default"
        fields["tokenizer.ggml.scores"] = np.array(made.scores, np.float32)
    if made.space_prefix is not None:
        fields["tokenizer.ggml.add_space_prefix"] = made.space_prefix
    fields.update(_specials(base, made, fast, settings))
    template = template_of(base.folder, settings)
    if template:
        fields["tokenizer.chat_template"] = template
    return fields


def _refuse_beyond(base: Base, tokens: list[str], size: int) -> None:
    """Tokens without a row in the embedding: the model cannot read them, and llama.cpp has no place
    for them."""
    beyond = [token for token in tokens[size:] if token not in _WITHOUT_ROW]
    if beyond:
        raise UserError(
            f"{base.folder}: its tokenizer has {len(tokens)} tokens, its embedding {size} rows: "
            f"{', '.join(map(repr, beyond[:3]))}{' …' if len(beyond) > 3 else ''} cannot be read "
            "by the model. Add rows for them (transformers: resize_token_embeddings) and train "
            "these, or take the tokens out of the tokenizer."
        )


def _steps(fast: dict[str, Any]) -> list[dict[str, Any]]:
    step = fast.get("pre_tokenizer") or {}
    return list(step.get("pretokenizers") or ([step] if step else []))


def _is_bytes(fast: dict[str, Any]) -> bool:
    return any(step.get("type") == "ByteLevel" for step in _steps(fast))


def _pre(path: Path, fast: dict[str, Any]) -> str:
    rules: list[tuple[Any, ...]] = []
    for step in _steps(fast):
        kind = step.get("type")
        if kind == "ByteLevel" and not step.get("add_prefix_space"):
            rules.append(("bytes", bool(step.get("use_regex", True))))
        elif kind == "Digits":
            rules.append(("digits", bool(step.get("individual_digits"))))
        elif kind == "Split" and step.get("behavior") == "Isolated" and not step.get("invert"):
            rules.append(("split", step.get("pattern", {}).get("Regex")))
        else:
            rules.append((kind,))
    name = _PRE.get(tuple(rules))
    if name is None:
        raise UserError(
            f"{path}: it splits text by rules whose name in llama.cpp Livery does not know: "
            f"{rules}. A wrong one would silently tokenize differently; convert this model "
            "with llama.cpp's own script."
        )
    return name


def _byte_level(path: Path, fast: dict[str, Any]) -> Vocabulary:
    tokens, types = _ordered(path, fast["model"]["vocab"])
    merges = [m if isinstance(m, str) else " ".join(m) for m in fast["model"]["merges"]]
    return Vocabulary(tokens, types, merges=merges, pre=_pre(path, fast))


def _byte_fallback(path: Path, fast: dict[str, Any]) -> Vocabulary:
    """SentencePiece's BPE as tokenizer.json has it: merges in the order of their pieces' ids."""
    model = fast["model"]
    if not model.get("byte_fallback"):
        raise UserError(f"{path}: a BPE without byte fallback; llama.cpp does not support it.")
    vocab: dict[str, int] = model["vocab"]
    tokens, types = _ordered(path, vocab)
    pairs = [m.split(" ") if isinstance(m, str) else list(m) for m in model["merges"]]
    first: dict[int, int] = {}
    for rank, pair in enumerate(pairs):
        first.setdefault(vocab["".join(pair)], rank)
    ids = sorted(first)
    if [first[i] for i in ids] != sorted(first.values()):
        raise UserError(
            f"{path}: its merges are not in the order of its pieces, which llama.cpp's scores "
            "cannot express. Put the original tokenizer.model beside it."
        )
    for at, token in enumerate(tokens):
        if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            types[at] = BYTE
        elif token == model.get("unk_token"):
            types[at] = UNKNOWN
    scores = [-float(at) for at in range(len(tokens))]
    text = json.dumps([fast.get("normalizer"), fast.get("pre_tokenizer")])
    always = '"Prepend"' in text or bool(re.search(r'"prepend_scheme": "(first|always)"', text))
    return Vocabulary(tokens, types, scores=scores, space_prefix=always)


def _ordered(path: Path, vocab: dict[str, int]) -> tuple[list[str], list[int]]:
    size = max(vocab.values(), default=-1) + 1
    if size > 4 * len(vocab) + 1024:
        raise UserError(f"{path}: {len(vocab)} tokens with ids up to {size}.")
    tokens = [f"[PAD{at}]" for at in range(size)]
    types = [UNUSED] * size
    for token, at in vocab.items():
        tokens[at], types[at] = token, NORMAL
    return tokens, types


def _add_tokens(made: Vocabulary, fast: dict[str, Any], settings: dict[str, Any]) -> None:
    """Tokens that are matched whole before anything else."""
    added = {int(t["id"]): t for t in fast.get("added_tokens") or ()}
    for key, token in (settings.get("added_tokens_decoder") or {}).items():
        added.setdefault(int(key), token)
    for at, token in sorted(added.items()):
        while len(made.tokens) <= at:
            made.tokens.append(f"[PAD{len(made.tokens)}]")
            made.types.append(UNUSED)
            if made.scores is not None:
                made.scores.append(-1000.0)
        made.tokens[at] = str(token["content"])
        if made.types[at] not in (UNKNOWN, BYTE):
            made.types[at] = CONTROL if token.get("special") else USER


def _specials(
    base: Base, made: Vocabulary, fast: dict[str, Any], settings: dict[str, Any]
) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    for name in _SPECIALS:
        token = settings.get(f"{name}_token")
        token = token.get("content") if isinstance(token, dict) else token
        number: Any = base.config.get(f"{name}_token_id")
        if isinstance(token, str) and token in made.tokens:
            number = made.tokens.index(token)
        elif isinstance(number, list):
            number = number[0] if number else None
        if isinstance(number, int) and 0 <= number < len(made.tokens):
            fields[f"tokenizer.ggml.{_GGUF_SPECIALS[name]}_token_id"] = number
    fields["tokenizer.ggml.add_bos_token"] = adds_bos(fast, settings)
    return fields


def _from_sentencepiece(path: Path) -> Vocabulary:
    """tokenizer.model: a protobuf of pieces {text, score, type}, the trainer's and the
    normalizer's settings."""
    tokens: list[str] = []
    types: list[int] = []
    scores: list[float] = []
    kind, prefix = 1, True
    raw = path.read_bytes()
    try:
        for field, value in _fields(raw):
            if field == 1:
                piece: dict[int, Any] = {1: b"", 2: 0.0, 3: 1, **dict(_fields(value))}
                tokens.append(bytes(piece[1]).decode("utf-8"))
                scores.append(float(piece[2]))
                types.append(int(piece[3]))
            elif field == 2:
                kind = int(dict(_fields(value)).get(3, 1))
            elif field == 3:
                prefix = bool(dict(_fields(value)).get(3, 1))
    except (ValueError, IndexError, TypeError):
        raise UserError(f"{path}: not a SentencePiece model.") from None
    if kind != 2 or not tokens:
        raise UserError(f"{path}: not a BPE model of SentencePiece; llama.cpp's form differs.")
    return Vocabulary(tokens, types, scores=scores, space_prefix=prefix)


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of one protobuf message: ints, floats and byte strings."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(raw, at)
        elif kind == 5:
            value, at = float(np.frombuffer(raw[at : at + 4], "<f4")[0]), at + 4
        elif kind == 1:
            value, at = float(np.frombuffer(raw[at : at + 8], "<f8")[0]), at + 8
        elif kind == 2:
            size, at = _varint(raw, at)
            if at + size > len(raw):
                raise ValueError("cut off")
            value, at = raw[at : at + size], at + size
        else:
            raise ValueError("unknown wire type")
        yield tag >> 3, value


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
