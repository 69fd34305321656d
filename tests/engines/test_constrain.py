"""Constrained decoding: masks against a slow twin, and random walks under them always parse."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from livery.engines.constrain import TokenMasks
from livery.engines.engine import Grammar
from livery.engines.schemas import NoGrammar
from livery.errors import UserError
from livery.skills import AnswerError, date_keys

WIDTH = 640  # wider than any vocabulary below: the last ids are padding
ENDS = [1, 2]
TEXTS = [
    *('["tomorrow_morning","at_3pm"]', '["next_week","in_45_minutes"]', "[]", "na\u00efve 日本語"),
    *(f"remind me at {hour} {part}" for hour in range(12) for part in ("am", "pm", "tonight")),
]
FREE = Grammar("regex", "(?s:.*)")
LISTS = Grammar("lark", date_keys.grammar())
# llguidance tokenizes what a grammar forces as the tokenizer would, and admits that token alone.
UNFORCED = Grammar("lark", '%llguidance {"no_forcing": true}\n' + date_keys.grammar())


def byte_level() -> Any:
    """As GPT-2, Llama 3 and our own base: bytes under stand-in characters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<pad>", "<eos>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return wrapped(tokenizer, "<|im_end|>")


def sentence_piece() -> Any:
    """As Llama 2 and Gemma: U+2581 for spaces, unknown bytes as <0xNN> tokens."""
    tokenizer = trained_on_spaces(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    written = json.loads(tokenizer.to_str())
    for value in range(256):
        written["model"]["vocab"][f"<0x{value:02X}>"] = len(written["model"]["vocab"])
    tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return wrapped(tokenizer, "<end_of_turn>")


def metaspace() -> Any:
    """As some SentencePiece exports, whose decoder llguidance does not know by name."""
    tokenizer = trained_on_spaces(models.BPE(unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return wrapped(tokenizer, "<end_of_turn>")


def trained_on_spaces(model: models.BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=260,
        special_tokens=["<pad>", "<eos>", "<end_of_turn>", "<unk>"],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789_"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def wrapped(tokenizer: Tokenizer, end_of_turn: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        additional_special_tokens=[end_of_turn],
    )


TOKENIZERS = pytest.mark.parametrize("make", [byte_level, sentence_piece, metaspace])


def walk(masks: TokenMasks, grammar: Grammar, rng: np.random.Generator) -> tuple[list[int], bool]:
    """Random logits, the mask, the likeliest token left: (answer tokens, whether it ended)."""
    (row,) = masks.start(grammar, 1)
    tokens: list[int] = []
    while not row.ended and len(tokens) < 400:
        logits = rng.normal(size=masks.width).astype(np.float32)
        token = int(np.where(masks.allowed([row])[0], logits, -np.inf).argmax())
        row.advance(token)
        tokens.append(token)
    return tokens[:-1] if row.ended else tokens, row.ended


def token_bytes(tokenizer: PreTrainedTokenizerFast, token: int) -> bytes | None:
    """The bytes of a token worked out from its written form, with no help of llguidance."""
    text = tokenizer.convert_ids_to_tokens(token)
    assert isinstance(text, str)
    if text.startswith("<0x"):
        return bytes([int(text[3:5], 16)])
    if json.loads(tokenizer.backend_tokenizer.to_str())["decoder"]["type"] != "ByteLevel":
        return text.replace("▁", " ").encode()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in printable}
    rest = [b for b in range(256) if b not in printable]
    table |= {chr(256 + i): b for i, b in enumerate(rest)}
    return bytes(table[c] for c in text)


@TOKENIZERS
def test_a_walk_on_random_logits_always_parses(make: Any):
    tokenizer = make()
    masks = TokenMasks(tokenizer, WIDTH, ENDS)
    rng = np.random.default_rng(0)
    seen: set[tuple[str, ...]] = set()
    for _ in range(40):
        tokens, ended = walk(masks, LISTS, rng)
        assert ended
        seen.add(date_keys.parse(tokenizer.decode(tokens)))
    assert len(seen) > 10


def test_a_broken_mask_is_caught():
    """The negative control: let one wrong token through, and walks no longer parse."""
    tokenizer = byte_level()
    masks = TokenMasks(tokenizer, WIDTH, ENDS)
    rng = np.random.default_rng(0)
    slip = tokenizer.convert_tokens_to_ids("x")
    failures = 0
    for _ in range(40):
        (row,) = masks.start(LISTS, 1)
        tokens: list[int] = []
        while not row.ended:
            allowed = masks.allowed([row])[0]
            allowed[slip] = True
            token = int(rng.choice(np.flatnonzero(allowed)))
            tokens.append(token)
            try:
                row.advance(token)
            except ValueError:
                break
        try:
            date_keys.parse(tokenizer.decode(tokens[:-1] if row.ended else tokens))
        except AnswerError:
            failures += 1
    assert failures > 20


@TOKENIZERS
@pytest.mark.parametrize("grammar", [UNFORCED, FREE])
def test_masks_equal_their_slow_twin(make: Any, grammar: Grammar):
    tokenizer = make()
    masks = TokenMasks(tokenizer, WIDTH, ENDS)
    rng = np.random.default_rng(1)
    special = {0, 3} if make is not byte_level else {0}
    for _ in range(6):
        (row,) = masks.start(grammar, 1)
        for _ in range(40):
            fast = masks.allowed([row])[0]
            slow = [i in ENDS or (i < len(tokenizer) and i not in special) for i in range(WIDTH)]
            slow = [plain and row.admits(i) for i, plain in enumerate(slow)]
            assert fast.tolist() == slow
            token = int(rng.choice(np.flatnonzero(fast)))
            row.advance(token)
            if row.ended:
                break


@TOKENIZERS
def test_forcing_admits_one_of_what_the_grammar_admits(make: Any):
    masks = TokenMasks(make(), WIDTH, ENDS)
    rng = np.random.default_rng(2)
    narrowed = 0
    for _ in range(20):
        (row,) = masks.start(LISTS, 1)
        while not row.ended:
            fast = masks.allowed([row])[0]
            slow = np.array([row.admits(i) for i in range(WIDTH)])
            assert not (fast & ~slow).any()
            if (fast != slow).any():
                narrowed += 1
                assert fast.sum() == 1
            row.advance(int(rng.choice(np.flatnonzero(fast))))
    assert narrowed > 0


@TOKENIZERS
def test_what_training_teaches_is_never_masked(make: Any):
    tokenizer = make()
    masks = TokenMasks(tokenizer, WIDTH, ENDS)
    keys = [*date_keys.STATIC_KEYS, "in_45_minutes", "in_120_minutes", "in_14_days", "at_3_30pm"]
    rng = np.random.default_rng(3)
    answers = [[key] for key in keys] + [list(rng.permutation(keys)[:n]) for n in (0, 2, 3, 8)]
    for answer in answers:
        (row,) = masks.start(LISTS, 1)
        for token in tokenizer(date_keys.render(answer), add_special_tokens=False)["input_ids"]:
            assert masks.allowed([row])[0][token], (answer, token)
            row.advance(token)
        ends = masks.allowed([row])[0]
        assert np.flatnonzero(ends).tolist() == ENDS


@TOKENIZERS
def test_token_bytes_are_right(make: Any):
    """Each token, spelled as a grammar of its own, must be admitted by it."""
    tokenizer = make()
    masks = TokenMasks(tokenizer, WIDTH, ENDS)
    special = set(tokenizer.all_special_ids)
    tried = 0
    for token in range(len(tokenizer)):
        spelled = None if token in special else token_bytes(tokenizer, token)
        try:
            text = spelled.decode() if spelled else ""
        except UnicodeDecodeError:
            continue  # half a character; the walks over FREE meet these
        if text and token % 5 == 0:
            grammar = Grammar("lark", f"start: {json.dumps(text, ensure_ascii=False)}")
            (row,) = masks.start(grammar, 1)
            assert row.admits(token), (token, text)
            row.advance(token)
            assert row.accepting
            tried += 1
    assert tried > 20


def test_the_end_comes_exactly_where_the_grammar_accepts():
    tokenizer = byte_level()
    masks = TokenMasks(tokenizer, WIDTH, ENDS)
    (row,) = masks.start(Grammar("regex", "ab?"), 1)
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    assert np.flatnonzero(masks.allowed([row])[0]).tolist() == [a]
    with pytest.raises(ValueError, match="before its grammar accepts"):
        row.advance(ENDS[0])
    row.advance(a)
    assert np.flatnonzero(masks.allowed([row])[0]).tolist() == [*ENDS, b]
    row.advance(b)
    assert np.flatnonzero(masks.allowed([row])[0]).tolist() == ENDS
    row.advance(ENDS[1])
    assert row.ended
    assert np.flatnonzero(masks.allowed([row])[0]).tolist() == ENDS


def test_rows_of_a_batch_do_not_disturb_each_other():
    tokenizer = byte_level()
    masks = TokenMasks(tokenizer, WIDTH, ENDS)
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    first, second = masks.start(Grammar("regex", "a+b"), 2)
    first.advance(a)
    first.advance(b)
    both = masks.allowed([first, second])
    assert np.flatnonzero(both[0]).tolist() == ENDS
    assert both[1][a]
    assert not both[1][b]


def test_a_table_narrower_than_the_vocabulary():
    tokenizer = byte_level()
    masks = TokenMasks(tokenizer, 300, ENDS)
    (row,) = masks.start(FREE, 1)
    assert masks.allowed([row]).shape == (1, 300)


def test_json_schemas_are_written_without_spaces():
    tokenizer = byte_level()
    masks = TokenMasks(tokenizer, WIDTH, ENDS)
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["a"],
        "additionalProperties": False,
    }
    grammar = Grammar("json_schema", json.dumps(schema))
    tokens, ended = walk(masks, grammar, np.random.default_rng(4))
    assert ended
    text = tokenizer.decode(tokens)
    assert text.startswith('{"a":')
    assert len(text) == len('{"a":1}')


def test_faulty_grammars_and_tokenizers_are_the_users_to_mend():
    masks = TokenMasks(byte_level(), WIDTH, ENDS)
    with pytest.raises(UserError, match="lark grammar is faulty"):
        masks.start(Grammar("lark", 'start: "a'), 1)
    with pytest.raises(NoGrammar, match="distinct items"):
        masks.start(Grammar("json_schema", '{"type": "array", "uniqueItems": true}'), 1)

    class Slow:
        pass

    with pytest.raises(UserError, match="needs a fast tokenizer"):
        TokenMasks(Slow(), 10, [1])


def test_a_vocabulary_that_cannot_go_on_is_reported():
    tokenizer = byte_level()
    only = tokenizer.convert_tokens_to_ids("a") + 1
    masks = TokenMasks(tokenizer, only, ENDS)  # cut off below the letter z
    with pytest.raises(UserError, match="no token of this model's vocabulary"):
        masks.allowed(masks.start(Grammar("regex", "z"), 1))
