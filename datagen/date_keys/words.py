"""Pools of wordings from the text files beside this module.

`[name]` opens a pool, each line after it is an entry, `#` a comment. One in six entries of a pool
is only ever used for validation rows (`said.part`).
"""

from __future__ import annotations

from pathlib import Path


def read_pools(name: str) -> dict[str, tuple[str, ...]]:
    """The pools of one file of this folder."""
    pools: dict[str, list[str]] = {}
    entries: list[str] = []
    for line in (Path(__file__).parent / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("[") and line.endswith("]"):
            entries = pools.setdefault(line[1:-1], [])
        elif line and not line.startswith("#"):
            entries.append(line)
    return {pool: tuple(lines) for pool, lines in pools.items()}


# What {slots} are filled with, and the sentences that hold them.
POOLS = read_pools("words.txt")
FRAMES = read_pools("frames.txt")
