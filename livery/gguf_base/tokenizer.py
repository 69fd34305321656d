"""A GGUF file's vocabulary as tokenizer.json: the reverse of `convert.gguf.tokenizer`.

llama.cpp splits text before byte-level BPE with code of its own, chosen by `tokenizer.ggml.pre`.
The table below has those whose rules are known, as the tokenizers library writes them; for any
other the file is refused, because a wrong rule tokenizes differently without a word (transformers'
own reader takes GPT-2's for all).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from livery.errors import UserError, shown
from livery.gguf_reader import GgufFile

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_SPECIALS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
Json = dict[str, Any]

_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = rf"{_ENGLISH}|{_LETTERS}|\p{{N}}{{1,3}}|{_REST}"
QWEN2 = rf"{_ENGLISH}|{_LETTERS}|\p{{N}}|{_REST}"
# Marks belong to the letters: Qwen 3.5's.
QWEN35 = QWEN2.replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(
    r"[^\s\p{L}\p{N}]", r"[^\s\p{L}\p{M}\p{N}]"
)
# A capital begins a word: Mistral's since Nemo, and OpenAI's o200k, which Phi-4-mini has too. The
# models' own rules; llama.cpp's for these names split ÉCOLE otherwise (`convert.gguf.tokenizer`).
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SLASHED = _REST.replace(r"[\r\n]*", r"[\r\n/]*", 1)


def _cased(ending: str, digits: str) -> str:
    before = r"[^\r\n\p{L}\p{N}]?"
    return (
        f"{before}{_UPPER}*{_LOWER}+{ending}|{before}{_UPPER}+{_LOWER}*{ending}|{digits}|{_SLASHED}"
    )


TEKKEN = _cased("", r"\p{N}")
O200K = _cased(f"{_ENGLISH}?", r"\p{N}{1,3}")


def _bytes(*, regex: bool) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
            "use_regex": regex}  # fmt: skip


def _split(pattern: str) -> list[Json]:
    split: Json = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return [split, _bytes(regex=False)]


_DIGITS: list[Json] = [{"type": "Digits", "individual_digits": True}, _bytes(regex=True)]
_GPT2: list[Json] = [_bytes(regex=True)]
# tokenizer.ggml.pre -> how text is split. Names on one line are one rule in llama.cpp.
_RULES: dict[str, list[Json]] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling"),
                    _GPT2),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "dbrx", "smaug-bpe", "falcon3", "lfm2",
                     "pixtral", "glm4", "chatglm-bpe"), _split(LLAMA3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"), _split(QWEN2)),
    "qwen35": _split(QWEN35),
    "tekken": _split(TEKKEN),
    **dict.fromkeys(("gpt-4o", "kanana2"), _split(O200K)),
    **dict.fromkeys(("smollm", "refact", "starcoder", "command-r", "codeshell", "exaone",
                     "minerva-7b"), _DIGITS),
}  # fmt: skip
# A piece that is in the vocabulary as a whole is taken before any merge; BOS goes before a text
# where the file does not say.
_WHOLE_FIRST = ("llama-bpe", "llama3", "llama-v3", "falcon3", "lfm2", "pixtral", "tekken")
_BOS = _WHOLE_FIRST
_NORMALIZED = ("qwen2", "qwen35")  # Unicode's NFC, in every published tokenizer of these names


def make_tokenizer(file: GgufFile, kind: str) -> dict[str, Json | str]:
    """The tokenizer's files: name -> JSON, or text.

    Args:
        kind: the model type; Gemma's pieces are split otherwise than llama's.

    Raises:
        UserError: there is no vocabulary, or one that llama.cpp splits by rules not known here.
    """
    metadata, path = file.metadata, file.path
    tokens, types = _tokens(file)
    model = metadata.get("tokenizer.ggml.model")
    adds_bos = metadata.get("tokenizer.ggml.add_bos_token")
    if model == "gpt2":
        fast = _byte_level(file, tokens, types)
        usual = metadata.get("tokenizer.ggml.pre") in _BOS
    elif model in ("llama", "gemma4"):
        fast = _pieces(file, tokens, types, kind)
        usual = True
    else:
        raise UserError(
            f"{path}: its tokenizer is of the kind {shown(model, 60)}; Livery takes gpt2 "
            "(byte-level BPE) and llama (SentencePiece's BPE). Use the model's Hugging Face folder."
        )
    specials = _special_tokens(file, tokens)
    bos = specials.get("bos")
    added = bool(usual if adds_bos is None else adds_bos) and bos is not None
    if added:
        fast["post_processor"] = _bos_before(str(bos), tokens.index(str(bos)), model == "gpt2")
    settings: Json = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": added,
        "add_eos_token": False,
        "model_max_length": _context(file),
        **{f"{name}_token": token for name, token in specials.items()},
    }
    made: dict[str, Json | str] = {"tokenizer.json": fast, "tokenizer_config.json": settings}
    for key, value in metadata.items():
        found = re.fullmatch(r"tokenizer\.chat_template(?:\.([\w-]{1,64}))?", key)
        if found and isinstance(value, str):
            name = f"additional_chat_templates/{found[1]}.jinja" if found[1] else ""
            made[name or "chat_template.jinja"] = value
    return made


def special_ids(file: GgufFile) -> dict[str, int]:
    """What config.json says of special tokens: "bos_token_id" …, where the file does."""
    count = len(_tokens(file)[0])
    found: dict[str, int] = {}
    for name, theirs in _SPECIALS.items():
        number = file.metadata.get(f"tokenizer.ggml.{theirs}_token_id")
        if type(number) is int and 0 <= number < count:
            found[f"{name}_token_id"] = number
    return found


def end_ids(file: GgufFile) -> list[int]:
    """All tokens that end an answer: generation_config.json's eos_token_id."""
    tokens, types = _tokens(file)
    own = file.metadata.get("tokenizer.ggml.eos_token_id")
    found = [own] if type(own) is int and 0 <= own < len(tokens) else []
    for name in ("eot", "eom"):
        number = file.metadata.get(f"tokenizer.ggml.{name}_token_id")
        if type(number) is int and 0 <= number < len(tokens) and number not in found:
            found.append(number)
    # Ends of turn that llama.cpp goes by their text where a file does not name them.
    for text in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|end_of_turn|>"):
        if text in tokens and types[at := tokens.index(text)] == CONTROL and at not in found:
            found.append(at)
    return found


