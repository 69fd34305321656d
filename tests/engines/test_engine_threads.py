"""How many threads an engine answers with: measured, unless somebody said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from livery.engines import threads
from livery.engines.engine import Decoding, Facts, Generation, Prompt

torch = pytest.importorskip("torch")
PROMPTS = [Prompt((), (n,)) for n in range(20)]


class Clock:
    """Seconds that pass when an engine says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = Clock()


class Slow:
    """An engine that two threads get in each other's way in, or that they help."""

    def __init__(self, seconds: dict[int, float], device: str = "cpu", name: str = "torch") -> None:
        self.seconds, self.device, self.name = seconds, device, name
        self.asked: list[tuple[int, ...]] = []

    def facts(self) -> Facts:
        return Facts(self.name, "0", "m", None, self.device, "float32")

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Generation]:
        self.asked.append(tuple(prompt.tokens[0] for prompt in prompts))
        CLOCK.now += self.seconds[torch.get_num_threads()]
        return []


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "physical_cores", lambda: 2)
    monkeypatch.setattr(threads, "time", CLOCK)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("seconds", "best"), [({1: 0.3, 2: 0.9}, 1), ({1: 0.9, 2: 0.3}, 2)])
def test_the_faster_number_is_measured_told_and_kept(seconds: dict[int, float], best: int) -> None:
    engine: Any = Slow(seconds)
    note = threads.settle(engine, PROMPTS)
    assert torch.get_num_threads() == best
    assert f"Computing with {best} thread" in note
    assert "for 8 prompts" in note
    assert "--threads" in note
    assert engine.asked[0] == (0, 2, 5, 7, 10, 12, 15, 17), "from all over"
    assert "for 2 prompts" in threads.settle(engine, PROMPTS[:2])
    assert engine.asked[-1] == (0, 1)


def test_what_is_quick_or_was_said_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    engine: Any = Slow({1: 0.0, 2: 0.0})
    assert threads.settle(engine, PROMPTS) == ""
    assert torch.get_num_threads() == 2
    engine.asked.clear()
    assert threads.settle(engine, PROMPTS, 1) == ""
    assert threads.settle(engine, []) == ""
    for other in (Slow({}, device="cuda:0"), Slow({}, name="http")):
        unmeasured: Any = other
        assert threads.settle(unmeasured, PROMPTS) == ""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads.settle(engine, PROMPTS) == ""
    assert engine.asked == []
