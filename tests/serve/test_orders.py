"""Orders of other services: taken once, checked against their data, kept, expired, and made."""

from __future__ import annotations

import hashlib
import json
import shlex
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dbos", reason="needs the extra serve")
pytest.importorskip("fastapi", reason="needs the extra serve")

from sqlalchemy import event

from livery.config.foreign import TRAIN_COMMAND
from livery.serve.errors import Refused
from livery.serve.jobs import store as job_store
from livery.serve.jobs.jobs import Jobs
from livery.serve.jobs.request import JobRequest, confined
from livery.serve.queue import store
from livery.serve.queue.data import dataset_hash
from livery.serve.queue.queue import Order, Queue
from tests import PATIENCE
from tests.runs import write_data
from tests.serve.jobs_run import wait_for, working
from tests.serve.serving import Client, served, settings_of
from tests.tiny_models import tiny_model

PATH = "/v1/adapters/train"


def write_rows(folder: Path, answer: str = "b") -> None:
    folder.mkdir()
    for split in ("train", "valid"):
        row = {"prompt": split, "completion": answer}
        (folder / f"{split}.jsonl").write_text(json.dumps(row) + "\n")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    settings = settings_of(tmp_path, callback_hosts=("hooks.example",))
    write_rows(settings.data / "rows")
    with served(settings) as found:
        yield found


def order(number: int = 1, **more: Any) -> dict[str, Any]:
    asked = {"node_id": "node-1", "base_model_id": "base_model", "dataset_ref": "rows",
             "params": {"rank": 4, "epochs": 1, "batch_size": 2, "max_seq_len": 128}}  # fmt: skip
    said = {"job_id": f"o-{number}", "idempotency_key": f"k-{number}", "ttl_seconds": 3600}
    return {**said, "request": asked | more.pop("request", {}), **more}


def finish(client: Client, order_id: str) -> str:
    """Have the job of an order done, with a zip beside it; the job's id."""
    jobs = Jobs(client.settings.root)
    job = jobs.get(client.get(f"{PATH}/{order_id}").json()["job"])
    (job.run_folder / "mlx").mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (job.run_folder / name).write_text("{}")
    with zipfile.ZipFile(job.artefact, "w") as archive:
        archive.writestr("adapter_config.json", "{}")
    done = {"state": "done", "started": 1.0, "ended": 2.0}
    assert job_store.change(jobs.engine, job.id, done)
    jobs.close()
    return job.id


def test_an_order_becomes_a_job_with_the_settings_it_asks_for(client: Client) -> None:
    answer = client.post(PATH, order())
    assert (answer.status, answer.json()) == (
        202, {"accepted": True, "job_id": "o-1", "deduped": False}
    )  # fmt: skip
    said = client.get(f"{PATH}/o-1").json()
    assert (said["status"], said["cached"], said["callback"]) == (
        "queued",
        False,
        {"state": "none"},
    )
    told = client.get(f"/api/jobs/{said['job']}")
    assert str(client.settings.root) not in told.text
    request = told.json()["request"]
    assert request["settings"] == {
        "batch_size": 2, "epochs": 1, "lora.rank": 4, "max_length": 128, "model": "base_model"
    }  # fmt: skip
    assert request["steps"] == ["train", "pack"]
    # The rows are as they were, whatever becomes of them meanwhile.
    (client.settings.data / "rows" / "train.jsonl").write_text("gone\n")
    assert dataset_hash(client.settings.root / request["data"]) == said["dataset_hash"]
    assert client.get(f"{PATH}/o-1/adapter.zip").status == 409
    assert client.get(f"{PATH}/o-2").status == 404


def test_the_same_order_again_is_the_first_one(client: Client) -> None:
    client.post(PATH, order())
    again = {"accepted": True, "job_id": "o-1", "deduped": True}
    assert client.post("/internal/queue/enqueue", order()).json() == again
    assert client.post(PATH, order() | {"job_id": "o-9"}).json() == again
    for other in (order(request={"node_id": "node-2"}), order(2) | {"job_id": "o-1"} | {
        "ttl_seconds": 5}, order(request={"params": {}}) | {"job_id": "o-3"}):  # fmt: skip
        assert client.post(PATH, other).status == 409
    assert len(client.get("/api/jobs").json()["jobs"]) == 1


