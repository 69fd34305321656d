"""Tests, one folder a room of the house; `tests/architecture.py` draws the house itself."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Seconds after which a process that a test started counts as hanging, on a machine however busy.
PATIENCE = 600
