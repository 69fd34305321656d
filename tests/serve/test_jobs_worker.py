"""Workers that come and go, on SQLite and on a real Postgres: nothing is lost or done twice."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

pytest.importorskip("dbos", reason="needs the extra serve")

from livery.files import sha256
from livery.paths import METADATA
from livery.serve.jobs import process
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.request import JobRequest
from livery.serve.jobs.worker import executor
from tests.runs import write_data
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
from tests.tiny_models import tiny_model

pytestmark = pytest.mark.slow

# Of a tiny model: a second of training, and a checkpoint every tenth of it.
SETTINGS: dict[str, Any] = {
    "dtype": "float32", "batch_size": 4, "lora.rank": 4, "max_steps": 60, "save_every": 6,
    "steps_per_eval": 20, "warmup_steps": 2, "learning_rate": 1e-2, "check_base": "no",
    "threads": 1, "samples": 0,
}  # fmt: skip


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    found = Jobs(tmp_path / "root")
    yield found
    for job in found.list(state=("queued", "running", "paused")):
        found.cancel(job.id)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model("llama", tmp_path_factory.mktemp("model")))


def training(root: Path, model: str, **more: Any) -> JobRequest:
    if not (root / "data" / "rows").exists():
        write_data(root / "data" / "rows")
    return JobRequest(
        data="rows", name="tiny", backend="torch", settings={**SETTINGS, "model": model}, **more
    )


def made(jobs: Jobs, name: str = "tiny") -> dict[str, str]:
    """Hashes of what a run makes; its times and memory apart, which no two runs share."""
    folder = jobs.layout.adapter(name)
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(folder)): sha256(path)
        for path in files
        if path.name not in (METADATA, "README.md", "training_metrics.jsonl")
        and "checkpoints" not in path.parts
    }


def ends(jobs: Jobs, job: str) -> dict[str, list[int | None]]:
    """Step -> how each of its tries ended, 0 where well."""
    found: dict[str, list[int | None]] = {}
    for one in process.tries(jobs.layout, job):
        code = one.code if one.signal is None else -one.signal
        found.setdefault(one.step, []).append(code)
    return found


def test_the_whole_chain(jobs: Jobs, model: str, tmp_path: Path) -> None:
    """A skill's data, training, evaluation, conversion and zip."""
    skill = tmp_path / "remote.py"
    skill.write_text(REMOTE)
    settings = {**SETTINGS, "max_steps": 4, "model": model}
    job = jobs.submit(JobRequest(skill=str(skill), backend="torch", settings=settings, target=0.0))
    with working(jobs, "auto", "--drain") as worker:
        worker.wait()
    found = jobs.get(job.id)
    assert found.state == "done", found.log.read_text()
    assert ends(jobs, job.id) == {
        step: [0] for step in ("data", "train", "eval", "convert", "pack")
    }
    assert found.started is not None
    assert found.ended is not None
    for name in ("adapter_model.safetensors", "mlx/adapters.safetensors", "gguf/adapter.gguf",
                 "evaluation.json", "report.html"):  # fmt: skip
        assert (found.run_folder / name).is_file(), name
    assert found.artefact.is_file()


def test_kills_of_worker_trainer_and_both_leave_the_same_bytes(tmp_path: Path, model: str) -> None:
    """Each at a moment of its own; benchmarks/jobs.py kills twenty times each, at random ones."""
    calm, hit = Jobs(tmp_path / "calm"), Jobs(tmp_path / "hit")
    for jobs in (calm, hit):
        jobs.submit(training(jobs.layout.root, model, attempts=9))
    (job,) = (one.id for one in hit.list())
    with working(calm, "auto", "--drain") as worker:
        worker.wait()

    def reached(step: int) -> bool:
        return (hit.layout.adapter("tiny") / f"checkpoints/step-{step:06d}").exists()

    def trained() -> int:
        return len(ends(hit, job).get("train", []))

    worker = worker_of(hit)
    wait_for(lambda: reached(6))
    worker.kill()
    worker.wait()
    assert kill(hit.layout, job) or hit.get(job).step != "train"
    worker = worker_of(hit)
    wait_for(lambda: trained() == 2 or hit.get(job).step != "train")
    kill(hit.layout, job)
    wait_for(lambda: reached(18) or hit.get(job).step != "train")
    worker.kill()
    worker.wait()
    with working(hit, "auto", "--drain") as worker:
        worker.wait()
    assert hit.get(job).state == "done", hit.log(job).read_text()
    assert made(hit) == made(calm)
    assert {step: codes.count(0) for step, codes in ends(hit, job).items()} == {
        "train": 1, "convert": 1, "pack": 1
    }  # fmt: skip
    assert ends(hit, job)["train"].count(-signal.SIGKILL) >= 1


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
        worker.wait()
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
        worker.wait()
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
        worker.wait()
    assert jobs.get(job).state == "done"
    assert ends(jobs, job) == {"data": [0]}