def test_a_key_is_text_that_every_database_takes(client: Client) -> None:
    assert client.post(PATH, order() | {"idempotency_key": "a\0b"}).status == 422


def test_settings_that_are_nested_too_deep_are_refused_also_of_an_order_that_is_there(
    client: Client,
) -> None:
    deep: Any = 4
    for _ in range(600):
        deep = [deep]
    client.post(PATH, order())
    for number in (1, 2):
        answer = client.post(PATH, order(number, request={"params": {"rank": deep}}))
        assert answer.status == 400, answer.text
        assert "nested" in answer.text


def test_the_hash_is_what_sha256sum_says_and_is_checked(client: Client) -> None:
    rows = client.settings.data / "rows"
    listed = subprocess.run(
        ["sha256sum", "train.jsonl", "valid.jsonl"], cwd=rows, capture_output=True, check=True
    ).stdout
    found = hashlib.sha256(listed).hexdigest()
    assert dataset_hash(rows) == found
    wrong = client.post(PATH, order(request={"dataset_hash": "0" * 64}))
    assert wrong.status == 409
    assert wrong.json()["key"] == "request.dataset_hash"
    assert found in wrong.json()["detail"]
    assert client.post(PATH, order(request={"dataset_hash": f"sha256:{found}"})).status == 202


ROWS = [{"prompt": f"say {n}", "completion": str(n)} for n in range(3)]
CALL = {"name": "add", "arguments": {"a": 5, "b": 7, "note": "é"}}
COMMANDS = [{"command_name": "add", "examples": [
    {"voice_command": "add 5 and 7", "expected_tool_call": CALL, "is_primary": True}]}]  # fmt: skip


def inline(data: Any) -> dict[str, Any]:
    return {"format": "inline-json", "data": data}