def _context(file: GgufFile) -> int:
    """The longest text, where the file says one: `make_config` refuses another kind of value."""
    found = file.metadata.get(f"{file.metadata.get('general.architecture')}.context_length")
    return found if type(found) is int and found > 0 else 1 << 30


def _tokens(file: GgufFile) -> tuple[list[str], list[int]]:
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not tokens:
        raise UserError(
            f"{file.path}: holds no vocabulary (tokenizer.ggml.tokens). Use the model's Hugging "
            "Face folder."
        )
    kinds = _each(file, "tokenizer.ggml.token_type", len(tokens))
    return tokens, [NORMAL] * len(tokens) if kinds is None else kinds


def _each(file: GgufFile, name: str, count: int) -> list[Any] | None:
    """A number for each token; None where the file has no such field."""
    given = file.metadata.get(name)
    if given is None:
        return None
    made: list[Any] = list(given) if isinstance(given, list | memoryview) else []
    if len(made) != count or not all(isinstance(n, int | float) and isfinite(n) for n in made):
        raise UserError(
            f"{file.path}: {name} is not one number for each of its {count} tokens. Download or "
            "export the file again."
        )
    return made


def _special_tokens(file: GgufFile, tokens: Sequence[str]) -> dict[str, str]:
    return {name[:-9]: tokens[number] for name, number in special_ids(file).items()}


def _vocabulary(file: GgufFile, tokens: Sequence[str], types: Sequence[int]) -> dict[str, int]:
    """Token -> id. Rows of the embedding without a token have a placeholder, which is left out."""
    made: dict[str, int] = {}
    for at, token in enumerate(tokens):
        if types[at] == UNUSED and token == f"[PAD{at}]":
            continue
        if token in made:
            raise UserError(
                f"{file.path}: the token {shown(token, 60)} has the numbers {made[token]} and "
                f"{at}. Use the model's Hugging Face folder."
            )
        made[token] = at
    return made


