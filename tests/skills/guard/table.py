"""Labelled commands against the guard: `python -m tests.skills.guard.table [FILE] [--all]`.

A row is {"command", "shell", "level_min", "level_max", "family"}: the levels that are right for it.
Below the range is under-blocking, above it over-blocking; they are counted apart, a family a line.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livery.skills.actions.guard import Level, Risk, classify

OWN = Path(__file__).with_name("shell_cases.jsonl")


@dataclass(frozen=True)
class Case:
    """A command with the levels that are right for it."""

    command: str
    shell: Any
    least: Level
    most: Level
    family: str

    def fault(self, risk: Risk) -> str:
        """under, over, or empty."""
        if risk.level < self.least:
            return "under"
        return "over" if risk.level > self.most else ""


def read_cases(path: Path = OWN) -> list[Case]:
    """The rows of a file."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Case(
            row["command"],
            row["shell"],
            Level.of(row["level_min"]),
            Level.of(row["level_max"]),
            row.get("family", ""),
        )
        for row in rows
    ]


def faults(cases: Iterable[Case]) -> list[tuple[str, Case, Risk]]:
    """What is judged wrongly: (under or over, the case, its risk)."""
    judged = ((case, classify(case.command, case.shell)) for case in cases)
    return [(fault, case, risk) for case, risk in judged if (fault := case.fault(risk))]


def main(arguments: list[str]) -> int:
    paths = [Path(word) for word in arguments if not word.startswith("-")] or [OWN]
    cases = [case for path in paths for case in read_cases(path)]
    began = time.process_time()
    found = faults(cases)
    spent = time.process_time() - began
    total = Counter(case.family for case in cases)
    wrong = Counter((case.family, fault) for fault, case, _ in found)
    print(f"{'family':<24}{'cases':>6}{'under':>7}{'over':>6}")
    for family in sorted(total):
        under, over = wrong[family, "under"], wrong[family, "over"]
        print(f"{family or '-':<24}{total[family]:>6}{under:>7}{over:>6}")
    count = Counter(fault for fault, _, _ in found)
    print(f"{'all':<24}{len(cases):>6}{count['under']:>7}{count['over']:>6}")
    print(f"{1000 * spent / len(cases):.2f} ms of processor time a command")
    for fault, case, risk in found:
        print(f"{fault}: {risk.level} for {case.least}..{case.most}: {case.command!r}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
