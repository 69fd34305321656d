"""`livery eval` and `livery report`; also `python -m eval`."""

from __future__ import annotations

import json
import math
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.engine_options import decoding_options, engine_options, open_options
from livery.errors import shown

if TYPE_CHECKING:
    from eval.judge import Judge

MISSED = 3
TOKENS_EVAL = 128


class Target(click.ParamType):
    """`0.95`, a share of right answers, or `METRIC=VALUE` -> (metric, value)."""

    name = "target"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, float]:
        name, equals, number = str(value).rpartition("=")
        try:
            found = float(number)
        except ValueError:
            found = math.nan
        if equals and not name:
            self.fail(f"{value!r} names no metric; give METRIC=VALUE.", param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a number, nor METRIC=VALUE.", param, ctx)
        if name in ("", "correct") and not 0 <= found <= 1:
            self.fail(f"{value} is not in the range 0<=x<=1.", param, ctx)
        return name or "correct", found


@click.command(name="eval", short_help="Score an adapter on a skill's cases.")
@click.argument("skill", metavar="SKILL")
@engine_options
@click.option("--baseline", is_flag=True, help="Also answer with the base model, and compare.")
@click.option(
    "--both",
    "mode",
    flag_value="both",
    default="both",
    help="Both --constrained and --unconstrained.",
)
@click.option(
    "--constrained",
    "mode",
    flag_value="constrained",
    help="Constrain answers to the skill's grammar.",
)
@click.option(
    "--unconstrained", "mode", flag_value="unconstrained", help="Let the model answer freely."
)
@click.option("--data", "--dataset", "data", metavar="FILE", help="Your own cases, JSON lines.")
@click.option(
    "--set", "cases", metavar="NAME", default="", help="One of the skill's sets of cases."
)
@click.option(
    "--second-set", is_flag=True, help="The skill's second set of cases: look at it only once."
)
@click.option(
    "--limit", "--max-samples", "limit", type=int, help="At most this many cases, evenly spaced."
)
@click.option(
    "--target",
    "targets",
    type=Target(),
    multiple=True,
    metavar="[METRIC=]VALUE",
    help="Exit with code 3 if the share of right answers, or another metric, does not reach "
    "this. May be repeated.",
)
@click.option(
    "--neutral/--no-neutral",
    default=True,
    show_default=True,
    help="Also ask base and adapter ten prompts unrelated to the skill, and compare; for persona "
    "also the perplexity of 200 plain texts.",
)
@click.option(
    "--judge",
    metavar="URL",
    help="persona: also have a model behind this OpenAI-compatible endpoint compare base and "
    "adapter, each pair in both orders. The API key is read from LLM_API_KEY or OPENAI_API_KEY.",
)
@click.option(
    "--judge-model",
    metavar="NAME",
    help="The judge's name at that endpoint; by default LLM_MODEL, else .llmrc.",
)
@click.option("--train-data", metavar="PATH", help="Training data to count leaked cases against.")
@click.option("--output-json", metavar="FILE", help="Also write the record to this file.")
@click.option(
    "--report",
    "--out-dir",
    "report",
    metavar="DIR",
    help="Write the report to this folder instead of the adapter's.",
)
@decoding_options(TOKENS_EVAL, "Longest answer; by default more where an expected one is.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as one JSON object.")
def eval_command(
    skill: str,
    adapter: str | None,
    model: str | None,
    engine: str,
    baseline: bool,
    mode: Any,
    data: str | None,
    cases: str,
    second_set: bool,
    limit: int | None,
    targets: tuple[tuple[str, float], ...],
    neutral: bool,
    judge: str | None,
    judge_model: str | None,
    train_data: str | None,
    output_json: str | None,
    report: str | None,
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    batch_size: int,
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Score SKILL's cases, free and constrained to the skill's grammar where it has one.

    SKILL is a name or the path of a file of your own. Prints accuracy by category and every other
    metric with 95 % intervals, and every comparison. The record goes to evaluation.json in the
    adapter folder, beside report.md and report.html (not with --limit). If answers are scored both
    ways, --target applies to the constrained score.

    \b
    Examples:
      livery eval date-keys --adapter adapters/date-keys --baseline --target 0.95
      livery eval my_skill.py --adapter adapters/mine --target 0.9 --target off_by=2
      livery eval date-keys --adapter adapters/date-keys --data my_cases.jsonl
      livery eval date-keys --model mlx-community/gemma-3-270m-it-bf16 --report reports/gemma
      livery eval date-keys --engine http --url http://127.0.0.1:8000/v1 --model base \\
          --adapter my-lora --baseline --unconstrained --output-json scores.json
      livery eval date-keys --engine llamacpp --adapter adapters/date-keys --gguf-type q8_0

    A line of --data: {"text": "wake me at 7 am", "date_keys": ["at_7am"], "category": "mine"}
    """
    if bool(data) + bool(cases) + second_set > 1:
        raise click.UsageError("--data, --set and --second-set each name the cases: choose one.")
    from eval.evaluate import Request, evaluate
    from eval.record import against_trained
    from livery.engines.engine import Decoding
    from livery.files import write_json

    decoding = Decoding(max_tokens, None, temperature, seed, batch_size, top_p)
    request = Request(
        skill=skill, adapter=adapter, model=model, engine=engine,
        engine_options=open_options(engine, options), mode=mode, baseline=baseline,
        data=data, cases="second" if second_set else cases, limit=limit, train_data=train_data,
        target=dict(targets).get("correct"), decoding=decoding, command=command_line(),
        neutral=neutral, threads=threads, judge=_judge(judge, judge_model, report or adapter),
        room=click.get_current_context().get_parameter_source("max_tokens")
        is click.core.ParameterSource.DEFAULT,
        targets={name: value for name, value in targets if name != "correct"},
    )  # fmt: skip
    folder = adapter if engine != "http" and adapter and Path(adapter).is_dir() else None
    place = report or (folder if limit is None else None)
    read = (adapter, model, data, train_data, options["tokenizer"], options["chat_template"])
    check_places(place, output_json, read)  # refused now rather than after the evaluation
    prepare(engine, threads)
    found = evaluate(request, show, tell)
    if engine == "llamacpp" and folder and (compared := against_trained(found, Path(folder))):
        found["trained"] = compared
    if output_json:
        write_json(output_json, found)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        from eval.report.terminal import print_record

        print_record(found)
    for path in _store(request, found, folder, place):
        click.echo(f"Wrote {shown(path)}", err=True)
    if found["judge"] and found["judge"]["reason"]:
        click.echo(f"The judge was not heard: {found['judge']['reason']}", err=True)
        return 1
    if found["passed"] is False:
        from eval.report import words

        click.echo(f"Target missed: {words.missed(found)}.", err=True)
        return MISSED
    return 0


@click.command(name="report", short_help="Write report.md and report.html of a run.")
@click.argument("adapter", metavar="ADAPTER_DIR")
@click.option("--out", metavar="DIR", help="Write to this folder instead of the adapter's.")
@click.option("--json", "as_json", is_flag=True, help="Print the paths as one JSON object.")
def report_command(adapter: str, out: str | None, as_json: bool) -> None:
    """Report on a training run and its last evaluations: losses, scores, failures, samples.

    \b
    Examples:
      livery report adapters/date-keys
      livery report adapters/date-keys --out reports/monday
    """
    from eval.report.report import write_report
    from livery.training import run_folder

    with run_folder.writing(out or adapter, "writing a report"):
        paths = write_report(adapter, out)
    if as_json:
        click.echo(json.dumps({"markdown": str(paths[0]), "html": str(paths[1])}))
    else:
        for path in paths:
            click.echo(f"Wrote {shown(path)}")


def command_line() -> str:
    """This process's command, as it could be typed again."""
    return shlex.join(["livery", *sys.argv[1:]])


def tell(text: str) -> None:
    click.echo(f"note: {text}", err=True)


def show(what: str, total: int) -> Any:
    from livery.progress import Progress

    return Progress(what, total, "answers")


def prepare(engine: str, threads: int | None) -> None:
    """MLX on a Linux CPU wants OpenBLAS in the process before it is imported."""
    from livery.machine import use_threads

    use_threads(threads)
    if engine == "mlx":
        from livery import blas

        if not blas.use_openblas():
            click.echo(f"MLX will be slow: OpenBLAS is missing. {blas.remedy()}", err=True)


def _judge(url: str | None, model: str | None, place: str | None) -> Judge | None:
    """Who judges; the verdicts are kept in `judge/` of the place, else in the user's cache."""
    if url is None:
        if model is not None:
            raise click.UsageError("--judge-model needs --judge URL.")
        return None
    from eval.judge import Judge
    from livery.paths import cache_folder
    from livery.teacher import find_teacher

    teacher = find_teacher(model, url, flags=("--judge-model", "--judge"))
    folder = Path(place) if place and Path(place).is_dir() else cache_folder()
    return Judge(teacher, folder / "judge" / "records.sqlite")


def check_places(place: str | None, output_json: str | None, read: tuple[str | None, ...]) -> None:
    """Raises UserError where what is to be written would replace anything but its own kind."""
    from eval import record
    from eval.report.report import check_place
    from livery.outputs import check_file
    from livery.training.run_folder import writing

    files = [] if output_json is None else [Path(output_json)]
    if place:
        with writing(place, "evaluating"):
            check_place(Path(place))
        files.append(Path(place) / record.NAME)
    for file in files:
        if not file.exists() or file.is_file() or file.is_dir():  # a device is written to as it is
            check_file(
                file,
                overwrite=True,
                inputs=read,
                ours=record.is_record,
                what="an evaluation's record",
            )


def _store(
    request: Any, found: dict[str, Any], folder: str | None, place: str | None
) -> list[Path]:
    """Keep the record and write the report; a part of the cases does not replace the whole."""
    from eval.report.report import write_report
    from livery.files import write_json
    from livery.training import run_folder

    if place is None:
        return []
    named = request.cases not in ("", "validation")
    kind = "_data" if request.data else f"_{request.cases}" if named else ""
    if request.engine == "llamacpp":  # the exported file's score, beside the trained one's
        kind += "_llamacpp"
    path = Path(place) / f"evaluation{kind}.json"
    with run_folder.writing(place, "evaluating"):
        write_json(path, found)
        return [path, *write_report(folder or place, place)]
