"""Constrained decoding: which tokens may come next, as plain boolean arrays for any engine.

    masks = TokenMasks(tokenizer, width=logits.shape[-1], end_tokens=[2])
    rows = masks.start(grammar, 8)
    allowed = masks.allowed(rows)              # (8, width) bool
    ...pick one allowed token a row...
    rows[0].advance(token)

The matching is llguidance's; the end tokens are allowed exactly where the grammar accepts. Other
special tokens never are, nor are the ids that pad an embedding table beyond the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from livery.engines.engine import Grammar
from livery.engines.schemas import schema_grammar
from livery.errors import UserError

_KEPT = 64  # compiled grammars


class RowMatcher:
    """Where one row is in its grammar."""

    def __init__(self, matcher: Any, end_tokens: frozenset[int]):
        self._matcher = matcher
        self._end_tokens = end_tokens
        self.ended = False

    def advance(self, token: int) -> None:
        """Take the token that was chosen; after an end token the row stays where it is.

        Raises:
            ValueError: the grammar does not allow it here.
        """
        if self.ended:
            return
        if token in self._end_tokens:
            if not self._matcher.is_accepting():
                raise ValueError(f"token {token} ends the answer before its grammar accepts")
            self.ended = True
        elif not self._matcher.consume_token(token):
            raise ValueError(f"token {token} is not allowed here: {self._matcher.get_error()}")

    @property
    def accepting(self) -> bool:
        """The answer so far is complete."""
        return bool(self._matcher.is_accepting())

    def admits(self, token: int) -> bool:
        """Whether `token` may come next, asked one by one (the masks' slow twin, for tests)."""
        if token in self._end_tokens:
            return self.accepting
        return not self._matcher.is_stopped() and self._matcher.validate_tokens([token]) == 1

    def bits(self) -> bytes:
        """One bit a token, lowest first."""
        return self._matcher.compute_bitmask()


class TokenMasks:
    """What a tokenizer's tokens spell, ready to be matched against grammars.

    Attributes:
        compiled: the grammars compiled last, at most 64.
    """

    def __init__(self, tokenizer: Any, width: int, end_tokens: Sequence[int]):
        """Args:
            tokenizer: a fast Hugging Face tokenizer.
            width: logits a position, which may be more (padded tables) or fewer (trimmed ones)
                than the tokenizer's vocabulary.
            end_tokens: ids that end an answer.

        Raises:
            UserError: the bytes of its tokens cannot be told.
        """
        self.width = width
        self.end_tokens = frozenset(int(token) for token in end_tokens)
        self._tokenizer = _llguidance_tokenizer(tokenizer, width, sorted(self.end_tokens))
        known = np.zeros(width, dtype=bool)
        known[[i for i in tokenizer.get_vocab().values() if i < width]] = True
        special = [int(i) for i in tokenizer.all_special_ids]
        special += [int(i) for i, t in tokenizer.added_tokens_decoder.items() if t.special]
        known[[i for i in special if i < width]] = False
        self._plain = known
        self._ends = np.zeros(width, dtype=bool)
        self._ends[[i for i in self.end_tokens if i < width]] = True
        self.compiled: dict[Grammar, Any] = {}

    def start(self, grammar: Grammar, rows: int) -> list[RowMatcher]:
        """A matcher at the beginning of `grammar` for each row; the grammar is compiled once.

        Raises:
            NoGrammar: a JSON Schema whose documents no grammar describes.
            UserError: the grammar is faulty.
        """
        if grammar not in self.compiled:
            if len(self.compiled) >= _KEPT:  # where every prompt brings its own
                del self.compiled[next(iter(self.compiled))]
            self.compiled[grammar] = _compile(self._tokenizer, grammar)
        first = self.compiled[grammar]
        return [RowMatcher(first.deep_copy(), self.end_tokens) for _ in range(rows)]

    def allowed(self, rows: Sequence[RowMatcher | None]) -> np.ndarray:
        """(len(rows), width) bool: the tokens that may come next; of a row without a matcher all.
        A row that has ended may only end again."""
        mask = np.zeros((len(rows), self.width), dtype=bool)
        for row, matcher in zip(mask, rows, strict=True):
            if matcher is None:
                row[:] = True
                continue
            if matcher.ended:
                row |= self._ends
                continue
            bits = np.unpackbits(np.frombuffer(matcher.bits(), np.uint8), bitorder="little")
            size = min(self.width, len(bits))
            row[:size] = bits[:size].astype(bool) & self._plain[:size]
            if matcher.accepting:
                row |= self._ends
            elif not row.any():
                raise UserError(
                    "Constrained decoding came to a point where no token of this model's "
                    "vocabulary continues the grammar. Decode without it (--unconstrained)."
                )
        return mask


def checker(grammar: Grammar) -> Callable[[str], str]:
    """answer -> "" where the grammar admits it, else what it refuses; needs no model.

    Raises:
        UserError: the grammar is faulty.
    """
    from llguidance import LLTokenizer

    first = _compile(LLTokenizer("byte"), grammar)

    def refused(answer: str) -> str:
        matcher, data = first.deep_copy(), answer.encode()
        taken = matcher.try_consume_tokens(list(data))
        if taken < len(data):
            behind = data[:taken].decode(errors="ignore")
            return f"it expects something else after {behind[-60:]!r}"
        return "" if matcher.is_accepting() else "the answer must not end there"

    return refused


def _compile(tokenizer: Any, grammar: Grammar) -> Any:
    from llguidance import LLMatcher

    make = {
        "lark": LLMatcher.grammar_from_lark,
        "regex": LLMatcher.grammar_from_regex,
        # As our training data are written: no space but what the schema's strings hold.
        "json_schema": lambda text: LLMatcher.grammar_from_json_schema(
            schema_grammar(text).text, overrides={"whitespace_flexible": False}
        ),
    }[grammar.kind]
    try:
        matcher = LLMatcher(tokenizer, make(grammar.text))
    except ValueError as error:
        raise UserError(f"The {grammar.kind} grammar is faulty: {error}") from None
    if matcher.is_error():
        raise UserError(f"The {grammar.kind} grammar is faulty: {matcher.get_error()}")
    return matcher


def _llguidance_tokenizer(tokenizer: Any, width: int, end_tokens: list[int]) -> Any:
    from llguidance import LLTokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"Constrained decoding needs a fast tokenizer (tokenizer.json); this model has a "
            f"{type(tokenizer).__name__}. Decode without it (--unconstrained)."
        )
    description = json.loads(backend.to_str())
    description.update(padding=None, truncation=None)
    description["decoder"] = _spelled_out(description.get("decoder"))
    size = max(width, 1 + max(tokenizer.get_vocab().values()))
    try:
        return LLTokenizer(
            json.dumps(description, ensure_ascii=False),
            n_vocab=size,
            eos_token=end_tokens,
        )
    except ValueError as error:
        raise UserError(
            f"Constrained decoding cannot tell the bytes of this model's tokens: {error}. "
            "Decode without it (--unconstrained)."
        ) from None


def _spelled_out(decoder: dict[str, Any] | None) -> dict[str, Any] | None:
    """SentencePiece's Metaspace decoder as the replacement that it is, which llguidance knows."""
    if decoder is None or decoder["type"] != "Metaspace":
        return decoder
    space = {
        "type": "Replace",
        "pattern": {"String": decoder["replacement"]},
        "content": " ",
    }
    return {
        "type": "Sequence",
        "decoders": [space, {"type": "ByteFallback"}, {"type": "Fuse"}],
    }
