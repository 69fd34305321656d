"""What happens to a batch's logits before a token is chosen: clock, grammar, temperature."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from livery.engines.base import Decoding
from livery.engines.constrain import RowMatcher, TokenMasks
from livery.engines.noise import gumbel


class Steps:
    """The hooks of `torch_decode.decode` for one batch.

    Attributes:
        seconds: of each row, from the start of the batch to the logits of its last token.
    """

    def __init__(
        self,
        rows: Sequence[int],
        decoding: Decoding,
        masks: Callable[[int], TokenMasks] | None,
    ):
        """Args:
        rows: the prompts' numbers within the whole call; they seed the sampling.
        decoding: how to draw.
        masks: logits' width -> token masks, where there is a grammar to keep to.
        """
        self._rows, self._decoding, self._masks = rows, decoding, masks
        self._matchers: list[RowMatcher] = []
        self._began = time.monotonic()
        self.seconds = [0.0] * len(rows)

    def adjust(
        self, rows: Sequence[int], so_far: Sequence[Sequence[int]], logits: torch.Tensor
    ) -> torch.Tensor:
        """Forbid what the grammar does not allow next: logits (B', vocab) -> the same shape."""
        if self._masks is not None and self._decoding.grammar is not None:
            masks = self._masks(logits.shape[-1])
            if not self._matchers:
                self._matchers = masks.start(self._decoding.grammar, len(self._rows))
            matchers = [self._matchers[row] for row in rows]
            for matcher, tokens in zip(matchers, so_far, strict=True):
                if tokens:
                    matcher.advance(tokens[-1])
            allowed = torch.from_numpy(masks.allowed(matchers)).to(logits.device)
            logits = logits.masked_fill(~allowed, -torch.inf)
        if logits.device.type == "cuda":
            torch.cuda.synchronize(logits.device)  # or the clock shows when work was handed out
        now = time.monotonic() - self._began
        for row in rows:
            self.seconds[row] = now
        return logits

    def choose(
        self, rows: Sequence[int], so_far: Sequence[Sequence[int]], logits: torch.Tensor
    ) -> torch.Tensor:
        """Draw tokens (B',) by the Gumbel trick, each row from a generator of its own, so that an
        answer does not depend on what else stands in its batch."""
        noise = [
            torch.from_numpy(
                gumbel(logits.shape[-1], self._decoding.seed, self._rows[row], len(tokens))
            )
            for row, tokens in zip(rows, so_far, strict=True)
        ]
        scaled = logits.float() / self._decoding.temperature
        return (scaled + torch.stack(noise).to(logits.device)).argmax(-1)
