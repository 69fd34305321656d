"""The wordings of pools.txt by section."""

from __future__ import annotations

from pathlib import Path


def read() -> dict[str, list[str]]:
    """Sections of the file beside this one: `[name]`, then one wording a line; `#` is a comment."""
    pools: dict[str, list[str]] = {}
    section: list[str] = []
    for line in Path(__file__).with_suffix(".txt").read_text().splitlines():
        if line.startswith("["):
            section = pools.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            section.append(line)
    return pools


POOLS = read()
