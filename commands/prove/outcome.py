"""What a check says, and how it says that it does not apply."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["proven", "failed", "skipped"]
# How near the forecast of memory is, as docs/configuration.md says.
_NEAR = 0.25


@dataclass(frozen=True)
class Outcome:
    """Attributes:
    verdict: of the check.
    said: what was seen, or why not, for people.
    figures: what was measured, by name.
    """

    verdict: Verdict
    said: str
    figures: dict[str, float] = field(default_factory=dict[str, float])

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Skip(Exception):
    """The check does not apply here; its text says why."""


def need(*packages: str) -> None:
    """Raises Skip where a package is not installed, by name."""
    lacking = [name for name in packages if importlib.util.find_spec(name) is None]
    if lacking:
        verb = "is" if len(lacking) == 1 else "are"
        raise Skip(f"{', '.join(lacking)} {verb} not installed")


def judged(holds: bool, said: str, **figures: float) -> Outcome:
    """Proven where it `holds`, else failed."""
    rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
    return Outcome("proven" if holds else "failed", said, rounded)


def foretold(wanted: int, peak: int) -> Outcome:
    """Whether the memory that was foretold is near the peak that was measured, both in bytes."""
    off = wanted / peak - 1
    said = (
        f"foretold {wanted / 1e6:.0f} MB, the peak was {peak / 1e6:.0f} MB ({off:+.0%}, allowed "
        f"{_NEAR:.0%})"
    )
    return judged(abs(off) <= _NEAR, said, foretold_mb=wanted / 1e6, peak_mb=peak / 1e6)
