"""The http engine against servers on loopback: mlx_lm's own, and ill-behaved ones."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livery.engines import http
from livery.engines.engine import Decoding, Grammar, open_engine
from livery.errors import UserError
from tests import PATIENCE
from tests.loopback import Quiet, serving
from tests.test_fuzz import EXAMPLES, change_bytes, change_json

Answer = Callable[[dict[str, Any], dict[str, str]], tuple[int, Any]]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server on a port of its own: yields (url, the bodies it was sent)."""
    seen: list[dict[str, Any]] = []

    class Handler(Quiet):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({"path": self.path, **body})
            code, value = answer(body, dict(self.headers))
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler) as address:
        yield f"{address}/v1", seen


def completion(text: str, reason: str = "stop") -> dict[str, Any]:
    return {
        "choices": [{"message": {"content": text}, "finish_reason": reason}],
        "usage": {"completion_tokens": 7},
    }


def shout(body: dict[str, Any], _: dict[str, str]) -> tuple[int, Any]:
    """Says which model it was and what it was asked."""
    return 200, completion(f"{body['model']}: {body['messages'][-1]['content']}")


def ask(engine: Any, *texts: str) -> list[Any]:
    return [engine.prompt([{"role": "user", "content": text}]) for text in texts]


def test_answers_come_back_in_order_from_the_right_model():
    with server(shout) as (url, seen):
        engine = open_engine("http", "base", "tuned", url=url + "/")
        texts = [f"question {n}" for n in range(40)]
        done: list[int] = []
        answers = engine.generate(
            ask(engine, *texts), Decoding(max_tokens=9, seed=5), lambda at, _: done.append(at)
        )
        assert [a.text for a in answers] == [f"tuned: {text}" for text in texts]
        assert done == list(range(1, 41))
        assert all(a.finished and a.count == 7 and a.seconds > 0 for a in answers)
        assert {body["path"] for body in seen} == {"/v1/chat/completions"}
        assert {body["max_tokens"] for body in seen} == {9}
        assert sorted(body["seed"] for body in seen) == list(range(5, 45))
        engine.use_adapter(False)
        assert engine.generate(ask(engine, "x"), Decoding())[0].text == "base: x"
        assert engine.facts().adapter is None
        pieces: list[str] = []
        engine.stream(ask(engine, "y")[0], Decoding(), pieces.append)
        assert pieces == ["base: y"]


def test_the_nucleus_is_asked_for_where_it_is_set():
    with server(shout) as (url, seen):
        engine = open_engine("http", "base", url=url)
        engine.generate(ask(engine, "x"), Decoding(temperature=1.0, top_p=0.9))
        engine.generate(ask(engine, "x"), Decoding(temperature=1.0))
        assert [body.get("top_p") for body in seen] == [0.9, None]


def test_a_cut_answer_is_told():
    with server(lambda *_: (200, completion("abc", "length"))) as (url, _):
        engine = open_engine("http", "base", url=url)
        assert not engine.has_adapter
        assert not engine.generate(ask(engine, "x"), Decoding())[0].finished
        with pytest.raises(UserError, match="no adapter"):
            engine.use_adapter(True)


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http.time, "sleep", lambda _: None)
    busy = iter([503, 429, 200])
    with server(lambda *_: (next(busy), completion("at last"))) as (url, seen):
        engine = open_engine("http", "base", url=url)
        assert engine.generate(ask(engine, "x"), Decoding())[0].text == "at last"
        assert len(seen) == 3
    with server(lambda *_: (503, {"error": "busy for ever"})) as (url, seen):
        engine = open_engine("http", "base", url=url)
        with pytest.raises(UserError, match=r"\(503\).*busy for ever"):
            engine.generate(ask(engine, "x"), Decoding())
        assert len(seen) == http.ATTEMPTS


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda *_: (404, {"error": "no such model"}), r"refused the request \(404\).*no such"),
        (lambda *_: (200, b"<html>hello</html>"), "did not answer in JSON"),
        (lambda *_: (200, {"object": "list"}), "other than a chat completion"),
        (lambda *_: (200, {"choices": []}), "other than a chat completion"),
    ],
)
def test_a_server_that_is_none(answer: Answer, complaint: str):
    with server(answer) as (url, seen):
        engine = open_engine("http", "base", url=url)
        with pytest.raises(UserError, match=complaint):
            engine.generate(ask(engine, "x"), Decoding())
        assert len(seen) == 1


