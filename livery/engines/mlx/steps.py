"""What happens to a batch's logits before a token is chosen: clock, grammar, temperature."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from livery.engines.answers import Course
from livery.engines.sampling import gumbel, noise_keys, nucleus


class Steps(Course):
    """The hooks of `mlx_decode.decode` for one batch."""

    def adjust(
        self, rows: Sequence[int], so_far: Sequence[Sequence[int]], logits: mx.array
    ) -> mx.array:
        """Forbid what the grammar does not allow next: logits (B', vocab) -> the same shape."""
        allowed = self.allowed(rows, so_far, logits.shape[-1])
        if allowed is not None:
            logits = mx.where(mx.array(allowed), logits, -mx.inf)
        mx.eval(logits)
        self.tick(rows)
        return logits

    def choose(
        self, rows: Sequence[int], so_far: Sequence[Sequence[int]], logits: mx.array
    ) -> mx.array:
        """Draw tokens (B',) by the Gumbel trick, each row from a generator of its own, so that an
        answer does not depend on what else stands in its batch."""
        keys = noise_keys(
            self.decoding.seed,
            [(self.rows[row], len(tokens)) for row, tokens in zip(rows, so_far, strict=True)],
        )
        ids = mx.arange(logits.shape[-1], dtype=mx.int32)
        noise: mx.array = gumbel(ids, mx.array(keys), mx.log)
        scaled = logits.astype(mx.float32) / self.decoding.temperature
        if self.decoding.top_p < 1:
            kept = nucleus(np.asarray(scaled), self.decoding.top_p)
            scaled = mx.where(mx.array(kept), scaled, -mx.inf)
        return mx.argmax(scaled + noise, axis=-1)
