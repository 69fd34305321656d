"""What `livery eval` prints."""

from __future__ import annotations

from typing import Any

import click

from eval.record import Record
from eval.report import words
from livery.errors import shown

SHOWN = 10
LONGEST = 160  # characters of a text in a list of cases; the reports have all of it


def print_record(record: Record) -> None:
    """Print scores by category, comparisons, leaks and the first failures."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    arms: dict[str, Any] = record["arms"]
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(words.set_title(record))
    table.add_column("cases", justify="right")
    for key in arms:
        table.add_column(key.replace("_", "\n"), justify="right")
    headline = arms[record["headline"]]
    for name, share in headline["categories"].items():
        cells = [words.percent(arm["categories"][name]["accuracy"]) for arm in arms.values()]
        table.add_row(name.replace("_", " "), str(share["total"]), *cells)
    table.add_row()
    table.add_row(
        "all",
        str(headline["total"]),
        *(words.percent(arm["accuracy"]) for arm in arms.values()),
        style="bold",
    )
    table.add_row("95 % interval", "", *(words.interval(arm) for arm in arms.values()))
    console.print(table)
    _print_metrics(record, console)
    click.echo()
    for said in words.changes(record):
        click.echo(said)
    for said in words.trained(record):
        click.echo(said)
    if said := words.constant(record):
        click.echo(said)
    if said := words.taught(record):
        click.echo(said)
    click.echo(words.leaks(record))
    if said := words.neutral(record):
        click.echo(said)
    if said := words.texts(record):
        click.echo(said)
    for said in words.judge(record):
        click.echo(said)
    click.echo(f"Speed, {words.arm_title(record['headline'])}: {'; '.join(words.speed(headline))}")
    _print_cases("Regressions", [(case, arm) for case, _, arm in words.regressions(record)])
    failed = words.failures(record, record["headline"])
    _print_cases("Failures", [(case, record["headline"]) for case in failed])


def _print_metrics(record: Record, console: Any) -> None:
    """The metrics beside the headline's, one a row: figure and interval of each arm."""
    from rich.table import Table

    metrics, arms = words.measured(record), record["arms"]
    if not metrics:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("metric, 95 % interval")
    table.add_column("cases", justify="right")
    for key in arms:
        table.add_column(key.replace("_", "\n"), justify="right")
    for metric in metrics:
        total, cells = words.cells(metric, arms)
        table.add_row(words.metric_name(metric), str(total), *map("\n".join, cells))
    console.print()
    console.print(table)
    if said := words.lacking(record):
        click.echo(f"\n{said}")


def _line(text: str) -> str:
    """A text of the model's or the data's on one line: no control character acts on the terminal,
    and an answer that runs on does not push the rest off the screen."""
    return shown(text.replace("\r", "").replace("\n", "⏎"), LONGEST)


def _print_cases(title: str, found: list[tuple[dict[str, Any], str]]) -> None:
    if not found:
        return
    click.echo(f"\n{title}: {len(found)}")
    for case, arm in found[:SHOWN]:
        answer = case["answers"][arm]
        click.echo(f"  {_line(case['text'])}\n    expected {_line(case['expected_text'])}")
        click.echo(f"    got      {_line(answer['answer'])}   ({_line(answer['error'])})")
    if len(found) > SHOWN:
        click.echo(f"  and {len(found) - SHOWN} more: see the report.")
