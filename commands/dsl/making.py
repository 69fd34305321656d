"""What the stages of `livery dsl` share: who is asked, Livery's own files, and what is told."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.teacher_options import Asked
from livery.errors import counted, printable, shown
from livery.progress import Progress

if TYPE_CHECKING:
    from datagen.dsl.source import Source
    from datagen.dsl.stored import Done
    from livery.teacher import Plan

PROMPTS_PLACE = Path("data/domain_prompts.jsonl")
CATALOG_PLACE = Path("data/operator_catalog.json")
TEMPLATE_PLACE = Path("data/base_schema_template.json")

_FAULTS = 5  # and notes that are told of a stage


@contextlib.contextmanager
def asking(
    asked: Asked, offline: bool, seed: int, last: str, as_json: bool
) -> Generator[tuple[Source, Callable[[Path], Path]]]:
    """(source, where an artefact is written). For --dry-run the block runs with a source that only
    counts, into a folder that does not stay, and what it would take is printed.

    Args:
        last: the kind of job after which the block asks nothing more.
    """
    if offline and asked.dry_run:
        raise click.UsageError("--dry-run is about a teacher; leave out --offline-fallback.")
    from datagen.dsl.offline import Offline
    from datagen.dsl.planning import Planned, Planning
    from datagen.dsl.teacher import FromTeacher

    if not asked.dry_run:
        records = asked.teacher_records
        yield Offline(seed) if offline else FromTeacher(asked.teacher(), records), lambda out: out
        return
    real = FromTeacher(asked.teacher(), asked.teacher_records, send=False)
    planning = Planning(real, Offline(seed), last)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Planned):
        yield planning, lambda out: Path(folder) / out.name
    _tell_plans(planning.plans, as_json)


def _tell_plans(plans: Sequence[tuple[str, Plan]], as_json: bool) -> None:
    costs = [plan.cost for _, plan in plans]
    total = None if None in costs else sum(cost or 0.0 for cost in costs)
    if as_json:
        stages = [{"stage": name, **plan.as_dict()} for name, plan in plans]
        click.echo(json.dumps({"plans": stages, "cost": total}, indent=2, ensure_ascii=False))
        return
    for name, plan in plans:
        click.echo(printable(f"[{name}]\n{plan.describe()}\n"))
    priced = "" if total is None else f", cost about {total:,.2f}"
    requests = counted(sum(len(plan.missing) for _, plan in plans), "request")
    click.echo(f"{requests} in all{priced}; nothing was sent.")


def shipped(path: Path) -> Path:
    """A file of the user's, or the one that comes with Livery under the described system's path."""
    from datagen.dsl.specs import CATALOG, PROMPTS
    from livery.skills.dsl import TEMPLATE

    ours = {PROMPTS_PLACE: PROMPTS, CATALOG_PLACE: CATALOG, TEMPLATE_PLACE: TEMPLATE}
    return path if path.is_file() else ours.get(path, path)


def fitting(tokenizer: str | None, limit: int) -> Callable[[str, str], str] | None:
    """(prompt, completion) -> why the two are too long together; None where nobody asked."""
    if tokenizer is None:
        return None
    from livery.dataset.conversation import Dropped
    from livery.dataset.load import judge
    from livery.dataset.rows import read_row
    from livery.dataset.template import load_chat

    chat = load_chat(tokenizer)

    def fits(prompt: str, completion: str) -> str:
        row = read_row({"prompt": prompt, "completion": completion}, "row")
        verdict = next(iter(judge([row], chat, max_length=limit)))
        return verdict.reason if isinstance(verdict, Dropped) else ""

    return fits


@contextlib.contextmanager
def showing() -> Any:
    """A `stages.Show` on the terminal."""
    with contextlib.ExitStack() as stack:

        def show(what: str, total: int) -> Callable[[int], None]:
            return stack.enter_context(Progress(what, total, "jobs", after=2.0)).update

        yield show


def tell(done: list[Done], as_json: bool) -> None:
    """What stages did: their artefacts, and what was left out."""
    if as_json:
        stages = [
            {"out": str(d.out), "rows": d.rows, "skipped": d.skipped, "faults": list(d.faults),
             "counts": dict(d.counts or {}), "notes": list(d.notes)}
            for d in done
        ]  # fmt: skip
        click.echo(json.dumps({"stages": stages}, indent=2, ensure_ascii=False))
        return
    for stage in done:
        note = f" ({stage.skipped})" if stage.skipped else ""
        kinds = ", ".join(f"{name} {count}" for name, count in (stage.counts or {}).items())
        said = f": {kinds}" if kinds else ""
        click.echo(f"{shown(stage.out)}  {counted(stage.rows, 'row')}{said}{note}")
        for what, listed in (("left out", stage.faults), ("note", stage.notes)):
            for one in listed[:_FAULTS]:
                click.echo(printable(f"{what}: {one}"), err=True)
            if len(listed) > _FAULTS:
                click.echo(f"... and {len(listed) - _FAULTS:,} more ({what}).", err=True)
