"""Where Livery itself lies, and the one model name that means a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path

# The checkout, or the folder that an installed wheel's packages lie in: base_model/ is in both.
HOME = Path(__file__).resolve().parent.parent
EMBEDDED = "base_model"


def cache_folder() -> Path:
    """Where Livery keeps what it can make again; safe to delete at any time."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "livery"


def find_model(model: str) -> str:
    """`base_model` means the embedded base wherever Livery is called from; else `model` itself."""
    if model.rstrip("/") == EMBEDDED and not Path(model).exists():
        return str(HOME / EMBEDDED)
    return model


def name_model(model: str) -> str:
    """What to call a model in files that outlive this folder.

    The embedded base by its name, another folder by its absolute path, a hub id as it is.
    """
    path = Path(model).expanduser()
    if not path.exists():
        return model
    path = path.resolve()
    return EMBEDDED if path == HOME / EMBEDDED else str(path)
