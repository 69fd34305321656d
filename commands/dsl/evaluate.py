"""`livery dsl evaluate` and `livery dsl pairs`: a student under its teacher, and what it learns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from commands.dsl.config import read_defaults
from commands.engine_options import ENGINE_OPTIONS, engine_options, open_options
from commands.eval import prepare, tell
from commands.options import Finite
from commands.teacher_options import RECORDS
from livery.errors import counted, shown
from livery.paths import DSL_PARTIAL, DSL_SUMMARY, finished_run

if TYPE_CHECKING:
    from eval.dsl.results import Judge

_FILE = click.Path(path_type=Path)
_config = click.option(
    "--config", type=_FILE, metavar="FILE", help="Configuration: where files are."
)


@click.command("evaluate", short_help="Score a student by schema, target and teacher.")
@engine_options
@_config
@click.option(
    "--dataset",
    type=_FILE,
    metavar="FILE",
    help="Rows to ask.  [default: dataset_out of the configuration]",
)
@click.option("--split", default="", help="Rows of this split alone; by default test, if named.")
@click.option(
    "--train-data",
    type=_FILE,
    metavar="PATH",
    help="What the student has learned from: rows whose schema it holds are refused.  "
    "[default: the adapter's own]",
)
@click.option("--teacher-model", metavar="ID", help="Teacher.  [default: LLM_MODEL, then .llmrc]")
@click.option("--teacher-url", metavar="URL", help="The teacher's address, as for livery dsl data.")
@click.option(
    "--judge",
    "judged_by",
    type=click.Choice(["teacher", "rule"]),
    help="Who judges. rule: valid under the schema, and the same AST as the target.  "
    "[default: teacher where one is named, else rule]",
)
@click.option(
    "--teacher-retries",
    type=click.IntRange(0),
    default=5,
    show_default=True,
    help="Further attempts at a request that failed for a while.",
)
@click.option(
    "--teacher-retry-wait",
    type=Finite(0),
    default=2.0,
    show_default=True,
    help="Seconds before the second attempt.",
)
@click.option(
    "--out-dir",
    type=_FILE,
    metavar="DIR",
    help="Where both files go.  [default: where eval_results of the configuration is]",
)
@click.option("--eval-results", type=_FILE, metavar="FILE", help="evaluation_results.jsonl.")
@click.option("--eval-summary", type=_FILE, metavar="FILE", help="evaluation_summary.json.")
@click.option("--constrained", is_flag=True, help="Hold each answer to its schema's grammar.")
@click.option(
    "--max-new-tokens",
    "--max-tokens",
    "max_new_tokens",
    type=click.IntRange(1),
    help="Longest answer.  [default: by the targets' lengths]",
)
@click.option(
    "--max-seq-length",
    type=click.IntRange(1),
    help="Refuse prompts that leave no room for the answer within this.",
)
@click.option(
    "--temperature",
    type=Finite(0),
    default=0.0,
    show_default=True,
    help="Sampling temperature; 0 always takes the most likely token.",
)
@click.option(
    "--top-p",
    type=float,
    default=1.0,
    show_default=True,
    help="Sample from the most likely tokens whose probabilities add up to this.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed for sampling.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="Answers decoded together.",
)
@click.option("--threads", type=click.IntRange(1), help="Threads on a CPU.")
@click.option(
    "--max-samples",
    "--limit",
    "max_samples",
    type=click.IntRange(1),
    help="At most this many rows, spread over the file.",
)
@click.option("--sample-seed", type=int, help="Draw these rows at random with this seed instead.")
@click.option("--include-invalid", is_flag=True, help="Also rows whose target is marked as wrong.")
@click.option("--load-in-4bit", is_flag=True, help="The same as --quantize 4.")
@click.option(
    "--checkpoint-path",
    type=_FILE,
    metavar="FILE",
    help="Where answers are kept as they come.  [default: in the folder of results]",
)
@click.option(
    "--checkpoint-every",
    "--log-every",
    "every",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Write the results after this many answers.",
)
@click.option(
    "--resume/--no-resume",
    default=True,
    show_default=True,
    help="Go on from the answers that are there, if they are of this evaluation.",
)
@click.option("--report", is_flag=True, help="Write livery dsl report's files afterwards.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def evaluate_command(
    config: Path | None, out_dir: Path | None, eval_results: Path | None,
    eval_summary: Path | None, dataset: Path | None, checkpoint_path: Path | None,
    as_json: bool, report: bool, **given: Any,
) -> None:  # fmt: skip
    """Ask the student, check its answers against schema and target, and have them judged.

    \b
    Writes evaluation_results.jsonl, a record for each answer, and evaluation_summary.json. Rows
    of schemas that the student was trained on are refused. Without a teacher the judge is a rule,
    and both files say so.

    \b
    Examples:
      livery dsl evaluate --adapter adapters/dsl
      livery dsl evaluate --adapter adapters/dsl --teacher-model gpt-oss:120b --out-dir out/eval
      livery dsl evaluate --adapter adapters/dsl --split valid --constrained --max-samples 200
    """
    from eval.dsl.results import describe

    defaults = read_defaults(config)
    usual = Path(defaults["alignment"]["eval_results"])
    place = out_dir or usual.parent
    results, told = eval_results or place / usual.name, eval_summary or place / DSL_SUMMARY
    summary = _evaluate(
        dataset=dataset or Path(defaults["dataset_generation"]["dataset_out"]),
        results=results, summary=told, checkpoint=checkpoint_path or place / DSL_PARTIAL, **given,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(summary, ensure_ascii=False))
    else:
        click.echo(describe(summary))
    if report:
        from commands.dsl.report import write_report

        write_report(config=config, eval_results=results, eval_summary=told)


def _evaluate(
    *, dataset: Path, results: Path, summary: Path, checkpoint: Path, adapter: str | None,
    model: str | None, engine: str, split: str, train_data: Path | None,
    teacher_model: str | None, teacher_url: str | None, judged_by: str | None,
    teacher_retries: int, teacher_retry_wait: float, constrained: bool,
    max_new_tokens: int | None, max_seq_length: int | None, temperature: float, top_p: float,
    seed: int, batch_size: int, threads: int | None, max_samples: int | None,
    sample_seed: int | None, include_invalid: bool, load_in_4bit: bool, every: int, resume: bool,
    **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Evaluate with these options: the summary that was written."""
    from eval.dsl.evaluation import Request, run
    from livery.engines.engine import Decoding

    judge = _judge(
        judged_by, teacher_model, teacher_url, retries=teacher_retries,
        retry_wait=teacher_retry_wait,
    )  # fmt: skip
    if load_in_4bit:
        options["quantize"] = 4
    request = Request(
        dataset=dataset, results=results, summary=summary, checkpoint=checkpoint,
        judge=judge, adapter=adapter and finished_run(adapter), model=model, engine=engine,
        engine_options=open_options(engine, {name: options.get(name) for name in ENGINE_OPTIONS}),
        split=split, train_data=train_data, include_invalid=include_invalid, limit=max_samples,
        sample_seed=sample_seed, constrained=constrained, max_new_tokens=max_new_tokens,
        longest=max_seq_length, every=every, resume=resume, threads=threads,
        decoding=Decoding(1, None, temperature, seed, batch_size, top_p),
    )  # fmt: skip
    prepare(engine, threads)
    return run(request, tell)


