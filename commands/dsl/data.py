"""`livery dsl`: the stages that make a dsl student's data, from domain prompts to a corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from commands.dsl.config import config_option
from commands.dsl.evaluate import evaluate_command, pairs_command
from commands.dsl.making import (
    CATALOG_PLACE,
    TEMPLATE_PLACE,
    asking,
    fitting,
    shipped,
    showing,
    tell,
)
from commands.dsl.report import report_command
from commands.dsl.reset import reset_command
from commands.dsl.run import align_command, run_command
from commands.options import ROWS, Finite
from commands.teacher_options import Asked, teacher_options

_FILE = click.Path(path_type=Path)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


@click.group(
    "dsl",
    short_help="The pipeline of the skill dsl, from data to report.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def dsl() -> None:
    """The pipeline of the skill dsl: data in five stages, training, evaluation, pairs, DPO, report
    (docs/dsl.md).

    \b
    Each stage of the data writes a file of JSON lines under outputs/, and a copy to look at
    under outputs/pretty/. What is there and made from the same is not made again; a stage that
    was stopped continues.

    \b
    Examples:
      livery dsl data --offline-fallback
      livery dsl schemas --min-operators 5 --max-operators 7
      livery dsl dataset --offline-fallback --positives-per-schema 40
      livery dsl run --with-training --with-evals --with-alignment --offline-fallback
    """


dsl.add_command(evaluate_command)
dsl.add_command(pairs_command)
dsl.add_command(align_command)
dsl.add_command(run_command)
dsl.add_command(report_command)
dsl.add_command(reset_command)


def _several(*options: Decorator) -> Decorator:
    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _path(name: str, *flags: str, text: str) -> Decorator:
    return click.option(*flags, name, type=_FILE, required=True, metavar="FILE", help=text)


_asked = _several(
    teacher_options("--model", "--teacher-model"),
    click.option(
        "--offline-fallback", "offline", is_flag=True,
        help="Ask no teacher: generate, the same rows for the same seed.",
    ),
)  # fmt: skip
_seed = click.option(
    "--seed", type=int, required=True, help="Same seed, same rows.", metavar="INTEGER"
)
_common = _several(
    config_option("dataset_generation"),
    click.option("--fresh", is_flag=True, help="Make everything again."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)
_examples = click.option(
    "--examples-per-schema", type=click.IntRange(0, 10_000), required=True,
    help="Example queries in each spec.",
)  # fmt: skip
_operators = _several(
    click.option("--min-operators", type=click.IntRange(1), required=True,
                 help="Fewest operators in a schema."),
    click.option("--max-operators", type=click.IntRange(1), required=True,
                 help="Most operators in a schema."),
)  # fmt: skip
_per_schema = click.option(
    "--per-schema", "per_schema_queries", type=ROWS, required=True,
    help="Queries for each schema.",
)  # fmt: skip
_rows = _several(
    click.option(
        "--positives-per-schema", "--samples-per-schema", "positives_per_schema",
        type=ROWS, required=True, help="Right rows of each schema.",
    ),
    click.option("--negative-ratio", type=Finite(0, 10), required=True,
                 help="Wrong rows for each right one."),
    click.option("--current-date", default="", metavar="YYYY-MM-DD",
                 help="The day of all queries; one for each otherwise."),
)  # fmt: skip
_corpus = _several(
    click.option("--include-invalid/--no-include-invalid", required=True,
                 help="Wrong rows too, marked so; training leaves them out."),
    click.option("--max-samples", type=click.IntRange(1), help="At most this many rows."),
    click.option("--tokenizer", metavar="MODEL",
                 help="Folder or id of a model: refuse rows that are too long for it."),
    click.option("--max-seq-length", type=click.IntRange(1), default=32768, show_default=True,
                 help="Tokens of a row, prompt and answer."),
)  # fmt: skip
_FLAG_PROMPTS = _path("prompts_path", "--prompts", text="Domain prompts.")


@dsl.command("specs", short_help="d_01: fields and values of each domain.")
@_common
@_asked
@_FLAG_PROMPTS
@_path("schema_specs_out", "--out", text="Where to write.")
@_examples
@_seed
def specs_command(
    asked: Asked, offline: bool, prompts_path: Path,
    schema_specs_out: Path, examples_per_schema: int, seed: int, fresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """Fields, values and example queries of each domain prompt.

    \b
    Example:
      livery dsl specs --offline-fallback --examples-per-schema 20
    """
    from datagen.dsl import stages

    with showing() as show, asking(asked, offline, seed, "specs", as_json) as (source, place):
        done = stages.make_specs(
            source, shipped(prompts_path), place(schema_specs_out), examples=examples_per_schema,
            seed=seed, fresh=fresh, show=show,
        )  # fmt: skip
        tell([done], as_json)


@dsl.command("schemas", short_help="d_02: a JSON Schema of each domain.")
@_common
@_path("schema_specs_out", "--domain-specs", text="The specs.")
@_path("final_schemas_out", "--out", text="Where to write.")
@click.option("--operator-catalog", type=_FILE, default=CATALOG_PLACE,
              show_default=True, help="Operators, with their synonyms.")  # fmt: skip
@click.option("--base-template", type=_FILE, default=TEMPLATE_PLACE,
              show_default=True, help="The schema that fields are put into.")  # fmt: skip
@_operators
@_seed
def schemas_command(
    schema_specs_out: Path, final_schemas_out: Path, operator_catalog: Path, base_template: Path,
    min_operators: int, max_operators: int, seed: int, fresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """The schema of each spec, with operators under names of its own.

    \b
    Example:
      livery dsl schemas --min-operators 4 --max-operators 7
    """
    from datagen.dsl import stages

    done = stages.make_schemas(
        schema_specs_out, final_schemas_out, fewest=min_operators, most=max_operators, seed=seed,
        catalog=shipped(operator_catalog), template=shipped(base_template), fresh=fresh,
    )  # fmt: skip
    tell([done], as_json)


@dsl.command("queries", short_help="d_03: queries for each schema.")
@_common
@_asked
@_path("final_schemas_out", "--schemas", text="The schemas.")
@_path("schema_queries_out", "--out", text="Where to write.")
@_per_schema
@_seed
def queries_command(
    asked: Asked, offline: bool, final_schemas_out: Path,
    schema_queries_out: Path, per_schema_queries: int, seed: int, fresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """Queries in English and French for each schema.

    \b
    Example:
      livery dsl queries --offline-fallback --per-schema 100
    """
    from datagen.dsl import stages

    with showing() as show, asking(asked, offline, seed, "queries", as_json) as (source, place):
        done = stages.make_queries(
            source, final_schemas_out, place(schema_queries_out), per_schema=per_schema_queries,
            seed=seed, fresh=fresh, show=show,
        )  # fmt: skip
        tell([done], as_json)


@dsl.command("dataset", short_help="d_04: queries with their ASTs, right and wrong.")
@_common
@_asked
@_path("final_schemas_out", "--schemas", text="The schemas.")
@_path("schema_queries_out", "--queries", text="Their queries.")
@_path("dataset_out", "--out", text="Where to write.")
@_rows
@click.option("--checkpoint-path", type=_FILE, help="Where rows are kept until all are made.")
@click.option("--checkpoint-every", type=click.IntRange(1), hidden=True,
              help="Accepted, without effect: every row is kept at once.")  # fmt: skip
@click.option("--resume/--no-resume", default=True, show_default=True,
              help="Continue from the rows of a run that was stopped.")  # fmt: skip
@_seed
def dataset_command(
    asked: Asked, offline: bool, final_schemas_out: Path,
    schema_queries_out: Path, dataset_out: Path, positives_per_schema: int, negative_ratio: float,
    current_date: str, checkpoint_path: Path | None, checkpoint_every: int | None, resume: bool,
    seed: int, fresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """Rows (schema, query, AST) that are valid, and wrong ones that name their fault.

    \b
    Example:
      livery dsl dataset --offline-fallback --positives-per-schema 250 --negative-ratio 0.6
    """
    from datagen.dsl import stages

    with showing() as show, asking(asked, offline, seed, "asts", as_json) as (source, place):
        done = stages.make_dataset(
            source, final_schemas_out, schema_queries_out, place(dataset_out),
            positives=positives_per_schema, negative_ratio=negative_ratio, seed=seed,
            current_date=current_date, fresh=fresh, show=show, resume=resume,
            checkpoint=None if asked.dry_run else checkpoint_path,
        )  # fmt: skip
        tell([done], as_json)


@dsl.command("corpus", short_help="d_05: prompts and completions to train on.")
@_common
@_path("dataset_out", "--dataset", text="The rows.")
@_path("training_corpus_out", "--out", text="Where to write.")
@_corpus
def corpus_command(
    dataset_out: Path, training_corpus_out: Path, include_invalid: bool, max_samples: int | None,
    tokenizer: str | None, max_seq_length: int, fresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """Prompts and completions of the rows to train on; a row that does not fit is refused whole.

    \b
    Example:
      livery dsl corpus --tokenizer base_model --max-seq-length 2048
    """
    from datagen.dsl import stages

    done = stages.make_corpus(
        dataset_out, training_corpus_out, include_invalid=include_invalid,
        max_samples=max_samples, fits=fitting(tokenizer, max_seq_length), fresh=fresh,
    )  # fmt: skip
    tell([done], as_json)


@dsl.command("data", short_help="All five stages.")
@_common
@_asked
@_FLAG_PROMPTS
@_examples
@_operators
@_per_schema
@_rows
@_corpus
@_seed
@click.pass_context
def data_command(
    ctx: click.Context, asked: Asked, offline: bool,
    prompts_path: Path, examples_per_schema: int, min_operators: int, max_operators: int,
    per_schema_queries: int, positives_per_schema: int, negative_ratio: float, current_date: str,
    include_invalid: bool, max_samples: int | None, tokenizer: str | None, max_seq_length: int,
    seed: int, fresh: bool, as_json: bool,
) -> None:  # fmt: skip
    """Specs, schemas, queries, rows and corpus, one after the other (runDatasetGeneration.sh).

    \b
    Examples:
      livery dsl data --offline-fallback
      livery dsl data --offline-fallback --positives-per-schema 8 --per-schema 8
      livery dsl data --model gpt-oss:120b
    """
    from datagen.dsl import stages

    fits = fitting(tokenizer, max_seq_length)
    with showing() as show, asking(asked, offline, seed, "asts", as_json) as (source, place):
        # The configuration's, which `config_option` has read.
        out = {
            name: place(Path(path))
            for name, path in (ctx.default_map or {}).items()
            if name.endswith("_out")
        }
        specs, schemas = out["schema_specs_out"], out["final_schemas_out"]
        queries, dataset = out["schema_queries_out"], out["dataset_out"]
        done = [
            stages.make_specs(
                source, shipped(prompts_path), specs, examples=examples_per_schema, seed=seed,
                fresh=fresh, show=show,
            ),
            stages.make_schemas(
                specs, schemas, fewest=min_operators, most=max_operators, seed=seed, fresh=fresh,
                catalog=shipped(CATALOG_PLACE), template=shipped(TEMPLATE_PLACE),
            ),
            stages.make_queries(
                source, schemas, queries, per_schema=per_schema_queries, seed=seed, fresh=fresh,
                show=show,
            ),
            stages.make_dataset(
                source, schemas, queries, dataset, positives=positives_per_schema,
                negative_ratio=negative_ratio, seed=seed, current_date=current_date, fresh=fresh,
                show=show,
            ),
            stages.make_corpus(
                dataset, out["training_corpus_out"], include_invalid=include_invalid,
                max_samples=max_samples, fits=fits, fresh=fresh,
            ),
        ]  # fmt: skip
        tell(done, as_json)
