"""What `livery verify` found, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from livery.parity import Parity


@dataclass(frozen=True)
class Run:
    """One runtime's part.

    Attributes:
        artefact: what it loaded.
        converted: it was made for this from another format.
        moved: max |Δlogit| that the adapter makes there; None where it did not run.
        parity: against the reference; None for the reference itself, or where it did not run.
        fault: why it fails; None where it does not.
        seconds: that it took.
    """

    artefact: str
    converted: bool
    moved: float | None = None
    parity: Parity | None = None
    fault: str | None = None
    seconds: float = 0.0


@dataclass
class Verdict:
    """What came out.

    Attributes:
        adapter, base: what was verified.
        reference: the runtime that the others are held against.
        runs: by runtime.
        left_out: runtime -> why it was not run.
        positions: behind how many tokens the logits are compared.
        fault: why the whole fails, where no single runtime does.
    """

    adapter: str
    base: str
    reference: str = ""
    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    positions: tuple[int, ...] = ()
    fault: str | None = None

    @property
    def passed(self) -> bool:
        return self.fault is None and all(run.fault is None for run in self.runs.values())

    def faults(self) -> list[str]:
        """Why it fails, a line each."""
        found = [self.fault] if self.fault else []
        return found + [f"{name}: {run.fault}" for name, run in self.runs.items() if run.fault]

    def as_dict(self) -> dict[str, Any]:
        """For --json; max |Δlogit| under base_difference and difference."""
        runs: dict[str, Any] = {}
        for name, run in self.runs.items():
            found = run.parity
            runs[name] = {
                "artefact": run.artefact,
                "converted": run.converted,
                "moved": run.moved,
                "passed": run.fault is None,
                "fault": run.fault,
                "seconds": round(run.seconds, 2),
            }
            if found is not None:
                numbers = asdict(found)
                runs[name] |= {
                    "base_difference": numbers["base"],
                    "difference": numbers["tuned"],
                    "kl": numbers["kl"],
                    "argmax": numbers["argmax"],
                    "share_of_effect": found.share if np.isfinite(found.share) else None,
                    "tolerance": numbers["tolerance"],
                }
        return {
            "adapter": self.adapter,
            "base": self.base,
            "passed": self.passed,
            "faults": self.faults(),
            "reference": self.reference,
            "positions": list(self.positions),
            "engines": runs,
            "left_out": self.left_out,
        }
