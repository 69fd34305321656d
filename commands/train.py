"""`livery train`: settings from file, environment and flags; then the loop."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from livery.config.flags import given_flags, training_flags
from livery.config.layers import Config, resolve
from livery.errors import UserError, shown

_NEWEST = "latest"


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what a command that trains takes beside its settings (see `carry_out`)."""
    for option in reversed((
        click.option(
            "--config", "config_file", metavar="FILE", help="Configuration (mlx_config.yaml)."
        ),
        click.option("--resume", is_flag=True, help="Resume the run in the output folder."),
        click.option(
            "--resume-from-checkpoint", metavar="[DIR]", is_flag=False, flag_value=_NEWEST,
            help="The same as --resume; a folder must be the run's newest checkpoint.",
        ),
        click.option(
            "--resume-anyway", is_flag=True, help="Resume even though data or settings differ."
        ),
        click.option("--overwrite", is_flag=True, help="Start over in a folder that holds a run."),
        click.option(
            "--dry-run", is_flag=True, help="Print settings, plan and memory estimate, and stop."
        ),
        click.option(
            "--verify", is_flag=True,
            help="Run the adapter in every runtime at the end, and compare.",
        ),
        click.option(
            "--json", "as_json", is_flag=True, help="Print one JSON object at the end."
        ),
    )):  # fmt: skip
        function = option(function)
    return function


@click.command(short_help="Train an adapter.")
@click.argument("skill", required=False)
@run_options
@training_flags
def train(skill: str | None, config_file: str | None, **options: Any) -> int:
    """Train an adapter on a folder with train.jsonl and valid.jsonl.

    With a SKILL (a name, or the path of a file of your own) the data is what livery data made of it
    in data/SKILL, and the adapter goes to adapters/SKILL, unless flags say otherwise.

    Settings come from the configuration file, then the environment (LIVERY_…, JARVIS_…), then
    flags; --dry-run shows each with its source. Ctrl-C finishes the step, saves, and prints the
    command that continues the run. --verify runs livery verify on the finished folder.

    \b
    Examples:
      livery train --data data/date-keys --output-dir adapters/date-keys
      livery train --data my/data --output-dir adapters/mine --model ID_OR_PATH --epochs 2
      livery train my_skill.py --max-steps 500
      livery train --config mlx_config.yaml --dry-run
      livery train --resume --output-dir adapters/mine
    """
    check_resume(options)
    config = settings_of(skill, given_flags(options), config_file, options["resume"])
    check_checkpoint(options["resume_from_checkpoint"], config)
    return carry_out(config, options)


def check_resume(options: dict[str, Any]) -> None:
    """Settle whether a run continues. Raises click.UsageError where it would also start over."""
    named = options["resume_from_checkpoint"] is not None
    options["resume"] = options["resume"] or options["resume_anyway"] or named
    if options["overwrite"] and options["resume"]:
        raise click.UsageError(
            "--overwrite starts over and --resume continues: choose one of them."
        )


def check_checkpoint(named: str | None, config: Config) -> None:
    """Raises UserError where a checkpoint is named that the run would not continue from."""
    if named is None or named.lower() in (_NEWEST, "true", "auto"):
        return
    from livery.training import checkpoint

    run, place = Path(config.settings.output_dir), Path(named)
    steps = checkpoint.steps(run)
    newest = checkpoint.folder(run, steps[-1]) if steps else run
    if place.resolve() in (run.resolve(), newest.resolve()):
        return
    ours = re.fullmatch(r"step-\d+", place.name) and place.parent.parent.resolve() == run.resolve()
    raise UserError(
        f"{named}: not the newest checkpoint of {run}"
        + (f", which is {newest}. Move later ones away to go back to it." if ours and steps else
           ". A run continues in its own folder: --resume --output-dir DIR.")
    )  # fmt: skip


def carry_out(config: Config, options: dict[str, Any], command: str = "train") -> int:
    """Train as configured, or say what would be done; returns the exit code.

    Args:
        options: of `run_options`.
        command: that continues the run.
    """
    as_json = options["as_json"]
    if options["dry_run"]:
        from commands.training.dry_run import show

        show(config, as_json=as_json)
        return 0
    from commands.training import session as training
    from commands.training.output import TrainingOutput

    with TrainingOutput() as output:
        result = training.train(
            config,
            training.Request(
                resume=options["resume"],
                resume_anyway=options["resume_anyway"],
                overwrite=options["overwrite"],
                resume_command=training.resume_command(config.settings.output_dir, command),
                callbacks=(output,),
            ),
        )
    facts, passed = dict(result.facts), True
    if not as_json:
        click.echo(f"The adapter is in {shown(config.settings.output_dir)}.")
    if options["verify"]:
        facts["verify"], passed = _verify(config, show=not as_json)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
    return 0 if passed else 1


def _verify(config: Config, *, show: bool) -> tuple[dict[str, Any] | None, bool]:
    """`livery verify` on the folder just written, by the first of several processes."""
    from commands.training.session import first_process

    if not first_process():
        return None, True
    from commands.verify import print_verdict
    from convert.verify.verify import verify

    verdict = verify(config.settings.output_dir, config.settings.model)
    if show:
        print_verdict(verdict)
    return verdict.as_dict(), verdict.passed


def settings_of(skill: str | None, flags: dict[str, Any], file: str | None, resume: bool) -> Config:
    """A run that continues takes the settings it began with, unless a file is named."""
    if skill is None:
        from commands.run import fit_length

        config = fit_length(resolve(flags, file=file), file)
    else:
        config = _of_skill(skill, flags, file)
        flags = {**flags, "output_dir": config.settings.output_dir}
    record = Path(config.settings.output_dir) / "run_config.json"
    if resume and file is None and record.is_file():
        return resolve(flags, recorded=record)
    return config


def _of_skill(skill: str, flags: dict[str, Any], file: str | None) -> Config:
    """The configuration with the skill's own folders.

    Raises:
        UserError: there is no such skill, or its data were not made.
    """
    from commands.run import configure
    from livery.skills import find

    config, own_data = configure(find(skill).name, flags, file)
    data = config.settings.data
    if not own_data and not Path(data).exists():
        raise UserError(f"{data}: not made yet. Make it with: livery data {shown(skill)}")
    return config
