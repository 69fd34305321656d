"""Requests that are made to read what is elsewhere, to fill memory, or to hold the server up."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")

from livery.files import write_json
from livery.paths import HOME
from livery.serve.api.bounds import Rates
from livery.serve.api.problems import without_paths
from livery.serve.errors import NotFound
from livery.serve.settings import inside, is_name
from tests import PATIENCE
from tests.serve.run_folders import make_run
from tests.serve.serving import UNHURRIED, Client, served, settings_of
from tests.serve.test_adapters import make_adapter

SECRET = "the-secret-beside-the-root"
LIMITS = replace(UNHURRIED, body=10_000, upload=50_000)  # small enough to be reached in a moment


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    top = tmp_path_factory.mktemp("attacked")
    (top / "secret.json").write_text(json.dumps({"secret": SECRET}))
    (top / "secret.jsonl").write_text(json.dumps({"secret": SECRET}) + "\n")
    outside = top / "adapters-outside"
    outside.mkdir()
    (outside / "run_config.json").write_text(json.dumps({"secret": SECRET}))
    settings = settings_of(top / "root", limits=LIMITS)
    make_run(settings.root, "run")
    make_adapter(settings.root, "adapter", "peft")
    (settings.data / "rows").mkdir()
    (settings.data / "rows" / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (settings.adapters / "link").symlink_to(outside)
    (settings.data / "link").symlink_to(top)
    (settings.data / "file.jsonl").symlink_to(top / "secret.jsonl")
    (settings.data / "inner").mkdir()
    (settings.data / "inner" / "train.jsonl").symlink_to(top / "secret.jsonl")
    with served(settings) as client:
        yield client


def raw(client: Client, sent: bytes) -> bytes:
    """What a connection answers to bytes, until it is closed, perhaps before all were sent."""
    answer = b""
    with socket.create_connection((client.host, client.port), timeout=PATIENCE) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(1 << 16):
                answer += chunk
    return answer


# -- paths -----------------------------------------------------------------------------------------

NAMES = [
    "..", ".", "../secret.json", "../../secret.json", "..%2fsecret.json", "%2e%2e%2fsecret.json",
    "..%2f..%2fsecret.json", "%2e%2e", "..%5c..%5csecret.json", "....//secret.json", "%ff", "run.",
    "%252e%252e%252f", "/etc/passwd", "%2fetc%2fpasswd", "~root", "link", "file.jsonl", "inner",
    "%00", "run%00", "run%0a", "run%23/../secret.json", "run%3f", "run;x", "..;/secret.json",
    "-run", "%c0%ae%c0%ae", "%e2%80%a5", "sha256:../../secret.json", "sha256%3a" + "a" * 64,
    "a" * 5000, "con", "{{9199*9199}}", "${9199*9199}", "%24%7b9199*9199%7d",
    "<script>alert(1)<%2fscript>", "%27%20or%201=1--",
]  # fmt: skip


def routes(client: Client) -> list[str]:
    """The paths that can be read and have a name in them."""
    paths = client.get("/openapi.json").json()["paths"]
    return [path for path, operations in paths.items() if "{" in path and "get" in operations]


@pytest.mark.slow
def test_no_name_in_a_path_leads_out(client: Client) -> None:
    tried = 0
    for path in routes(client):
        for name in NAMES:
            for rest in ("run", name):
                target = path
                for i in range(path.count("{")):
                    start, end = target.index("{"), target.index("}")
                    target = target[:start] + (name if i == 0 else rest) + target[end + 1 :]
                sent = quote(target, safe="/%{}$<>;:'~*=-")
                answer = client.get(sent + "?follow=false&form=peft")
                assert SECRET.encode() not in answer.body, sent
                assert b"root:" not in answer.body, sent
                assert b"84621601" not in answer.body, sent  # 9199*9199, had it been computed
                assert answer.status < 500 or "chat" in path, (sent, answer.text)
                tried += 1
    assert tried > 500


def test_no_file_of_a_run_is_a_link(client: Client) -> None:
    """What a link in a run's folder leads to is not shown."""
    folder = make_run(client.settings.root, "linked")
    outside = client.settings.root.parent / "outside.jsonl"
    record = {
        "step": 1, "prompt": SECRET, "loss": 1.0, "note": SECRET, "settings": {"model": SECRET},
        "headline": SECRET, "arms": {SECRET: {}}, "base_model_name_or_path": SECRET,
    }  # fmt: skip
    outside.write_text(json.dumps(record) + "\n")
    for name in (
        "run_config.json", "samples.jsonl", "training_metrics.jsonl", "training_metadata.json",
        "evaluation.json", "adapter_config.json", "promotion.json", "report.html",
    ):  # fmt: skip
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside)
    try:
        for path in (
            "/api/runs", "/api/adapters", "/api/evaluations", "/api/runs/linked",
            "/api/runs/linked/samples", "/api/runs/linked/metrics", "/api/runs/linked/report",
            "/api/adapters/linked", "/api/evaluations/linked/evaluation.json",
            "/api/improve/linked", "/api/runs/linked/events?follow=false",
        ):  # fmt: skip
            answer = client.get(path)
            assert answer.status in (200, 404), path
            assert SECRET.encode() not in answer.body, path
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_name_in_a_query_leads_out(client: Client, name: str) -> None:
    sent = quote(name, safe="%")
    for path in (
        f"/api/datasets/rows/rows?split={sent}",
        f"/api/datasets/rows/export?split={sent}",
        f"/api/datasets/rows/export?format={sent}",
        f"/api/runs?before={sent}",
        f"/api/runs/run/events?follow=false&after={sent}",
        f"/api/adapters/adapter/export?form={sent}",
        f"/api/adapters/adapter/export?form=ollama&from={sent}",
    ):
        answer = client.get(path)
        assert answer.status < 500, path
        assert SECRET.encode() not in answer.body, path
    if not is_name(name):  # else it is checked, in a process
        upload = client.ask("POST", f"/api/datasets?name={sent}&filename=a.jsonl", b"{}\n")
        assert upload.status in (400, 422)
    if not name.endswith((".json", ".jsonl")):
        upload = client.ask("POST", f"/api/datasets?name=x&filename={sent}", b"{}\n")
        assert upload.status in (400, 422)


