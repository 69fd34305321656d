"""What `livery verify` found, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from livery.engines.parity import Parity


@dataclass(frozen=True)
class Run:
    """One runtime's part.

    Attributes:
        artefact: what it loaded.
        converted: it was made for this from another format.
        moved: max |Δlogit| that the adapter makes there; None where it did not run.
        base: max |Δlogit| of the base alone, against the reference; None for the reference itself,
            or where the base did not run.
        parity: against the reference; None for the reference itself, or where it did not run.
        fault: why it fails; None where it does not.
        seconds: that it took.
    """

    artefact: str
    converted: bool
    moved: float | None = None
    base: float | None = None
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
        base_reference: the runtime that the bases are held against.
        base_tolerance: that the bases must stay within, without an adapter.
        fault: why the whole fails, where no single runtime does.
    """

    adapter: str
    base: str
    reference: str = ""
    runs: dict[str, Run] = field(default_factory=dict[str, Run])
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    positions: tuple[int, ...] = ()
    base_reference: str = ""
    base_tolerance: float = float("inf")
    fault: str | None = None

    @property
    def other_bases(self) -> list[str]:
        """Runtimes whose base is another model than the reference's, whatever the adapter does."""
        return [n for n, run in self.runs.items() if (run.base or 0.0) > self.base_tolerance]

    @property
    def passed(self) -> bool:
        faults = [run.fault for run in self.runs.values()]
        return self.fault is None and not any(faults) and not self.other_bases

    def faults(self) -> list[str]:
        """Why it fails, a line each."""
        found = [
            f"{name}: it is the base that differs, not the adapter: without one it computes "
            f"something else than {self.base_reference}, by {self.runs[name].base:.1e} (allowed "
            f"{self.base_tolerance:.0e}). Its result for the adapter means nothing."
            for name in self.other_bases
        ]
        found += [self.fault] if self.fault else []
        return found + [
            f"{name}: {run.fault}"
            for name, run in self.runs.items()
            if run.fault and name not in self.other_bases
        ]

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
                "base_difference": run.base,
                "seconds": round(run.seconds, 2),
            }
            if found is not None:
                numbers = asdict(found)
                runs[name] |= {
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
            "bases_agree": not self.other_bases,
            "faults": self.faults(),
            "reference": self.reference,
            "positions": list(self.positions),
            "engines": runs,
            "left_out": self.left_out,
        }
