"""Token ids of many texts, fast: without alignment, and nothing of rows that are too long anyway.

Tokenizing takes some 2 microseconds and 170 bytes a byte: a row of 30 MB would take a minute and
5 GB to be dropped, and one of 100 MB ends the process. The account of which character became which
token takes a third of tokenizing and is needed at two places of a row alone: where its prompt's
last added token is, and where its answer ends. Added tokens that split a text as they are
written can be counted instead: where a text holds the same ones as its tokens, in the same order,
the first is the first and the last the last. Where it does not, the account is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from livery.dataset.conversation import Pair, Row, Text
from livery.dataset.template import ChatTemplate
from livery.errors import counted

# Tokens of usual vocabularies stand for up to 128 characters (runs of spaces or dashes). Templates
# trim white space, and tokenizers may squeeze it, which this leaves room for.
_SHORTEST = 128


def too_long(row: Row, tokenizer: Any, max_length: int) -> str:
    """Why a row cannot fit into `max_length` tokens, by its characters alone; "" where it may."""
    count = characters(row)
    if count <= max_length * _SHORTEST:  # nearly all rows, and no vocabulary is looked through
        return ""
    longest = max(_SHORTEST, longest_token(tokenizer))
    if count <= max_length * longest:
        return ""
    return (
        f"{count:,} characters, over the limit of {counted(max_length, 'token')}, none of which "
        f"is longer than {longest}"
    )


def characters(row: Row) -> int:
    """Characters of all that a row says."""
    if isinstance(row, Text):
        return len(row.text)
    if isinstance(row, Pair):
        return len(row.system) + len(row.prompt) + len(row.completion)
    return sum(_size(v) for message in row.messages for k, v in message.items() if k != "role")


def longest_token(tokenizer: Any) -> int:
    """Characters of the longest token of a vocabulary, as it is written there."""
    return _longest(tokenizer, len(tokenizer))


@lru_cache(maxsize=4)
def _longest(tokenizer: Any, size: int) -> int:
    return max(map(len, tokenizer.get_vocab()), default=1)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(child) for child in value.values())
    if isinstance(value, list):
        return sum(_size(child) for child in value)
    return 0


# What a tokenizer's class may do to a text, or to its tokens, before and after the library does.
_CALLS = ("__call__", "_encode_plus", "_batch_encode_plus", "set_truncation_and_padding")


class Marks:
    """The added tokens that a chat template writes.

    Attributes:
        usable: each of them splits a text as it is written, and the tokenizer is nothing but one of
            the tokenizers library.
    """

    def __init__(self, chat: ChatTemplate) -> None:
        self.tokenizer = chat.tokenizer
        texts = {*chat.anchors, chat.end_text}
        added = {
            str(token.content): int(number)
            for number, token in self.tokenizer.added_tokens_decoder.items()
            if not token.normalized and not token.single_word
        }
        self.usable = _is_plain(self.tokenizer) and texts <= added.keys()
        self._ids = {text: added[text] for text in texts if text in added}
        self._among = frozenset(self._ids.values())
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        if self.usable:  # a call sets it to neither pad nor cut, as every call of ours does
            self.tokenizer("a", add_special_tokens=False, verbose=False)

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, nothing added: those that the tokenizer gives when called."""
        encoded = self.tokenizer.backend_tokenizer.encode_batch_fast(
            list(texts), add_special_tokens=False
        )
        return [encoding.ids for encoding in encoded]

    def places(self, text: str, ids: Sequence[int]) -> dict[int, int] | None:
        """Where an added token of the template begins in `text` -> its place among `ids`; None
        where the text and its tokens do not hold the same ones in the same order."""
        at: list[int] = []
        wanted: list[int] = []
        for found in self._pattern.finditer(text):
            at.append(found.start())
            wanted.append(self._ids[found[0]])
        among = self._among
        places = [place for place, token in enumerate(ids) if token in among]
        if [ids[place] for place in places] != wanted:
            return None
        return dict(zip(at, places, strict=True))


def _is_plain(tokenizer: Any) -> bool:
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return False
    own = type(tokenizer)
    return all(
        getattr(own, name, None) is getattr(PreTrainedTokenizerFast, name, None) for name in _CALLS
    ) and not any(name in vars(tokenizer) for name in _CALLS)
