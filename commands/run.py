"""`livery run`: a skill's data, training, evaluation and report; what is done is skipped."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from commands import default_base
from commands.default_base import ENOUGH_ROWS
from commands.eval import Target
from livery.config.flags import given_flags, training_flags
from livery.config.layers import Config, Value, resolve
from livery.config.settings import TrainSettings
from livery.errors import TargetMissed, counted, printable
from livery.machine import gpu_of, has_gpu
from livery.models import EMBEDDED, is_embedded, name_model
from livery.progress import show_seconds
from livery.reading import read_object

TARGET = 0.95
# With one of these, `livery run dsl` is `livery dsl run`.
_PIPELINE = {"--with-training", "--with-evals", "--with-alignment"}


class _Run(click.Command):
    """Hands a call over to `livery dsl run` where its words are that command's."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        if _PIPELINE & set(args):
            from commands.dsl.run import run_command

            loose = {"ignore_unknown_options": True, "allow_extra_args": True}
            with run_command.make_context(
                info_name, list(args), parent, resilient_parsing=True, **loose
            ) as read:
                words = [word for word in read.args if not word.startswith("-")]
            if words[:1] == ["dsl"]:
                rest = list(args)
                rest.remove("dsl")
                return run_command.make_context(f"{info_name} dsl", rest, parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=_Run, short_help="Data, training, evaluation and report in one go.")
