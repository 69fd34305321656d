"""The exported file's answers beside those of the trained weights, case by case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval import record
from eval.record import Record


def against_trained(found: Record, folder: Path) -> dict[str, Any] | None:
    """What changed since the evaluation that the folder holds; None where there is none of the same
    cases and weights.

    Returns:
        {"engine", "arms": {arm: {"won": [ids], "lost": [ids], "same_text": n, "total": n}}}
    """
    path = folder / record.NAME
    if not path.is_file():
        return None
    trained = record.read(path)
    mine, theirs = found["facts"]["adapter_sha256"], trained["facts"]["adapter_sha256"]
    if trained["set"]["sha256"] != found["set"]["sha256"] or mine != theirs:
        return None
    before = {case["id"]: case["answers"] for case in trained["cases"]}
    arms: dict[str, Any] = {}
    for name in found["arms"]:
        if name not in trained["arms"]:
            continue
        pairs = [
            (case["id"], before[case["id"]][name], case["answers"][name])
            for case in found["cases"]
            if case["id"] in before
        ]
        arms[name] = {
            "won": [i for i, old, new in pairs if new["correct"] and not old["correct"]],
            "lost": [i for i, old, new in pairs if old["correct"] and not new["correct"]],
            "same_text": sum(old["answer"] == new["answer"] for _, old, new in pairs),
            "total": len(pairs),
        }
    return {"engine": trained["facts"]["engine"], "arms": arms} if arms else None
