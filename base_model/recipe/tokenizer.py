"""The byte-level BPE: digits one by one, `_` always apart from letters.

The pre-tokenizer is SmolLM's (single digits, then GPT-2's pattern), which llama.cpp knows as
`smollm`, so that a GGUF file can name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from .corpus import SPECIALS
from .dialogue import Dialogue
from .words import EVERYTHING, NAMES, PLACES

VOCABULARY = 4096


def train_tokenizer(texts: Iterable[Dialogue]) -> Tokenizer:
    """Learns `VOCABULARY` pieces, the special tokens first."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(texts), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise ValueError(
            f"the tokenizer has {tokenizer.get_vocab_size()} pieces, not {VOCABULARY}: "
            "train it on more conversations"
        )
    return tokenizer


def _lines(texts: Iterable[Dialogue]) -> Iterator[str]:
    for dialogue in texts:
        for turn in dialogue.turns:
            yield turn.text
    for _ in range(60):
        yield " ".join(EVERYTHING)
        yield "_".join(EVERYTHING)
        yield " ".join(NAMES + PLACES)


def load_tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def token_id(tokenizer: Tokenizer, piece: str) -> int:
    """The id of a piece that must be there.

    Raises:
        ValueError: it is not.
    """
    found = tokenizer.token_to_id(piece)
    if found is None:
        raise ValueError(f"the tokenizer has no piece {piece!r}: it was not made by this recipe")
    return found
