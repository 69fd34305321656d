"""What every engine that decodes in batches shares, whatever its framework: answers and their rows.

prompts that begin alike -> one prefix -> a batch of rows -> answers, a token a row at a time
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from livery.engines.constrain import RowMatcher, TokenMasks
from livery.engines.engine import (
    Decoding,
    Generation,
    Grammar,
    OnText,
    Progress,
    Prompt,
)

# (row, token), as each token is chosen; the end token is not handed on.
OnToken = Callable[[int, int], None]


@dataclass
class Answer:
    """One row's answer.

    Attributes:
        tokens: without the end token.
        finished: the end token came within max_tokens.
    """

    tokens: list[int] = field(default_factory=lambda: list[int]())
    finished: bool = False


def take(
    answers: Sequence[Answer],
    rows: Sequence[int],
    tokens: Sequence[int],
    stop: set[int],
    on_token: OnToken | None,
) -> list[int]:
    """Write a step's tokens (B',) to the answers of `rows`; returns the places that go on."""
    keep: list[int] = []
    for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
        if token in stop:
            answers[row].finished = True
            continue
        answers[row].tokens.append(token)
        if on_token is not None:
            on_token(row, token)
        keep.append(place)
    return keep


def grammars_of(prompts: Sequence[Prompt], decoding: Decoding) -> list[Grammar | None]:
    """Each prompt's own grammar, else the decoding's."""
    return [prompt.grammar or decoding.grammar for prompt in prompts]


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Leading tokens that all prompts share; at least one token of each is left over."""
    if len(prompts) < 2:
        return 0
    low, high = min(map(list, prompts)), max(map(list, prompts))
    limit = min(len(prompt) for prompt in prompts) - 1
    shared = 0
    while shared < limit and low[shared] == high[shared]:
        shared += 1
    return shared


class Course:
    """A batch on its way: the clock of each row, and what the grammar allows next.

    Attributes:
        seconds: of each row, from the start of the batch to the logits of its last token.
    """

    def __init__(
        self,
        rows: Sequence[int],
        decoding: Decoding,
        grammars: Sequence[Grammar | None],
        masks: Callable[[int], TokenMasks],
    ):
        """Args:
        rows: the prompts' numbers within the whole call; they seed the sampling.
        decoding: how to draw.
        grammars: each row's; None leaves it free.
        masks: logits' width -> token masks; called where there is a grammar to keep to.
        """
        self.rows, self.decoding, self._masks = rows, decoding, masks
        self._grammars = grammars if any(grammars) else ()
        self._matchers: list[RowMatcher | None] = []
        self._began = time.monotonic()
        self.seconds = [0.0] * len(rows)

    def allowed(
        self, rows: Sequence[int], so_far: Sequence[Sequence[int]], width: int
    ) -> np.ndarray | None:
        """(B', width) bool of what the grammar allows next; None where there is none.

        To be asked once a step: the matchers move on by each answer's last token.
        """
        if not self._grammars:
            return None
        masks = self._masks(width)
        if not self._matchers:
            self._matchers = [g and masks.start(g, 1)[0] for g in self._grammars]
        matchers = [self._matchers[row] for row in rows]
        for matcher, tokens in zip(matchers, so_far, strict=True):
            if matcher is not None and tokens:
                matcher.advance(tokens[-1])
        return masks.allowed(matchers)

    def tick(self, rows: Sequence[int]) -> None:
        """The logits of these rows are here now."""
        now = time.monotonic() - self._began
        for row in rows:
            self.seconds[row] = now

    def generations(
        self, answers: Sequence[Answer], text: Callable[[Sequence[int]], str]
    ) -> dict[int, Generation]:
        """The batch's answers by the prompts' numbers."""
        return {
            row: Generation(
                tokens=tuple(answer.tokens),
                text=text(answer.tokens),
                finished=answer.finished,
                seconds=self.seconds[place],
                count=len(answer.tokens) + answer.finished,
            )
            for place, (row, answer) in enumerate(zip(self.rows, answers, strict=True))
        }


class Pieces:
    """Hands an answer's text on as its tokens come; an `OnToken`."""

    def __init__(self, text: Callable[[Sequence[int]], str], on_text: OnText) -> None:
        self._text, self._on_text = text, on_text
        self._so_far: list[int] = []
        self._shown = 0

    def __call__(self, _: int, token: int) -> None:
        self._so_far.append(token)
        text = self._text(self._so_far)
        # A character whose bytes are not all here yet decodes to U+FFFD: hold it back.
        if not text.endswith("\ufffd"):
            self.show(text)

    def show(self, text: str) -> None:
        """Hand on what of the answer's `text` was not shown yet."""
        if len(text) > self._shown:
            self._on_text(text[self._shown :])
            self._shown = len(text)


def in_batches(
    tokens: Sequence[Sequence[int]],
    size: int,
    answer: Callable[[list[int]], Mapping[int, Generation]],
    progress: Progress | None,
) -> list[Generation]:
    """All prompts' answers, those of like length together, in the prompts' order.

    Args:
        answer: the generations of these rows, by row.
    """
    found: dict[int, Generation] = {}
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    for start in range(0, len(order), size):
        found.update(answer(order[start : start + size]))
        if progress is not None:
            progress(len(found), len(tokens))
    return [found[row] for row in range(len(tokens))]
