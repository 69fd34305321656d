"""What the system says of this process's memory, against memory that is really taken."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import ROOT

pytest.importorskip("resource")

CHILD = """
import sys
from livery.resident import peak_resident
before = peak_resident()
held = bytearray(b"x") * (200 << 20)
del held
print(before, peak_resident())
"""


@pytest.mark.slow
def test_the_peak_stays_and_is_of_this_program_alone() -> None:
    """A child of a large process does not begin with its parent's peak."""
    ballast = bytearray(b"x") * (300 << 20)
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, cwd=ROOT
    )
    del ballast
    before, after = map(int, done.stdout.split())
    assert after - before > 190 << 20
    if sys.platform == "linux":
        assert 1 << 20 < before < 200 << 20
