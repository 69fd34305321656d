"""`livery train --dry-run`: every setting with its source, the plan, and a memory estimate."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click

from commands.training import backends
from commands.training.data import describe_dropped, load_data
from commands.training.output import describe_work
from commands.training.session import fit_to_base
from livery.config.layers import Config
from livery.errors import printable
from livery.training import trackers
from livery.training.plan import Plan, Work, work


def show(config: Config, *, as_json: bool) -> None:
    """Print what a run would do.

    Raises:
        UserError: the data or the model is missing or wrong; the settings are printed before that.
    """
    if not as_json:
        print_settings(config)
    settings, substitutions = backends.choose(config.settings)
    trackers.check(settings.report_to)
    data = load_data(settings)
    settings, fitted = fit_to_base(config, settings, data)
    plan = Plan.of(data.train.examples, settings)
    epoch = work(plan)
    steps = settings.max_steps or plan.total_steps(settings.epochs)
    notes = [
        *substitutions,
        *filter(None, [fitted]),
        *describe_dropped(data, paired=settings.paired),
    ]
    ahead = backends.forecast(settings, plan.examples)
    if as_json:
        need = ahead.need() if ahead.known else None
        available = ahead.device.free
        needed = need and {**need.parts(), "total": need.total, "available": available}
        click.echo(
            json.dumps({**_as_json(config, epoch, steps, notes), "memory": needed}, indent=2)
        )
        return
    for note in notes:
        print(printable(f"note: {note}"), file=sys.stderr)
    click.echo(f"\nbackend      {settings.backend}")
    click.echo(f"plan         {describe_work(epoch, steps, paired=settings.paired)}")
    click.echo(f"shapes       {epoch.shapes} distinct micro-batches")
    for number, line in enumerate(ahead.describe()):
        click.echo(f"{'' if number else 'memory':<12} {line}")


def print_settings(config: Config) -> None:
    """A table of key, value and source, then what is not honoured."""
    rows = [(name, _show(name, v.value), v.source) for name, v in sorted(config.values.items())]
    widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
    for name, value, source in rows:
        click.echo(printable(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}"))
    for note in config.notes:
        print(printable(f"note: {note}"), file=sys.stderr)


def _as_json(config: Config, epoch: Work, steps: int, notes: list[str]) -> dict[str, Any]:
    return {
        "settings": {name: value.value for name, value in config.values.items()},
        "sources": {name: value.source for name, value in config.values.items()},
        "notes": [*config.notes, *notes],
        "plan": {"total_steps": steps, **dataclasses.asdict(epoch)},
    }


def _show(name: str, value: Any) -> str:
    if value in (None, ""):
        return "-"
    if isinstance(value, tuple):
        return ",".join(value) or ("(all linear layers)" if name == "lora.targets" else "-")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
