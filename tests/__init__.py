"""Tests, one folder a room of the house; `tests/architecture.py` draws the house itself."""

import os
import random
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Seconds after which a process that a test started counts as hanging, on a machine however busy.
PATIENCE = 600


def dice() -> random.Random:
    """What a test draws with: the same in every run, or anew (LIVERY_FUZZ, `tests/conftest.py`)."""
    return random.Random(None if "LIVERY_FUZZ" in os.environ else 0)
