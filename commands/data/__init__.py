"""`livery data`: make a skill's data, and check data of any origin."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from pathlib import Path
from typing import Any

import click

from commands.data.replay import replay_command
from commands.improve import merge_command, review_command
from commands.options import ROWS
from livery import skills
from livery.config.flags import given_flags, option_flags
from livery.errors import counted, printable, shown

_SHOWN = 20
_WEIGHTS = ("adapters.safetensors", "adapter_model.safetensors")


class DataGroup(click.Group):
    """`check`, and a command for every skill: those that ship, those of packages, any path."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_skills(), *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or _skill_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        foreign = dict(skills.packages())
        lines = [
            (name, f"Of the package {foreign[name]}.") if name in foreign
            else (name, skills.get_skill(name).summary)
            for name in _skills()
        ]  # fmt: skip
        lines.append(("my_skill.py", "A skill of your own, by its path (docs/your-own-skill.md)."))
        with formatter.section("Skills"):
            formatter.write_dl(lines)
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, c.get_short_help_str(80)) for name, c in self.commands.items()]
            )


def _skills() -> list[str]:
    """Skills whose data can be made; of one in a package only importing it would tell."""
    from datagen.make import has_generator

    foreign = {name for name, _ in skills.packages()}
    return [name for name in skills.skill_names() if name in foreign or has_generator(name)]


@click.group(
    cls=DataGroup,
    short_help="Make a skill's data, or check data you have.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="SKILL|check|review|merge|replay [OPTIONS] [ARGS]...",
)
def data() -> None:
    """Make a skill's training data, or check data you have.

    \b
    Examples:
      livery data date-keys --out data/date-keys --seed 7
      livery data my_skill.py
      livery data check data/date-keys --model base_model
      livery data review interactions.jsonl --skill persona
      livery data replay data/persona --model smollm2-135m --out data/persona-kept
    """


def _skill_command(name: str) -> click.Command:
    """`livery data NAME`; raises UserError where there is no such skill or generator."""
    from datagen.make import get_generator, takes_rows

    skill, generator = skills.find(name).name, get_generator(name)
    own = name.endswith(".py")
    title = "a skill of your own" if own else f"the skill {skill}"

    @click.command(
        name,
        short_help=skills.get_skill(name).summary,
        help=textwrap.dedent(
            f"""Make the data of {title}.

            train.jsonl and valid.jsonl are generated from wordings that they do not share;
            handwritten cases become test.jsonl, if the skill has any. The command stops if a case
            occurs in two splits.

            \b
            Examples:
              livery data {name} --out data/{skill} --seed 7
              livery data {name} --out data/more --seed 8 --count 12000
            """
        ),
    )
    @click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=Path(f"data/{skill}"),
        show_default=True,
        help="Folder to write train, valid and test.jsonl and manifest.json into.",
    )
    @click.option("--seed", type=int, default=7, show_default=True, help="Same seed, same bytes.")
    @click.option(
        "--count",
        type=ROWS,
        help=f"Training rows.  [default: {generator.TRAIN_ROWS}]",
    )
    @click.option(
        "--overwrite", is_flag=True, help="Replace rows that were changed since they were made."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
    def command(
        out: Path,
        seed: int,
        count: int | None,
        overwrite: bool,
        as_json: bool,
        rows: Path | None = None,
    ) -> int:
        from datagen.make import make_data

        if rows is not None and count is not None:
            raise click.UsageError(
                "--rows takes the rows of a file, --count makes some: choose one."
            )
        manifest = make_data(name, out, seed, count, rows=rows, overwrite=overwrite)
        if as_json:
            click.echo(json.dumps({"out": str(out), **manifest}, indent=2))
            return 0
        for split, facts in manifest["splits"].items():
            categories = ", ".join(f"{shown(c)} {n}" for c, n in facts["categories"].items())
            click.echo(f"{shown(out / split)}.jsonl  {counted(facts['rows'], 'row')}: {categories}")
        click.echo(
            f"{shown(out / 'manifest.json')}  seed {seed}; no case appears in another split."
        )
        return 0

    if takes_rows(name):
        command = click.option(
            "--rows",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help=f"Your own rows, JSON lines, in place of generated ones (docs/{skill}.md).",
        )(command)
    describe = skills.get_skill(name).vocabulary
    if describe is None:
        return command

    def print_vocabulary(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
        if asked:
            trained = any((Path("adapters", skill) / file).is_file() for file in _WEIGHTS)
            click.echo(json.dumps(describe(trained), indent=2))
            ctx.exit()

    return click.option(
        "--vocabulary",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=print_vocabulary,
        help=f"Print the answers' vocabulary as JSON, and whether adapters/{skill} is trained.",
    )(command)


data.add_command(review_command)
data.add_command(merge_command)
data.add_command(replay_command)


@data.command("check", short_help="Check data before training on it.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--model", default=None, help="Folder or id of a model: count tokens with it.")
@click.option("--config", "config_file", metavar="FILE", help="Configuration (mlx_config.yaml).")
@option_flags(
    "max_length", "mask_prompt", "chat_template", "chat_template_kwargs", "template_date",
    "columns", "train_on", "strict",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check_command(
    path: Path, model: str | None, config_file: str | None, as_json: bool, **flags: Any
) -> int:
    """Check rows, repeats, contradictions, leaks between splits, and, with --model, lengths.

    PATH is what --data of livery train takes: a folder, a file of rows, a zip, a data set of the
    hub. Settings come from the configuration file, the environment and flags, as in livery train,
    so that both take, drop and refuse the same rows.

    Exits 1 when training would refuse the data, or something would make it or its scores wrong;
    rows that are left out and other warnings exit 0, with --strict rows left out exit 1.

    \b
    Examples:
      livery data check data/date-keys
      livery data check my/rows.jsonl --model base_model --max-length 512 --json
      livery data check my/rows.csv --columns prompt=question,completion=answer
    """
    from datagen.check import check
    from livery.config.layers import resolve

    config = resolve(given_flags(flags), file=config_file)
    settings = config.settings
    found = check(path, settings, model=model, strict=settings.strict)
    if as_json:
        click.echo(json.dumps({"ok": found.ok, **dataclasses.asdict(found)}, indent=2))
        return 0 if found.ok else 1
    for name, rows in found.rows.items():
        line = f"{name}: {counted(rows, 'row')}"
        if lengths := found.lengths.get(name):
            line += (
                f"; {lengths.shortest} to {lengths.longest} tokens, half of them up to "
                f"{lengths.median}; {lengths.supervised} supervised"
            )
        if dropped := found.dropped[name]:
            line += f"; {dropped:,} left out"
        click.echo(line)
    if found.lengths:
        limit = config.values["max_length"]
        click.echo(f"max_length: {limit.value} ({limit.source})")
    for note in found.notes:
        click.echo(printable(f"note: {note}"), err=True)
    for problem in found.problems[:_SHOWN]:
        label = "error" if problem.serious else "warning"
        click.echo(printable(f"{label}: {problem.where}: {problem.message}"), err=True)
    if len(found.problems) > _SHOWN:
        more = len(found.problems) - _SHOWN
        click.echo(f"... and {more} more; --json lists all of them.", err=True)
    serious = sum(problem.serious for problem in found.problems)
    click.echo(f"{counted(serious, 'error')}, {counted(len(found.problems) - serious, 'warning')}.")
    return 0 if found.ok else 1
