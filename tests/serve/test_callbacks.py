"""What a server tells others: to whom, through which address, how often, and over a restart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dbos", reason="needs the extra serve")
pytest.importorskip("fastapi", reason="needs the extra serve")

from livery.serve.errors import Refused
from livery.serve.jobs import store as job_store
from livery.serve.jobs.jobs import Jobs
from livery.serve.queue import store
from livery.serve.queue.courier import TRIES, Courier, wait
from livery.serve.queue.queue import Order, Queue
from livery.serve.queue.send import check_addresses, check_url, send
from livery.serve.repeating import Repeating
from livery.serve.settings import ServeSettings
from tests import PATIENCE
from tests.serve.serving import settings_of

HERE = ("hooks.example", "127.0.0.1")
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Hook:
    """A server that is told things, and answers as `answers` say; 200 once they are used up."""

    answers: list[Answer] = field(default_factory=list)
    heard: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://hooks.example:{self.port}/done?x=1"


@contextlib.contextmanager
def hook(*answers: Answer) -> Generator[Hook]:
    made = Hook([*answers])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.heard.append((self.path, headers, json.loads(body)))
            with contextlib.suppress(OSError):
                (made.answers.pop(0) if made.answers else status(200))(self)

        def do_GET(self) -> None:
            made.heard.append(("GET", {}, None))

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """An answer without an end."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def here(host: str, port: int) -> list[str]:
    """A resolver that knows one machine."""
    return ["127.0.0.1"]


def deliver(url: str, **more: Any) -> str:
    said: dict[str, Any] = {"delivery": "d1", "allowed": HERE, "resolver": here}
    said |= {"seconds": PATIENCE, **more}
    target = check_url(url, said["allowed"])
    return asyncio.run(send(target, b"{}", **said))


# -- to whom ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ftp://hooks.example/", "http:///x", "//hooks.example/", "http://hooks.example:0/",
        "http://hooks.example:99999/", "http://a@hooks.example/", "http://hooks.example/#x",
        "http://hooks.example/a b", "http://hooks.example/\r\nX: y", "http://hooks.example.evil/",
        "http://evil/hooks.example", "http://hooks.example./", "http://127.1/", "http://[::1]/",
        "http://2130706433/", "http://hooks.example\\@evil/", "file:///etc/passwd", "http://é.example/",
    ],
)  # fmt: skip
def test_only_hosts_of_the_list_are_told(url: str) -> None:
    with pytest.raises(Refused, match=r"callback\.url"):
        check_url(url, HERE)


def test_a_host_is_itself_however_it_is_written() -> None:
    assert check_url("https://Hooks.Example/x", HERE).port == 443
    assert check_url("http://[::ffff:127.0.0.1]:81/", HERE).port == 81
    with pytest.raises(Refused, match="livery serve --callback-host other"):
        check_url("http://other/", HERE)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.1.2.3", "192.168.0.9", "172.16.0.1", "169.254.169.254",
        "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "::1",
        "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:7f00:1::", "::7f00:1",
        "2001:0:7f00:1:0:0:80ff:fffe",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(Refused, match="not a public address"):
        check_addresses("hooks.example", ["8.8.8.8", address], ["hooks.example"])


def test_an_address_may_be_listed_itself() -> None:
    check_addresses("a", ["8.8.8.8", "2606:4700::1111"], [])
    check_addresses("a", ["192.168.0.9", "::ffff:192.168.0.9"], ["192.168.0.9"])
    check_addresses("a", ["fd00::1"], ["[fd00:0::1]"])
    with pytest.raises(Refused, match=r"192\.168\.0\.10"):
        check_addresses("a", ["192.168.0.9", "192.168.0.10"], ["192.168.0.9"])


