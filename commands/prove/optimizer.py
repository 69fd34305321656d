"""AdamW with moments of 8 bits beside AdamW, on the same gradients."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from commands.prove import model as proof
from commands.prove.outcome import Outcome, Skip, judged, need
from livery.config.settings import TrainSettings

STEPS, RATE = 20, 1e-3
# bitsandbytes' blocks keep about two figures of each moment; a step that went wrong is off by 1.
ALLOWED = 0.1


def eight_bits(folder: Path) -> Outcome:
    """Twenty steps of each from one place, on gradients that grow and turn."""
    place = proof.require()
    if place.type == "mps":
        raise Skip("bitsandbytes does not run on MPS")
    need("bitsandbytes")
    from cuda_train.optim import AdamW, AdamW8bit, Flat
    from livery.engines.torch.load import require_bitsandbytes

    require_bitsandbytes()
    settings = TrainSettings(learning_rate=RATE, weight_decay=0.01)
    ended: list[torch.Tensor] = []
    for kind in (AdamW, AdamW8bit):
        drawn = torch.Generator().manual_seed(0)
        start = torch.randn(64, 256, generator=drawn)
        flat = Flat({"m.lora_A": nn.Parameter(start.to(place))})
        steps = kind(flat, settings)
        for step in range(1, STEPS + 1):
            flat.grads.copy_(torch.randn(flat.grads.shape, generator=drawn) * (1 + step / 5) + 0.5)
            steps.step(RATE, step)
        ended.append(flat.values.cpu().double() - start.flatten().double())
    apart = proof.compare(ended[1], ended[0])
    said = f"after {STEPS} steps the updates differ by {apart.share:.3g} (allowed {ALLOWED})"
    return judged(apart.share <= ALLOWED, said, difference=apart.share)
