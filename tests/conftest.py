"""Shared by all tests: a fast BLAS before MLX is imported, and no network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from livery.blas import use_openblas

use_openblas()
