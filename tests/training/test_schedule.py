"""The learning rate at the steps that decide: first, end of the warm-up, last."""

from __future__ import annotations

import math

import pytest

from livery.config.settings import Schedule, TrainSettings
from livery.training.numerics import learning_rate


def rates(schedule: Schedule, total: int, warm: int, least: float = 0.1) -> list[float]:
    settings = TrainSettings(
        learning_rate=2.0, schedule=schedule, warmup_steps=warm, min_lr_ratio=least
    )
    return [learning_rate(settings, step, total) for step in range(1, total + 1)]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_it_warms_up_in_equal_steps_to_the_peak(schedule: Schedule) -> None:
    found = rates(schedule, 100, 4)
    assert found[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert max(found) == 2.0
    assert rates(schedule, 100, 0)[0] == 2.0


def test_what_follows_the_warm_up() -> None:
    assert rates("constant", 24, 4)[4:] == [2.0] * 20
    linear, cosine = rates("linear", 24, 4), rates("cosine", 24, 4)
    for step in range(5, 25):
        done = (step - 5) / 20
        assert linear[step - 1] == pytest.approx(2.0 * (0.1 + 0.9 * (1 - done)))
        left = 0.5 * (1 + math.cos(math.pi * done))
        assert cosine[step - 1] == pytest.approx(2.0 * (0.1 + 0.9 * left))
    assert sorted(cosine[4:], reverse=True) == cosine[4:]


def test_a_warm_up_as_long_as_the_run_leaves_its_last_step_the_peak() -> None:
    assert rates("cosine", 3, 50) == pytest.approx([2 / 3, 4 / 3, 2.0])
    assert rates("linear", 1, 20) == [2.0]
