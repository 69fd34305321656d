"""Tests, one folder a room of the house; `tests/architecture.py` draws the house itself."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