@click.argument("skill", default="date-keys")
@click.option("--config", "config_file", metavar="FILE", help="Configuration (mlx_config.yaml).")
@click.option(
    "--fresh", "--overwrite", is_flag=True, help="Start over: skip no stage, replace what is there."
)
@click.option(
    "--target",
    "targets",
    type=Target(),
    multiple=True,
    metavar="[METRIC=]VALUE",
    help="Share of cases that must be right, or the value that another metric must reach; below it "
    f"the exit code is 3. May be repeated.  [default: {TARGET}]",
)
@click.option(
    "--data-seed", type=int, default=7, show_default=True, help="Seed of the data generator."
)
@click.option(
    "--neutral/--no-neutral",
    default=True,
    show_default=True,
    help="Also ask base and adapter ten prompts unrelated to the skill, and compare; for persona "
    "also the perplexity of 200 plain texts.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@training_flags
def run(
    skill: str,
    config_file: str | None,
    fresh: bool,
    targets: tuple[tuple[str, float], ...],
    data_seed: int,
    neutral: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Make SKILL's data, train an adapter, evaluate it beside its base, and write the report.

    Without a SKILL it is date-keys. A stage whose result exists, made from the same bytes, is
    skipped; an interrupted run continues where it stopped when you give the same command again.
    With --data it trains on your own rows and generates none. Without --model the base is the
    embedded one on a CPU, and smollm2-135m on a GPU if it is here or can be fetched. The embedded
    one was made for date-keys: for the other skills, name a real one.

    With the flags of the last example livery run dsl is livery dsl run, and has its options.

    \b
    Examples:
      livery run date-keys
      livery run date-keys --model mlx-community/gemma-3-270m-it-bf16 --output-dir adapters/gemma
      livery run date-keys --max-steps 200 --fresh
      livery run actions --model smollm2-135m --target 0.9 --target critical_tag=0
      livery run dsl --offline-fallback --with-training --with-evals --with-alignment
    """
    from commands.training.session import holding
    from eval.evaluate import check_targets
    from eval.scorers import get_scorer
    from livery.skills import CORRECT, PARSED, find

    found = find(skill)
    wanted = dict(targets) or {CORRECT.name: TARGET}
    check_targets(wanted, (CORRECT, PARSED, *get_scorer(skill).METRICS))
    config, own_data, note = configure_base(
        found.name, given_flags(flags), config_file, gpu_for, fresh=fresh
    )
    for said in (note, default_base.caution(found.name, config.settings.model)):
        if said:
            click.echo(printable(f"note: {said}"), err=True)
    summary = _Summary(found.name, config, own_data=own_data, as_json=as_json)
    with holding(Path(config.settings.output_dir)):
        _stages(
            summary,
            skill,
            config,
            own_data=own_data,
            fresh=fresh,
            targets=wanted,
            data_seed=data_seed,
            neutral=neutral,
        )
    if as_json:
        click.echo(json.dumps(summary.as_dict(), indent=2))
    else:
        click.echo("\n" + summary.text())
    if summary.record["passed"]:
        return 0
    from eval.report import words

    click.echo(f"Target missed: {words.missed(summary.record)}.", err=True)
    return TargetMissed.exit_code


def _longest(skill: str) -> int:
    """Tokens that the skill's own rows take; the embedded base's configuration has fewer."""
    from livery.skills import get_skill, skill_names

    return get_skill(skill).max_length if skill in skill_names() else 0


def fit_length(config: Config, file: str | None) -> Config:
    """The configuration with a max_length for the rows of the skill that the data folder says it
    holds, where nobody chose one."""
    manifest = Path(config.settings.data) / "manifest.json"
    if is_chosen(config, "max_length", file) or not manifest.is_file():
        return config
    skill = str(read_object(manifest).get("skill", ""))
    longest, now = _longest(skill), config.values["max_length"]
    if longest <= config.settings.max_length:
        return config
    note = (
        f"{manifest.parent}: rows of the skill {skill} take up to {longest:,} tokens: max_length "
        f"is {longest:,} and not {now.value:,} ({now.source}); --max-length sets another."
    )
    fitted = config.with_values({"max_length": Value(longest, f"the skill {skill}")})
    return dataclasses.replace(fitted, notes=(*config.notes, note))


def configure(skill: str, flags: dict[str, Any], file: str | None) -> tuple[Config, bool]:
    """The run's configuration, and whether its data is the user's own.

    data/SKILL and adapters/SKILL apply unless a flag, a variable or a named file says otherwise; a
    base that knows a language learns from the first rows of what is generated.
    """
    config = resolve(flags, file=file)

    def chosen(name: str) -> bool:
        return is_chosen(config, name, file)

    own_data = chosen("data") and Path(config.settings.data) != Path(f"data/{skill}")
    defaults: dict[str, Any] = {"data": f"data/{skill}", "output_dir": f"adapters/{skill}"}
    if not own_data and not is_embedded(config.settings.model):
        said = ("max_samples", "max_steps", "epochs")
        if all(config.values[name].source == "default" for name in said):
            defaults["max_samples"] = ENOUGH_ROWS
    if not own_data and config.settings.max_length < (longest := _longest(skill)):
        defaults["max_length"] = longest
    named = {name: value for name, value in defaults.items() if not chosen(name)}
    config = resolve({**flags, **named}, file=file)
    return fit_length(config, file) if own_data else config, own_data


def configure_base(
    skill: str,
    flags: dict[str, Any],
    file: str | None,
    gpu: Callable[[TrainSettings], str],
    *,
    fresh: bool = False,
) -> tuple[Config, bool, str]:
    """`configure`, with the base that suits the machine where nobody named one; and what to say of
    it.

    Args:
        gpu: names the GPU that a run with these settings trains on; "" for none.
    """
    config, own_data = configure(skill, flags, file)
    if is_chosen(config, "model", file):
        return config, own_data, ""
    folder = Path(config.settings.output_dir)
    before = None if fresh else default_base.recorded_model(folder)
    choice = default_base.choose(gpu(config.settings), before)
    if choice.model is not None:
        config, own_data = configure(skill, {**flags, "model": choice.model}, file)
    return config, own_data, choice.note


def is_chosen(config: Config, name: str, file: str | None) -> bool:
    """Whether somebody chose this setting for the run: not a default, and not the line of a
    configuration file that happens to be here."""
    source = config.values[name].source
    return source.startswith(("flag", "environment")) or (file is not None and source != "default")


def gpu_for(settings: TrainSettings) -> str:
    """The GPU that a run with these settings trains on; "" for none."""
    from commands.training import backends

    if settings.device == "cpu" or not has_gpu():
        return ""
    return gpu_of(backends.choose(settings)[0].backend)


def _stages(
    summary: _Summary,
    skill: str,
    config: Config,
    *,
    own_data: bool,
    fresh: bool,
    targets: Mapping[str, float],
    data_seed: int,
    neutral: bool,
) -> None:
    from commands import stages
    from commands.training import backends
    from datagen.make import data_is_made
    from eval.record import with_targets
    from eval.scorers import find_set

    settings, _ = backends.choose(config.settings)
    data, folder = Path(settings.data), Path(settings.output_dir)

    with summary.stage("data") as stage:
        if own_data:
            stage.skip("your own")
        elif not fresh and data_is_made(skill, data, data_seed):
            stage.skip("made before")
        else:
            stages.make_data(data, skill, data_seed)
        stage.result = f"{data}: {stages.describe_data(data, settings)}"
    find_set(skill, data=data)  # no cases to evaluate with: told before training, not after

    with summary.stage("training") as stage:
        if not fresh and stages.training_is_done(settings):
            stage.skip("trained before")
        else:
            stages.train(config, fresh=fresh, resume_command="give the same command again.")
        facts = read_object(folder / "training_metadata.json")
        loss = facts["eval_loss"]
        stage.result = f"{folder}: {counted(facts['steps'], 'step')}" + (
            f", eval_loss {loss:.4f}" if loss is not None else ""
        )

    with summary.stage("evaluation") as stage:
        stored = None if fresh else stages.stored_evaluation(skill, folder, settings.data)
        if stored is not None:
            stage.skip("evaluated before")
        summary.record = (
            with_targets(stored, targets)
            if stored
            else stages.evaluate(
                skill, settings, targets, neutral=neutral, show=not summary.as_json
            )
        )
        stage.result = (
            f"{summary.record['set']['cases']} cases of the {summary.record['set']['name']}"
        )

    with summary.stage("report") as stage:
        if not fresh and stages.report_is_current(folder):
            stage.skip("written before")
        else:
            stages.report(folder)
        stage.result = str(folder / "report.html")


@dataclasses.dataclass
class _Stage:
    """One stage's line in the summary."""

    name: str
    note: Callable[[str], None]
    began: float = 0.0
    seconds: float = 0.0
    skipped: str = ""
    result: str = ""

    def skip(self, why: str) -> None:
        self.skipped = why

    def __enter__(self) -> _Stage:
        self.began = time.monotonic()
        self.note(f"== {self.name}")
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self.began
        if self.result:
            self.note(f"{self.result}{f' ({self.skipped})' if self.skipped else ''}")


class _Summary:
    """What `livery run` says at its end."""

    def __init__(self, skill: str, config: Config, *, own_data: bool, as_json: bool) -> None:
        self.skill, self.config, self.own_data, self.as_json = skill, config, own_data, as_json
        self.stages: list[_Stage] = []
        self.record: dict[str, Any] = {}

    def stage(self, name: str) -> _Stage:
        """Open the next stage."""
        self.stages.append(_Stage(name, lambda text: print(text, file=sys.stderr, flush=True)))
        return self.stages[-1]

    @property
    def model(self) -> str:
        return name_model(self.config.settings.model)

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return {
            "skill": self.skill,
            "model": self.model,
            "adapter": self.config.settings.output_dir,
            "accuracy": self.record["accuracy"],
            "arms": {k: arm["accuracy"] for k, arm in self.record["arms"].items()},
            "stages": {
                s.name: {"seconds": round(s.seconds, 2), "skipped": s.skipped, "result": s.result}
                for s in self.stages
            },
        }

    def text(self) -> str:
        """A few lines: times, scores with intervals, and where everything is."""
        from eval.report import words

        lines = [f"{self.skill} on {self.model}"]
        for stage in self.stages:
            took = stage.skipped or show_seconds(stage.seconds)
            lines.append(f"  {stage.name:<11} {stage.result:<58} {took}")
            if stage.name == "evaluation":
                for key, arm in self.record["arms"].items():
                    share = f"{arm['correct']}/{arm['total']}"
                    lines.append(
                        f"    {words.arm_title(key):<24} {arm['accuracy']:>6.1%}  {share:>8}   "
                        f"95 % interval {words.interval(arm)}"
                    )
        total = sum(stage.seconds for stage in self.stages)
        lines.append(f"  {'in all':<70} {show_seconds(total)}")
        if self.model == EMBEDDED:
            lines.append(
                default_base.offer(self.skill, self.config.settings, own_data=self.own_data)
            )
        return "\n".join(lines)
