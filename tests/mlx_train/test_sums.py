"""Sums over many numbers, on both backends, against float64."""

from __future__ import annotations

import numpy as np
import pytest

# The embedded base's adapter has 1.3 M parameters; a 7B one at rank 64 has more than a hundred.
COUNTS = (1, 63, 64, 65, 1_300_017, 5_000_000)


def gradient(count: int) -> np.ndarray:
    """Numbers of many sizes, as gradients are."""
    rng = np.random.default_rng(count)
    return (rng.normal(size=count) * np.exp(2 * rng.normal(size=count))).astype(np.float32)


def exact(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values.astype(np.float64)).sum()))


@pytest.mark.parametrize("count", COUNTS)
def test_mlx_clips_by_the_norm_that_float64_gives(count: int) -> None:
    mx = pytest.importorskip("mlx.core")
    from mlx_train.adamw import AdamW

    values = gradient(count)
    zeros = mx.zeros(count)
    limit = exact(values) / 30  # of the mean over 10 tokens: clipped to a third
    *_, second, norm = AdamW(0.9, 0.0, 1e-8, 0.0, limit).update(
        zeros, mx.array(values), 10, zeros, zeros, step=1, learning_rate=0.1
    )
    assert float(np.asarray(norm)) == pytest.approx(exact(values) / 10, rel=1e-6)
    clipped = np.asarray(mx.sqrt(second), np.float64)  # beta2 is 0: what was left of the gradient
    assert exact(clipped) == pytest.approx(limit, rel=1e-5)


def test_mlx_in_one_running_sum_would_not() -> None:
    mx = pytest.importorskip("mlx.core")
    if mx.default_device() != mx.Device(mx.cpu):
        pytest.skip("on a GPU a reduction is a tree")
    count = 1_300_017
    values = mx.array(gradient(count))
    plain = float(np.asarray(mx.sqrt((values * values).sum())))
    assert plain != pytest.approx(exact(gradient(count)), rel=1e-4)


@pytest.mark.parametrize("count", COUNTS)
def test_torch_clips_by_the_norm_that_float64_gives(count: int) -> None:
    torch = pytest.importorskip("torch")
    from cuda_train.optim import norm_of

    values = gradient(count)
    assert norm_of(torch.from_numpy(values)) == pytest.approx(exact(values), rel=1e-6)
    small = torch.from_numpy(values).to(torch.bfloat16)
    assert norm_of(small) == pytest.approx(exact(small.float().numpy()), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [50_257, 262_144])
def test_mlx_loss_and_its_gradient_over_a_large_vocabulary(vocabulary: int) -> None:
    mx = pytest.importorskip("mlx.core")
    from mlx_train.loss import cross_entropy

    rng = np.random.default_rng(1)
    logits = (2 * rng.normal(size=(4, vocabulary))).astype(np.float32)
    targets = np.array([0, 5, 77, vocabulary - 1])
    wide = logits.astype(np.float64)
    exponentials = np.exp(wide - wide.max(1, keepdims=True))
    chance = exponentials / exponentials.sum(1, keepdims=True)
    wanted = -np.log(chance[np.arange(4), targets]).sum()
    slope = chance.copy()
    slope[np.arange(4), targets] -= 1
    value, found = mx.value_and_grad(lambda x: cross_entropy(x, mx.array(targets)).sum())(
        mx.array(logits)
    )
    assert float(np.asarray(value)) == pytest.approx(wanted, rel=1e-6)
    difference = np.abs(np.asarray(found, np.float64) - slope)
    assert difference.max() < 2e-6
    assert np.linalg.norm(difference) < 5e-6 * np.linalg.norm(slope)
    # Probabilities of all tokens but the target, where a wrong total shows.
    others = np.ones_like(chance, bool)
    others[np.arange(4), targets] = False
    assert np.asarray(found)[others] == pytest.approx(slope[others], rel=2e-5)
