"""One step seen to: real processes that end well, badly, or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dbos", reason="needs the extra serve")

from livery.serve.errors import Conflict
from livery.serve.jobs import process, steps, store
from livery.serve.jobs.attend import attend, device_lock
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.layout import Layout
from livery.serve.jobs.request import JobRequest
from tests import PATIENCE
from tests.serve.jobs_run import children, group_lives, running, wait_for

Run = Callable[..., str]
pytestmark = pytest.mark.slow  # processes of their own


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("jobs"))


@pytest.fixture
def run(jobs: Jobs, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Submit a job whose step is a Python program; returns the job's id."""

    def submit(code: str, name: str = "", **more: Any) -> str:
        name = name or request.node.name.replace("[", "-").strip("]")
        programs[name] = code
        return jobs.submit(JobRequest(**{"skill": "date-keys", "name": name, **more})).id

    programs: dict[str, str] = {}
    monkeypatch.setattr(
        steps, "command",
        lambda layout, request, step: [sys.executable, "-c", programs[request.name]],
    )  # fmt: skip
    return submit


def in_background(jobs: Jobs, job: str, leg: int = 1, step: str = "data") -> threading.Thread:
    arguments = (jobs, job, leg, step, "cpu")
    thread = threading.Thread(target=attend, args=arguments, daemon=True)
    thread.start()
    return thread


def says(jobs: Jobs, job: str, line: str) -> bool:
    log = jobs.log(job)
    return log.exists() and line in log.read_text().splitlines()


def codes(jobs: Jobs, job: str) -> list[int | None]:
    return [one.signal or one.code for one in process.tries(jobs.layout, job)]


def test_a_step_that_ends_well_is_done_once(jobs: Jobs, run: Run) -> None:
    job = run("print('made')")
    assert attend(jobs, job, 1, "data", "cpu") == "done"
    assert attend(jobs, job, 1, "data", "cpu") == "done"
    assert attend(jobs, job, 2, "data", "cpu") == "superseded"
    assert codes(jobs, job) == [0]
    assert jobs.log(job).read_text().splitlines()[1:] == ["made"]
    assert (jobs.get(job).state, jobs.get(job).step, jobs.get(job).attempt) == (
        "running",
        "data",
        1,
    )


def test_a_job_that_was_to_begin_earlier_is_not_begun(jobs: Jobs, run: Run) -> None:
    job = run("print('begun')", begin_by=1.0)
    assert attend(jobs, job, 1, "data", "cpu") == "stopped"
    found = jobs.get(job)
    assert found.cause is not None
    assert (found.state, found.cause.kind, found.started) == ("failed", "expired", None)
    assert codes(jobs, job) == []
    # Whoever retries it wants it, and one that has begun goes on.
    jobs.retry(job)
    assert attend(jobs, job, 2, "data", "cpu") == "done"
    begun = run("print('begun')", name="begun", begin_by=9e9)
    assert attend(jobs, begun, 1, "data", "cpu") == "done"
    late = dataclasses.replace(jobs.get(begun).request, begin_by=1.0)
    store.change(jobs.engine, begun, {"request": store.as_json(late.as_dict())})
    assert jobs.expire(begun) is False


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "sys.exit(137)"])
def test_a_killed_process_is_started_as_often_as_was_said(jobs: Jobs, run: Run, how: str) -> None:
    job = run(f"import os, sys; print('so far', flush=True); {how}", name=f"kill{len(how)}",
              attempts=3)  # fmt: skip
    assert attend(jobs, job, 1, "data", "cpu") == "stopped"
    found = jobs.get(job)
    assert len(codes(jobs, job)) == 3
    assert (found.state, found.attempt, found.attempts) == ("failed", 3, 3)
    assert found.cause is not None
    assert (found.cause.kind, found.cause.detail) == ("signal", "data was ended by SIGKILL")
    assert found.cause.last_lines == ("so far",)
    assert found.ended is not None


@pytest.mark.parametrize(
    ("says", "code", "kind", "detail"),
    [
        ("Error: no such file", 1, "exit code", "data exited with 1"),
        ("Error: Out of memory on cuda:0. Try --batch-size 1.", 1, "out of memory",
         "data ran out of memory"),
        ("Target missed", 3, "exit code", "data exited with 3"),
    ],
)  # fmt: skip
def test_a_command_that_gives_up_is_not_asked_again(
    jobs: Jobs, run: Run, says: str, code: int, kind: str, detail: str
) -> None:
    job = run(f"import sys; print({says!r}); sys.exit({code})", name=f"gives-up-{len(says)}")
    assert attend(jobs, job, 1, "data", "cpu") == "stopped"
    cause = jobs.get(job).cause
    assert cause is not None
    assert (cause.kind, cause.detail, cause.last_lines) == (kind, detail, (says,))
    assert codes(jobs, job) == [code]


