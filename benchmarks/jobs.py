"""Jobs under random kills: `python -m benchmarks.jobs [--kills 20] [--seed 0] [--json FILE]`.

A job makes an adapter of a tiny model: data, training, conversion, packing. The same job is then
made again while one part at a time is killed (SIGKILL) at random moments, as often as is asked for:
the worker, the trainer, both at once, and the server, while a client orders the job over HTTP again
and again with one key (`benchmarks/jobs_server.py`). It ends well if the adapter has the bytes of
the undisturbed job, there is one job, every step ended well exactly once, and no two processes of
the job overlapped.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import jobs_server
from livery.files import sha256, write_json
from livery.paths import METADATA, RUN_MARK, python_path
from livery.serve.jobs import process
from livery.serve.jobs.jobs import Job, Jobs
from livery.serve.jobs.request import JobRequest

PARTS = ("worker", "trainer", "both", "server")
STEPS = ("data", "train", "convert", "pack")
NAME = "numbers"
SENT = ("name", "backend", "settings", "attempts")  # over HTTP, and the rows by their name
SKILL = """
SYSTEM_PROMPT = "Name the number that is meant."
WORDS = ("one", "two", "three", "four", "five", "six")
WORDINGS = ("what is {}", "tell me {} please", "i would like {} of them", "give the digit of {}")
TRAIN_ROWS = 40


def generate(rng):
    while True:
        word, wording = rng.choice(WORDS), rng.choice(WORDINGS)
        start = rng.choice(("", "ok ", "so ", "well "))
        yield {"text": start + wording.format(word), "answer": str(WORDS.index(word) + 1),
               "category": word, "family": wording}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=400, help="optimizer steps of the training")
    parser.add_argument("--backend", default="torch", choices=["mlx", "torch"])
    parser.add_argument("--longest", type=float, default=10.0, help="seconds between two kills")
    parser.add_argument("--part", action="append", choices=PARTS, help="all by default")
    parser.add_argument("--json", dest="file", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="livery-jobs-") as place:
        found = measure(Path(place), options)
    for part, row in found.items():
        print(f"{part:<8} {row['kills']:>3} kills  {row['seconds']:>6.0f} s  "
              f"{row['tries']:>3} tries  {'the same bytes' if row['same'] else 'OTHER BYTES'}, "
              f"{'nothing twice' if row['once'] else 'SOMETHING TWICE'}")  # fmt: skip
    if options.file:
        write_json(options.file, found)
    sys.exit(0 if all(row["same"] and row["once"] for row in found.values()) else 1)


