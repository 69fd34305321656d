"""Workers that come and go, on SQLite and on a real Postgres: nothing is lost or done twice."""

from __future__ import annotations

import base64
import contextlib
import itertools
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

pytest.importorskip("dbos", reason="needs the extra serve")

from livery.errors import UserError
from livery.files import sha256
from livery.paths import METADATA, RUN_MARK
from livery.serve.errors import Conflict, NotFound
from livery.serve.jobs import process
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.process import executor
from livery.serve.jobs.request import JobRequest
from livery.serve.queue import store as orders
from livery.training import checkpoint
from tests import PATIENCE
from tests.serve.jobs_run import (
    REMOTE,
    Gate,
    kill,
    running,
    wait_for,
    wait_until,
    worker_of,
    working,
)
from tests.serve.postgres import Postgres, running_postgres
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow

# Of a tiny model: a second of training, and a checkpoint every tenth of it.
SETTINGS: dict[str, Any] = {
    "dtype": "float32", "batch_size": 4, "lora.rank": 4, "max_steps": 60, "save_every": 6,
    "steps_per_eval": 20, "warmup_steps": 2, "learning_rate": 1e-2, "check_base": "no",
    "threads": 1, "samples": 0,
}  # fmt: skip
CHAIN = ("data", "train", "eval", "convert", "pack")
EVALUATED = ("evaluation.json", "report.md", "report.html")


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    found = Jobs(tmp_path / "root")
    yield found
    for job in found.list(state=("queued", "running", "paused")):
        found.cancel(job.id)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model("llama", tmp_path_factory.mktemp("model")))


def made(jobs: Jobs, name: str = "remote") -> dict[str, str]:
    """Hashes of what a run makes; its times, memory and mark apart, which no two runs share."""
    folder = jobs.layout.adapter(name)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in files
        if path.name not in (METADATA, RUN_MARK, "README.md", "training_metrics.jsonl")
        and "checkpoints" not in path.parts
    }


def ends(jobs: Jobs, job: str) -> dict[str, list[int | None]]:
    """Step -> how each of its tries ended, 0 where well."""
    found: dict[str, list[int | None]] = {}
    for one in process.tries(jobs.layout, job):
        code = one.code if one.signal is None else -one.signal
        found.setdefault(one.step, []).append(code)
    return found


def request(folder: Path, model: str, *steps: str, **more: Any) -> JobRequest:
    """An adapter of the skill of the documentation, on a tiny model."""
    skill = folder / "remote.py"
    skill.write_text(REMOTE)
    settings = {**SETTINGS, "model": model}
    return JobRequest(skill=str(skill), steps=steps, backend="torch", settings=settings, **more)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, model: str) -> Jobs:
    """One job of all steps, undisturbed."""
    folder = tmp_path_factory.mktemp("calm")
    jobs = Jobs(folder / "root")
    jobs.submit(request(folder, model, target=0.0))
    with working(jobs, "auto", "--drain") as worker:
        worker.wait(PATIENCE)
    return jobs


def test_the_whole_chain(calm: Jobs) -> None:
    (job,) = calm.list()
    assert job.state == "done", job.log.read_text()
    assert ends(calm, job.id) == {step: [0] for step in CHAIN}
    assert job.started is not None
    assert job.ended is not None
    for name in ("adapter_model.safetensors", "mlx/adapters.safetensors", "gguf/adapter.gguf",
                 "evaluation.json", "report.html"):  # fmt: skip
        assert (job.run_folder / name).is_file(), name
    assert job.artefact.is_file()


def test_whatever_is_killed_or_paused_the_bytes_are_the_same(
    jobs: Jobs, calm: Jobs, model: str, tmp_path: Path
) -> None:
    """Worker and trainer, trainer alone, worker alone, and a pause, each after a checkpoint;
    benchmarks/jobs.py kills each of them twenty times, at random moments."""
    steps = [step for step in CHAIN if step != "eval"]
    job = jobs.submit(request(tmp_path, model, *steps, attempts=9)).id

    def reached(step: int) -> None:
        run = jobs.layout.adapter("remote")
        wait_for(lambda: max(checkpoint.steps(run), default=0) >= step)

    with working(jobs):
        reached(6)
    kill(jobs.layout, job)
    with working(jobs):
        reached(18)
        kill(jobs.layout, job)
        reached(30)
        with contextlib.suppress(Conflict):  # or it has ended meanwhile
            jobs.pause(job)
        if wait_until(jobs, job, "paused", "done", "failed").state == "paused":
            assert not process.lives(jobs.layout, job)
            jobs.resume(job)
        reached(42)
    with working(jobs, "auto", "--drain") as worker:
        worker.wait(PATIENCE)
    said = jobs.log(job).read_text()
    assert jobs.get(job).state == "done", said
    assert made(jobs) == {name: told for name, told in made(calm).items() if name not in EVALUATED}
    found = ends(jobs, job)
    assert {step: codes.count(0) for step, codes in found.items()} == dict.fromkeys(steps, 1)
    assert found["train"][-1] == 0  # and before that, whatever came in time:
    assert set(found["train"][:-1]) <= {-signal.SIGKILL, 130}
    assert said.count("step 0: eval_loss") == 1  # nothing began anew