@pytest.mark.parametrize(
    ("data", "files"),
    [
        (ROWS, {"train": ROWS}),
        ({"train": ROWS, "valid": ROWS[:1], "test": []}, {"train": ROWS, "valid": ROWS[:1]}),
        ({"commands": COMMANDS}, {"train": [{"prompt": "add 5 and 7", "completion": json.dumps(
            {"message": "", "tool_calls": [CALL], "error": None}, ensure_ascii=False)}]}),
    ],
)  # fmt: skip
def test_rows_come_with_the_order(client: Client, data: Any, files: dict[str, Any]) -> None:
    ref = inline(data)
    # As the services of the described system hash what they send.
    text = json.dumps(ref, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    found = hashlib.sha256(text.encode()).hexdigest()
    wrong = client.post(PATH, order(request={"dataset_ref": ref, "dataset_hash": "0" * 64}))
    assert (wrong.status, wrong.json()["key"]) == (409, "request.dataset_hash")
    assert found in wrong.json()["detail"]
    silent = {"url": "", "auth_type": "internal"}
    asked = {"dataset_ref": ref, "dataset_hash": f"sha256:{found}"}
    assert client.post(PATH, order(request=asked, callback=silent)).status == 202
    said = client.get(f"{PATH}/o-1").json()
    assert (said["dataset_hash"], said["callback"]) == (found, {"state": "none"})
    data = client.get(f"/api/jobs/{said['job']}").json()["request"]["data"]
    place = client.settings.root / data
    assert {path.stem: [*map(json.loads, path.read_text().splitlines())]
            for path in place.iterdir()} == files  # fmt: skip
    # The same rows are the same job, whoever orders them.
    assert client.post(PATH, order(2, request={"dataset_ref": ref, "node_id": "n"})).status == 202
    assert client.get(f"{PATH}/o-2").json()["job"] == said["job"]
    assert not [*client.settings.state.glob("queue/data/.new-*")]


@pytest.mark.parametrize(
    ("ref", "key", "told"),
    [
        (inline([]), "", "holds no rows"),
        (inline({}), "", "holds no rows"),
        (inline({"valid": ROWS}), "", "holds no rows"),
        (inline({"commands": []}), "", "holds no rows"),
        (inline([*ROWS, {"prompt": "x"}]), ".3", "data.3: "),
        (inline([*ROWS, "x"]), ".3", "not an object"),
        (inline([{"prompt": "x", "completion": " "}]), ".0", "empty answer"),
        (inline({"train": ROWS, "valid": [{"a": 1}]}), ".valid.0", "data.valid.0: "),
        (inline({"train": {"a": 1}}), ".train", "not a list"),
        (inline({"train": ROWS, "tests": ROWS}), "", "no split 'tests'"),
        (inline({"commands": 7}), ".commands", "example"),
        (inline({"commands": COMMANDS, "train": ROWS}), "", "no split 'commands'"),
        (inline({"commands": [{"examples": [{"voice_command": "x"}]}]}),
         ".commands.0.examples.0", "expected_tool_call"),
        (inline([{"prompt": "x", "completion": "\ud800"}]), "", "cannot be written as JSON"),
        (inline([{"prompt": "x", "completion": "y", "meta": {"n": float("nan")}}]), "", "JSON"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_trained_on_cost_nothing(
    client: Client, ref: Any, key: str, told: str
) -> None:
    answer = client.post(PATH, order(request={"dataset_ref": ref}))
    assert (answer.status, answer.json().get("key")) == (400, f"request.dataset_ref.data{key}")
    assert told in answer.json()["detail"]
    assert client.get(f"{PATH}/o-1").status == 404
    assert [*client.settings.state.glob("queue/data/*")] == []
    large = inline([{"prompt": "x" * client.settings.limits.body, "completion": "y"}])
    assert client.post(PATH, order(request={"dataset_ref": large})).status == 413


@pytest.mark.parametrize(
    ("request_", "status", "told"),
    [
        ({"dataset_ref": "../rows"}, 404, "no dataset"),
        ({"dataset_ref": "/etc"}, 404, "no dataset"),
        ({"dataset_ref": "https://elsewhere.example/rows.jsonl"}, 404, "no dataset"),
        ({"dataset_ref": {"name": "none"}}, 404, "no dataset"),
        ({"dataset_ref": "link"}, 404, "no dataset"),
        ({"dataset_ref": "leaky"}, 400, "a link out of its folder"),
        ({"base_model_id": "/etc"}, 400, "outside this server"),
        ({"params": {"rnk": 4}}, 400, "there is no 'rnk'"),
        ({"params": {"rank": 0}}, 400, "rank"),
        ({"params": {"output_dir": "/tmp"}}, 400, "output_dir"),
        ({"params": {"init_adapter": "../x"}}, 400, "outside this server"),
        ({"trainer": {"argv": ["sh"]}}, 422, "trainer"),
    ],
)
def test_what_is_not_done_costs_nothing(
    client: Client, tmp_path: Path, request_: dict[str, Any], status: int, told: str
) -> None:
    (client.settings.data / "link").symlink_to("/etc")
    (client.settings.data / "leaky").mkdir()
    (client.settings.data / "leaky" / "train.jsonl").symlink_to("/etc/passwd")
    answer = client.post(PATH, order(request=request_))
    assert (answer.status, told in answer.json()["detail"]) == (status, True), answer.text
    refused = client.post(PATH, order(callback={"url": "http://169.254.169.254/latest"}))
    assert refused.json()["key"] == "callback.url"
    bad = {"url": "http://hooks.example/", "auth": "Bearer a\r\nX-Evil: b"}
    assert client.post(PATH, order(callback=bad)).json()["key"] == "callback.auth"
    assert client.get("/api/jobs").json()["jobs"] == []
    assert not [*client.settings.state.glob("queue/data/.new-*")]


def test_no_request_says_which_program_trains(tmp_path: Path) -> None:
    asked = JobRequest(data="x", trainer={"argv": ["sh"], "params": {}, "variables": {}})
    with pytest.raises(Refused, match="which program trains"):
        confined(asked, tmp_path)


def test_an_adapter_that_is_there_is_not_trained_again(client: Client) -> None:
    client.post(PATH, order())
    # The same work while it is being done: the same job.
    client.post(PATH, order(2, request={"node_id": "node-2"}))
    job = finish(client, "o-1")
    client.post(PATH, order(3))
    said = client.get(f"{PATH}/o-3").json()
    assert (said["status"], said["cached"], said["job"]) == ("succeeded", True, job)
    assert said["result"]["artifact_metadata"]["cached"] is True
    assert said["result"]["artifact_url"] == f"{client.address}{PATH}/o-3/adapter.zip"
    artefact = client.get(f"{PATH}/o-3/adapter.zip")
    wanted = said["result"]["artifact_metadata"]["sha256"]
    assert hashlib.sha256(artefact.body).hexdigest() == wanted
    assert client.get(f"{PATH}/o-3/adapter.zip", Range="bytes=0-1").body == b"PK"
    wait_for(lambda: client.get(f"{PATH}/o-2").json()["status"] == "succeeded")
    assert client.get(f"{PATH}/o-2").json()["job"] == job
    # Other settings, another base and other rows are other work.
    for number, more in enumerate(({"params": {}}, {"base_model_id": "other"}), start=4):
        client.post(PATH, order(number, request=more))
        assert client.get(f"{PATH}/o-{number}").json()["job"] != job
    (client.settings.data / "rows" / "valid.jsonl").write_text('{"prompt": "", "completion": ""}\n')
    client.post(PATH, order(6))
    assert client.get(f"{PATH}/o-6").json()["status"] == "queued"
    # And what was taken away is made again.
    Jobs(client.settings.root).get(job).artefact.unlink()
    assert client.get(f"{PATH}/o-3/adapter.zip").status == 409
    write_rows(client.settings.data / "same")
    client.post(PATH, order(7, request={"dataset_ref": "same"}))
    assert client.get(f"{PATH}/o-7").json()["status"] == "queued"


def test_its_end_is_known_whoever_asks_first(tmp_path: Path) -> None:
    """Without anybody who looks after the orders."""
    settings = settings_of(tmp_path)
    write_rows(settings.data / "rows")
    queue = Queue(settings, Jobs(settings.root))
    queue.enqueue(Order("o-1", "k-1", 3600, "node", "base_model", "rows"))
    job = queue.jobs.get(queue.state("o-1")["job"])
    with zipfile.ZipFile(job.artefact, "w") as archive:
        archive.writestr("adapter_config.json", "{}")
    job_store.change(queue.engine, job.id, {"state": "done", "ended": 2.0})
    assert queue.artefact("o-1") == job.artefact
    # What is broken is told, and does not keep others from their end.
    queue.enqueue(Order("o-3", "k-3", 3600, "node", "third", "rows"))
    broken = queue.jobs.get(queue.state("o-3")["job"])
    broken.artefact.write_bytes(b"PK, and then nothing")
    job_store.change(queue.engine, broken.id, {"state": "done", "ended": 2.0})
    queue.settle()
    error = {"code": "artifact_missing"}
    assert error.items() <= queue.state("o-3")["error"].items()
    # An end that is whole, of a table that is not there.
    queue.enqueue(Order("o-4", "k-4", 3600, "node", "fourth", "rows"))
    damaged = queue.jobs.get(queue.state("o-4")["job"])
    damaged.artefact.write_bytes(b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 1, 1, 99, 0, 0))
    assert zipfile.is_zipfile(damaged.artefact)
    job_store.change(queue.engine, damaged.id, {"state": "done", "ended": 2.0})
    # And an order whose job nobody knows any more.
    queue.enqueue(Order("o-0", "k-0", 3600, "node", "fifth", "rows"))
    store.change(queue.engine, "o-0", job="gone")
    queue.settle()
    assert error.items() <= queue.state("o-4")["error"].items()
    queue.enqueue(Order("o-2", "k-2", 1e-9, "node", "other", "rows"))
    assert queue.state("o-2")["status"] == "expired"


def test_an_order_costs_the_same_however_many_wait(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    write_rows(settings.data / "rows")
    queue = Queue(settings, Jobs(settings.root))
    said: list[str] = []
    event.listen(queue.engine, "before_cursor_execute", lambda *about: said.append(about[2]))
    counts: list[int] = []
    for number in range(5):
        said.clear()
        queue.enqueue(Order(f"o-{number}", f"k-{number}", 3600, "node", f"base-{number}", "rows"))
        counts.append(len(said))
    assert counts[-1] == counts[1]  # of the first some is done only once
    said.clear()
    queue.settle()
    assert len(said) == 2  # which jobs are active, and which orders open


def test_what_is_not_begun_in_time_expires(client: Client) -> None:
    url = "http://hooks.example/"
    client.post(PATH, order(1, ttl_seconds=0.01, callback={"url": url}))
    wait_for(lambda: client.get(f"{PATH}/o-1").json()["status"] == "expired")
    said = client.get(f"{PATH}/o-1").json()
    assert said["error"] == {"code": "expired", "message": "no worker began it in time"}
    assert client.get(f"/api/jobs/{said['job']}").json()["cause"]["kind"] == "expired"
    # Whoever waits longer prolongs it; whoever retries it wants it all the same.
    client.post(PATH, order(2, request={"params": {}}, ttl_seconds=3600))
    client.post(PATH, order(3, request={"params": {}}, ttl_seconds=7200))
    job = Jobs(client.settings.root).get(client.get(f"{PATH}/o-2").json()["job"])
    assert (job.request.begin_by or 0) > time.time() + 3600
    assert client.post(f"/api/jobs/{said['job']}/retry").json()["state"] == "queued"
    jobs = Jobs(client.settings.root)
    assert jobs.expire(said["job"]) is False
    assert jobs.get(said["job"]).state == "queued"
    # What was told stays told.
    assert client.get(f"{PATH}/o-1").json()["status"] == "expired"


TRAINER = """
import json, os, shutil, sys
named = {key: value for key, value in os.environ.items() if key.startswith("JARVIS_TRAIN_")}
out = named["JARVIS_TRAIN_OUTPUT_DIR"]
shutil.copytree(sys.argv[1], out, dirs_exist_ok=True)
params = json.load(open(named["JARVIS_TRAIN_PARAMS_PATH"]))
rows = len(os.listdir(named["JARVIS_TRAIN_DATASET_PATH"]))
json.dump([named, params, rows, sys.argv[2:]], open(sys.argv[1] + ".told", "w"))
"""


@pytest.mark.slow
def test_another_trainer_makes_the_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a real worker, which packs what it left."""
    from convert.pack.folder import write_adapter_folder
    from tests.convert.test_check import adapter

    settings = settings_of(tmp_path / "root", models=(tmp_path,))
    write_data(settings.data / "rows")
    model = tiny_model("llama", tmp_path / "model")
    ready = tmp_path / "ready"
    write_adapter_folder(adapter(model), ready, model)
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    words = [sys.executable, str(script), str(ready), "$(touch pwned); x", "*"]
    monkeypatch.setenv(TRAIN_COMMAND, shlex.join(words))
    jobs = Jobs(settings.root)
    with served(settings) as client:
        said = order(request={"base_model_id": str(model), "params": {"anything": [1, "x"]}})
        assert client.post(PATH, said).status == 202
        with working(jobs, "auto", "--drain") as worker:
            worker.wait(PATIENCE)
        wait_for(lambda: client.get(f"{PATH}/o-1").json()["status"] in ("succeeded", "failed"))
        found = client.get(f"{PATH}/o-1").json()
        assert found["status"] == "succeeded", jobs.log(found["job"]).read_text()
        assert found["result"]["artifact_metadata"]["adapter_format"] == "peft_lora+mlx+gguf"
        got = client.get(f"{PATH}/o-1/adapter.zip")
        assert got.status == 200
        (tmp_path / "got.zip").write_bytes(got.body)
    assert "adapter_model.safetensors" in zipfile.ZipFile(tmp_path / "got.zip").namelist()
    named, params, rows, more = json.loads((tmp_path / "ready.told").read_text())
    assert (params, more) == ({"anything": [1, "x"]}, ["$(touch pwned); x", "*"])
    assert rows > 0
    assert named["JARVIS_TRAIN_JOB_ID"] == "o-1"
    assert named["JARVIS_TRAIN_NODE_ID"] == "node-1"
    assert named["JARVIS_TRAIN_BASE_MODEL_ID"] == str(model)
    assert named["JARVIS_TRAIN_DATASET_HASH"] == found["dataset_hash"]
