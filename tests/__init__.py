"""Tests, one folder a room of the house; `tests/architecture.py` draws the house itself."""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Seconds after which a process that a test started counts as hanging, on a machine however busy.
PATIENCE = 600


def takes_less(seconds: float, call: Callable[[], object], tries: int = 3) -> bool:
    """Whether a call takes less processor time, at its best: what a machine that stood still
    meanwhile charges for one call says nothing of the call."""

    def once() -> bool:
        began = time.process_time()
        call()
        return time.process_time() - began < seconds

    return any(once() for _ in range(tries))


def dice() -> random.Random:
    """What a test draws with: the same in every run, or anew (LIVERY_FUZZ, `tests/conftest.py`)."""
    return random.Random(None if "LIVERY_FUZZ" in os.environ else 0)
