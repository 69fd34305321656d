"""What happens to a batch's logits before a token is chosen: clock, grammar, temperature."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from livery.engines.answers import Course
from livery.engines.sampling import gumbel, noise_keys, nucleus


class Steps(Course):
    """The hooks of `torch_decode.decode` for one batch."""

    def adjust(
        self, rows: Sequence[int], so_far: Sequence[Sequence[int]], logits: torch.Tensor
    ) -> torch.Tensor:
        """Forbid what the grammar does not allow next: logits (B', vocab) -> the same shape."""
        allowed = self.allowed(rows, so_far, logits.shape[-1])
        if allowed is not None:
            logits = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)
        if logits.device.type == "cuda":
            torch.cuda.synchronize(logits.device)  # or the clock shows when work was handed out
        self.tick(rows)
        return logits

    def choose(
        self, rows: Sequence[int], so_far: Sequence[Sequence[int]], logits: torch.Tensor
    ) -> torch.Tensor:
        """Draw tokens (B',) by the Gumbel trick, each row from a generator of its own, so that an
        answer does not depend on what else stands in its batch."""
        keys = noise_keys(
            self.decoding.seed,
            [(self.rows[row], len(tokens)) for row, tokens in zip(rows, so_far, strict=True)],
        )
        device = logits.device
        ids = torch.arange(logits.shape[-1], dtype=torch.int32, device=device)
        noise: torch.Tensor = gumbel(ids, torch.from_numpy(keys).to(device), torch.log)
        scaled = logits.float() / self.decoding.temperature
        if self.decoding.top_p < 1:
            kept = torch.from_numpy(nucleus(scaled.cpu().numpy(), self.decoding.top_p))
            scaled = scaled.masked_fill(~kept.to(device), -torch.inf)
        return (scaled + noise).argmax(-1)
