"""The corpus: conversations drawn from the families, by seed and index, and packed into rows."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .dialogue import Dialogue, check, converse
from .families import FAMILIES, shares

PROMPT_WEIGHT = 0.25
BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIALS = [PAD, BEGIN, END, *ROLES.values()]


def dialogues(seed: int, count: int, early: bool = False, course: int = 1) -> Iterator[Dialogue]:
    """`count` conversations; the same seed gives the same ones. `early` ones copy more.


    Raises ForbiddenOutput when a family writes what only a skill may write.
    """
    rng = Random(seed)
    families = [family for family, *_ in FAMILIES]
    for family in rng.choices(families, shares(early, course), k=count):
        yield check(converse(rng, family(rng)))


def pieces(dialogue: Dialogue) -> list[tuple[str, bool]]:
    """The conversation as the chat template renders it, in pieces marked trained or prompt."""
    out = [(BEGIN, False)]
    for turn in dialogue.turns:
        out.append((ROLES[turn.role], False))
        out.append((turn.text + END, turn.role == "assistant"))
    return out


def tokens(dialogue: Dialogue, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Token ids and, for each, whether it belongs to an answer."""
    ids: list[int] = []
    answer: list[bool] = []
    for text, trained in pieces(dialogue):
        part = tokenizer.encode(text, add_special_tokens=False).ids
        ids += part
        answer += [trained] * len(part)
    return ids, answer


def pack(
    documents: list[tuple[list[int], list[bool]]], length: int, pad: int, bins: int = 64
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Whole documents put into rows of `length`, each into the fullest open row that has room.

    Returns ids (rows, length) and answer marks (rows, length). Documents longer than a row are
    left out; what stays free at a row's end is filled with `pad`, which is never trained.
    """
    done: list[tuple[list[int], list[bool]]] = []
    open_rows: list[tuple[list[int], list[bool]]] = []
    for ids, answer in documents:
        if len(ids) > length:
            continue
        fitting = [row for row in open_rows if len(row[0]) + len(ids) <= length]
        if fitting:
            row = max(fitting, key=lambda r: len(r[0]))
        else:
            row = ([], [])
            open_rows.append(row)
            if len(open_rows) > bins:
                fullest = max(open_rows, key=lambda r: len(r[0]))
                open_rows.remove(fullest)
                done.append(fullest)
        row[0].extend(ids)
        row[1].extend(answer)
    done += open_rows
    ids_out = np.full((len(done), length), pad, dtype=np.uint16)
    answer_out = np.zeros((len(done), length), dtype=np.bool_)
    for index, (ids, answer) in enumerate(done):
        ids_out[index, : len(ids)] = ids
        answer_out[index, : len(answer)] = answer
    return ids_out, answer_out