def test_a_worker_that_was_killed_finds_its_step_again(jobs: Jobs, tmp_path: Path) -> None:
    gate = Gate(tmp_path, "one")
    job = jobs.submit(gate.request()).id
    with working(jobs):
        gate.wait()
    one = running(jobs.layout, job)
    assert one is not None  # the step has outlived its worker
    with working(jobs, "auto", "--drain") as worker:
        wait_for(lambda: process.is_taken(jobs.layout.job(job) / "attend"))
        assert running(jobs.layout, job) == one
        gate.open()
        worker.wait(PATIENCE)
    assert jobs.get(job).state == "done"
    assert ends(jobs, job) == {"data": [0]}


def test_a_job_of_a_worker_that_never_comes_back_is_taken_over(jobs: Jobs, tmp_path: Path) -> None:
    """DBOS itself would leave the workflow PENDING for ever: it belongs to another executor."""
    gate = Gate(tmp_path, "one")
    job = jobs.submit(gate.request()).id
    with working(jobs, "cpu"):
        gate.wait()
    assert status(jobs, job) == ("PENDING", executor("cpu"))
    with working(jobs, "auto", "--drain") as worker:
        wait_for(lambda: status(jobs, job) == ("PENDING", executor("auto")))
        gate.open()
        worker.wait(PATIENCE)
    assert jobs.get(job).state == "done"
    assert ends(jobs, job) == {"data": [0]}


def test_a_workflow_stuck_as_pending_is_given_to_the_queue_again(
    jobs: Jobs, tmp_path: Path
) -> None:
    """Marked as running by a worker that lives and does not run it, with another job before it."""
    first, second = Gate(tmp_path, "first"), Gate(tmp_path, "second")
    one, two = (jobs.submit(gate.request()).id for gate in (first, second))
    with working(jobs) as worker:
        first.wait()
        with jobs.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "UPDATE workflow_status SET status = 'PENDING', executor_id = :me "
                    "WHERE workflow_uuid = :job"
                ),
                {"me": executor("auto"), "job": f"{two}-1"},
            )
        first.open()
        second.open()
        assert wait_until(jobs, two, "done", "failed").state == "done"
        assert wait_until(jobs, one, "done", "failed").state == "done"
        assert worker.poll() is None
    assert ends(jobs, one) == ends(jobs, two) == {"data": [0]}


def test_a_workflow_that_runs_twice_does_nothing_twice(jobs: Jobs, tmp_path: Path) -> None:
    """Given to the queue again while it runs, and taken by a second worker."""
    gate = Gate(tmp_path, "one")
    job = jobs.submit(gate.request()).id
    with working(jobs), working(jobs, "cpu"):
        gate.wait()
        owner = status(jobs, job)
        jobs.client.resume_workflow(f"{job}-1", queue_name="livery-jobs")
        wait_for(lambda: (status(jobs, job)[0] == "PENDING" and status(jobs, job) != owner)
                 or status(jobs, job)[0] == "SUCCESS")  # fmt: skip
        gate.open()
        assert wait_until(jobs, job, "done", "failed").state == "done"
    assert ends(jobs, job) == {"data": [0]}


def test_a_job_whose_workflow_is_lost_gets_another(jobs: Jobs, tmp_path: Path) -> None:
    gate = Gate(tmp_path, "one")
    gate.open()
    job = jobs.submit(gate.request()).id
    jobs.client.delete_workflow(f"{job}-1")
    with working(jobs, "auto", "--drain") as worker:
        worker.wait(PATIENCE)
    assert jobs.get(job).state == "done"
    assert ends(jobs, job) == {"data": [0]}


