"""The stages of `livery run`: each says whether it is done already, and does itself if not.

A stage is done when its result is there and was made from the same bytes: data by its manifest,
training by the hashes of data and base and the settings that decide a run's numbers, evaluation by
the hashes of adapter and cases.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from commands.training import backends
from commands.training import session as training
from commands.training.output import TrainingOutput
from livery.config.layers import Config
from livery.config.settings import TrainSettings
from livery.dataset.packed import Source
from livery.dataset.raw import raw_rows
from livery.dataset.sources import find
from livery.errors import UserError, printable
from livery.files import sha256, write_json
from livery.machine import use_threads
from livery.paths import MADE_FROM, METADATA, RUN_CONFIG
from livery.reading import read_object
from livery.training import origin

Say = Callable[[str], None]

# -- data --------------------------------------------------------------------------------------


def make_data(folder: Path, skill: str, seed: int) -> None:
    """Generate the skill's data; files that were edited are renamed and reported.

    Raises:
        UserError: the skill has no generator, or the folder holds something else.
    """
    from datagen.folder import set_edited_aside
    from datagen.make import get_generator
    from datagen.make import make_data as make

    get_generator(skill)  # a fault in it touches nothing in the folder
    for name in set_edited_aside(folder):
        kept = printable(f"note: what was edited is kept as {folder / name}.")
        print(kept, file=sys.stderr, flush=True)
    make(skill, folder, seed)


def describe_data(folder: Path, settings: TrainSettings) -> str:
    """Rows by split, for the summary; the settings may take fewer."""
    splits = find(folder)
    rows = [f"{_count(splits.train):,} training rows"]
    if splits.valid:
        rows.append(f"{_count(splits.valid):,} held out")
    fewer = settings.max_samples or settings.val_split or settings.eval_max_samples
    return ", ".join(rows) + ("; the settings select among them" if fewer else "")


def _count(sources: Sequence[Source]) -> int:
    return sum(1 for source in sources for _ in raw_rows(source))


# -- training ----------------------------------------------------------------------------------


def training_is_done(settings: TrainSettings) -> bool:
    """Whether the output folder holds a finished run made from the same.

    Raises:
        UserError: it holds a run, finished or not, that was made from something else.
    """
    folder = Path(settings.output_dir)
    if not (folder / RUN_CONFIG).exists():
        return False
    if not (folder / MADE_FROM).is_file():
        raise UserError(
            f"{folder}: holds a run that `livery run` did not make. Choose another --output-dir, "
            "or add --fresh to start over in its place."
        )
    before = _read_origin(folder / MADE_FROM)
    changed = origin.of_adapter(settings, before.base).differences(before)
    if changed:
        raise UserError(
            f"{folder}: holds a run made from something else ({'; '.join(changed[:3])}). Add "
            "--fresh to start over in its place, or name another --output-dir."
        )
    return (folder / METADATA).exists()


def _read_origin(path: Path) -> origin.Origin:
    try:
        return origin.read(read_object(path))
    except TypeError as error:
        raise UserError(
            f"{path}: not a record of what a run was made from: {error}. Add --fresh to start over."
        ) from None


def train(config: Config, *, fresh: bool, resume_command: str) -> None:
    """Begin the run, or resume the one that was interrupted; the caller holds its folder."""
    folder = Path(config.settings.output_dir)
    resume = not fresh and (folder / RUN_CONFIG).exists()
    settings, _ = backends.choose(config.settings)
    record = None if resume else dataclasses.asdict(origin.of_adapter(settings))
    with TrainingOutput() as output:
        training.train(
            config,
            training.Request(
                resume=resume,
                resume_command=resume_command,
                overwrite=fresh,
                held=True,
                begin=lambda: write_json(folder / MADE_FROM, record),
                callbacks=(output,),
            ),
        )


# -- evaluation --------------------------------------------------------------------------------


def stored_evaluation(skill: str, folder: Path, data: str) -> dict[str, Any] | None:
    """The record of an evaluation of these weights on these cases, with the base beside it."""
    from eval import record
    from eval.record import adapter_hashes
    from eval.scorers import find_set
    from livery.skills import get_skill

    path = folder / record.NAME
    if not path.is_file():
        return None
    found = record.read(path)
    mode = found["headline"].partition("_")[2]
    held = mode == "constrained" or get_skill(skill).constraint() is None
    same = (
        held
        and found["set"]["sha256"] == sha256(find_set(skill, data=data)[1])
        and found["facts"]["adapter_sha256"] == adapter_hashes(folder)
        and {f"base_{mode}", f"tuned_{mode}"} <= found["arms"].keys()
    )
    return found if same else None


def evaluate(
    skill: str,
    settings: TrainSettings,
    targets: Mapping[str, float],
    *,
    neutral: bool = True,
    show: bool = True,
) -> dict[str, Any]:
    """Score adapter and base, constrained and free, and put it on record in the folder.

    Args:
        targets: metric ("correct" for the share of right answers) -> the value to be reached.
        show: print the record, for people.
    """
    from commands.eval import TOKENS_EVAL
    from eval import record
    from eval.evaluate import Request
    from eval.evaluate import evaluate as run_evaluation
    from eval.report.terminal import print_record
    from livery.engines.engine import Decoding, engine_names
    from livery.progress import Progress

    asked = [
        f"--target {value:g}" if name == "correct" else f"--target {name}={value:g}"
        for name, value in targets.items()
    ]
    use_threads(settings.threads)
    folder = Path(settings.output_dir)
    engine = settings.backend if settings.backend in engine_names() else "mlx"
    request = Request(
        skill=skill,
        adapter=str(folder),
        engine=engine,
        engine_options={"dtype": settings.dtype},
        baseline=True,
        train_data=settings.data,
        columns=settings.columns,
        target=targets.get("correct"),
        targets={name: value for name, value in targets.items() if name != "correct"},
        neutral=neutral,
        decoding=Decoding(TOKENS_EVAL),  # as the command below answers
        room=True,
        threads=settings.threads,
        command=f"livery eval {skill} --adapter {folder} --baseline {' '.join(asked)}",
    )
    found = run_evaluation(
        request,
        lambda what, total: Progress(what, total, "answers"),
        lambda text: print(f"note: {text}", file=sys.stderr, flush=True),
    )
    write_json(folder / record.NAME, found)
    if show:
        print_record(found)
    return found


# -- report ------------------------------------------------------------------------------------


def report_is_current(folder: Path) -> bool:
    """Whether the report, both of its forms, is younger than what it reports on."""
    pages = [folder / "report.md", folder / "report.html"]
    sources = [path for path in (folder / "evaluation.json", folder / METADATA) if path.exists()]
    return all(page.is_file() for page in pages) and (
        max((source.stat().st_mtime for source in sources), default=0.0)
        <= min(page.stat().st_mtime for page in pages)
    )


def report(folder: Path) -> None:
    """Write report.md and report.html."""
    from eval.report.report import write_report

    write_report(folder)
