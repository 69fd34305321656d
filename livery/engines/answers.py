"""How a batch of prompts becomes answers, a token a row at a time, whatever the framework.

A framework brings a `Decoder` (which prompts run together, and how) and its `Rows` (arrays of
logits, and how the model continues); `Sampler` says what the grammar, the temperature and the seed
make of them; `decode` is the loop over both.

A sampled token is the one with the largest sum of logit / temperature and Gumbel noise, which is a
draw from the softmax. The noise is a hash of the token's id, the seed, the prompt's row and the
step, made of operators that numpy, torch and MLX share: each computes it where its logits are,
alike to the last digits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from livery.engines.constrain import RowMatcher, TokenMasks
from livery.engines.engine import Decoding, Generation, Grammar

T = TypeVar("T")


def noise_keys(seed: int, places: Sequence[tuple[int, int]]) -> np.ndarray:
    """(B, 2) int32, what `gumbel` starts from at each of these (row, step)."""
    states = [np.random.SeedSequence([seed % 2**63, *at]).generate_state(2) for at in places]
    return np.asarray(states, np.uint32).view(np.int32)


def gumbel(tokens: Any, keys: Any, log: Callable[[Any], Any]) -> Any:
    """(B, V) float32 Gumbel noise, from -2.8 to 16.6, as an array of the library it is given.

    Args:
        tokens: (V,) int32, the ids.
        keys: (B, 2) int32, from `noise_keys`.
        log: the library's natural logarithm, in float32.

    The shifts, masks and multipliers are those of C. Wellons' lowbias32, a second key added midway
    so that the noise of one place is not that of another moved along. 23 bits and a half are what
    float32 holds of the open interval (0, 1).
    """
    bits = tokens * -1640531535 + keys[:, :1]
    bits = (bits ^ (bits >> 16 & 0xFFFF)) * 0x7FEB352D
    bits = (bits ^ (bits >> 15 & 0x1FFFF)) + keys[:, 1:]
    bits = bits * -2073254261
    bits = bits ^ (bits >> 16 & 0xFFFF)
    return -log(-log(((bits & 0x7FFFFF) + 0.5) * 2.0**-23))


def host_gumbel(width: int, seed: int, row: int, step: int) -> np.ndarray:
    """(width,) float32, the noise of one place, in numpy."""

    def log(values: np.ndarray) -> np.ndarray:
        return np.log(values.astype(np.float32))

    return gumbel(np.arange(width, dtype=np.int32), noise_keys(seed, [(row, step)]), log)[0]


def nucleus(scaled: np.ndarray, top_p: float) -> np.ndarray:
    """Bool, the shape of `scaled` (B, V): the likeliest tokens of each row, as many as it takes for
    their probabilities to reach `top_p`; one at least.

    Args:
        scaled: logits divided by the temperature, -inf where the grammar forbids.
    """
    places = np.argsort(-scaled, axis=-1, kind="stable")
    ordered = np.take_along_axis(scaled, places, -1).astype(np.float64)
    weights = np.exp(ordered - ordered[:, :1])
    shares = weights / weights.sum(-1, keepdims=True)
    kept = np.empty(scaled.shape, bool)
    np.put_along_axis(kept, places, np.cumsum(shares, -1) - shares < top_p, -1)
    return kept


@dataclass
class Answer:
    """One row's answer.

    Attributes:
        tokens: without the end token.
        finished: the end token came within max_tokens.
    """

    tokens: list[int] = field(default_factory=lambda: list[int]())
    finished: bool = False


class Rows(Protocol):
    """B' rows on their way in one framework, with the logits (B', vocab) of what comes next."""

    @property
    def width(self) -> int:
        """Logits a row."""
        ...

    def forbid(self, allowed: np.ndarray) -> None:
        """Set the logits where `allowed` (B', vocab) is False to -inf."""
        ...

    def wait(self) -> None:
        """Until the logits are computed."""
        ...

    def likeliest(self) -> list[int]:
        """A token (B',) a row."""
        ...

    def draw(self, keys: np.ndarray, temperature: float, top_p: float) -> list[int]:
        """A token (B',) a row from its softmax, by the noise of `keys` (B', 2)."""
        ...

    def select(self, places: Sequence[int]) -> None:
        """Keep these rows alone."""
        ...

    def advance(self, tokens: Sequence[int]) -> None:
        """Run one token a row."""
        ...


class Decoder(Protocol):
    """A model in one framework, with what is known about running several prompts at once."""

    def groups(self, prompts: Sequence[Sequence[int]]) -> Iterable[Sequence[int]]:
        """The places of prompts that run together; every place in one group."""
        ...

    def start(self, prompts: Sequence[Sequence[int]], prefix: Any) -> Rows:
        """Run these prompts, what they share once.

        Args:
            prefix: tokens that they begin with and that have been run; None for none.
        """
        ...


class Sampler:
    """How the next token of each row of a batch is chosen, and the row's clock.

    Attributes:
        decoding: how to draw.
        rows: the prompts' numbers within the whole call; they seed the sampling.
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
        grammars: each row's; None leaves it free.
        masks: logits' width -> token masks; called where there is a grammar to keep to.
        """
        self.rows, self.decoding, self._masks = rows, decoding, masks
        self._grammars = grammars if any(grammars) else ()
        self._matchers: list[RowMatcher | None] = []
        self._began = time.monotonic()
        self.seconds = [0.0] * len(rows)

    def choose(
        self, rows: Sequence[int], so_far: Sequence[Sequence[int]], state: Rows
    ) -> list[int]:
        """The next token (B',) of these rows, which count within the batch."""
        allowed = self.allowed(rows, so_far, state.width)
        if allowed is not None:
            state.forbid(allowed)
        state.wait()
        self.tick(rows)
        if not self.decoding.temperature:
            return state.likeliest()
        places = [(self.rows[row], len(tokens)) for row, tokens in zip(rows, so_far, strict=True)]
        keys = noise_keys(self.decoding.seed, places)
        return state.draw(keys, self.decoding.temperature, self.decoding.top_p)

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


def decode(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    stop: Collection[int],
    prefix: Any = None,
    sampler: Sampler | None = None,
) -> list[Answer]:
    """Answer every prompt.

    Args:
        prompts: token ids, none empty.
        max_tokens: longest answer.
        stop: tokens that end an answer.
        prefix: what the framework's `run_prefix` gave, where these prompts begin like those of
            other calls; what they share beyond it is run once here.
        sampler: chooses the tokens; the likeliest where it is None.
    """
    answers = [Answer() for _ in prompts]
    for rows in decoder.groups(prompts):
        state = decoder.start([prompts[row] for row in rows], prefix)
        for _ in _steps(state, rows, answers, max_tokens, stop, sampler):
            pass
    return answers


def write(
    decoder: Decoder, prompt: Sequence[int], sampler: Sampler, stop: Collection[int]
) -> Generator[int, None, Answer]:
    """Answer one prompt, handing on each token but the end token as it is chosen.

    Nothing is computed between two of them, so several answers can be written in turns; each finds
    the model as it left it, the adapter included, if whoever takes the turns sees to that.
    """
    answer = Answer()
    state = decoder.start([prompt], None)
    for _ in _steps(state, [0], [answer], sampler.decoding.max_tokens, stop, sampler):
        yield answer.tokens[-1]
    return answer


def _steps(
    state: Rows,
    rows: Sequence[int],
    answers: Sequence[Answer],
    max_tokens: int,
    stop: Collection[int],
    sampler: Sampler | None,
) -> Generator[None]:
    """Fill in the answers of `rows`, which are in `state`, a token each between two turns; rows
    that have ended leave it."""
    active = list(rows)
    for step in range(max_tokens):
        so_far = [answers[row].tokens for row in active]
        tokens = sampler.choose(active, so_far, state) if sampler else state.likeliest()
        keep: list[int] = []
        for place, (row, token) in enumerate(zip(active, tokens, strict=True)):
            if token in stop:
                answers[row].finished = True
                continue
            answers[row].tokens.append(token)
            keep.append(place)
        if not keep:
            return
        yield
        if step == max_tokens - 1:
            return
        if len(keep) < len(active):
            state.select(keep)
            tokens, active = [tokens[at] for at in keep], [active[at] for at in keep]
        state.advance(tokens)


def drained(running: Generator[Any, None, T]) -> T:
    """What a generator returns, its turns let pass."""
    while True:
        try:
            next(running)
        except StopIteration as ended:
            return ended.value


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