class _Runs:
    """What creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_in_the_database_is_unpickled(jobs: Jobs, tmp_path: Path) -> None:
    """Each row of DBOS says how it was written, and anybody who reaches the database writes one."""
    hostile, touched = Gate(tmp_path, "hostile"), tmp_path / "touched"
    job = jobs.submit(hostile.request()).id
    written = base64.b64encode(pickle.dumps(_Runs(touched))).decode()
    with jobs.engine.begin() as connection:
        connection.execute(sa.text("UPDATE workflow_status SET serialization = 'py_pickle'"))
        changed = connection.execute(
            sa.text("UPDATE workflow_input SET inputs = :written"), {"written": written}
        )
        assert changed.rowcount == 1
    gate = Gate(tmp_path, "one")
    gate.open()
    after = jobs.submit(gate.request()).id
    with working(jobs):
        wait_until(jobs, after, "done", "failed")
        assert jobs.client.list_workflows()
    assert not touched.exists()
    assert jobs.get(after).state == "done"
    assert ends(jobs, job) == {}


def test_jobs_wait_in_the_order_in_which_they_came(jobs: Jobs, tmp_path: Path) -> None:
    gates = [Gate(tmp_path, name) for name in ("c", "a", "b")]
    for gate in gates:
        gate.open()
    order = [jobs.submit(gate.request()).id for gate in gates]
    with working(jobs, "auto", "--drain") as worker:
        worker.wait(PATIENCE)
    times = [process.tries(jobs.layout, job)[0] for job in order]
    for before, after in itertools.pairwise(times):
        assert before.ended is not None
        assert before.ended <= after.started


def test_one_worker_a_device(jobs: Jobs) -> None:
    with process.taken(jobs.layout.lock("worker", executor("cpu"))):
        worker = worker_of(jobs, "cpu")
        assert worker.wait(PATIENCE) == 1
    said = (jobs.layout.root / "worker-cpu.log").read_text()
    assert "already a worker for the device cpu" in said


# -- Postgres ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


def test_two_workers_on_postgres(postgres: Postgres, tmp_path: Path) -> None:
    """Each takes a job; one is killed, and the other takes over what it had."""
    url = postgres.database("two")
    jobs = Jobs(tmp_path / "root", url)
    gates = [Gate(tmp_path, name) for name in ("first", "second")]
    one, two = (jobs.submit(gate.request()).id for gate in gates)
    with working(jobs, "cpu"):
        with working(jobs, "auto"):
            for gate in gates:
                gate.wait()
            owners = {job: status(jobs, job)[1] for job in (one, two)}
            assert sorted(owners.values()) == sorted((executor("cpu"), executor("auto")))
        (orphan,) = (job for job, owner in owners.items() if owner == executor("auto"))
        for gate in gates:
            gate.open()
        for job in (one, two):
            assert wait_until(jobs, job, "done", "failed").state == "done"
        wait_for(lambda: status(jobs, orphan) == ("SUCCESS", executor("cpu")))
    assert ends(jobs, one) == ends(jobs, two) == {"data": [0]}
    with pytest.raises(UserError, match="another folder"):
        Jobs(tmp_path / "other", url)


def test_an_id_that_postgres_does_not_take_is_none_of_ours(
    postgres: Postgres, tmp_path: Path
) -> None:
    jobs = Jobs(tmp_path / "root", postgres.database("odd"))
    with pytest.raises(NotFound, match="no job"):
        jobs.get("a\0b")
    orders.create(jobs.engine)
    assert orders.get(jobs.engine, id="a\0b") is None


def test_a_database_that_was_away_loses_no_job(postgres: Postgres, tmp_path: Path) -> None:
    """It goes without a word while a step runs, and comes back when the step has ended."""
    jobs = Jobs(tmp_path / "root", postgres.database("away"))
    gate = Gate(tmp_path, "one")
    job = jobs.submit(gate.request()).id
    with working(jobs) as worker:
        gate.wait()
        postgres.stop(signal.SIGQUIT)
        gate.open()
        wait_for(lambda: not process.lives(jobs.layout, job))
        log = jobs.layout.root / "worker-auto.log"
        wait_for(lambda: "The database cannot be reached" in log.read_text())
        postgres.start()
        assert wait_until(jobs, job, "done", "failed").state == "done"
        assert worker.poll() is None
    assert ends(jobs, job) == {"data": [0]}


def status(jobs: Jobs, job: str) -> tuple[str, str]:
    """What DBOS has of a job's first workflow: its status and executor."""
    (found,) = jobs.client.list_workflows(workflow_ids=[f"{job}-1"])
    return found.status, found.executor_id