def test_a_missed_target_is_a_cause_of_its_own(jobs: Jobs, run: Run) -> None:
    jobs.layout.adapter("missed").mkdir()
    job = run("import sys; sys.exit(3)", steps=("eval", "pack"), target=0.5, name="missed")
    assert attend(jobs, job, 1, "eval", "cpu") == "stopped"
    assert jobs.get(job).cause.kind == "target missed"  # type: ignore[union-attr]


def test_what_is_not_better_replaces_nothing_and_says_so(jobs: Jobs, run: Run) -> None:
    jobs.layout.adapter("unbetter").mkdir()
    job = run("import sys; sys.exit(3)", steps=("promote",), over="old", name="unbetter")
    assert attend(jobs, job, 1, "promote", "cpu") == "stopped"
    cause = jobs.get(job).cause
    assert cause is not None
    assert (cause.kind, "nothing was replaced" in cause.detail) == ("target missed", True)


def test_the_kernels_kill_is_told_from_a_persons(jobs: Jobs, run: Run) -> None:
    """A real one, where a control group with a limit can be made."""
    group = Path("/sys/fs/cgroup/memory/livery-test")
    limit = group / "memory.limit_in_bytes"
    if not group.parent.is_dir():
        group = Path("/sys/fs/cgroup/livery-test")
        limit = group / "memory.max"
    try:
        group.mkdir(exist_ok=True)
        limit.write_text("60M")
    except OSError:
        pytest.skip("no control group with a limit of memory can be made here")
    try:
        job = run(
            f"open({str(group / 'cgroup.procs')!r}, 'w').write('0'); print('in'); "
            "bytearray(500 << 20)", attempts=1, name="oom",
        )  # fmt: skip
        assert attend(jobs, job, 1, "data", "cpu") == "stopped"
    finally:
        group.rmdir()
    cause = jobs.get(job).cause
    assert cause is not None
    assert cause.kind == "out of memory"
    assert "killed by the system" in cause.detail


CHILD = "import subprocess, sys, time; subprocess.Popen(['sleep', '1000']); "


@pytest.mark.parametrize("more", ["", "import signal; signal.signal(15, signal.SIG_IGN); "])
def test_cancel_ends_the_process_and_its_children(
    jobs: Jobs, run: Run, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 1.0)
    job = run(more + CHILD + "print('there', flush=True); time.sleep(1000)", name=f"c{len(more)}")
    thread = in_background(jobs, job)
    wait_for(lambda: says(jobs, job, "there"))
    one = running(jobs.layout, job)
    assert one is not None
    assert jobs.cancel(job).state == "cancelled"
    wait_for(lambda: not group_lives(one.pid))
    assert not process.lives(jobs.layout, job)
    thread.join()
    assert jobs.cancel(job).state == "cancelled"
    assert len(codes(jobs, job)) == 1