def measure(place: Path, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    from tests.tiny_models import tiny_model

    skill = place / "numbers.py"
    skill.write_text(SKILL)
    settings = {
        "model": str(tiny_model("llama", place / "models")), "dtype": "float32", "lora.rank": 4,
        "max_steps": options.steps, "batch_size": 4, "save_every": max(5, options.steps // 80),
        "steps_per_eval": 50, "warmup_steps": 2, "samples": 0, "threads": 1, "check_base": "no",
    }  # fmt: skip
    request = JobRequest(
        skill=str(skill), name=NAME, steps=STEPS, backend=options.backend, settings=settings,
        attempts=10 * options.kills + 10,
    )  # fmt: skip
    parts = [part for part in PARTS if part in (options.part or PARTS)]
    expected: dict[bool, dict[str, str]] = {}  # of the job that goes over HTTP, and of the other
    found: dict[str, dict[str, Any]] = {}
    for part in parts:
        over_http = part == "server"
        if over_http not in expected:
            calm = Jobs(place / f"calm-{part}")
            made_of(calm, part, request, place, 0, 1.0, random.Random(0))
            undisturbed = calm.list()[0]
            if undisturbed.state != "done":
                sys.exit(f"The undisturbed job is {undisturbed.state}: {undisturbed.cause}")
            expected[over_http] = made(calm)
        jobs = Jobs(place / part)
        draw = random.Random(options.seed * len(PARTS) + PARTS.index(part))
        began = time.monotonic()
        heard = made_of(jobs, part, request, place, options.kills, options.longest, draw)
        job = jobs.list()[0]
        same = job.state == "done" and made(jobs) == expected[over_http]
        found[part] = {
            **heard, "seconds": round(time.monotonic() - began, 1), "state": job.state,
            "tries": len(process.tries(jobs.layout, job.id)), "same": same,
            "once": len(jobs.list()) == heard.get("jobs", 1) == 1 and once(jobs, job),
        }  # fmt: skip
        print(f"{part}: {json.dumps(found[part])}", file=sys.stderr, flush=True)
    return found


def made_of(
    jobs: Jobs, part: str, request: JobRequest, place: Path, kills: int, longest: float,
    draw: random.Random,
) -> dict[str, Any]:  # fmt: skip
    """Make the job to its end; what there is to tell of it."""
    longest *= LONGEST[part]
    if part != "server":
        return {"kills": one(jobs, request, part, kills, longest, draw)}
    jobs.layout.make()
    subprocess.run(  # a request over HTTP names no file of a skill
        [sys.executable, "-m", "livery", "data", str(request.skill), "--out",
         str(jobs.layout.data(NAME))],
        check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": python_path()},
    )  # fmt: skip
    body = {key: dataclasses.asdict(request)[key] for key in SENT}
    body |= {"data": NAME, "steps": STEPS[1:]}
    return jobs_server.one(jobs, place / "models", body, kills, longest, draw)


class Hit:
    """A folder with its worker, which is started again whenever it is killed."""

    def __init__(self, jobs: Jobs, job: str) -> None:
        self.jobs, self.job = jobs, job
        self.worker = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with (self.jobs.layout.root / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "livery", "jobs", "worker", "--root",
                 str(self.jobs.layout.root)],
                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": python_path()},
            )  # fmt: skip

    def kill_worker(self) -> bool:
        self.worker.kill()
        self.worker.wait()
        return True

    def kill_step(self) -> bool:
        """The command of the step, not its wrapper: whether one was there."""
        tries = process.tries(self.jobs.layout, self.job)
        if not tries or tries[-1].ended is not None:
            return False
        said = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(tries[-1].pid)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        for word in said.stdout.split():
            try:
                os.kill(int(word), signal.SIGKILL)
            except ProcessLookupError:
                continue
            return True
        return False


KILLS: dict[str, Callable[[Hit], Any]] = {
    "worker": Hit.kill_worker,
    "trainer": Hit.kill_step,
    "both": lambda hit: (hit.kill_worker(), hit.kill_step())[1],
}
# Of --longest. Where the trainer runs on, the job would be done before the last kill.
LONGEST = {"worker": 0.3, "trainer": 1.0, "both": 1.0, "server": 0.3}


def one(
    jobs: Jobs, request: JobRequest, part: str, kills: int, longest: float, draw: random.Random
) -> int:
    """Make one job to its end; how many kills hit something."""
    job = jobs.submit(request).id
    hit, done = Hit(jobs, job), 0
    try:
        while jobs.get(job).state in ("queued", "running"):
            time.sleep(draw.uniform(0.0, longest) if done < kills else 0.2)
            if done < kills and jobs.get(job).state in ("queued", "running"):
                done += bool(KILLS[part](hit))
            if hit.worker.poll() is not None:
                hit.worker = hit.start()
    finally:
        hit.kill_worker()
    return done


def made(jobs: Jobs) -> dict[str, str]:
    """Hashes of the adapter's files; times and memory apart, which no two runs share."""
    folder = jobs.layout.adapter(NAME)
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in (METADATA, RUN_MARK, "README.md", "training_metrics.jsonl")
    }


def once(jobs: Jobs, job: Job) -> bool:
    """Whether each step ended well once, one after the other, and no metric was logged twice."""
    tries = process.tries(jobs.layout, job.id)
    well = [one.step for one in tries if one.code == 0]
    apart = all(
        before.ended is None or before.ended <= after.started
        for before, after in itertools.pairwise(tries)
    )
    lines = (jobs.layout.adapter(NAME) / "training_metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    steps = [(row["step"], "eval_loss" in row) for row in rows]
    return well == list(job.request.steps) and apart and len(steps) == len(set(steps))


if __name__ == "__main__":
    main()
