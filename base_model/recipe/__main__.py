"""python -m base_model.recipe --work DIR [--out base_model]

Makes the embedded base again: draws the corpus, learns the tokenizer, trains three courses and
exports the model.
A stopped run goes on from its last checkpoint when it is started again with the same --work.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .train import Run


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m base_model.recipe",
        description="Make the embedded base: corpus, tokenizer, training, export. Resumable.",
        epilog="example: python -m base_model.recipe --work build/base --out build/base/model",
    )
    parser.add_argument("--work", type=Path, help="folder for shards and checkpoints")
    parser.add_argument(
        "--out", type=Path, help="folder for the finished model (default: WORK/model)"
    )
    parser.add_argument("--steps", type=int, help="optimizer steps of each course")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="MODEL",
        help="a finished model; only the courses it lacks run",
    )
    parser.add_argument("--seed", type=int, help="seed of corpus and weights")
    parser.add_argument("--layers", type=int, help="layers of the network")
    parser.add_argument(
        "--processes", type=int, default=2, help="processes of one thread (default: 2)"
    )
    parser.add_argument("--no-compile", action="store_true", help="train without torch.compile")
    parser.add_argument(
        "--score", type=Path, metavar="MODEL", help="score a finished model and stop"
    )
    parser.add_argument("--show", type=int, metavar="N", help="print N conversations and stop")
    given = parser.parse_args(arguments)
    if given.show:
        show(given.show, given.seed or 1)
        return
    if given.score:
        print_scores(given.score)
        return
    if not given.work:
        parser.error("--work DIR is missing: a folder for shards and checkpoints")
    from .export import read_courses
    from .train import Run

    chosen = {k: getattr(given, k) for k in ("steps", "layers") if getattr(given, k)}
    chosen["compile"] = not given.no_compile
    model: Path | None = given.start
    done = len(read_courses(model))
    runs = {"first": Run(), "second": Run.second(), "third": Run.third()}
    if done >= len(runs):
        parser.error(f"{model} has been through all {done} courses: there is none left to run")
    for number, (name, run) in enumerate(list(runs.items())[done:], done):
        out = given.work / name / "model"
        if number == len(runs) - 1:
            out = given.out or given.work / "model"
        if not (out / "training_run.json").exists():
            print(f"{name} course")
            run = dataclasses.replace(run, seed=(given.seed or 1) + number, **chosen)
            course(run, given.work / name, out, given.processes, model)
        model = out


def course(run: Run, work: Path, out: Path, processes: int, start: Path | None = None) -> None:
    """Trains one course in `processes` processes and writes the model to `out`."""
    from torch.multiprocessing.spawn import start_processes

    from .workers import worker

    work.mkdir(parents=True, exist_ok=True)
    if processes == 1:
        worker(0, 1, work, out, run, start)
    else:
        start_processes(worker, (processes, work, out, run, start), processes)


def print_scores(model: Path) -> None:
    from .score import score

    print("| family | exact |\n|---|---|")
    for name, share in score(model, per_family=12).items():
        print(f"| {name} | {share:.0%} |")


def show(count: int, seed: int) -> None:
    """Prints conversations of the last course."""
    from .corpus import dialogues

    for dialogue in dialogues(seed, count, course=3):
        print("\n".join(f"[{turn.role}] {turn.text}" for turn in dialogue.turns), end="\n\n")


if __name__ == "__main__":
    main()
