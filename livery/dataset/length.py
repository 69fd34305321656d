"""Rows that are too long whatever their words are: found out before the tokenizer sees them.

Tokenizing takes some 2 microseconds and 170 bytes a byte; a row of 30 MB would take a minute and
5 GB to be dropped, and of 100 MB brings the process down.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from livery.dataset.conversation import Pair, Row, Text
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
        f"stands for "
        f"more than {longest}"
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
