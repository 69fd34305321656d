"""`livery dsl reset`: take away what the pipeline wrote, and nothing else (reset.sh)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from commands.dsl.config import made_from, read_defaults
from livery.errors import counted, shown
from livery.outputs import holds
from livery.paths import DSL_PARTIAL, DSL_SUMMARY

PARTS = ("dataset", "evaluations", "training", "alignment", "report")

_ARTEFACTS = ("schema_specs_out", "final_schemas_out", "schema_queries_out", "dataset_out",
              "training_corpus_out")  # fmt: skip


@click.command("reset", short_help="Delete what the pipeline wrote.")
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Where files are.")
@click.option("--dataset", is_flag=True, help="d_01 to d_05 and their pretty copies.")
@click.option("--evaluations", is_flag=True, help="Results and summaries of evaluations.")
@click.option("--training", is_flag=True, help="The student's training run.")
@click.option("--alignment", is_flag=True, help="Preference pairs and the aligned run.")
@click.option("--report", is_flag=True, help="Reports.")
@click.option("--all", "everything", is_flag=True, help="All of these.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def reset_command(config: Path | None, everything: bool, yes: bool, **asked: bool) -> None:
    """List what Livery wrote of the parts that are named, ask, and delete it.

    Files that Livery did not write stay, and data that was edited since; both are named. The
    teacher's records stay too: they cost money.

    \b
    Examples:
      livery dsl reset --evaluations --report
      livery dsl reset --all --yes
    """
    parts = [part for part in PARTS if everything or asked[part]]
    if not parts:
        raise click.UsageError(f"Name what to delete: --{', --'.join(PARTS)} or --all.")
    files, runs = _Found(read_defaults(config)).of(parts)
    for place in (*files, *runs):
        click.echo(shown(place))
    if not files and not runs:
        click.echo("There is nothing to delete.")
        return
    total = counted(len(files) + len(runs), "file or run", "files and runs")
    if not yes and not click.confirm(f"Delete {total}?"):
        click.echo("Nothing was deleted.")
        return
    from livery.training import run_folder

    for run in runs:
        with run_folder.locked(run, "deleting it"):
            run_folder.clear(run)
            # A run found none of these there, and the next one refuses a folder that has them.
            for name in run_folder.TOKENIZER:
                (run / name).unlink(missing_ok=True)
    for file in files:
        file.unlink(missing_ok=True)


class _Found:
    """What there is of each part, at the places of a configuration."""

    def __init__(self, config: dict[str, dict[str, Any]]) -> None:
        data, self.aligned = config["dataset_generation"], config["alignment"]
        self.artefacts = [Path(data[name]) for name in _ARTEFACTS]
        self.sft = Path(config["training"]["output_dir"])
        self.dpo = Path(self.aligned["output_dir"])
        self.results = Path(self.aligned["eval_results"])

    def of(self, parts: list[str]) -> tuple[list[Path], list[Path]]:
        """(files, training runs)"""
        files: list[Path] = []
        runs: list[Path] = []
        if "dataset" in parts:
            files += self._dataset()
        if "evaluations" in parts:
            usual = self.results.parent
            for place in (usual, *(usual / name for name in ("base", "valid", "aligned"))):
                files += _ours(place / self.results.name, holds("judge", "raw_output"))
                files += _ours(place / DSL_SUMMARY, holds("judge", "samples"))
                files += _ours(place / DSL_PARTIAL, holds("made_from", alone=True))
        if "alignment" in parts:
            files += _ours(Path(self.aligned["pairs_out"]), holds("chosen", "teacher_verdict"))
        for part, run in (("training", self.sft), ("alignment", self.dpo)):
            if part in parts:
                runs += _runs(run)
                files += _ours(made_from(run), holds("made_from", alone=True))
        if "report" in parts:
            places = [
                *self.results.parent.glob("report.*"),
                *Path("outputs/reports").glob("*.*"),
                *Path("outputs/reports").glob("*/report.*"),
            ]
            for place in sorted(places):
                files += _ours(place, _is_report)
        return files, runs

    def _dataset(self) -> Iterator[Path]:
        from datagen.dsl.stored import PRETTY, known, partial, partial_queries
        from livery.files import sha256

        for out in self.artefacts:
            made = known(out).get("sha256")
            ours = list(_ours(out, lambda place, made=made: sha256(place) == made))
            yield from ours
            if ours or not out.exists():
                pretty = out.parent / PRETTY / f"{out.stem}.json"
                more = (pretty, partial(out), partial_queries(out))
                yield from (place for place in more if place.is_file())


def _ours(place: Path, written: Callable[[Path], bool]) -> Iterator[Path]:
    if place.is_file():
        if written(place):
            yield place
        else:
            click.echo(f"note: {shown(place)} stays: Livery did not write it as it is.", err=True)


def _runs(folder: Path) -> Iterator[Path]:
    from livery.paths import RUN_CONFIG

    if (folder / RUN_CONFIG).is_file():
        yield folder
    elif folder.exists():
        click.echo(f"note: {shown(folder)} stays: it holds no run of Livery's.", err=True)


def _is_report(place: Path) -> bool:
    from eval.dsl import comparison
    from eval.report import html

    if place.suffix == ".json":
        return holds("evaluations", "paired")(place)
    of_page = place.suffix in (".md", ".html") and html.is_ours(place.with_suffix(".html"))
    return of_page or comparison.is_ours(place)