def _judge(asked: str | None, model: str | None, url: str | None, **patience: Any) -> Judge:
    """The teacher where one is named, by flag, variable or file; else the rule."""
    from eval.dsl.results import Judge
    from livery.teacher import find_teacher
    from livery.teacher.settings import with_options

    teacher = None if asked == "rule" else find_teacher(model, url)
    if teacher is not None and asked is None and not url and teacher.model_from == "default":
        teacher = None
    if teacher is None:
        if asked is None:
            tell("no teacher is named: answers are judged by rule, against their targets.")
        return Judge()
    return Judge(with_options(teacher, **patience), RECORDS)


@click.command("pairs", short_help="Chosen and rejected answers from an evaluation.")
@_config
@click.option(
    "--eval-results",
    type=_FILE,
    metavar="FILE",
    help="evaluation_results.jsonl.  [default: eval_results of the configuration]",
)
@click.option(
    "--out",
    "--pairs",
    "out",
    type=_FILE,
    metavar="FILE",
    help="Where to write.  [default: pairs_out of the configuration]",
)
@click.option(
    "--only-rejected/--no-only-rejected",
    default=True,
    show_default=True,
    help="Make pairs of rejected answers alone.",
)
@click.option("--max-pairs", type=click.IntRange(1), help="At most this many, spread over all.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def pairs_command(
    config: Path | None, eval_results: Path | None, out: Path | None, only_rejected: bool,
    max_pairs: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Rows of prompt, chosen, rejected, schema_id, teacher_verdict for `livery dpo --pairs`.

    \b
    Examples:
      livery dsl pairs --eval-results out/eval/evaluation_results.jsonl --out out/pairs.jsonl
      livery dsl pairs --max-pairs 500
    """
    section = read_defaults(config)["alignment"]
    source = eval_results or Path(section["eval_results"])
    found = make_pairs(source, out or Path(section["pairs_out"]), only_rejected, max_pairs)
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    click.echo(f"{shown(found['out'])}  {counted(found['pairs'], 'pair')}")
    for why, number in found["without"].items():
        click.echo(f"no pair of {counted(number, 'record')}: {why}", err=True)


def make_pairs(
    source: Path, out: Path, only_rejected: bool = True, most: int | None = None
) -> dict[str, Any]:
    """Write the pairs of an evaluation: {"out", "pairs", "without"}.

    Raises:
        UserError: the records cannot be read, or there is no pair in them.
    """
    from eval.dsl.pairs import build_pairs
    from livery.errors import UserError
    from livery.files import explain_os_errors, read_jsonl, write_jsonl
    from livery.outputs import check_file, holds

    ours = holds("prompt", "chosen", "rejected", "teacher_verdict")
    check_file(out, overwrite=True, inputs=[source], ours=ours, what="pairs of livery dsl")
    rows = [(f"{source}:{line}", row) for line, row in read_jsonl(source)]
    pairs, without = build_pairs(rows, only_rejected=only_rejected, most=most)
    if not pairs:
        said = ", ".join(f"{number:,} {why}" for why, number in without.items()) or "no records"
        raise UserError(f"{source}: there is no pair in it ({said}).")
    with explain_os_errors(out, "writing the pairs"):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(out, pairs)
    return {"out": str(out), "pairs": len(pairs), "without": without}
