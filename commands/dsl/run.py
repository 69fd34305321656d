"""`livery dsl run`: a student from nothing to aligned, every stage resumable (runAll.sh)."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from commands.dsl.config import PLACE, decides, is_ours, made_from, read_defaults
from livery.errors import UserError, shown
from livery.paths import finished_run

_FILE = click.Path(path_type=Path)
_REPORTS = ("report", "aligned")  # of the SFT run and of the DPO run, with their plots
# The described system's share and number of rows that are not trained on; of pairs there are fewer.
_HELD_OUT, _MOST_HELD_OUT = {"training": 0.05, "alignment": 0.1}, 256

_engine = click.option(
    "--engine",
    "--backend",
    "engine",
    type=click.Choice(["mlx", "torch"]),
    help="What trains and answers.  [default: the one with a GPU, else MLX where it is installed]",
)
_length = click.option(
    "--max-seq-length",
    type=click.IntRange(1),
    help="Tokens of a training row.  [default: the configuration's, else 2048]",
)
_most = click.option(
    "--max-samples", type=click.IntRange(1), help="At most so many evaluation rows."
)
_longest = click.option(
    "--max-new-tokens", type=click.IntRange(1), help="Longest answer in evaluations."
)
_dpo_arg = click.option(
    "--dpo-arg", multiple=True, metavar="ARG", help="For livery dpo; repeatable."
)


@click.command("run", short_help="Data, training, evaluation, pairs, DPO, report.")
@click.option(
    "--config", type=_FILE, metavar="FILE", help="Configuration: where files are, and how to train."
)
@click.option("--with-training", is_flag=True, help="Train the student on the corpus.")
@click.option("--with-evals", is_flag=True, help="Evaluate it on held-out schemas, and report.")
@click.option(
    "--with-alignment", is_flag=True, help="Align it with pairs (DPO), and evaluate again."
)
@click.option("--with-base", is_flag=True, help="Evaluate the base alone as well.")
@click.option("--model", "--teacher-model", "teacher", metavar="ID", help="Teacher.")
@click.option("--offline-fallback", is_flag=True, help="No teacher: generated data, a rule judges.")
@click.option("--base-model", metavar="ID_OR_PATH", help="Base model.  [default: as livery train]")
@_engine
@_length
@_most
@_longest
@click.option("--data-arg", multiple=True, metavar="ARG", help="For livery dsl data; repeatable.")
@click.option("--train-arg", multiple=True, metavar="ARG", help="For livery train; repeatable.")
@_dpo_arg
@click.option("--fresh", is_flag=True, help="Train again in folders that hold another run.")
def run_command(**given: Any) -> None:
    """The dataset, then each stage that is asked for; what is done from the same is skipped.

    \b
    Examples:
      livery dsl run --offline-fallback --with-training --with-evals --with-alignment
      livery dsl run --offline-fallback --with-training --train-arg=--max-steps=300
      livery dsl run --model gpt-oss:120b --with-training --with-evals
    """
    _Run(**given).all()


@click.command("align", short_help="Evaluate, make pairs of what is rejected, and DPO.")
@click.option(
    "--config", type=_FILE, metavar="FILE", help="Configuration: where files are, and how to train."
)
@click.option(
    "--adapter", type=_FILE, metavar="DIR", help="Student.  [default: the configuration's]"
)
@click.option("--model", "--teacher-model", "teacher", metavar="ID", help="Teacher.")
@click.option("--offline-fallback", is_flag=True, help="No teacher: a rule judges.")
@_engine
@_length
@_most
@_longest
@_dpo_arg
@click.option("--fresh", is_flag=True, help="Train again in a folder that holds another run.")
def align_command(adapter: Path | None, **given: Any) -> None:
    """Ask the student the rows of the split valid, take pairs of what the judge rejects, and train.

    \b
    Examples:
      livery dsl align --adapter adapters/dsl --teacher-model gpt-oss:120b
      livery dsl align --config config/defaults.json --offline-fallback
    """
    usual = read_defaults(given["config"])["alignment"]["adapter"]
    _Run(**given, base_model=None, adapter=adapter or Path(usual)).align()


class _Run:
    """One call; places are those of the configuration."""

    def __init__(self, *, config: Path | None, adapter: Path | None = None, **given: Any):
        found = read_defaults(config)
        self.place, self.config = config, ["--config", str(config)] if config else []
        self.decided = {name: decides(config, name) for name in ("training", "alignment")}
        self.given = given
        self.engine = given["engine"] or ""
        data, aligned = found["dataset_generation"], found["alignment"]
        self.dataset, self.corpus = Path(data["dataset_out"]), Path(data["training_corpus_out"])
        self.sft = Path(finished_run(str(adapter or found["training"]["output_dir"])))
        self.dpo = Path(aligned["output_dir"])
        self.pairs = Path(aligned["pairs_out"])
        self.results = Path(aligned["eval_results"])
        self.evals = self.results.parent

    def all(self) -> None:
        """Every stage in turn.

        Raises:
            UserError: a stage failed; the same command continues there.
        """
        given = self.given
        trains = given["with_training"] or given["with_alignment"]
        if trains and not self.config and is_ours():
            click.echo(
                f"note: {PLACE} says where files are; its sections training and alignment decide "
                f"where --config {PLACE} names it.", err=True,
            )  # fmt: skip
        if given["with_evals"] or given["with_alignment"]:
            self._check_report()
        self._do("dataset", ["dsl", "data", *self.config, *self._asked(), *given["data_arg"]])
        if given["with_training"]:
            self._train("training", self.sft, self.corpus, [
                "train", *self._settings("training"), "--data", str(self.corpus),
                *self._held_out("training", self.corpus), *given["train_arg"],
            ])  # fmt: skip
        before = after = None
        if given["with_evals"] or given["with_alignment"]:
            before = self._evaluate("evaluation", self.sft, self.evals, "test")
        if given["with_alignment"] and self.align():
            after = self._evaluate("evaluation after", self.dpo, self.evals / "aligned", "test")
        if before is not None:
            self._report(self._evaluate_base() if given["with_base"] else None, before, after)

    def align(self) -> bool:
        """Pairs and DPO; False where there is nothing to align."""
        if not self._make_pairs():
            return False
        self._train("alignment", self.dpo, self.pairs, [
            "dpo", *self._settings("alignment"), "--pairs", str(self.pairs),
            "--adapter", str(self.sft), *self._held_out("alignment", self.pairs),
            *self.given["dpo_arg"],
        ])  # fmt: skip
        return True

    def _make_pairs(self) -> bool:
        """Pairs from schemas that are neither trained on nor reported; False where none is left."""
        from commands.dsl.evaluate import make_pairs
        from livery.files import read_jsonl

        # What DPO learns from is not what the report is about.
        results = self._evaluate("answers to align", self.sft, self.evals / "valid", "valid")
        if all(row["teacher_verdict"] == "accept" for _, row in read_jsonl(results)):
            click.echo("The judge accepts every answer: there is nothing to align.")
            return False
        found = make_pairs(results, self.pairs)
        click.echo(f"== pairs\n{found['out']}: {found['pairs']:,}", err=True)
        return True

    def _train(self, name: str, folder: Path, data: Path, command: list[str]) -> None:
        """Begin, continue, or skip a training run."""
        from livery.files import read_json, sha256, write_json
        from livery.paths import METADATA, RUN_CONFIG

        decided = self.decided["training" if command[0] == "train" else "alignment"]
        parts = [command, sha256(data), *decided.values()]
        made = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        key = made_from(folder)
        same = key.is_file() and read_json(key) == {"made_from": made}
        begun = (folder / RUN_CONFIG).exists()
        if begun and not same and not self.given["fresh"]:
            raise UserError(f"{folder}: holds a run of other data or settings. Add --fresh.")
        if begun and same:
            if (folder / METADATA).exists():
                click.echo(f"== {name}\n{folder}: made before", err=True)
                return
            command = [*command, "--resume"]
        elif begun:
            command = [*command, "--overwrite"]
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_json(key, {"made_from": made})
        self._do(name, [*command, "--output-dir", str(folder)])

    def _evaluate_base(self) -> Path:
        from livery.training.run_folder import read_run_config

        model = str(read_run_config(self.sft)["settings"]["model"])
        return self._evaluate("evaluation of the base", None, self.evals / "base", "test", model)

    def _evaluate(
        self, name: str, adapter: Path | None, place: Path, split: str, model: str = ""
    ) -> Path:
        """Where the results are."""
        who = ["--adapter", str(adapter)] if adapter else ["--model", model]
        command = ["dsl", "evaluate", *self.config, *who, "--split", split,
                   "--engine", self._engine(), "--dataset", str(self.dataset),
                   "--train-data", str(self.corpus), "--out-dir", str(place)]  # fmt: skip
        if self.given["offline_fallback"]:
            command += ["--judge", "rule"]
        elif self.given["teacher"]:
            command += ["--teacher-model", self.given["teacher"]]
        for name_ in ("max_samples", "max_new_tokens"):
            if self.given[name_]:
                command += [f"--{name_.replace('_', '-')}", str(self.given[name_])]
        self._do(name, command)
        return place / self.results.name

    def _check_report(self) -> None:
        """Raises UserError where the report would replace what is none."""
        from commands.dsl.report import REPORTS
        from eval.dsl.comparison import check_report
        from livery.outputs import check_file, holds

        for place in (self.evals / "report.md", *(REPORTS / f"{name}.md" for name in _REPORTS)):
            check_report(place)
        check_file(
            self.evals / "report.json", overwrite=True, ours=holds("evaluations", "paired"),
            what="such a report of Livery's",
        )  # fmt: skip

    def _report(self, base: Path | None, before: Path, after: Path | None) -> None:
        from eval.dsl.comparison import compare_rows, read_evaluation, report
        from livery.files import atomic_write, write_json

        self._check_report()  # it may have come meanwhile

        named = {"base": base, "SFT": before, "DPO": after}
        runs = [read_evaluation(name, results) for name, results in named.items() if results]
        paired = compare_rows(runs[-2].rows, runs[-1].rows) if len(runs) > 1 else None
        text = report(runs, paired)
        with atomic_write(self.evals / "report.md") as file:
            file.write(text.encode())
        found = {"evaluations": [run.summary for run in runs], "paired": paired}
        write_json(self.evals / "report.json", found)
        click.echo(text)
        click.echo(f"Wrote {shown(self.evals / 'report.md')}", err=True)
        self._report_training(before, after)

    def _report_training(self, before: Path, after: Path | None) -> None:
        """The log of each training run, with its plots, beside the evaluation of what it made."""
        from commands.dsl.report import write_report
        from livery.paths import METRICS

        for name, run, results in zip(_REPORTS, (self.sft, self.dpo), (before, after), strict=True):
            if results is not None:
                log = run / METRICS
                write_report(config=self.place, eval_results=results, report_name=name,
                             training_metrics=log if log.is_file() else None)  # fmt: skip

    def _asked(self) -> list[str]:
        if self.given["offline_fallback"]:
            return ["--offline-fallback"]
        return ["--model", self.given["teacher"]] if self.given["teacher"] else []

    def _settings(self, section: str) -> list[str]:
        """The configuration's file, where it says how to train, and what flags say."""
        given, decided = self.given, self.decided[section]
        words = [word for place in decided for word in ("--config", place)]
        # An adapter's own base is what it is aligned on, unless the file says otherwise.
        if given["base_model"] and (section == "training" or decided):
            words += ["--model", given["base_model"]]
        length = given["max_seq_length"]
        if not length and not any("max_seq_length" in found for found in decided.values()):
            length = 2048
        words += ["--max-length", str(length)] if length else []
        return [*words, "--backend", self._engine()]

    def _held_out(self, section: str, data: Path) -> list[str]:
        """A share of the rows that a run is judged by and stops by, where nobody says which."""
        given = self.given["dpo_arg"] if section == "alignment" else self.given["train_arg"]
        said = any(name in found for found in self.decided[section].values()
                   for name in ("val_split", "valid_data"))  # fmt: skip
        share = _HELD_OUT[section]
        with data.open("rb") as file:
            few = sum(1 for _ in file) * share < 1
        if said or few or any(word.startswith(("--val-split", "--valid")) for word in given):
            return []
        return ["--val-split", str(share), "--eval-max-samples", str(_MOST_HELD_OUT)]

    def _engine(self) -> str:
        """What trains and answers; the same one for every stage."""
        from commands.training.backends import preferred

        self.engine = self.engine or preferred()
        return self.engine

    def _do(self, name: str, command: list[str]) -> None:
        click.echo(f"== {name}", err=True)
        done = subprocess.run([sys.executable, "-m", "livery", *command], check=False)
        if done.returncode:
            raise UserError(
                f"The stage {name} failed ({done.returncode}). The same command continues there."
            )