TARGETS = [
    "/api/runs/run#/../../../secret.json", "/#/../../secret.json", "/api/runs/#run",
    "/api/runs/../../secret.json", "/api/runs/run/../../../secret.json", "/../secret.json",
    "/vendor/../../../../secret.json", "/api/datasets/rows/rows?split=train#/../../../secret",
    "/api/datasets/rows/export?split=../../secret#train", "/api/adapters/adapter/export?#form=peft",
    "//secret.json", "/./../secret.json", "/api//runs/..//..//secret.json", "#/../secret.json",
    "http://localhost/../secret.json", "http://evil.example/api/runs", "file:///etc/passwd", "*",
    "/api/runs/run\\..\\..\\secret.json",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_no_fragment_and_no_dots_in_the_line_lead_out(client: Client, target: str) -> None:
    """As they stand: clients make another path of them before they ask."""
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = raw(client, head.encode())
    assert answer.startswith((b"HTTP/1.1 2", b"HTTP/1.1 4"))
    assert SECRET.encode() not in answer
    assert b"root:" not in answer


@pytest.mark.parametrize(
    "digest", ["../../secret.json", "sha256:../../secret.json", "a" * 63 + "/", "", "a" * 65]
)
def test_no_digest_of_an_order_is_a_path(client: Client, digest: str) -> None:
    asked = {"node_id": "n", "base_model_id": "base_model", "dataset_ref": "rows"}
    said = {"job_id": "j", "idempotency_key": "k", "ttl_seconds": 60}
    sent = said | {"request": asked | {"dataset_hash": digest}}
    answer = client.post("/v1/adapters/train", sent)
    assert (answer.status, answer.json()["key"]) == (422, "request.dataset_hash")
    named = said | {"request": asked | {"dataset_ref": digest or ".."}}
    assert client.post("/v1/adapters/train", named).status in (400, 404)
    assert client.get("/api/jobs").json()["jobs"] == []


@pytest.mark.parametrize(
    "said",
    [
        {"skill": "/tmp/x.py"}, {"skill": "x.py"}, {"skill": "../x.py"}, {"data": "/etc"},
        {"data": "../.."}, {"data": "link"}, {"skill": "date-keys", "name": "../x"},
        {"skill": "date-keys", "settings": {"model": "/etc"}},
        {"skill": "date-keys", "settings": {"model": "../../secret.json"}},
        {"skill": "date-keys", "settings": {"init_adapter": "/etc"}},
        {"skill": "date-keys", "settings": {"valid_data": "../secret.jsonl"}},
        {"skill": "date-keys", "settings": {"chat_template": "~/x"}},
        {"skill": "date-keys", "settings": {"output_dir": "/tmp/x"}},
        {"skill": "date-keys", "name": "$(id)"}, {"skill": "date-keys; id"},
        {"skill": "date-keys", "settings": {"--help": 1}},
        {"skill": "date-keys", "backend": "torch; id"}, {"skill": "date-keys", "engine": "`id`"},
        {"skill": "--help"}, {"skill": "date-keys", "name": "--help"},
    ],
)  # fmt: skip
def test_no_job_runs_or_reads_what_is_elsewhere(client: Client, said: dict[str, Any]) -> None:
    answer = client.post("/api/jobs", said)
    assert answer.status in (400, 403, 404, 409, 422), answer.text
    assert client.get("/api/jobs").json()["jobs"] == []


def test_inside_is_inside(tmp_path: Path) -> None:
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "root2").mkdir()
    (tmp_path / "root" / "b").symlink_to(tmp_path / "root2")  # begins with the same letters
    (tmp_path / "root" / "c").symlink_to("a")
    assert inside(tmp_path / "root", "a") == (tmp_path / "root" / "a").resolve()
    assert inside(tmp_path / "root", "c") == (tmp_path / "root" / "a").resolve()
    for name in ("b", "..", ".", "", "a/..", "a\0", "a ", "é"):
        with pytest.raises(NotFound):
            inside(tmp_path / "root", name)