def _added(tokens: Sequence[str], types: Sequence[int]) -> list[Json]:
    """Tokens that are matched whole before anything else."""
    return [
        {
            "id": at,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": types[at] != USER,
        }
        for at, token in enumerate(tokens)
        if token and types[at] in (CONTROL, USER, UNKNOWN)
    ]


def _fast(
    added: list[Json], normalizer: Json | None, splitting: Json | None, decoder: Json, model: Json
) -> Json:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": splitting,
        "post_processor": None,
        "decoder": decoder,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            **model,
        },
    }


def _byte_level(file: GgufFile, tokens: list[str], types: list[int]) -> Json:
    pre = file.metadata.get("tokenizer.ggml.pre")
    if not isinstance(pre, str) or pre not in _RULES:
        raise UserError(
            f"{file.path}: splits text by the rules {shown(pre, 60)} (tokenizer.ggml.pre), which "
            "Livery does not know; others would tokenize differently without a word. Known are "
            f"{', '.join(_RULES)}. Use the model's Hugging Face folder."
        )
    merges = file.metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list):
        raise UserError(f"{file.path}: lacks tokenizer.ggml.merges. Download the file again.")
    vocabulary = _vocabulary(file, tokens, types)
    pairs: list[list[str]] = []
    for merge in merges:
        left, _, right = merge.partition(" ") if not merge.startswith(" ") else ("", "", "")
        if not left or not right or " " in right or left + right not in vocabulary:
            raise UserError(f"{file.path}: {shown(merge, 60)} is no merge of its vocabulary.")
        pairs.append([left, right])
    steps = _RULES[pre]
    splitting = steps[0] if len(steps) == 1 else {"type": "Sequence", "pretokenizers": steps}
    return _fast(
        _added(tokens, types),
        {"type": "NFC"} if pre in _NORMALIZED else None,
        splitting,
        _bytes(regex=True),
        {"vocab": vocabulary, "merges": pairs, "ignore_merges": pre in _WHOLE_FIRST},
    )


def _pieces(file: GgufFile, tokens: list[str], types: list[int], kind: str) -> Json:
    """SentencePiece's BPE joins the two neighbours whose piece has the best score, the leftmost
    first: a merge for every way to cut a piece in two, in the order of the pieces' scores."""
    scores = _each(file, "tokenizer.ggml.scores", len(tokens))
    if scores is None:
        raise UserError(f"{file.path}: lacks tokenizer.ggml.scores. Download the file again.")
    vocabulary = _vocabulary(file, tokens, types)
    pieces = {t: at for t, at in vocabulary.items() if types[at] in (NORMAL, USER, UNUSED)}
    merges: list[tuple[float, int, int, str, str]] = []
    for piece, at in pieces.items():
        if types[at] != NORMAL:
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in pieces and right in pieces:
                merges.append((-scores[at], pieces[left], pieces[right], left, right))
    merges.sort()
    prefix = file.metadata.get("tokenizer.ggml.add_space_prefix", not kind.startswith("gemma"))
    unknown = next((token for at, token in enumerate(tokens) if types[at] == UNKNOWN), None)
    replace: Json = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    steps: list[Json] = [{"type": "Prepend", "prepend": "▁"}] if prefix else []
    normalizer: Json = {"type": "Sequence", "normalizers": [*steps, replace]} if prefix else replace
    decoders: list[Json] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return _fast(
        _added(tokens, types),
        normalizer,
        None,
        {"type": "Sequence", "decoders": decoders},
        {
            "vocab": vocabulary,
            "merges": [[left, right] for _, _, _, left, right in merges],
            "unk_token": unknown,
            "fuse_unk": True,
            "byte_fallback": any(t == BYTE for t in types),
        },
    )


def _bos_before(token: str, number: int, byte_level: bool) -> Json:
    special: Json = {"SpecialToken": {"id": token, "type_id": 0}}
    single: Json = {"Sequence": {"id": "A", "type_id": 0}}
    pair: Json = {"Sequence": {"id": "B", "type_id": 1}}
    second: Mapping[str, Any] = {"SpecialToken": {"id": token, "type_id": 1}}
    template: Json = {
        "type": "TemplateProcessing",
        "single": [special, single],
        "pair": [special, single, second, pair],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }
    if not byte_level:
        return template
    return {
        "type": "Sequence",
        "processors": [
            {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
             "use_regex": True},
            template,
        ],
    }  # fmt: skip
