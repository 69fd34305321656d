"""Two evaluations of the same rows beside each other: SFT against DPO, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.dsl.results import RATES
from eval.stats import compare
from livery.errors import UserError

Json = dict[str, Any]


def compare_rows(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Json:
    """{rate: {"before", "after", "gained": [ids], "lost": [ids], "p_value", "of"}}, each of the
    rows that both can be told of.

    Raises:
        UserError: the two are of other rows, or of other judges.
    """
    if [row["prompt_text"] for row in before] != [row["prompt_text"] for row in after]:
        raise UserError("The two evaluations are of different rows, so nothing can be paired.")
    if {row["judge"] for row in before} != {row["judge"] for row in after}:
        raise UserError("The two evaluations have different judges, so nothing can be paired.")
    found: Json = {}
    for name, key in RATES.items():
        pairs = [
            (one, other)
            for one, other in zip(before, after, strict=True)
            if one[key] is not None and other[key] is not None
        ]
        if not pairs:
            continue
        was, now = [bool(one[key]) for one, _ in pairs], [bool(other[key]) for _, other in pairs]
        ids = [one["id"] for one, _ in pairs]
        found[name] = {
            "before": sum(was) / len(was),
            "after": sum(now) / len(now),
            "gained": [i for i, b, a in zip(ids, was, now, strict=True) if a and not b],
            "lost": [i for i, b, a in zip(ids, was, now, strict=True) if b and not a],
            "p_value": compare(was, now).p_value,
            "of": len(was),
        }
    return found


def report(before: Json, after: Json | None, paired: Json | None) -> str:
    """Markdown: rates with intervals, the pairs, and failures by kind."""
    runs = [("SFT", before)] + ([("DPO", after)] if after else [])
    lines = [
        "# dsl student", "",
        f"{before['samples']:,} rows of `{before['dataset']}`, judged by {before['judge']}.", "",
        f"| rate | {' | '.join(name for name, _ in runs)} | gained | lost | p |",
        f"|---|{'---:|' * len(runs)}---:|---:|---:|",
    ]  # fmt: skip
    for name in RATES:
        cells = [_cell(run["intervals"].get(name)) for _, run in runs]
        own = (paired or {}).get(name)
        said = ["", "", ""]
        if own:
            said = [str(len(own["gained"])), str(len(own["lost"])), f"{own['p_value']:.3f}"]
        lines.append(f"| {name} | {' | '.join([*cells, *said])} |")
    for name, run in runs:
        lines += ["", f"## Failures of {name}", ""]
        lines += [f"- {kind}: {count:,}" for kind, count in run["failures"].items()] or ["None."]
        lines += ["", f"Adapter `{run['adapter']}` on {run['model']}; {run['cut_off']:,} cut off."]
    return "\n".join(lines) + "\n"


def _cell(found: Json | None) -> str:
    if found is None:
        return "–"
    low, high = found["interval"]
    return f"{found['rate']:.1%} [{low:.1%}, {high:.1%}]"