# -- what is shown ---------------------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)>{{7*7}}${7*7}\u202e\r\nSet-Cookie: a=b"


def test_names_and_texts_are_data_and_never_markup(client: Client) -> None:
    folder = make_run(client.settings.root, "hostile", model=HOSTILE, data=HOSTILE)
    (folder / "samples.jsonl").write_text(
        json.dumps({"step": 1, "prompt": HOSTILE, "expected": "", "answer": HOSTILE}) + "\n"
    )
    make_run(client.settings.root, "<img src=x onerror=alert(1)>")
    for path in (
        "/api/runs", "/api/runs/hostile", "/api/runs/hostile/samples",
        "/api/runs/%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E",
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.headers["content-type"] in ("application/json", "application/problem+json")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "set-cookie" not in answer.headers
    listed = client.get("/api/runs").json()["runs"]
    assert {run["model"] for run in listed if run["name"] == "hostile"} == {HOSTILE}
    assert all("<" not in run["name"] for run in listed)
    stream = client.get("/api/runs/hostile/events?follow=false").text
    assert "\r\nSet-Cookie" not in stream


def test_a_fault_tells_nothing_of_the_server(client: Client) -> None:
    config = client.settings.adapters / "broken" / "run_config.json"
    config.parent.mkdir()
    config.write_text("{")
    for path in ("/api/runs/broken", "/api/nothing", "/api/runs/nothing", "/api/jobs/nothing"):
        answer = client.get(path)
        assert str(client.settings.root) not in answer.text or path == "/api/runs/broken"
        assert "Traceback" not in answer.text
        assert "server" not in answer.headers


def test_a_problem_names_places_from_the_root(client: Client) -> None:
    taken = client.post("/api/jobs", {"skill": "date-keys", "name": "run"})
    assert taken.status == 409
    assert taken.json()["detail"].startswith("adapters/run: holds a run already.")
    asked = {"model": "adapter", "messages": [{"role": "user", "content": "x"}]}
    unusable = client.post("/v1/chat/completions", asked)
    assert unusable.status in (409, 503), unusable.text
    for said in (unusable.text, client.post("/v1/chat/completions", asked | {"stream": True}).text):
        assert "adapters/adapter" in said
        assert str(client.settings.root) not in said
    root, home = client.settings.root, Path.home()
    for text, wanted in (
        (f"{root}/data/x: no", "data/x: no"), (f"'{root}' is full", "'.' is full"),
        (f"{root}-2/x {root}.d /else{root}/x", f"{root}-2/x {root}.d /else{root}/x"),
        ([{"said": f"it\n{root}/x: no"}, 7], [{"said": "it\nx: no"}, 7]),
        (f"in {HOME}/base_model: no", "in base_model: no"), ("a/b and /etc", "a/b and /etc"),
    ):  # fmt: skip
        assert without_paths(text, client.settings) == wanted
    assert str(home) == "/" or without_paths(f"{home}/.cache/x", client.settings) == "~/.cache/x"


def test_records_name_places_from_the_root_and_cases_stay_as_they_were(client: Client) -> None:
    root = client.settings.root
    folder = make_run(root, "told", model=f"{root}/models/base")
    make_adapter(root, "told", "peft")
    write_json(folder / "promotion.json", {"from": f"{root}/adapters/other", "replaced": "0001"})
    record = {"facts": {"adapter": str(folder)}, "cases": [{"text": f"ls {root}"}]}
    write_json(folder / "evaluation.json", record)
    assert client.get("/api/runs/told").json()["config"]["settings"]["model"] == "models/base"
    assert client.get("/api/improve/told").json()["promotion"]["from"] == "adapters/other"
    said = client.get("/api/evaluations/told/evaluation.json").json()
    assert said == {"facts": {"adapter": "adapters/told"}, "cases": [{"text": f"ls {root}"}]}


@pytest.mark.slow
def test_another_method_is_told_which_there_are(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    kinds = {re.compile(re.sub(r"{[^}]*}", "[^/]+", path)): one for path, one in paths.items()}
    tried = 0
    for path in paths:
        place = re.sub(r"{[^}]*}", "none", path)
        there = {m.upper() for kind, one in kinds.items() if kind.fullmatch(place) for m in one}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - there:
            answer = client.ask(method, place)
            assert answer.status == 405, (method, place)
            assert {*answer.headers["allow"].split(", ")} == there | ({"GET"} & there and {"HEAD"})
            assert answer.headers["content-type"] == "application/problem+json"
            tried += 1
    assert tried > 100
    assert client.post("/").headers["allow"] == "GET, HEAD"
    for method, path in (("POST", "/api/nothing"), ("GET", "/api/runs/"), ("GET", "/vendor")):
        assert client.ask(method, path).status == 404


# -- sizes -----------------------------------------------------------------------------------------


def chunked(path: str, size: int) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    part = b"1000\r\n" + b" " * 4096 + b"\r\n"
    return head.encode() + part * (size // 4096) + b"0\r\n\r\n"


def test_bodies_are_bounded_by_what_arrives(client: Client) -> None:
    promised = client.ask("POST", "/api/jobs", b"", {"Content-Length": str(10**12)})
    assert promised.status == 413
    assert client.ask("POST", "/api/jobs", b" " * 10_001).status == 413
    assert client.ask("POST", "/api/session", {"token": "x" * 4000}).status == 204
    # Without a length; the server may close before all is sent.
    for path, size in (
        ("/api/jobs", 12_288),
        ("/api/datasets?name=big&filename=a.jsonl", 61_440),
        ("/api/session", 12_288),
    ):
        assert raw(client, chunked(path, size)).startswith(b"HTTP/1.1 413"), path
    assert not (client.settings.data / "big").exists()
    assert raw(client, chunked("/api/session", 8192)).startswith(b"HTTP/1.1 4")  # read, and no JSON


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 9000, b'{"a":' * 1800, b"1" * 9000, b"NaN", b'{"skill": 1e999}', b"\xff\xfe",
        b'{"settings": {"lora.rank": ' + b"9" * 8000 + b"}}", b'"\\ud800"', b"", b"null", b"{}",
        b"[]",
    ],
)  # fmt: skip
def test_json_that_is_no_request(client: Client, body: bytes) -> None:
    for path in ("/api/jobs", "/api/session", "/api/adapters/adapter/forms"):
        answer = client.ask("POST", path, body, {"Content-Type": "application/json"})
        assert 400 <= answer.status < 500, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


def test_long_headers_are_refused(client: Client) -> None:
    sent = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"
    assert raw(client, sent)[:10] in (b"HTTP/1.1 4", b"")  # reset before all of it was sent


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-0,1-1", "bytes=" + ",".join(f"{i}-" for i in range(1000)), "bytes=a-b", "bytes=-",
        "bytes=0-1, 2-3", "bytes=" + "9" * 400 + "-", "bytes=5-2", "bytes=-0",
        "bytes= 0-1", "bytes=0-\u00b2", "bytes=99999999-",
    ],
)  # fmt: skip
def test_one_range_that_is_there(client: Client, asked: str) -> None:
    sent = {"Range": asked.encode("latin-1").decode("latin-1")}
    answer = client.get("/api/datasets/rows/export", **sent)
    assert answer.status == 416
    assert len(answer.body) < 1000
    assert answer.headers["content-type"] == "application/problem+json"
    size = len(client.get("/api/datasets/rows/export").body)
    told = answer.headers.get("content-range")
    assert told == (f"bytes */{size}" if answer.json().get("key") != "Range" else None)


