"""Runs over HTTP, from folders as training leaves them and while it writes them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from livery.files import write_json
from livery.paths import METRICS, RUN_CONFIG, RUN_MARK
from livery.serve.growing import GrowingLines
from livery.training import run_folder
from tests import PATIENCE
from tests.serve.run_folders import add_checkpoint, go_on, make_run, metrics_file
from tests.serve.serving import Answer, Client, served, settings_of


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with served(settings_of(tmp_path_factory.mktemp("runs"))) as client:
        yield client


def events(answer: Answer) -> list[tuple[str, Any, str]]:
    """(event, data, id) of a stream that has ended."""
    found: list[tuple[str, Any, str]] = []
    for block in answer.text.split("\n\n"):
        parts = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "event" in parts:
            found.append((parts["event"], json.loads(parts["data"]), parts["id"]))
    return found


def test_runs_are_listed_newest_first_and_in_pages(client: Client) -> None:
    root = client.settings.root
    for i in range(5):
        folder = make_run(root, f"listed-{i}", done=i == 0)
        os.utime(folder / RUN_CONFIG, (4e9 + i, 4e9 + i))
    first = client.get("/api/runs?limit=3").json()
    assert [run["name"] for run in first["runs"]] == ["listed-4", "listed-3", "listed-2"]
    second = client.get(f"/api/runs?limit=2&before={first['before']}").json()
    assert [(run["name"], run["state"]) for run in second["runs"]] == [
        ("listed-1", "stopped"), ("listed-0", "done"),
    ]  # fmt: skip
    run = first["runs"][0]
    assert (run["step"], run["steps"], run["loss"], run["eval_loss"]) == (20, 40, 3.8, 2.8)
    assert run["best"] == {"step": 20, "eval_loss": 2.8}
    assert run["peak_memory"] == 321.5e6
    assert run["model"] == "base_model"


def test_a_run_that_a_process_holds_is_running_and_says_how_long(client: Client) -> None:
    folder = make_run(client.settings.root, "held")
    with run_folder.locked(folder):
        run = client.get("/api/runs/held").json()
        assert run["state"] == "running"
        assert run["seconds_left"] == pytest.approx(20 * 100 / 500)  # steps, tokens, tokens/s
        assert run["config"]["settings"]["data"] == "data/some"
    assert client.get("/api/runs/held").json()["state"] == "stopped"
    (folder / ".lock").write_text("training")  # of a process that was killed
    assert client.get("/api/runs/held").json()["state"] == "stopped"
    with run_folder.locked(folder):  # and the one that takes it up again
        assert client.get("/api/runs/held").json()["state"] == "running"


def test_metrics_after_a_step_and_thinned(client: Client) -> None:
    make_run(client.settings.root, "thin", steps=400)
    got = client.get("/api/runs/thin/metrics?after=394").json()
    assert [row["step"] for row in got["metrics"]] == [396, 398, 400, 400]
    assert got["total"] == 240
    got = client.get("/api/runs/thin/metrics?limit=2").json()
    assert [row["step"] for row in got["metrics"]] == [2, 4]
    thinned = client.get("/api/runs/thin/metrics?points=5").json()["metrics"]
    assert [row["step"] for row in thinned if "loss" in row] == [2, 102, 202, 300, 400]
    assert [row["step"] for row in thinned if "eval_loss" in row] == [10, 110, 210, 300, 400]


def test_what_is_no_number_or_no_line_does_no_harm(client: Client) -> None:
    folder = make_run(client.settings.root, "odd", steps=2)
    with metrics_file(folder).open("a") as file:
        file.write('{"step": 4, "loss": NaN, "grad_norm": Infinity}\n')
        file.write("not json at all\n\n[1, 2]\n" + '{"step": 5, "x": ' + "[" * 5000 + "\n")
        file.write('{"step": 6, "loss": 1.5, "note": "<img src=x onerror=alert(1)>"}\n')
        file.write('{"step": 8, "loss"')  # still being written
    rows = client.get("/api/runs/odd/metrics").json()["metrics"]
    assert [row["step"] for row in rows] == [2, 4, 6]
    assert rows[1]["loss"] is None
    assert client.get("/api/runs/odd").json()["loss"] == 1.5
    assert [e for e, _, _ in events(client.get("/api/runs/odd/events?follow=false"))][:3] == [
        "metric"
    ] * 3


def test_events_replay_from_where_a_client_was(client: Client) -> None:
    folder = make_run(client.settings.root, "watched", steps=20)
    told = events(client.get("/api/runs/watched/events?follow=false"))
    assert [kind for kind, _, _ in told] == ["metric"] * 12 + ["sample"] * 2 + ["state"]
    fifth = told[4][2]
    rest = events(client.get("/api/runs/watched/events?follow=false", Last_Event_ID=fifth))
    assert rest == told[5:]
    last = told[-1][2]
    go_on(folder, 20, 24)
    new = events(client.get(f"/api/runs/watched/events?follow=false&after={last}"))
    assert [data["step"] for kind, data, _ in new if kind == "metric"] == [22, 24]
    position = client.get("/api/runs/watched/metrics?points=3").json()["position"]
    now = events(client.get("/api/runs/watched/events?follow=false", Last_Event_ID=position))
    assert [kind for kind, _, _ in now] == ["sample", "sample", "state"]


def test_events_of_another_run_in_the_folder_begin_again(client: Client) -> None:
    folder = make_run(client.settings.root, "replaced", steps=20)
    last = events(client.get("/api/runs/replaced/events?follow=false"))[-1][2]
    run_folder.clear(folder)
    run_folder.begin(folder)
    write_json(folder / RUN_CONFIG, {"settings": {}, "total_steps": 10})
    go_on(folder, 0, 4)
    told = events(client.get("/api/runs/replaced/events?follow=false", Last_Event_ID=last))
    assert [kind for kind, _, _ in told][:3] == ["restarted", "metric", "metric"]


def test_a_run_that_is_resumed_is_the_same_one(client: Client) -> None:
    """Its record is written again. Only where its logs had come further than it is resumed, what
    they held is told again."""
    folder = make_run(client.settings.root, "resumed", steps=20)
    began = json.loads((folder / RUN_MARK).read_text())["started"]
    last = events(client.get("/api/runs/resumed/events?follow=false"))[-1][2]
    for step, told in ((20, ["metric", "metric"]), (10, ["restarted"] + ["metric"] * 6)):
        run_folder.take_back(folder, step)
        write_json(folder / RUN_CONFIG, {"settings": {}, "total_steps": 40, "threads": step})
        os.utime(folder / RUN_CONFIG, (4e9 + step, 4e9 + step))
        if step == 20:
            go_on(folder, 20, 24)
        found = events(client.get("/api/runs/resumed/events?follow=false", Last_Event_ID=last))
        assert [kind for kind, _, _ in found if kind in ("restarted", "metric")] == told
        assert client.get("/api/runs/resumed").json()["started"] == began
        last = found[-1][2]


def test_a_run_of_a_version_without_marks_is_told_by_its_record(client: Client) -> None:
    folder = make_run(client.settings.root, "older", steps=4)
    (folder / RUN_MARK).unlink()
    os.utime(folder / RUN_CONFIG, (4e9, 4e9))
    assert client.get("/api/runs/older").json()["started"] == 4e9
    last = events(client.get("/api/runs/older/events?follow=false"))[-1][2]
    again = events(client.get("/api/runs/older/events?follow=false", Last_Event_ID=last))
    assert [kind for kind, _, _ in again] == ["state"]
    run_folder.take_back(folder, 4)
    assert client.get("/api/runs/older").json()["started"] == 4e9


def test_events_go_on_after_the_server_was_started_anew(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    folder = make_run(settings.root, "run", steps=20)
    with served(settings) as client:
        before = events(client.get("/api/runs/run/events?follow=false"))
    go_on(folder, 20, 24)
    with served(settings) as client:
        last = before[-1][2]
        after = events(client.get("/api/runs/run/events?follow=false", Last_Event_ID=last))
    assert [data["step"] for kind, data, _ in after if kind == "metric"] == [22, 24]
    assert not [kind for kind, _, _ in after if kind in ("sample", "restarted")]


def test_a_runs_job_is_stopped_and_resumed(client: Client) -> None:
    make_run(client.settings.root, "jobs")
    assert client.post("/api/runs/jobs/stop").status == 409  # nobody here started it
    said = {"skill": "date-keys", "name": "jobs", "steps": ["train"], "overwrite": True}
    job = client.post("/api/jobs", said).json()["id"]
    run = client.get("/api/runs/jobs").json()
    assert (run["state"], run["job"], run["skill"]) == ("queued", job, "date-keys")
    assert client.get("/api/runs/jobs/log").status == 404  # nothing has been printed
    assert client.post("/api/runs/jobs/stop").json() == {"job": job}
    assert client.get("/api/runs/jobs").json()["state"] == "paused"
    assert client.post("/api/runs/jobs/resume").json() == {"job": job}
    assert client.get("/api/runs/jobs").json()["state"] == "queued"
    log = client.settings.root / client.get(f"/api/jobs/{job}").json()["log"]
    log.write_bytes(b"one\ntwo\n<b>three</b>\n")
    answer = client.get("/api/runs/jobs/log", Range="bytes=4-6")
    assert (answer.status, answer.body) == (206, b"two")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    told = events(client.get("/api/runs/jobs/events?follow=false"))
    assert {"text": "one\ntwo\n<b>three</b>\n"} in [data for kind, data, _ in told if kind == "log"]


@pytest.mark.parametrize("given", ["x", "0-0-0-0", "1-2-3", "g-9-9-9", "-", "1" * 90])
def test_a_position_that_nobody_gave_begins_at_the_beginning(client: Client, given: str) -> None:
    if not (client.settings.adapters / "position").exists():
        make_run(client.settings.root, "position", steps=4)
    told = events(client.get("/api/runs/position/events?follow=false", Last_Event_ID=given))
    assert [d["step"] for k, d, _ in told if k == "metric"] == [2, 4]


def test_a_stream_tells_what_is_written_while_it_is_open(client: Client) -> None:
    import http.client

    folder = make_run(client.settings.root, "live", steps=2)
    connection = http.client.HTTPConnection(client.host, client.port, timeout=PATIENCE)
    connection.request("GET", "/api/runs/live/events")
    stream = connection.getresponse()

    def next_of(kind: str) -> Any:
        while True:
            if stream.readline() == f"event: {kind}\n".encode():
                return json.loads(stream.readline().partition(b": ")[2])

    assert next_of("metric")["step"] == 2
    assert next_of("state")["state"] == "stopped"
    go_on(folder, 2, 4)
    assert next_of("metric")["step"] == 4
    with run_folder.locked(folder):
        while next_of("state")["state"] != "running":
            pass
    connection.close()


def test_hundreds_of_checkpoints_and_the_best(client: Client) -> None:
    folder = make_run(client.settings.root, "saved", steps=20)
    for step in range(10, 3010, 10):
        add_checkpoint(folder, step)
    (folder / "checkpoints" / "step-x").mkdir()
    found = client.get("/api/runs/saved/checkpoints").json()["checkpoints"]
    assert [one["step"] for one in found[:2]] == [3000, 2990]
    assert len(found) == 300
    assert [one["step"] for one in found if one["best"]] == [20]


def test_a_report_is_shown_without_scripts(client: Client) -> None:
    folder = make_run(client.settings.root, "told")
    assert client.get("/api/runs/told/report").status == 404
    (folder / "report.html").write_text("<script>alert(1)</script>")
    answer = client.get("/api/runs/told/report")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'; ")
    assert "allow-scripts" not in policy
    assert "script-src" not in policy


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path: Path) -> None:
    """And of one that grew, only what is new: what was there may be gone by then."""
    log = GrowingLines(tmp_path / METRICS)
    assert len(log.refresh()) == 0
    log.path.write_bytes(b'{"step": 1, "loss": 1}\n')
    assert len(log.refresh()) == 1
    size = log.path.stat().st_size
    with log.path.open("r+b") as file:
        file.write(b"#" * (size - 1))  # same file, its first line spoilt
        file.seek(size)
        file.write(b'{"step": 2, "loss": 2}\n')
    assert list(log.refresh().steps) == [1, 2]
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b'{"step": 1, "loss": 3}\n{"step": 3, "loss": 3}\n')
    fresh.replace(log.path)  # as a run that is resumed cuts its log
    assert list(log.refresh().steps) == [1, 3]