def test_a_paused_trainer_continues_from_its_checkpoint(jobs: Jobs, model: str) -> None:
    settings = {**SETTINGS, "model": model, "max_steps": 400}
    write_data(jobs.layout.root / "data" / "rows")
    job = jobs.submit(
        JobRequest(data="rows", name="tiny", backend="torch", settings=settings, steps=("train",))
    ).id
    with working(jobs):
        wait_for(lambda: (jobs.layout.adapter("tiny") / "checkpoints/step-000012").exists())
        jobs.pause(job)
        assert wait_until(jobs, job, "paused", "failed", "done").state == "paused"
        assert not process.lives(jobs.layout, job)
        jobs.resume(job)
        assert wait_until(jobs, job, "failed", "done").state == "done"
    assert ends(jobs, job) == {"train": [130, 0]}
    said = jobs.log(job).read_text()
    assert "Resuming from step" in said
    assert "step 0:" not in said.split("Resuming from step")[1]


def test_one_worker_a_device(jobs: Jobs) -> None:
    with process.taken(jobs.layout.lock("worker", executor("cpu"))):
        worker = worker_of(jobs, "cpu")
        assert worker.wait() == 1
    assert "has a worker for the device cpu" in (jobs.layout.root / "worker-cpu.log").read_text()


# -- Postgres ----------------------------------------------------------------------------------

BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that was made for the test, on a socket in its own folder."""
    initdb = shutil.which("initdb") or (str(BIN / "initdb") if BIN else None)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed here (initdb)")
    home = Path("/tmp") / f"livery-pg-{os.getpid()}"  # a socket's path is short
    home.mkdir(mode=0o700)
    user: dict[str, Any] = {}
    if os.getuid() == 0:  # which Postgres refuses to run as
        nobody = pwd.getpwnam("nobody")
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    place, plain = home / "db", {"env": {**os.environ, "HOME": str(home)}, "cwd": home, **user}
    subprocess.run(
        [initdb, "-D", str(place), "-U", "livery", "-A", "trust", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, **plain,
    )  # fmt: skip
    server = subprocess.Popen(
        [str(Path(initdb).with_name("postgres")), "-D", str(place), "-k", str(home),
         "-c", "listen_addresses=", "-c", "fsync=off"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **plain,
    )  # fmt: skip
    url = f"postgresql://livery@/postgres?host={home}"

    def answers() -> bool:
        try:
            sa.create_engine(url.replace(":", "+psycopg:", 1)).connect().close()
        except sa.exc.OperationalError:
            return False
        return True

    try:
        wait_for(answers)
        yield url
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(home)


def test_two_workers_on_postgres(postgres: str, tmp_path: Path) -> None:
    """Each takes a job; one is killed, and the other takes over what it had."""
    jobs = Jobs(tmp_path / "root", postgres)
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
        assert status(jobs, orphan) == ("SUCCESS", executor("cpu"))
    assert ends(jobs, one) == ends(jobs, two) == {"data": [0]}
    with pytest.raises(Exception, match="another folder"):
        Jobs(tmp_path / "other", postgres)


def status(jobs: Jobs, job: str) -> tuple[str, str]:
    """What DBOS has of a job's first workflow: its status and executor."""
    (found,) = jobs.client.list_workflows(workflow_ids=[f"{job}-1"])
    return found.status, found.executor_id