@pytest.mark.slow
def test_a_range_that_is_none_of_ours_is_ignored(client: Client) -> None:
    """As RFC 9110 has it: in another unit, or of another method than GET."""
    place = "/api/datasets/rows/export"
    whole = client.get(place).body
    for asked in ("lines=0-1", "x-lines=a;b", "lines=0-1,5-6"):
        answer = client.get(place, Range=asked)
        assert (answer.status, answer.body) == (200, whole), asked
        assert client.get("/docs/style.css", Range=asked).status == 200
    assert client.get(place, Range="Bytes=1-2").body == whole[1:3]
    head = client.ask("HEAD", place, headers={"Range": "bytes=1-2"})
    assert (head.status, head.headers["content-length"]) == (200, str(len(whole)))
    judged = client.post("/v1/guard", {"command": "ls"}, Range="bytes=0-0,1-1")
    assert judged.status == 200


@pytest.mark.slow
def test_head_is_get_without_its_body(client: Client) -> None:
    places = (
        "/api/runs", "/api/runs/hostile", "/api/datasets/rows/export", "/openapi.json", "/docs",
        "/api/nothing", "/v1/models", "/", "/api/runs/run/events",
    )  # fmt: skip
    for place in places:
        head = client.ask("HEAD", place)
        follow = "?follow=false" if place.endswith("events") else ""  # the other ends by itself
        get = client.get(place + follow)
        assert (head.status, head.body) == (get.status, b""), place
        for name in ("content-type", "content-length", "etag", "content-security-policy"):
            assert head.headers.get(name) == get.headers.get(name), (place, name)
    assert client.ask("HEAD", "/api/datasets/rows/review").status == 405


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind"),
    [
        ("GET", "/v1/models", {"Host": "evil.example"}, 421, "invalid_request_error"),
        ("GET", "/v1/models", {"Origin": "http://evil.example"}, 403, "permission_error"),
        ("GET", "/v1/models/none", {}, 404, "invalid_request_error"),
        ("GET", "/v1/nothing", {}, 404, "invalid_request_error"),
        ("DELETE", "/v1/models", {}, 405, "invalid_request_error"),
        ("POST", "/v1/guard", {}, 422, "invalid_request_error"),
        ("POST", "/v1/chat/completions", {"Content-Length": "9" * 9}, 413, "invalid_request_error"),
    ],
)
def test_errors_below_v1_are_openais_wherever_they_come_from(
    client: Client, method: str, path: str, headers: dict[str, str], status: int, kind: str
) -> None:
    answer = client.ask(method, path, b"", headers)
    assert answer.status == status
    said = answer.json()
    assert said["status"] == status
    error = said["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["message"], error["type"]) == (said["detail"], kind)
    assert "error" not in client.get("/api/nothing").json()


def test_what_no_application_hears_is_told_as_it_would(tmp_path: Path) -> None:
    """A request that is none, and one connection too many."""

    def parts(answer: bytes) -> tuple[bytes, bytes, dict[str, Any]]:
        head, _, body = answer.partition(b"\r\n\r\n")
        return head[:12], head.lower(), json.loads(body)

    with served(settings_of(tmp_path, limits=replace(UNHURRIED, connections=2))) as client:
        status, head, said = parts(raw(client, b"NO HTTP\r\n\r\n"))
        assert (status, said["status"]) == (b"HTTP/1.1 400", 400)
        assert b"content-type: application/problem+json" in head
        with socket.create_connection((client.host, client.port), timeout=PATIENCE) as one:
            one.sendall(b"GET /api/session HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one.recv(4096).startswith(b"HTTP/1.1 200")
            for path in ("/api/session", "/v1/models"):
                asked = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
                status, head, said = parts(raw(client, asked))
                assert (status, said["title"]) == (b"HTTP/1.1 503", "Service Unavailable")
                assert b"retry-after: 1" in head
                assert ("error" in said) is path.startswith("/v1")


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_headers_that_do_not_come_end_the_connection(tmp_path: Path) -> None:
    with served(settings_of(tmp_path, limits=replace(UNHURRIED, header_seconds=0.3))) as client:
        assert raw(client, b"") == b""
        assert raw(client, b"GET /api/runs HTT") == b""
        assert raw(client, b"GET /api/runs HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") == b""
        # And those of a second request on the same connection.
        whole = b"GET /api/session HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert raw(client, whole + b"GET /api/session HTT").count(b"HTTP/1.1 200") <= 1


def test_a_body_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    limits = replace(UNHURRIED, body_seconds=0.3, upload_rate=1 << 30)
    with served(settings_of(tmp_path, limits=limits)) as client:
        for path in ("/api/jobs", "/api/datasets?name=slow&filename=a.jsonl"):
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                "Content-Length: 100\r\nConnection: close\r\n\r\n{"
            )
            assert raw(client, head.encode()).startswith(b"HTTP/1.1 408")
        assert not any(client.settings.uploads.glob("*"))


def test_whoever_leaves_during_an_upload_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(settings_of(tmp_path)) as client:
        head = b"POST /api/datasets?name=left&filename=a.jsonl HTTP/1.1\r\nHost: localhost\r\n"
        with socket.create_connection((client.host, client.port)) as connection:
            connection.sendall(head + b"Content-Length: 1000\r\n\r\n{")
            until = time.monotonic() + PATIENCE
            while not any(client.settings.uploads.glob("*")):
                assert time.monotonic() < until
                time.sleep(0.01)
        while any(client.settings.uploads.glob("*")):
            assert time.monotonic() < until
            time.sleep(0.01)
    assert not any(client.settings.data.iterdir())
    assert not [record for record in caplog.records if record.name == "livery.serve"]


def test_streams_are_counted(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, limits=replace(UNHURRIED, streams=2))
    make_run(settings.root, "run")
    sent = b"GET /api/runs/run/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(settings) as client, contextlib.ExitStack() as opened:
        for _ in range(2):
            one = socket.create_connection((client.host, client.port), timeout=PATIENCE)
            opened.enter_context(one)
            one.sendall(sent)
            assert one.recv(4096).startswith(b"HTTP/1.1 200")
        assert client.get("/api/runs/run/events").status == 503
        opened.close()
        until = time.monotonic() + PATIENCE
        while client.get("/api/runs/run/events?follow=false").status == 503:
            assert time.monotonic() < until  # the server notices that they are gone
            time.sleep(0.01)


def test_who_asks_too_often_waits() -> None:
    rates = Rates(rate=2.0, burst=3)
    assert [rates.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert rates.take("b", 0.0)
    assert [rates.take("a", 1.0) for _ in range(3)] == [True, True, False]
    for i in range(10_000):
        rates.take(str(i), 2.0)
    assert len(rates.buckets) < 5000


def test_too_many_requests_are_told_so(tmp_path: Path) -> None:
    few = replace(UNHURRIED, rate=1e-9, burst=2, writes=1e-9, write_burst=1)
    with served(settings_of(tmp_path, limits=few)) as client:
        assert [client.get("/api/session").status for _ in range(3)] == [200, 200, 429]
        told = client.get("/v1/models")
        assert (told.status, told.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(told.headers["retry-after"]) >= 1
        assert [client.ask("DELETE", "/api/session").status for _ in range(2)] == [204, 429]


# -- code ------------------------------------------------------------------------------------------


def test_nothing_here_unpickles() -> None:
    """The workflows' library would by default (`livery.serve.jobs.serial`)."""
    import livery.serve as package

    folder = Path(str(package.__file__)).parent
    sources = [path.read_text() for path in folder.rglob("*.py")]
    assert len(sources) > 20
    assert not any("import pickle" in text or "pickle.load" in text for text in sources)
    assert not any("shell=True" in text or "os.system" in text for text in sources)
