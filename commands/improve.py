"""`livery promote`, `livery data review`, `livery data merge`: from a log to a better adapter."""

from __future__ import annotations

import json
from typing import Any

import click

from commands.eval import TOKENS_EVAL, command_line, prepare, show, tell
from livery.engines.engine import engine_names
from livery.errors import TargetMissed, counted, printable, shown


@click.command(name="promote", short_help="Use a new adapter in place of another, if it is better.")
@click.argument("skill", required=False)
@click.argument("new", required=False)
@click.option("--over", "current", metavar="DIR", help="The adapter in use, which NEW replaces.")
@click.option("--roll-back", metavar="DIR", help="Give this adapter's folder what it had before.")
@click.option("--data", metavar="FILE", help="Your own cases, JSON lines.")
@click.option("--set", "cases", metavar="NAME", default="", help="Which of the skill's sets.")
@click.option(
    "--no-worse", multiple=True, metavar="METRIC",
    help="A metric that must not get worse, beside the skill's safety metrics. May be repeated.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Compare, and replace nothing.")
@click.option(
    "--engine", type=click.Choice([name for name in engine_names() if name != "http"]),
    default="mlx", show_default=True, help="What runs the model.",
)  # fmt: skip
@click.option("--model", metavar="ID_OR_PATH", help="Base model; by default each adapter's own.")
@click.option(
    "--max-tokens", type=int, default=TOKENS_EVAL, show_default=True, help="Longest answer."
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads on a CPU; else measured.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as one JSON object.")
def promote_command(
    skill: str | None,
    new: str | None,
    current: str | None,
    roll_back: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Put the adapter NEW in the place of another one, if it is better at SKILL.

    Both answer the same cases. NEW is better if more of them are right, by McNemar's mid-p below
    0.05, and no safety metric of the skill got worse by a single case. Cases that stand in training
    data do not count. Otherwise nothing is replaced, the figures say why, and the exit code is 3.
    What is replaced is kept beside it (DIR.kept/0001) until you remove it.

    \b
    Examples:
      livery promote persona adapters/persona-2 --over adapters/persona
      livery promote persona adapters/persona-2 --over adapters/persona --set second --dry-run
      livery promote --roll-back adapters/persona
    """
    from eval import promotion, versions
    from eval.evaluate import Request
    from livery.engines.engine import Decoding

    if roll_back is not None:
        if skill or new or current:
            raise click.UsageError("--roll-back takes the folder alone.")
        kept = versions.roll_back(roll_back)
        if as_json:
            click.echo(json.dumps({"rolled_back": roll_back, "kept": str(kept)}))
        else:
            click.echo(f"{shown(roll_back)} is what it was before; the other is in {shown(kept)}.")
        return 0
    if skill is None or new is None or current is None:
        raise click.UsageError("Give SKILL, NEW and --over DIR; or --roll-back DIR.")
    if options["data"] and options["cases"]:
        raise click.UsageError("--data and --set each name the cases: choose one.")
    fresh, place = promotion.places(new, current)
    prepare(options["engine"], options["threads"])
    request = Request(
        skill=skill, engine=options["engine"], model=options["model"], data=options["data"],
        cases=options["cases"], threads=options["threads"], command=command_line(),
        decoding=Decoding(options["max_tokens"]),
    )  # fmt: skip
    verdict = promotion.compare_adapters(
        request, new, current, no_worse=options["no_worse"], show=show, tell=tell
    )
    done = verdict.better and not options["dry_run"]
    kept = versions.put(fresh, place, verdict.as_dict()) if done else None
    if as_json:
        said = {"promoted": done, "kept": kept and str(kept), **verdict.as_dict()}
        click.echo(json.dumps(said, ensure_ascii=False))
    else:
        _print_verdict(verdict)
        why = "; ".join(verdict.reasons)
        if not verdict.better:
            click.echo(printable(f"Not promoted: {why}."), err=True)
        elif done:
            click.echo(printable(f"Promoted: {why}."))
            click.echo(printable(f"{current} is now {new}; what it was before is in {kept}."))
            click.echo(printable(f"To go back: livery promote --roll-back {current}"))
        else:
            click.echo(printable(f"Would be promoted: {why}."))
    return 0 if verdict.better else TargetMissed.exit_code


def _print_verdict(verdict: Any) -> None:
    from livery.skills import CORRECT

    if verdict.leaked:
        click.echo(f"{counted(len(verdict.leaked), 'case')} of the training data left out.")
    for name, one in verdict.metrics.items():
        if one is None or (name != CORRECT.name and not one["difference"]):
            continue
        sure = {None: "within chance", True: "better", False: "worse"}[one["better"]]
        click.echo(
            f"{name:<28} {one['before']:>8.3f} -> {one['after']:<8.3f} "
            f"p = {one['p_value']:.3f}  {sure}"
        )
