"""torch's optimizers: what a run that goes on takes over."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from cuda_train.optim import AdamW, AdamW8bit, Flat, Optimizer  # noqa: E402
from livery.config.settings import TrainSettings  # noqa: E402

SETTINGS = TrainSettings(learning_rate=1e-2)


def flat() -> Flat:
    """Two parameters; the larger one has its moments in 8 bits where the optimizer keeps such."""
    draw = torch.Generator().manual_seed(3)
    shapes = {"large": (64, 128), "small": (4, 8)}
    return Flat({n: torch.nn.Parameter(torch.randn(s, generator=draw)) for n, s in shapes.items()})


def step(parameters: Flat, optimizer: Optimizer, number: int) -> None:
    draw = torch.Generator().manual_seed(number)
    parameters.grads.copy_(torch.randn(parameters.grads.shape, generator=draw))
    optimizer.step(1e-2, number)


@pytest.mark.parametrize("kind", [AdamW, AdamW8bit])
def test_a_step_after_the_moments_were_taken_over_is_the_step_it_would_have_been(
    kind: type[AdamW] | type[AdamW8bit],
) -> None:
    if kind is AdamW8bit:
        pytest.importorskip("bitsandbytes")
    one = flat()
    optimizer = kind(one, SETTINGS)
    for number in (1, 2, 3):
        step(one, optimizer, number)
    other = flat()
    other.values.copy_(one.values)
    later = kind(other, SETTINGS)
    later.set_moments(*(moment.clone() for moment in optimizer.moments()), 3)
    before = one.values.clone()
    step(one, optimizer, 4)
    step(other, later, 4)
    moved = (one.values - before).norm()
    # Eight bits are rounded once more; a bias corrected for the wrong step is off by half or more.
    allowed = 0.05 if kind is AdamW8bit else 1e-6
    assert (one.values - other.values).norm() < allowed * moved