def test_the_key_is_sent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "abc")

    def echo(_: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        return 200, completion(headers.get("Authorization", "none"))

    with server(echo) as (url, _):
        engine = open_engine("http", "base", url=url)
        assert engine.generate(ask(engine, "x"), Decoding())[0].text == "Bearer abc"


def test_nobody_there_and_what_cannot_be_done():
    engine = open_engine("http", "base", url="http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="Is the server running"):
        engine.generate(ask(engine, "x"), Decoding())
    with pytest.raises(UserError, match="--unconstrained"):
        engine.generate(ask(engine, "x"), Decoding(grammar=Grammar("regex", "a")))
    with pytest.raises(UserError, match="log-probabilities"):
        engine.logprobs([], [])
    with pytest.raises(UserError, match="not an http address"):
        open_engine("http", "base", url="localhost:8000")


Script = list[tuple[bytes, float, int]]  # (bytes, seconds to wait behind them, times)


@contextmanager
def hostile(scripts: Iterator[Script]) -> Iterator[str]:
    """A server that says what its script says, a script a connection, and hangs up."""
    listening = socket.create_server(("127.0.0.1", 0))
    closing = threading.Event()

    def serve(peer: socket.socket, script: Script) -> None:
        with peer, contextlib.suppress(OSError):
            peer.settimeout(PATIENCE)
            peer.recv(1 << 16)
            for data, wait, times in script:
                for _ in range(times):
                    peer.sendall(data)
                    if wait and closing.wait(wait):
                        return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = listening.accept()
                threading.Thread(target=serve, args=(peer, next(scripts)), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    finally:
        closing.set()
        with contextlib.suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


CALL = {"function": {"name": "f", "arguments": '{"city": "Oslo"}'}}
GOOD = json.dumps({
    "id": "x",
    "choices": [{
        "message": {"content": "hé", "tool_calls": [CALL]}, "finish_reason": "stop", "index": 0,
    }],
    "usage": {"completion_tokens": 7},
}).encode()  # fmt: skip


def head(length: int, status: str = "200 OK", *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}", "Connection: close", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def odd_script(dice: random.Random) -> Script:
    """One of the ways in which servers and what stands before them go wrong."""
    body = change_json(GOOD, dice) if dice.random() < 0.7 else change_bytes(GOOD, dice)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    status = dice.choice(["201 X", "204 X", "302 X", "307 X", "400 X", "404 X", "500 X", "503 X"])
    place = dice.choice(["Location: http://127.0.0.1:9/", "Location: file:///etc/passwd", "X: y"])
    whole = head(len(GOOD)) + GOOD
    cut = dice.randrange(len(whole))
    return dice.choice([
        [(head(len(body)) + body, 0, 1)],
        [(head(len(body)) + body, 0, 1)],
        [(whole, 0, 1)],
        [(whole[:cut], 0, 1)],
        [(whole[:cut], 9, 1)],
        [(bytes([byte]), 0.05, 1) for byte in whole],
        [(change_bytes(whole, dice), 0, 1)],
        [(head(len(body), status, place) + body, 0, 1)],
        [(head(1 << 40) + b'{"x": "', 0, 1), (b"y" * 65536, 0, 200)],
        [(b"HTTP/1.1 200 OK\r\n\r\n", 0, 1), (b"[" * 65536, 0, 200)],
        [(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, 10**6)],
        [(b"HTTP/1.1 200 OK\r\n", 0, 1), (b"X: " + b"y" * 9000 + b"\r\n", 0, 300)],
        [(chunked + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body), 0, 1)],
        [(chunked + b"%x\r\n%b\r\n" % (len(body), body), 0, 1)],
        [(chunked + dice.choice([b"zz\r\n", b"-5\r\n", b"ffffffffffff\r\nx", b""]), 0, 1)],
        [(dice.randbytes(dice.randrange(300)), 0, 1)],
        [],
    ])  # fmt: skip


@pytest.mark.slow
def test_whatever_an_endpoint_answers_is_an_answer_or_an_error(monkeypatch: pytest.MonkeyPatch):
    """Within bounded time and memory."""
    monkeypatch.setattr(http.time, "sleep", lambda _: None)
    script: Script = []
    seen = {"answers": 0, "errors": 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with hostile(iter(lambda: script, None)) as url:
        engine = open_engine("http", "base", url=url)
        asked = ask(engine, "x")

        @settings(max_examples=EXAMPLES * 2, derandomize=True, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(seed=st.integers(0, 2**32))
        def one(seed: int) -> None:
            nonlocal script
            script = odd_script(random.Random(seed))
            # What waits is given up; all else has the time that a busy machine takes.
            waits = any(wait for _, wait, _ in script)
            monkeypatch.setattr(http, "TIMEOUT", 0.4 if waits else PATIENCE)
            began = time.monotonic()
            said, count = "", 0
            try:
                [answer] = engine.generate(asked, Decoding())
                seen["answers"] += 1
                answer.text.encode()
                count = answer.count
            except UserError as error:
                said = str(error)
                seen["errors"] += 1
            assert len(said) < 1000
            assert said.isprintable()
            assert not said or url in said
            assert 0 <= count < 1 << 30
            assert time.monotonic() - began < PATIENCE

        one()
    assert min(seen.values()) > EXAMPLES // 10, seen
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1000 << 10


@pytest.mark.parametrize(
    "script",
    [
        [(b"HTTP/1.1 100 Continue\r\n\r\n", 0.01, 10**6)],
        [(head(10**6), 0, 1), (b" ", 0.05, 10**6)],
        [(b"HTTP/1.1 200 OK\r\n", 0, 1), (b"X", 0.05, 10**6)],
        [(b"HTTP/1.1 500 X\r\n\r\n", 0, 1), (b"X", 0.05, 10**6)],
    ],
)
def test_an_answer_that_trickles_is_given_up(script: Script, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "TIMEOUT", 0.5)
    with hostile(iter([script] * 9)) as url:
        engine = open_engine("http", "base", url=url)
        began = time.monotonic()
        with pytest.raises(UserError, match=r"no complete answer within 0.5 seconds"):
            engine.generate(ask(engine, "x"), Decoding())
        assert time.monotonic() - began < PATIENCE  # of the hours that it would take


def test_a_redirect_is_told_and_not_followed(monkeypatch: pytest.MonkeyPatch):
    """Elsewhere the question would not arrive, and the key would."""
    monkeypatch.setenv("OPENAI_API_KEY", "abc")
    with server(shout) as (other, seen):
        moved = head(0, "302 Found", f"Location: {other}/chat/completions")
        with hostile(iter([[(moved, 0, 1)]])) as url:
            engine = open_engine("http", "base", url=url)
            with pytest.raises(UserError, match=rf"\(302\): it names another address: {other}"):
                engine.generate(ask(engine, "x"), Decoding())
        assert seen == []


@pytest.mark.parametrize(
    "url",
    ["http://", "http://[::1", "http://h:port/v1", "http://h/\u00e9", "http://h/a b", "ftp://h/v1",
     "http://h\r\nX: y"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(UserError, match="not an http address"):
        open_engine("http", "base", url=url)


def test_a_key_that_no_header_holds_is_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret\n")
    engine = open_engine("http", "base", url="http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="set it again") as caught:
        engine.generate(ask(engine, "x"), Decoding())
    assert "secret" not in str(caught.value)


# Says which port the system chose for it.
MLX_SERVER = """
import sys
from http.server import ThreadingHTTPServer
from mlx_lm import server
started = ThreadingHTTPServer.server_activate
def activate(self):
    started(self)
    print(f"http://127.0.0.1:{self.server_address[1]}", flush=True)
ThreadingHTTPServer.server_activate = activate
server.main()
"""


@pytest.mark.slow
def test_mlx_lms_own_server(tmp_path: Path):
    """It answers over http, with and without the adapter, as the MLX engine does in this process.

    Its sampler is greedy at temperature 0 too, so the answers must be the same.
    """
    pytest.importorskip("mlx.core")
    from tests.engines.asked import conversation
    from tests.engines.libraries import mlx_adapter
    from tests.tiny_models import tiny_model

    model = tiny_model("llama", tmp_path / "models")
    adapter = mlx_adapter(model, tmp_path / "adapter")
    command = [sys.executable, "-c", MLX_SERVER, "--model", str(model)]
    command += ["--adapter-path", str(adapter), "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        local = open_engine("mlx", str(model), str(adapter))
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        served = open_engine("http", "default_model", url=f"{address}/v1")
        texts = ["play", "turn off the kitchen lights"]
        decoding = Decoding(max_tokens=12)
        got = served.generate([served.prompt(conversation(t)) for t in texts], decoding)
        want = local.generate([local.prompt(conversation(t)) for t in texts], decoding)
        # Its detokenizer drops a space that opens the answer.
        assert [answer.text for answer in got] == [answer.text.lstrip(" ") for answer in want]
        assert [answer.count for answer in got] == [answer.count for answer in want]
        assert not any(answer.finished for answer in got)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
