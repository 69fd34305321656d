"""Requests that are checked before anything is written, the record of jobs, and jobs over HTTP."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dbos", reason="needs the extra serve")
pytest.importorskip("fastapi", reason="needs the extra serve")

from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from livery.errors import UserError
from livery.serve.errors import Conflict, NotFound
from livery.serve.jobs import process, steps, store
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.layout import Layout
from livery.serve.jobs.request import JobRequest, confined, read_request, training_flags
from livery.serve.queue import store as orders
from tests.serve.serving import Client, served, settings_of


def request(**more: Any) -> JobRequest:
    return JobRequest(**{"skill": "date-keys", **more})


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


def test_a_request_is_what_its_json_says() -> None:
    said = request(settings={"lora_parameters.rank": 4, "max_steps": "500"}, target=0.9)
    assert said.name == "date-keys"
    assert said.steps == ("data", "train", "eval", "convert", "pack")
    assert said.settings == {"lora.rank": 4, "max_steps": "500"}
    assert read_request(said.as_dict()) == said
    assert JobRequest(name="there", steps=("convert",)).as_dict()["skill"] is None
    own = JobRequest(data="mine")
    assert (own.name, own.steps) == ("mine", ("train", "convert", "pack"))
    assert request(data="mine").steps == ("train", "eval", "convert", "pack")
    assert request(steps=["pack", "train"]).steps == ("train", "pack")


def test_a_fingerprint_is_of_what_decides_the_result() -> None:
    one = request(settings={"max_steps": 5, "threads": 2}).fingerprint
    same = request(settings={"max_steps": 5, "save_every": 9}, name="other", attempts=9)
    assert same.fingerprint == one
    for more in ({"settings": {"max_steps": 6}}, {"data_seed": 8}, {"target": 0.5},
                 {"settings": {"max_steps": 5}, "steps": ("train",)}):  # fmt: skip
        assert request(**more).fingerprint != one


def test_settings_become_flags_that_the_command_reads_alike() -> None:
    from livery.config.settings import OPTIONS

    settings = {
        "bf16": False, "lora.rslora": True, "lora.targets": ["q_proj", "v_proj"], "report_to": [],
        "columns": {"prompt": "q", "completion": "a"}, "lora.dora": "dora",
        "chat_template_kwargs": {"x": 1},
        "compile": True, "learning_rate": 1e-5, "template_date": "2025-01-31",
    }  # fmt: skip
    by_flag = {flag: option for option in OPTIONS for flag in option.flags[0].split("/")}
    flags = training_flags(request(settings=settings, backend="torch"))
    assert flags[0] == "--backend=torch"
    read = {}
    for flag in flags[1:]:
        name, equals, value = flag.partition("=")
        option = by_flag[name]
        read[option.name] = option.kind.read(value if equals else not name.startswith("--no-"))
    wanted = {option.name: option.kind.read(settings[option.name]) for option in OPTIONS
              if option.name in settings}  # fmt: skip
    assert read == wanted


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"skill": "date-key"}, "Did you mean date-keys?"),
        ({"settings": {"max_step": 3}}, "Did you mean max_steps?"),
        ({"settings": {"max_steps": 0}}, "max_steps: 0 is not a whole number of at least 1"),
        ({"settings": {"learning_rate": float("nan")}}, "learning_rate"),
        ({"settings": {"model": ["x"]}}, "model"),
        ({"settings": {"lora.targets": {1: 2}}}, "lora.targets"),
        ({"settings": {"output_dir": "/x"}}, "give the job's name"),
        ({"settings": {"beta": 0.2}}, "pairs"),
        ({"settings": {"bf16": True, "dtype": "float32"}}, "dtype"),
        ({"settings": []}, "settings"),
        ({"name": "../up"}, "name is '../up'"),
        ({"name": ".hidden"}, "name"),
        ({"data": "../up"}, "data"),
        ({"steps": ["trian"]}, "Did you mean train?"),
        ({"data": "mine", "steps": ["data"]}, "the data is given"),
        ({"skill": None, "data": "mine", "steps": ["eval"]}, "no skill"),
        ({"steps": [["train"]]}, "name some of: data, train"),
        ({"skill": None}, "a skill, or data"),
        ({"skill": None, "steps": ["convert"]}, "a skill, or data"),
        ({"skill": None, "steps": ["convert", "train"], "name": "x"}, "a skill, or data"),
        ({"attempts": 0}, "attempts"),
        ({"data_seed": 1 << 63}, "data_seed is 9223372036854775808; it must fit"),
        ({"attempts": True}, "attempts"),
        ({"target": 2}, "target"),
        ({"backend": "jax"}, "backend"),
        ({"engine": "http"}, "engine"),
        ({"stesp": 1}, "Did you mean steps?"),
    ],
)
def test_a_faulty_request_names_its_key(said: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        read_request({"skill": "date-keys", **said})
    assert told in str(error.value)


@pytest.mark.parametrize(
    "value", ["/etc/passwd", "../up", "a/../../up", "~/x", "~root", "out", "a\\b", "out/x"]
)
def test_no_path_of_a_request_leaves_the_root(tmp_path: Path, value: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    for name in ("model", "valid_data", "init_adapter", "chat_template"):
        with pytest.raises(UserError, match=name):
            confined(request(settings={name: value}), tmp_path / "root")
    for said in (request(skill="my.py"), request(data="/etc")):
        with pytest.raises(UserError):
            confined(said, tmp_path / "root")
    confined(request(settings={"model": "org/name", "init_adapter": "adapters/x"}), tmp_path)


def test_a_job_goes_from_state_to_state(jobs: Jobs) -> None:
    one = jobs.submit(request(), key="k")
    assert jobs.submit(request(), key="k") == one
    assert jobs.list() == [one]
    assert jobs.pause(one.id).state == "paused"
    with pytest.raises(Conflict, match="of this name"):
        jobs.submit(request())
    assert jobs.resume(one.id).state == "queued"
    with pytest.raises(UserError, match="only those that are paused are"):
        jobs.resume(one.id)
    cancelled = jobs.cancel(one.id)
    assert (cancelled.state, cancelled.ended is None) == ("cancelled", False)
    with pytest.raises(Conflict, match="nothing to pause"):
        jobs.pause(one.id)
    two = jobs.submit(request())
    with pytest.raises(Conflict, match="of this name"):
        jobs.retry(one.id)
    jobs.cancel(two.id)
    assert jobs.retry(one.id).state == "queued"
    assert [job.id for job in jobs.list(1)] == [two.id]
    assert [job.id for job in jobs.list(9, before=two.created)] == [one.id]
    assert [job.id for job in jobs.list(state="cancelled")] == [two.id]
    assert jobs.find(fingerprint=one.fingerprint) is not None
    with pytest.raises(NotFound, match="no job 'x'"):
        jobs.get("x")


def test_one_key_is_one_job_however_often_it_is_sent(jobs: Jobs) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(jobs.submit(request(), key="k").id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_key_does_not_stand_for_another_job(jobs: Jobs) -> None:
    one = jobs.submit(request(), key="k")
    assert jobs.submit(request(attempts=9), key="k") == one  # makes the same adapter
    for other in (request(settings={"max_steps": 7}), request(name="other")):
        with pytest.raises(Conflict, match=f"another job already, {one.id}"):
            jobs.submit(other, key="k")


def test_jobs_are_listed_when_their_skill_is_gone_or_a_bound_has_changed(jobs: Jobs) -> None:
    one = jobs.submit(request())
    said = {**one.request.as_dict(), "skill": "sold", "settings": {"max_steps": -1}, "later": 1}
    store.change(jobs.engine, one.id, {"request": store.as_json(said)})
    (found,) = jobs.list()
    assert (found.request.skill, found.request.steps) == ("sold", one.request.steps)
    assert jobs.cancel(one.id).state == "cancelled"


def test_who_looks_at_a_lock_does_not_hold_it_against_others_who_look(tmp_path: Path) -> None:
    with process.taken(tmp_path / "lock", fcntl.LOCK_SH):  # as another who is looking
        assert not process.is_taken(tmp_path / "lock")
    with process.taken(tmp_path / "lock"):
        assert process.is_taken(tmp_path / "lock")


def test_the_password_of_the_database_is_not_the_steps_affair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVERY_DATABASE", "postgresql://u:secret@h/x")
    trainer: dict[str, Any] = {"argv": ["x"], "params": {}, "variables": {}}
    asked = request(data="rows", skill=None, name="x", trainer=trainer)
    layout = Layout(tmp_path)
    layout.job("j").mkdir(parents=True)
    for said in (steps.environment("cpu"), steps.trainer_environment(layout, "j", asked, "cpu")):
        assert "secret" not in str(said)
        assert said["PATH"] == os.environ["PATH"]


def test_what_is_nested_too_deep_is_refused_and_hides_no_job(client: Client) -> None:
    deep = ""
    for depth in (200, 400, 450, 500, 900):
        deep = "[" * depth + "]" * depth
        body = '{"skill": "date-keys", "settings": {"chat_template_kwargs": {"a": DEEP}}}'
        body = body.replace("DEEP", deep)
        kind = {"Content-Type": "application/json"}
        answer = client.ask("POST", "/api/jobs", body.encode(), kind)
        assert answer.status == 400, answer.text
        assert "nested" in answer.text
    assert client.get("/api/jobs").json()["jobs"] == []
    trainer: dict[str, Any] = {"argv": [], "params": json.loads(deep), "variables": {}}
    with pytest.raises(UserError, match="trainer has lists"):
        request(trainer=trainer)


@pytest.mark.parametrize("name", ["a.zip", "A.ZIP", "a.", "a-"])
def test_no_adapter_is_named_like_anothers_zip_or_as_no_request_could_name_it(name: str) -> None:
    with pytest.raises(UserError, match="name is"):
        request(name=name)


def test_a_fault_of_the_database_tells_no_secret(jobs: Jobs) -> None:
    orders.create(jobs.engine)
    with pytest.raises(IntegrityError) as error:
        orders.add(jobs.engine, {"id": "1", "auth": "Bearer secret"})
    assert "livery_orders" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["postgresql://u:secret@h:port/x", "postgresql//u:secret@h/x"])
def test_a_malformed_url_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="not the URL of a database") as error:
        Jobs(tmp_path, url)
    assert "secret" not in str(error.value)


def test_several_may_be_the_first_to_open_the_jobs(tmp_path: Path) -> None:
    for turn in range(5):
        url = f"sqlite:///{tmp_path}/{turn}.sqlite"
        engines = [store.open_engine(url) for _ in range(6)]
        store.create(engines[0])
        together = threading.Barrier(6)
        found: list[str] = []

        def first(
            engine: Any, mine: str, together: threading.Barrier = together,
            found: list[str] = found,
        ) -> None:  # fmt: skip
            together.wait()
            found.append(store.mark(engine, mine))

        threads = [
            threading.Thread(target=first, args=(engine, str(number)))
            for number, engine in enumerate(engines)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("table", "create"), [(store.JOBS, store.create), (orders.ORDERS, orders.create)]
)
def test_a_table_that_another_makes_in_the_same_moment_is_taken(
    tmp_path: Path, table: Any, create: Any
) -> None:
    url = f"sqlite:///{tmp_path}/one.sqlite"
    mine, other = store.open_engine(url), store.open_engine(url)
    event.listen(table, "before_create", lambda *_, **__: create(other), once=True)
    create(mine)
    with mine.connect() as connection:
        assert connection.execute(table.select()).all() == []


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / ".livery").mkdir()
    (tmp_path / ".livery" / "jobs.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(UserError, match=r"jobs\.sqlite: cannot be opened: file is not a database"):
        Jobs(tmp_path)


def test_what_is_there_is_not_written_over(jobs: Jobs) -> None:
    folder = jobs.layout.adapter("date-keys")
    with pytest.raises(UserError, match="there is no such adapter"):
        jobs.submit(request(steps=("pack",)))
    folder.mkdir()
    with pytest.raises(Conflict, match="overwrite"):
        jobs.submit(request())
    assert jobs.submit(request(overwrite=True)).state == "queued"
    with pytest.raises(UserError, match="there is no such data"):
        jobs.submit(request(data="none", name="x"))


def test_a_database_of_another_folder_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    Jobs(tmp_path / "one", url)
    Jobs(tmp_path / "one", url)
    with pytest.raises(UserError, match="another folder"):
        Jobs(tmp_path / "two", url)
    for wrong in ("nothing", "mysql://h/x"):
        with pytest.raises(UserError, match="postgresql://"):
            Jobs(tmp_path / "one", wrong)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    settings = settings_of(tmp_path / "root")
    with served(settings, jobs=Jobs(settings.root)) as client:
        yield client


@pytest.mark.slow
def test_jobs_over_http(client: Client) -> None:
    said = client.post("/api/jobs", {"skill": "date-keys"}, Idempotency_Key="a")
    assert said.status == 201
    job = said.json()
    assert said.headers["location"] == f"/api/jobs/{job['id']}"
    again = client.post("/api/jobs", {"skill": "date-keys"}, Idempotency_Key="a")
    assert again.json()["id"] == job["id"]
    place = f"/api/jobs/{job['id']}"
    assert client.get(place).json() == job
    nobody = {"workers": 0, "worker_problem": None}
    assert client.get("/api/jobs").json() == {"jobs": [job], **nobody}
    assert client.get("/api/jobs?state=failed").json() == {"jobs": [], **nobody}
    assert client.post("/api/jobs", {"skill": "date-keys"}).status == 409
    assert client.post(f"{place}/pause").json()["state"] == "paused"
    assert client.post(f"{place}/retry").status == 409
    assert client.post(f"{place}/resume").json()["state"] == "queued"
    assert client.post(f"{place}/cancel").json()["state"] == "cancelled"
    assert client.get(f"{place}/log").text == ""
    places = [job[name] for name in ("log", "run_folder", "artefact")]
    wanted = [f".livery/logs/{job['id']}.log", "adapters/date-keys", "adapters/date-keys.zip"]
    assert places == wanted  # from the root, wherever that is
    (client.settings.root / job["log"]).write_text("<b>one\ntwo")
    log = client.get(f"{place}/log", Range="bytes=3-5")
    assert (log.status, log.text) == (206, "one")
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert client.get("/api/jobs/none").status == 404
    outside = {"skill": "date-keys", "settings": {"model": "/etc"}}
    for body, key in (({"skill": "x.py"}, "skill"), (outside, "model")):
        refused = client.post("/api/jobs", body)
        assert (refused.status, refused.json()["key"]) == (400, key)
    assert client.post("/api/jobs", {"skill": "date-keys", "shell": "x"}).status in (400, 422)
