"""Where Livery itself lies, and where it keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

# The checkout, or the folder that an installed wheel's packages lie in: base_model/ is in both.
HOME = Path(__file__).resolve().parent.parent


def cache_folder() -> Path:
    """Where Livery keeps what it can make again; safe to delete at any time."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "livery"
