"""Shared by all tests: a fast BLAS before MLX is imported, and no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Every tiny model is a base never seen before, and measuring one takes two processes.
os.environ.setdefault("LIVERY_CHECK_BASE", "no")
# Encoded rows are kept where a test says so, never in the home of whoever runs the tests.
os.environ.setdefault("LIVERY_CACHE", "off")

from livery.blas import use_openblas

use_openblas()


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a session's tiny models lie, made once."""
    return tmp_path_factory.getbasetemp() / "tiny"
