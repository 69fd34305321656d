"""`livery fasttext train|eval`: the FastText classifier of date-keys, alone and with an adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from commands import engine_options as shared
from commands.options import Finite
from livery.errors import UserError, shown

WRITTEN_BY = "livery fasttext train"
FOLDER = "adapters/date-keys-fasttext"
RATE = 0.03


@click.group(
    "fasttext",
    short_help="A FastText classifier of date keys, alone and with an adapter.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def fasttext() -> None:
    """A FastText classifier for date-keys: half a millisecond on a CPU, beside an adapter.

    The hybrid uses its answer when it is confident enough and asks the adapter otherwise.

    \b
    Examples:
      livery fasttext train
      livery fasttext eval --adapter adapters/date-keys
    """


@fasttext.command("train", short_help="Train the classifier and calibrate its threshold.")
@click.option(
    "--data",
    "--training-data",
    "data",
    metavar="PATH",
    default="data/date-keys",
    show_default=True,
    help="Folder written by livery data date-keys, or a file of rows.",
)
@click.option(
    "--out",
    "--output",
    "--output-dir",
    "out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=Path(FOLDER),
    show_default=True,
    help="The new folder.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=7,
    show_default=True,
    help="Same seed, same bytes.",
)
@click.option(
    "--epochs", type=click.IntRange(1), default=25, show_default=True, help="Passes over the rows."
)
@click.option(
    "--learning-rate",
    "--lr",
    "learning_rate",
    default=0.3,
    show_default=True,
    type=Finite(0, 10, min_open=True),
    help="Initial learning rate.",
)
@click.option(
    "--dim",
    type=click.IntRange(2, 1024),
    default=64,
    show_default=True,
    help="Length of a word's vector.",
)
@click.option(
    "--buckets",
    type=click.IntRange(1_000, 2_000_000),
    default=20_000,
    show_default=True,
    help="Buckets for hashed runs of words.",
)
@click.option(
    "--error-rate",
    type=Finite(0, 1, min_open=True, max_open=True),
    default=RATE,
    show_default=True,
    help="Highest share of wrong answers that the threshold may accept.",
)
@click.option(
    "--calibrate-on",
    metavar="FILE",
    help="Cases to calibrate on; by default the skill's validation set.",
)
@click.option("--overwrite", is_flag=True, help="Replace the earlier output of this command.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as one JSON object.")
def train_command(
    data: str, out: Path, seed: int, epochs: int, learning_rate: float, dim: int, buckets: int,
    error_rate: float, calibrate_on: str | None, overwrite: bool, as_json: bool,
) -> int:  # fmt: skip
    """Train a FastText classifier on the rows that an adapter is trained on.

    Writes model.ftz (quantized, a few MB) and fasttext.json. The threshold is the lowest at which,
    with 90 % confidence, at most --error-rate of the accepted answers are wrong on commands like
    those used for calibration; if there is none, the record holds no threshold.

    \b
    Examples:
      livery data date-keys && livery fasttext train
      livery fasttext train --data data/mine --error-rate 0.01 --overwrite
    """
    from eval import hybrid
    from eval.scorers import date_keys as scorer
    from eval.scorers import find_set
    from livery.files import sha256
    from livery.outputs import check_folder, new_folder
    from livery.skills.date_keys import fasttext as fast
    from livery.skills.date_keys.risk import CONFIDENCE, calibrate, fewest

    fast.package()
    file = _rows_file(data)
    inputs = (data, file, calibrate_on)
    check_folder(out, command=WRITTEN_BY, overwrite=overwrite, inputs=inputs)
    name, held = ("", Path(calibrate_on)) if calibrate_on else find_set("date-keys")
    cases = scorer.cases(held)
    rows = [(case.text, tuple(case.expected)) for case in scorer.cases(file)]
    settings = fast.FastTextSettings(
        epochs=epochs, learning_rate=learning_rate, dim=dim, buckets=buckets, seed=seed
    )
    with new_folder(out, command=WRITTEN_BY, overwrite=overwrite, inputs=inputs) as fresh:
        click.echo(f"Training on {len(rows):,} rows, then quantizing; under a minute.", err=True)
        record = fast.train(rows, fresh, settings, verbose=not as_json)
        record["data"] = {"path": str(file), "sha256": sha256(file)}
        if version := data_version(file, record["data"]["sha256"]):
            record["data"]["version"] = version
        fast.write_record(fresh, record)
        asked = hybrid.answer(cases, fast.Classifier.load(fresh))
        found = calibrate([a.confidence for a in asked], [a.fast for a in asked], error_rate)
        record["accuracy"] = sum(a.fast for a in asked) / len(asked)
        record["calibrated_on"] = {"set": name or held.name, "sha256": sha256(held)}
        record["calibration"] = None if found is None else vars(found)
        fast.write_record(fresh, record)
    if as_json:
        click.echo(json.dumps({"out": str(out), **record}, indent=2, ensure_ascii=False))
        return 0
    click.echo(f"{shown(out)}: {fast.describe(record)}")
    said = record["calibrated_on"]["set"]
    click.echo(f"{record['accuracy']:.1%} of the {len(cases)} cases of {shown(said)} are right.")
    if found is None:
        click.echo(
            f"No threshold keeps the error at {error_rate:.1%} with {CONFIDENCE:.0%} confidence "
            f"({fewest(error_rate)} right answers in a row are the fewest that can); the record "
            "holds none, and a hybrid needs one: give --error-rate a larger share.",
            err=True,
        )
        return 0
    click.echo(
        f"Threshold {found.threshold:.4f}: {found.accepted} of {found.cases} accepted, "
        f"{found.errors} wrong; at most {found.bound:.1%} wrong with {CONFIDENCE:.0%} confidence."
    )
    return 0


@fasttext.command("eval", short_help="FastText, an adapter and the hybrid in one table.")
@click.option(
    "--fasttext",
    "--model-path",
    "folder",
    metavar="DIR",
    default=FOLDER,
    show_default=True,
    help="Folder written by livery fasttext train.",
)
@shared.engine_options
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME",
    help="Sets of the skill's cases; repeatable.  [default: validation]",
)
@click.option("--data", "--dataset", "data", metavar="FILE", help="Your own cases, JSON lines.")
@click.option(
    "--limit",
    "--max-samples",
    "limit",
    type=int,
    help="At most this many cases of each set, evenly spaced.",
)
@click.option(
    "--threshold",
    type=Finite(0, 1),
    help="Confidence from which FastText's answer is used; by default the calibrated one.",
)
@click.option(
    "--target",
    type=Finite(0, 1),
    help="Exit with code 3 if the last system's accuracy on the first set is lower.",
)
@click.option("--output-json", metavar="FILE", help="Also write the record to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as one JSON object.")
def eval_command(
    folder: str, adapter: str | None, model: str | None, engine: str, sets: tuple[str, ...],
    data: str | None, limit: int | None, threshold: float | None, target: float | None,
    output_json: str | None, as_json: bool, **options: Any,
) -> int:  # fmt: skip
    """Accuracy, coverage and latency of FastText, an adapter and the hybrid of the two.

    One command is asked at a time. Without --adapter, FastText answers alone. For each set that was
    not used for calibration, the output says whether the threshold keeps its error rate there.

    \b
    Examples:
      livery fasttext eval
      livery fasttext eval --adapter adapters/date-keys
      livery fasttext eval --adapter adapters/date-keys --set validation --set second --set third
    """
    if data and sets:
        raise click.UsageError("--data and --set each name the cases: choose one.")
    if model and adapter is None:
        raise click.UsageError("--model is the base of an adapter; give --adapter too.")
    from commands.eval import MISSED, command_line
    from eval import hybrid
    from eval.evaluate import spread
    from eval.scorers import date_keys as scorer
    from eval.scorers import find_set
    from livery.files import sha256, write_json
    from livery.outputs import check_file, of_kind
    from livery.progress import Progress
    from livery.skills.date_keys.extract import open_adapter
    from livery.skills.date_keys.fasttext import Classifier, describe

    if output_json:
        check_file(output_json, overwrite=True, inputs=(data, folder),
                   ours=of_kind(".json", b"{"), what="a JSON file")  # fmt: skip
    classifier = Classifier.load(folder)
    named = (
        [(Path(data).name, Path(data))]
        if data
        else [find_set("date-keys", name) for name in dict.fromkeys(sets or ("validation",))]
    )
    groups = {name: (file, spread(scorer.cases(file), limit)) for name, file in named}
    if threshold is None:
        threshold = classifier.threshold
    opened = None
    if adapter is not None:
        if threshold is None:
            raise UserError(
                f"{folder}: no threshold kept its promise when it was calibrated, so there is no "
                "hybrid. Give --threshold, or train with a larger --error-rate."
            )
        opened = open_adapter(adapter, engine, model, **shared.open_options(engine, options))
    found: dict[str, Any] = {}
    for name, (file, cases) in groups.items():
        with Progress(f"asking {name}", len(cases), "commands") as progress:
            asked = hybrid.answer(
                cases, classifier, opened, constrained=engine != "http", progress=progress.update
            )
        found[name] = {
            **hybrid.summarize(asked, threshold),
            "sha256": sha256(file),
            "calibrated_on": sha256(file) == classifier.record["calibrated_on"]["sha256"],
            "wrong": hybrid.wrong(asked),
        }
    record = {
        "fasttext": {"path": folder, **classifier.record},
        "adapter": adapter,
        "engine": engine if adapter else None,
        "threshold": threshold,
        "sets": found,
        "command": command_line(),
    }
    if output_json:
        write_json(output_json, record)
    if as_json:
        click.echo(json.dumps(record, ensure_ascii=False))
    else:
        click.echo(f"FastText: {describe(classifier.record)}")
        click.echo(hybrid.table(found))
        for name, facts in found.items():
            click.echo(_promise(name, facts, classifier.record))
    first = next(iter(found.values()))["systems"]
    last = list(first)[-1]
    if target is not None and first[last]["accuracy"] < target:
        missed = f"Target missed: {last} {first[last]['accuracy']:.1%}, wanted {target:.1%}."
        click.echo(missed, err=True)
        return MISSED
    return 0


def _promise(name: str, facts: dict[str, Any], record: dict[str, Any]) -> str:
    """What the threshold promised and what came of it on a set."""
    calibration = record["calibration"]
    if facts["accepted"] is None:
        return f"{shown(name)}: no threshold."
    had = (
        f"{facts['accepted_errors']} of {facts['accepted']} accepted answers are wrong"
        if facts["accepted"]
        else "no answer is accepted"
    )
    share = f" ({facts['accepted_error']:.1%})" if facts["accepted"] else ""
    promised = f"; promised at most {calibration['rate']:.1%}" if calibration else ""
    note = " (it was calibrated on this set)" if facts["calibrated_on"] else ""
    return f"{shown(name)}: {had}{share}{promised}{note}."


def data_version(file: Path, digest: str) -> str:
    """Of the generator of these very rows, by the manifest beside them; "" where none says."""
    from datagen.folder import read_manifest

    manifest = read_manifest(file.parent)
    splits = manifest.get("splits")
    rows = splits.get(file.stem) if isinstance(splits, dict) else None
    made = isinstance(rows, dict) and rows.get("sha256") == digest
    return str(manifest.get("version", "")) if made else ""


def _rows_file(data: str) -> Path:
    """The training rows of a data folder, or the file itself."""
    path = Path(data).expanduser()
    if path.is_dir():
        path = path / "train.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no such file. Make the data with `livery data date-keys`.")
    return path
