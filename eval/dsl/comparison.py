"""Two evaluations of the same rows beside each other: SFT against DPO, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.dsl.results import RATES
from eval.report.markdown import code
from eval.stats import compare
from livery import outputs
from livery.errors import UserError
from livery.files import read_jsonl
from livery.paths import DSL_SUMMARY
from livery.reading import read_object

Json = dict[str, Any]

HEADING = "# dsl student"
EXAMPLES = 3  # of each kind of failure
LONGEST = 300  # characters of an example's text


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
        changed = compare(was, now)
        found[name] = {
            "before": sum(was) / len(was),
            "after": sum(now) / len(now),
            "gained": [ids[at] for at in changed.gained],
            "lost": [ids[at] for at in changed.lost],
            "p_value": changed.p_value,
            "of": len(was),
        }
    return found


@dataclass(frozen=True)
class Evaluation:
    """What `livery dsl evaluate` wrote of one student.

    Attributes:
        name: of its column: base, SFT, DPO.
        summary: evaluation_summary.json.
        rows: evaluation_results.jsonl.
    """

    name: str
    summary: Json
    rows: Sequence[Mapping[str, Any]]


_SUMMARY = ("adapter", "cut_off", "dataset", "failures", "intervals", "judge", "model", "samples")
_ROW = ("failure", "parse_error", "query", "raw_output", "schema_error", "target_canonical")


def read_evaluation(name: str, results: Path, summary: Path | None = None) -> Evaluation:
    """What `livery dsl evaluate` wrote; the summary is beside the results unless it is named.

    Raises:
        UserError: a file is not there, or not of such an evaluation.
    """
    rows: list[Json] = []
    for line, row in read_jsonl(results):
        _check(f"{results}:{line}", row, _ROW)
        rows.append(row)
    place = summary or results.with_name(DSL_SUMMARY)
    found = read_object(place)
    _check(place, found, _SUMMARY)
    return Evaluation(name, found, rows)


def _check(where: object, found: Mapping[str, Any], needed: Sequence[str]) -> None:
    if missing := [key for key in needed if key not in found]:
        raise UserError(f"{where}: no {missing[0]}; it is not of a dsl evaluation.")


def report(runs: Sequence[Evaluation], paired: Json | None = None) -> str:
    """Markdown: rates with intervals, the pairs, and failures by kind with examples.

    Args:
        runs: in the order of their columns; all of the same rows and judge.
        paired: the last of them against the one before it (see `compare_rows`).
    """
    names = [run.name for run in runs]
    first = runs[0].summary
    lines = [
        HEADING, "",
        f"{first['samples']:,} rows of `{first['dataset']}`, judged by {first['judge']}.", "",
    ]  # fmt: skip
    if paired:
        lines += [f"Gained, lost and p: {names[-1]} against {names[-2]}, row by row.", ""]
    lines += [
        f"| rate | {' | '.join(names)} | gained | lost | p |",
        f"|---|{'---:|' * len(runs)}---:|---:|---:|",
    ]
    for name in RATES:
        cells = [_cell(run.summary["intervals"].get(name)) for run in runs]
        own = (paired or {}).get(name)
        said = ["", "", ""]
        if own:
            said = [str(len(own["gained"])), str(len(own["lost"])), f"{own['p_value']:.3f}"]
        lines.append(f"| {name} | {' | '.join([*cells, *said])} |")
    for run in runs:
        lines += ["", f"## Failures of {run.name}", "", *_failures(run)]
        who = f"Adapter `{run.summary['adapter']}` on" if run.summary["adapter"] else "Base"
        lines += ["", f"{who} {run.summary['model']}; {run.summary['cut_off']:,} cut off."]
    return "\n".join(lines) + "\n"


def is_ours(place: Path) -> bool:
    """Whether a file is such a report."""
    with place.open("rb") as file:
        return file.readline(200).strip() == HEADING.encode()


def check_report(place: Path) -> None:
    """Raises UserError where a report may not be written: something else is there."""
    what = "such a report of Livery's"
    outputs.check_file(place, overwrite=True, ours=is_ours, what=what)


def _failures(run: Evaluation) -> list[str]:
    """The kinds with their counts, each with its first rows: the query, and what came."""
    lines: list[str] = []
    for kind, count in run.summary["failures"].items():
        lines.append(f"- {kind}: {count:,}")
        for row in [row for row in run.rows if row["failure"] == kind][:EXAMPLES]:
            why = row["parse_error"] or row["schema_error"]
            lines.append(f"    - {_short(row['query'])} → {_short(row['raw_output'])}")
            lines += [f"      {_short(str(why))}"] if why else []
            lines += [f"      wanted {_short(row['target_canonical'])}"] if not why else []
    return lines or ["None."]


def _short(text: str) -> str:
    """A text of any length and any signs as inline code."""
    text = " ".join(text.split())
    return code(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def _cell(found: Json | None) -> str:
    if found is None:
        return "–"
    low, high = found["interval"]
    return f"{found['rate']:.1%} [{low:.1%}, {high:.1%}]"