def test_cancel_needs_no_worker(jobs: Jobs, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was killed has left its process behind."""
    job = run(CHILD + "time.sleep(1000)")
    child = process.start(
        jobs.layout, job, "1-data-1", jobs.layout.lock("device", "t"), dict(os.environ),
        lambda: [sys.executable, "-c", "import time; time.sleep(1000)"],
    )  # fmt: skip
    assert child is not None
    wait_for(lambda: running(jobs.layout, job))
    assert jobs.cancel(job).state == "cancelled"
    wait_for(lambda: not group_lives(child.pid))
    child.wait()


def test_what_a_command_leaves_running_ends_with_it(jobs: Jobs, run: Run) -> None:
    job = run(CHILD + "print('over')")
    assert attend(jobs, job, 1, "data", "cpu") == "done"
    wait_for(lambda: not group_lives(process.tries(jobs.layout, job)[0].pid))


WAITS = """
import signal, sys, time
from pathlib import Path
saved, gate = Path({saved!r}), Path({gate!r})
if saved.exists():
    sys.exit(0)
def stop(*_):
    with saved.open("a") as file:
        file.write("asked ")
    while not gate.exists():  # a second request would be seen
        time.sleep(0.02)
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
print("ready", flush=True)
time.sleep(1000)
"""


def test_a_pause_asks_once_and_resume_continues(
    jobs: Jobs, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, gate = tmp_path / "saved", tmp_path / "gate"
    looks: list[str] = []
    interrupt = process.interrupt

    def counted(layout: Layout, job: str) -> None:
        interrupt(layout, job)
        looks.append(job)

    monkeypatch.setattr(process, "interrupt", counted)
    job = run(WAITS.format(saved=str(saved), gate=str(gate)))
    thread = in_background(jobs, job)
    wait_for(lambda: says(jobs, job, "ready"))
    assert jobs.pause(job).state == "running"
    wait_for(saved.exists)
    assert jobs.pause(job).state == "running"
    seen = len(looks)
    wait_for(lambda: len(looks) > seen + 2)
    gate.touch()
    thread.join()
    assert jobs.get(job).state == "paused"
    assert jobs.get(job).cause is None
    assert saved.read_text() == "asked "
    assert not process.lives(jobs.layout, job)
    with pytest.raises(Conflict, match="paused"):
        jobs.retry(job)
    assert jobs.resume(job).state == "queued"
    assert attend(jobs, job, 1, "data", "cpu") == "superseded"  # the leg that was paused
    assert attend(jobs, job, 2, "data", "cpu") == "done"
    with pytest.raises(Conflict, match="running"):
        jobs.resume(job)


def test_two_that_see_to_one_job_start_it_once(jobs: Jobs, run: Run) -> None:
    job = run("import time; time.sleep(0.5)")
    threads = [in_background(jobs, job) for _ in range(3)]
    for thread in threads:
        thread.join()
    assert codes(jobs, job) == [0]


UNTIL = "import time; from pathlib import Path\nwhile not Path({gate!r}).exists(): time.sleep(0.02)"


def test_one_device_runs_one_process(jobs: Jobs, run: Run, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = run(UNTIL.format(gate=str(gate)), name="first")
    second = run("pass", name="second")
    one = in_background(jobs, first)
    wait_for(lambda: running(jobs.layout, first))
    two = in_background(jobs, second)
    wait_for((jobs.layout.job(second) / "lock").exists)  # it was tried once
    assert jobs.get(second).state == "queued"
    gate.touch()
    one.join()
    two.join()
    before, after = (process.tries(jobs.layout, job)[0] for job in (first, second))
    assert before.ended is not None
    assert before.ended <= after.started


def test_a_restarted_machine_has_failed_nothing(jobs: Jobs, run: Run) -> None:
    """A process number of an earlier start of the machine is somebody else's now."""
    job = run("pass", attempts=1)
    victim = os.fork()
    if not victim:
        os.setsid()
        signal.pause()
        os._exit(0)
    folder = jobs.layout.job(job)
    folder.mkdir(parents=True)
    said = {"pid": victim, "host": process.host(), "boot": "another", "log_start": 0, "started": 1}
    (folder / "1-data-1.json").write_text(json.dumps(said))
    try:
        process.interrupt(jobs.layout, job)
        assert process.end(jobs.layout, job)
        assert attend(jobs, job, 1, "data", "cpu") == "done"
        assert os.waitpid(victim, os.WNOHANG) == (0, 0)  # it lives
    finally:
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
    assert codes(jobs, job) == [None, 0]
    assert process.tries(jobs.layout, job)[0].lost


def test_an_older_adapter_stays_until_its_place_is_needed(
    jobs: Jobs, run: Run, tmp_path: Path
) -> None:
    """It may be in use while the job waits for its device, and is kept aside after that."""
    folder = jobs.layout.adapter("taken")
    folder.mkdir()
    (folder / "run_config.json").write_text("old")
    job = run(f"from pathlib import Path; Path({str(folder)!r}).mkdir()", name="taken",
              steps=("train",), data=str(tmp_path), skill=None, overwrite=True)  # fmt: skip
    with process.taken(device_lock(jobs, "cpu")):
        thread = in_background(jobs, job, step="train")
        wait_for((jobs.layout.job(job) / "lock").exists)  # it was tried once
        assert (folder / "run_config.json").exists()
    thread.join()
    assert codes(jobs, job) == [0]
    assert list(folder.iterdir()) == []
    assert (jobs.layout.replaced(job) / "run_config.json").read_text() == "old"


def test_a_trainers_settings_are_written_once_its_device_is_free(
    jobs: Jobs, run: Run, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    code = (
        "import os, shutil; assert os.path.isdir(os.environ['JARVIS_TRAIN_OUTPUT_DIR'])\n"
        f"shutil.copy(os.environ['JARVIS_TRAIN_PARAMS_PATH'], {str(told)!r})"
    )
    trainer = {"argv": ["x"], "params": {"rank": 4}, "variables": {}}
    job = run(code, "trainer", steps=("train",), data=str(tmp_path), skill=None, trainer=trainer)
    with process.taken(device_lock(jobs, "cpu")):
        thread = in_background(jobs, job, step="train")
        wait_for((jobs.layout.job(job) / "lock").exists)  # it was tried once
        assert list(jobs.layout.job(job).glob("*.json")) == []
    thread.join()
    assert codes(jobs, job) == [0]
    assert json.loads(told.read_text()) == {"rank": 4}


def test_a_process_that_was_killed_with_its_wrapper_counts(jobs: Jobs, run: Run) -> None:
    job = run("import time; print('there', flush=True); time.sleep(1000)", attempts=1)
    thread = in_background(jobs, job)
    wait_for(lambda: running(jobs.layout, job))
    one = running(jobs.layout, job)
    assert one is not None
    os.killpg(one.pid, signal.SIGKILL)
    thread.join()
    cause = jobs.get(job).cause
    assert cause is not None
    assert (cause.kind, cause.detail) == (
        "signal", "data and its wrapper were killed, or the machine stopped"
    )  # fmt: skip


def test_a_step_whose_wrapper_was_killed_is_waited_for(
    jobs: Jobs, run: Run, tmp_path: Path
) -> None:
    """It holds the lock itself: nothing of the job is started while it lives."""
    flag, over = tmp_path / "flag", tmp_path / "over"
    job = run(
        f"import time; from pathlib import Path\nprint('there', flush=True)\n"
        f"while not Path({str(flag)!r}).exists(): time.sleep(0.02)\n"
        f"with Path({str(over)!r}).open('a') as file: file.write('over ')"
    )
    thread = in_background(jobs, job)
    wait_for(lambda: says(jobs, job, "there"))
    one = running(jobs.layout, job)
    assert one is not None
    os.kill(one.pid, signal.SIGKILL)
    wait_for(lambda: not children(os.getpid()) or one.pid not in children(os.getpid()))
    time.sleep(5 * process.POLL)  # in which a second one would be started
    assert jobs.log(job).read_text().splitlines().count("there") == 1
    assert not over.exists()
    flag.touch()
    thread.join()
    assert over.read_text() == "over over "
    assert codes(jobs, job) == [None, 0]


def test_a_failed_job_is_retried_where_it_stopped(jobs: Jobs, run: Run, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    job = run(f"import sys; from pathlib import Path; sys.exit(not Path({str(flag)!r}).exists())")
    assert attend(jobs, job, 1, "data", "cpu") == "stopped"
    flag.touch()
    found = jobs.retry(job)
    assert (found.state, found.cause, found.ended, found.attempt) == ("queued", None, None, 0)
    assert attend(jobs, job, 2, "data", "cpu") == "done"
    assert codes(jobs, job) == [1, 0]


def test_a_faulty_file_fails_the_job_and_not_the_worker(jobs: Jobs, run: Run) -> None:
    job = run("pass")
    jobs.layout.job(job).mkdir(parents=True)
    (jobs.layout.job(job) / "1-data-1.json").write_text("{")
    assert attend(jobs, job, 1, "data", "cpu") == "stopped"
    assert "1-data-1.json" in jobs.get(job).cause.detail  # type: ignore[union-attr]


def test_a_wrapper_that_never_begins_fails_the_job_after_its_attempts(
    jobs: Jobs, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run("", attempts=2)
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    in_background(jobs, job).join(PATIENCE)
    found = jobs.get(job)
    assert (found.state, found.cause and found.cause.kind) == ("failed", "exit code")
    assert "2 times" in str(found.cause)


def test_of_a_line_that_was_drawn_over_the_last_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"old\n" + b"10%\r50%\r100%\n\nError: \xff\n")
    assert steps.tail(log, 4) == ["100%", "Error: �"]
    assert steps.tail(tmp_path / "none") == []


def test_causes_of_every_kind(jobs: Jobs) -> None:
    base = process.Try(Path("x"), 1, "train", 1, 0.0, 1, "h", "b", 0, ended=1.0)
    kinds = {
        "killed": ({"signal": 9}, "signal"), "oom": ({"signal": 9, "oom": True}, "out of memory"),
        "shell": ({"code": 137, "oom": True}, "out of memory"), "term": ({"code": 143}, "signal"),
        "code": ({"code": 70}, "exit code"), "interrupted": ({"code": 130}, "signal"),
        "abort": ({"signal": 6}, "signal"),
    }  # fmt: skip
    for name, (values, kind) in kinds.items():
        one = dataclasses.replace(base, **values)  # type: ignore[arg-type]
        assert steps.cause(jobs.layout, "none", "train", one)["kind"] == kind, name
        assert steps.worth_another(one) is (values.get("code", 200) > 128)
