"""How many threads an engine answers with on a CPU: measured under the load there is, as training's
are (`livery.training.threads`)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from livery.engines.engine import Decoding, Engine, Prompt
from livery.errors import counted
from livery.machine import physical_cores, set_threads

PROMPTS = 8  # that are measured
_TOKENS = 2  # of each answer
_MEASURED = ("mlx", "torch")  # the others compute in processes of their own


def settle(engine: Engine, prompts: Sequence[Prompt], asked: int | None = None) -> str:
    """Choose the number of threads and compute with it from now on.

    Args:
        prompts: that will be answered.
        asked: by --threads, and in force already.

    Returns:
        What to tell the user; "" where it was asked for, there is no choice, or no difference worth
        measuring.
    """
    from livery.training.threads import asked_by_environment, choose  # numpy, which --help skips

    facts = engine.facts()
    if asked or not prompts or facts.engine not in _MEASURED or facts.device != "cpu":
        return ""
    most = physical_cores()
    if most < 2 or asked_by_environment(facts.engine)[0]:
        return ""
    count = min(PROMPTS, len(prompts))
    part = [prompts[i * len(prompts) // count] for i in range(count)]

    def seconds_with(number: int) -> float:
        set_threads(number)
        began = time.perf_counter()
        engine.generate(part, Decoding(max_tokens=_TOKENS))
        return time.perf_counter() - began

    found = choose(most, seconds_with)
    set_threads(found.threads if found else most)
    if found is None:
        return ""
    of = f"for {counted(len(part), 'prompt')}"
    return f"Computing with {found.describe(of)}; --threads sets it."
