"""Progress off a terminal: plain lines, at most one in ten seconds, with rate and time left."""

from __future__ import annotations

import io

import pytest

from livery import progress
from livery.progress import Progress, show_bytes, show_rate, show_seconds


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_plain_lines_show_count_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, out = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", clock)
    with Progress("training", 100, "steps", done=20, file=out) as bar:
        for _ in range(40):
            clock.now += 1.0
            bar.advance(2, note="loss 0.5")
        assert bar.rate() == pytest.approx(2.0)
        bar.say("a line that stays")
    lines = out.getvalue().splitlines()
    assert lines[0] == "training: 40/100 steps (40%) · 2 steps/s · 30 s left · loss 0.5"
    assert len(lines) == 6  # at 10, 20, 30 and 40 seconds, the line that stays, and the end
    assert lines[-1] == "training: 100/100 steps (100%) · 2 steps/s · loss 0.5"


def test_a_slow_start_leaves_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with Progress("x", 1000, "steps", file=io.StringIO()) as bar:
        clock.now += 60
        bar.advance()  # the first step compiles
        for _ in range(40):
            clock.now += 1
            bar.advance()
        assert bar.rate() == pytest.approx(1.0, rel=0.05)


def test_what_is_over_soon_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, out = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", clock)
    with Progress("reading data", 100, "kB", after=2.0, file=out) as bar:
        for _ in range(3):
            clock.now += 0.5
            bar.advance(30)
    assert out.getvalue() == ""
    with Progress("reading data", 100, "kB", after=2.0, file=out) as bar:
        for _ in range(24):
            clock.now += 0.5
            bar.advance(2)
    lines = out.getvalue().splitlines()
    assert lines[0] == "reading data: 8/100 kB (8%) · 4 kB/s · 23 s left"
    assert len(lines) == 3  # at 2 and at 12 seconds, and the end


def test_nothing_counted_is_no_division() -> None:
    with Progress("x", 0, "steps", file=io.StringIO()) as bar:
        assert bar.rate() == 0.0
        assert bar.seconds_left() is None


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (show_seconds(11.6), "12 s"),
        (show_seconds(187), "3:07"),
        (show_seconds(3723), "1:02:03"),
        (show_rate(120.4), "120"),
        (show_rate(5.25), "5.2"),
        (show_rate(0.183), "0.18"),
        (show_bytes(17_400_000), "17 MB"),
        (show_bytes(1_300_000_000), "1.3 GB"),
    ],
)
def test_figures_are_short(shown: str, expected: str) -> None:
    assert shown == expected
