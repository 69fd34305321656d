"""One answer out of llama.cpp, free or held to a grammar, greedy or sampled.

llama.cpp writes ahead freely and tells the likeliest tokens of each position. What it wrote is kept
as long as it is what we choose from those tokens: the likeliest that the grammar admits, or the one
that wins with its share of noise. Where the choice is another one, llama.cpp continues from there;
where it cannot be made from the tokens that were told, the position is asked again for more of
them. So the answer is that of choosing step by step over the whole vocabulary, by the same matcher
that serves every engine.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence

import numpy as np

from livery.engines.answers import Answer, Sampler, host_gumbel, nucleus
from livery.engines.engine import Decoding
from livery.engines.llamacpp.process import LlamaProcess, Step

TOP = 16  # tokens a position to begin with
WIDER = 32  # times as many, when they do not decide
AHEAD = 32  # tokens written ahead, at most
SHOWN = 4  # the same, where somebody watches them come


def write(
    llama: LlamaProcess,
    prompt: Sequence[int],
    sampler: Sampler,
    place: int,
    *,
    scale: float,
    stop: Collection[int],
    ahead: int,
) -> Generator[int, None, Answer]:
    """Answer one prompt, handing on each token but the end token as it is chosen.

    Args:
        sampler: of its batch, in which it has this place.
        scale: of the adapter, 1 or 0.
        stop: tokens that end an answer.
        ahead: tokens to have written ahead, at most.

    Raises:
        UserError: no token continues the grammar, or llama.cpp died.
    """
    answer, decoding, size = Answer(), sampler.decoding, llama.vocabulary
    source = _Source(llama, list(prompt), scale, ahead=1 if decoding.temperature else ahead)
    while len(answer.tokens) < decoding.max_tokens:
        mask = sampler.allowed([place], [answer.tokens], size)
        allowed = None if mask is None else mask[0]
        noise = None
        if decoding.temperature:
            at = sampler.rows[place], len(answer.tokens)
            noise = host_gumbel(size, decoding.seed, *at) * decoding.temperature
        token = _only(allowed)
        if token is None and noise is not None and decoding.top_p < 1:
            step = source.wider(size)
            token = choose(step, size, _likeliest(step, allowed, decoding), noise)
        if token is None:
            step = source.step(decoding.max_tokens - len(answer.tokens))
            token = choose(step, size, allowed, noise)
        top = TOP
        while token is None:
            top = min(top * WIDER, size)
            token = choose(source.wider(top), size, allowed, noise)
        sampler.tick([place])
        if token in stop:
            answer.finished = True
            break
        answer.tokens.append(token)
        source.take(token)
        yield token
    return answer


def choose(
    step: Step, vocabulary: int, allowed: np.ndarray | None, noise: np.ndarray | None
) -> int | None:
    """The token that is best over the whole vocabulary; None where `step` knows too little to say.

    Args:
        allowed: (V,) bool, what the grammar admits; None for all.
        noise: (V,) float32 to add to the log-probabilities; None for none.
    """
    known = np.ones(len(step.ids), bool) if allowed is None else allowed[step.ids]
    whole = len(step.ids) >= vocabulary
    if noise is None:
        places = np.flatnonzero(known)
        # The likeliest are first, so the first that is admitted beats all that were not told.
        return int(step.ids[places[0]]) if len(places) else None
    if not known.any():
        return None
    scores = np.where(known, step.logprobs + noise[step.ids], -np.inf)
    best = int(scores.argmax())
    if not whole:
        rest = np.ones(vocabulary, bool) if allowed is None else allowed[:vocabulary].copy()
        rest[step.ids] = False
        if rest.any() and step.logprobs[-1] + noise[rest].max() >= scores[best]:
            return None
    return int(step.ids[best])


def _likeliest(step: Step, allowed: np.ndarray | None, decoding: Decoding) -> np.ndarray:
    """(V,) bool, what the grammar admits of the nucleus; `step` knows the whole vocabulary."""
    scaled = np.full(max(len(step.ids), 0 if allowed is None else len(allowed)), -np.inf)
    scaled[step.ids] = step.logprobs / decoding.temperature
    if allowed is not None:
        scaled[~allowed] = -np.inf
    return nucleus(scaled[None], decoding.top_p)[0]


def _only(allowed: np.ndarray | None) -> int | None:
    """The token where the grammar admits one alone: nobody has to be asked."""
    if allowed is None or np.count_nonzero(allowed) != 1:
        return None
    return int(allowed.argmax())


class _Source:
    """Positions as llama.cpp tells them, written ahead as far as that pays."""

    def __init__(self, llama: LlamaProcess, tokens: list[int], scale: float, *, ahead: int):
        self._llama, self._tokens, self._scale = llama, tokens, scale
        self._most = ahead
        self._ahead = ahead
        self._steps: list[Step] = []  # those that follow self._tokens

    def step(self, left: int) -> Step:
        """The position after all tokens taken."""
        if not self._steps:
            count = min(self._ahead, left)
            found = None
            if count > 1:
                found = self._llama.write(self._tokens, count, top=TOP, scale=self._scale)
            self._ahead = min(self._most, 2 * self._ahead)
            self._steps = found or [self.wider(TOP)]
        return self._steps[0]

    def wider(self, top: int) -> Step:
        """The same position with `top` tokens."""
        top = min(top, self._llama.vocabulary)
        return self._llama.next(self._tokens, top=top, scale=self._scale)

    def take(self, token: int) -> None:
        """Go on behind `token`; what was written ahead is kept if it was written behind it."""
        self._tokens.append(token)
        if self._steps and self._steps[0].chosen == token:
            del self._steps[0]
        elif self._steps:
            self._steps = []
            self._ahead = 1
