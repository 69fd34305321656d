"""Livery fits one base model with small LoRA adapters, and moves them between runtimes.

    from livery import LoraSettings, TrainSettings, train

    train(TrainSettings(data="data/date-keys", output_dir="adapters/mine", max_steps=200))

docs/python.md has all that a program may call.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

__version__ = "0.1.0"

# What a program imports from here, and the module that has it; `__init__.pyi` tells type checkers.
# As in `livery/cli.py`, what is above is named and not imported, and nothing is loaded before
# somebody asks for it.
_PUBLIC = {
    "LoraSettings": "livery.config.settings",
    "TrainSettings": "livery.config.settings",
    "UserError": "livery.errors",
    "train": "commands.training.api",
}


class _BeforeImport:
    """What is done before a library is imported, whoever imports it and in whatever order: MLX on
    Linux finds OpenBLAS (see `livery.blas`), and transformers is kept from a warning."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name == "mlx.core" and sys.platform == "linux":
            importlib.import_module("livery.blas").use_openblas()
        elif name == "transformers":
            importlib.import_module("logging").getLogger(name).addFilter(_is_news)


def _is_news(record: Any) -> bool:
    """Without torch, transformers warns everybody that it has no models. Livery reads tokenizers
    with it, and says itself when something needs torch."""
    return not str(record.msg).startswith("PyTorch was not found")


sys.meta_path.insert(0, _BeforeImport())


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
