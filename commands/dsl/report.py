"""`livery dsl report`: a student's training and its evaluation in one Markdown file, and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from commands.dsl.config import read_defaults
from livery.errors import UserError, shown
from livery.paths import METRICS

_FILE = click.Path(path_type=Path)
_COLUMNS = ("step", "loss", "eval_loss", "learning_rate", "grad_norm", "rewards/margins",
            "eval_rewards/margins")  # fmt: skip
_ROWS = 20  # of the training log, spread over it
REPORTS = Path("outputs/reports")


@click.command("report", short_help="Training and evaluation as Markdown and plots.")
@click.option("--config", type=_FILE, metavar="FILE", help="Configuration: where files are.")
@click.option(
    "--training-metrics", type=_FILE, metavar="FILE", help="A run's training_metrics.jsonl."
)
@click.option("--run-config", type=_FILE, metavar="FILE", help="The same run, by run_config.json.")
@click.option("--eval-summary", type=_FILE, metavar="FILE", help="evaluation_summary.json.")
@click.option("--eval-results", type=_FILE, metavar="FILE", help="evaluation_results.jsonl.")
@click.option("--out-dir", type=_FILE, default=REPORTS, show_default=True,
              metavar="DIR", help="Where the report goes.")  # fmt: skip
@click.option("--report-name", default="report", show_default=True, metavar="NAME",
              help="Name of the Markdown file; the plots are in NAME/report.html.")  # fmt: skip
def report_command(**given: Any) -> None:
    """Rates with intervals, failures by kind with examples, and how training went.

    \b
    Examples:
      livery dsl report
      livery dsl report --training-metrics adapters/dsl/training_metrics.jsonl
    """
    write_report(**given)


def write_report(
    *, config: Path | None = None, training_metrics: Path | None = None,
    run_config: Path | None = None, eval_summary: Path | None = None,
    eval_results: Path | None = None, out_dir: Path = REPORTS, report_name: str = "report",
) -> None:  # fmt: skip
    """`livery dsl report` as a function. A training run that is not there by default is left out.

    Raises:
        UserError: a file that is named is not there or damaged, or the place cannot be written.
    """
    from eval.dsl.comparison import check_report, read_evaluation, report
    from eval.report.report import write_report as write_plots
    from livery.files import atomic_write, explain_os_errors

    defaults = read_defaults(config)
    results = eval_results or Path(defaults["alignment"]["eval_results"])
    text = report([read_evaluation("student", results, eval_summary)])
    run = _run_of(training_metrics, run_config) or Path(defaults["training"]["output_dir"])
    named = training_metrics or run_config
    if Path(report_name).name != report_name:
        raise UserError(f"--report-name {shown(report_name)}: give a name, without a folder.")
    place = out_dir / f"{report_name}.md"
    check_report(place)
    if named or (run / METRICS).is_file():
        text += _training(run)
        with explain_os_errors(out_dir, "writing the plots"):
            (out_dir / report_name).mkdir(parents=True, exist_ok=True)
        _, page = write_plots(run, out_dir / report_name)
        text += f"\nPlots: [{report_name}/{page.name}]({report_name}/{page.name})\n"
    else:
        click.echo(
            f"note: {shown(run / METRICS)} is not there: no training in the report.", err=True
        )
    with explain_os_errors(place, "writing the report"):
        out_dir.mkdir(parents=True, exist_ok=True)
        with atomic_write(place) as file:
            file.write(text.encode())
    click.echo(f"Wrote {shown(place)}", err=True)


def _run_of(metrics: Path | None, run_config: Path | None) -> Path | None:
    """The run's folder, by either file in it."""
    for path in (metrics, run_config):
        if path is not None and not path.is_file():
            raise UserError(f"{path}: no such file.")
    folders = {path.parent.resolve(): path.parent for path in (metrics, run_config) if path}
    if len(folders) > 1:
        raise UserError(f"{metrics} and {run_config} are of two runs: name one.")
    if metrics is not None and metrics.name != METRICS:
        raise UserError(f"{metrics}: name the {METRICS} of a run's folder.")
    return next(iter(folders.values()), None)


def _training(run: Path) -> str:
    """The log's figures, at most _ROWS lines of each kind."""
    from eval.report.markdown import table
    from eval.report.run_data import read_run

    data = read_run(run)
    rows = sorted([*_spread(data.losses), *_spread(data.eval_losses)], key=lambda row: row["step"])
    columns = [name for name in _COLUMNS if any(name in row for row in rows)]
    cells = [[f"{row[name]:.6g}" if name in row else "" for name in columns] for row in rows]
    return f"\n## Training in {run}\n\n{table(columns, cells)}\n"


def _spread(rows: Any) -> list[dict[str, Any]]:
    step = max(1, -(-len(rows) // _ROWS))
    return [row for at, row in enumerate(rows) if at % step == 0 or at == len(rows) - 1]