def test_a_name_that_moves_between_look_and_connection_leads_nowhere_else() -> None:
    """The name is looked up once; what was looked at is what is connected to."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with hook() as made:
        assert deliver(made.url, resolver=rebinding) == ""
        assert asked == ["hooks.example"]
        assert made.heard[0][1]["host"] == f"hooks.example:{made.port}"
        # Its second address is none that it may have.
        assert "127.0.0.2, which is not a public" in deliver(made.url, resolver=rebinding)
        assert "not a public" in deliver(made.url, resolver=lambda *_: ["127.0.0.1", "10.0.0.1"])
    assert len(made.heard) == 1


# -- answers ---------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed() -> None:
    with hook() as other, hook(status(307, Location=f"http://127.0.0.1:{other.port}/")) as made:
        assert deliver(made.url) == "the answer was 307"
    assert len(made.heard) == 1
    assert other.heard == []


def test_an_answer_has_an_end() -> None:
    with hook(endless) as made:
        assert deliver(made.url) == ""


def test_who_does_not_answer_in_time_has_not_heard() -> None:
    release = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        while not release.wait(0.05):
            handler.wfile.write(b"H")

    with hook(drip) as made:
        assert deliver(made.url, seconds=0.5) == "no whole answer within 0.5 seconds"
        release.set()


def test_what_cannot_be_reached_is_said() -> None:
    with socket.socket() as deaf:  # has a port, and does not listen there
        deaf.bind(("127.0.0.1", 0))
        assert "broke off" in deliver(f"http://hooks.example:{deaf.getsockname()[1]}/")

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    assert deliver("http://hooks.example/", resolver=unknown) == "no such name"


# -- at least once ---------------------------------------------------------------------------------


def ordered(settings: ServeSettings, url: str) -> tuple[Queue, str]:
    """A queue with an order whose job has just been done."""
    (settings.data / "rows").mkdir()
    row = {"prompt": "a", "completion": "b"}
    (settings.data / "rows" / "train.jsonl").write_text(json.dumps(row) + "\n")
    queue = Queue(settings, Jobs(settings.root))
    order = Order("o-1", "k-1", 3600, "node", "base_model", "rows", url=url, auth="Bearer s3cret")
    queue.enqueue(order, base_url="http://livery.example/")
    job = queue.jobs.get(queue.state("o-1")["job"])
    with zipfile.ZipFile(job.artefact, "w") as archive:
        archive.writestr("gguf/adapter.gguf", b"GGUF")
    done = {"state": "done", "started": 1000.0, "ended": 1002.5}
    job_store.change(queue.engine, job.id, done)
    return queue, job.id


def test_it_is_told_until_it_hears_with_one_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(tmp_path, callback_hosts=HERE)
    caplog.set_level(logging.DEBUG)
    with hook(status(500), status(302), status(200)) as made:
        queue, _ = ordered(settings, made.url)
        courier = Courier(queue, resolver=here, wait=lambda tries: 0.0)
        assert courier.look() == 0
        assert queue.state("o-1")["callback"] == {
            "state": "waiting", "tries": 1, "problem": "the answer was 500"
        }  # fmt: skip
        # Another process, as after a restart.
        again = Courier(Queue(settings, Jobs(settings.root)), resolver=here, wait=lambda _: 0.0)
        assert [again.look() for _ in range(4)] == [0, 1, 0, 0]
    assert queue.state("o-1")["callback"] == {"state": "delivered", "tries": 3}
    assert [path for path, _, _ in made.heard] == ["/done?x=1"] * 3
    assert {headers["authorization"] for _, headers, _ in made.heard} == {"Bearer s3cret"}
    assert len({headers["idempotency-key"] for _, headers, _ in made.heard}) == 1
    (said,) = {json.dumps(body, sort_keys=True) for _, _, body in made.heard}
    body = json.loads(said)
    assert made.heard[0][1]["idempotency-key"] == body["delivery_id"]
    assert (body["job_id"], body["job_type"], body["status"]) == (
        "o-1",
        "adapter_train",
        "succeeded",
    )
    assert body["timing"] == {"processing_ms": 2500}
    result = body["result"]
    assert result["artifact_url"] == "http://livery.example/v1/adapters/train/o-1/adapter.zip"
    assert result["artifact_metadata"]["adapter_format"] == "peft_lora+gguf"
    assert result["artifact_metadata"]["cached"] is False
    # Its secret is kept no longer than it is needed, and nowhere told.
    assert "s3cret" not in caplog.text
    assert "s3cret" not in json.dumps(queue.state("o-1"))
    row = store.get(queue.engine, id="o-1")
    assert row is not None
    assert row.auth is None


def test_what_never_hears_is_given_up(tmp_path: Path) -> None:
    with hook(*[status(503)] * TRIES) as made:
        queue, _ = ordered(settings_of(tmp_path, callback_hosts=HERE), made.url)
        courier = Courier(queue, resolver=here, wait=lambda tries: 0.0)
        for _ in range(TRIES + 2):
            courier.look()
    assert len(made.heard) == TRIES
    assert queue.state("o-1")["callback"]["state"] == "given up"


def test_tries_come_further_and_further_apart(tmp_path: Path) -> None:
    assert [wait(tries) for tries in (1, 2, 3, 30)] == [2.0, 4.0, 8.0, 3600.0]
    assert 86400 < sum(wait(tries) for tries in range(1, TRIES)) < 3 * 86400
    with hook(status(500)) as made:
        queue, _ = ordered(settings_of(tmp_path, callback_hosts=HERE), made.url)
        courier = Courier(queue, resolver=here, wait=lambda tries: 3600.0)
        courier.look()
        courier.look()
    assert len(made.heard) == 1


def test_a_host_that_was_taken_off_the_list_is_not_told(tmp_path: Path) -> None:
    with hook() as made:
        queue, _ = ordered(settings_of(tmp_path, callback_hosts=HERE), made.url)
        strict = Queue(ServeSettings(tmp_path, port=0), queue.jobs)
        Courier(strict, resolver=here).look()
    assert made.heard == []
    assert "may not call" in queue.state("o-1")["callback"]["problem"]


def test_a_courier_works_by_itself(tmp_path: Path) -> None:
    with hook() as made:
        queue, _ = ordered(settings_of(tmp_path, callback_hosts=HERE), made.url)
        courier = Repeating("callbacks", Courier(queue, resolver=here).look, 0.02)
        courier.start()
        until = time.monotonic() + PATIENCE
        while queue.state("o-1")["callback"]["state"] != "delivered":
            assert time.monotonic() < until
            time.sleep(0.02)
        courier.stop()
    assert len(made.heard) == 1
